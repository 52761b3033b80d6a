"""Which reader reads a file, by its suffix."""

from __future__ import annotations

import posixpath

from motoric.data.formats.fit import read_fit
from motoric.data.formats.gpx import read_gpx
from motoric.data.formats.table import read_csv, read_npy, read_npz, read_parquet
from motoric.data.formats.tcx import read_tcx
from motoric.data.ingest.samples import SensorReader

# Garmin and Strava export gzipped files.
READERS: dict[str, SensorReader] = {
    ".fit": read_fit,
    ".fit.gz": read_fit,
    ".gpx": read_gpx,
    ".gpx.gz": read_gpx,
    ".tcx": read_tcx,
    ".tcx.gz": read_tcx,
    ".csv": read_csv,
    ".csv.gz": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,
    ".parquet": read_parquet,
    ".npy": read_npy,
    ".npz": read_npz,
}
VIDEO_SUFFIXES = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".3gp"}
)


def reader_for(uri: str) -> SensorReader | None:
    """The reader of a file, or None where its suffix is none of a sensor file."""
    name = posixpath.basename(uri).lower()
    matching = [suffix for suffix in READERS if name.endswith(suffix)]
    return READERS[max(matching, key=len)] if matching else None
