"""Which kinds of files are read, by what their names end in, and who reads them."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from motoric.core.errors import ContentTypeError

if TYPE_CHECKING:
    from motoric.data.ingest.samples import SensorReader

_FORMATS = "motoric.data.formats"
# The module and the function; modules are loaded when they are needed, since most of them need
# packages of the extra `ingest`.
_READERS = {
    ".fit": (f"{_FORMATS}.fit", "read_fit"),
    ".gpx": (f"{_FORMATS}.gpx", "read_gpx"),
    ".tcx": (f"{_FORMATS}.tcx", "read_tcx"),
    ".csv": (f"{_FORMATS}.table", "read_csv"),
    ".tsv": (f"{_FORMATS}.table", "read_csv"),
    ".parquet": (f"{_FORMATS}.table", "read_parquet"),
}
# Garmin and Strava export gzipped files.
_GZIPPED = tuple(f"{suffix}.gz" for suffix in (".fit", ".gpx", ".tcx", ".csv"))
SENSOR_SUFFIXES = (*_READERS, *_GZIPPED)
TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm")
EXTRA_MODULES = frozenset({"av", "fitdecode", "gpxpy", "lxml"})


def suffix_of(name: str) -> str:
    """The ending of a file's name that says its kind, in lower case.

    Raises:
        ContentTypeError: Nothing reads such files.
    """
    known = (*SENSOR_SUFFIXES, *VIDEO_SUFFIXES)
    found = [suffix for suffix in known if name.lower().endswith(suffix)]
    if not found:
        raise ContentTypeError(
            f"a file called {name[-80:]!r} cannot be read: its name must end in one of"
            f" {', '.join(known)}"
        )
    return max(found, key=len)


def reader_of(suffix: str) -> SensorReader:
    """The reader of a kind of sensor file."""
    module, function = _READERS[suffix.removesuffix(".gz")]
    return cast("SensorReader", getattr(importlib.import_module(module), function))
