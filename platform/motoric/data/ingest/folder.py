"""A folder of workout files and videos without a manifest: one recording a file."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from typing import Literal

from pyarrow import fs as pafs

from motoric.core import storage
from motoric.core.errors import UnreadableError
from motoric.data.ingest.manifest import Manifest, ManifestRow
from motoric.data.ingest.roots import Roots
from motoric.data.ingest.settings import IngestSettings
from motoric.data.ingest.source import Quarantined
from motoric.data.recording import UNKNOWN_SUBJECT

# Tables of labelled intervals lie beside the files, and are none of them.
ANNOTATION_NAMES = ("annotations.csv", "annotations.parquet", "annotations.jsonl")


def list_folder(
    uri: str,
    settings: IngestSettings,
    *,
    sensor_suffixes: Iterable[str],
    video_suffixes: Iterable[str],
) -> Manifest:
    """What there is to ingest in a folder and the folders below it.

    Ids are relative paths with their endings, so that no file added later changes one.

    Args:
        uri: The folder.
        settings: Of the ingest; `path_pattern` finds people and labels in paths.
        sensor_suffixes: Ends of names of sensor files, in lower case.
        video_suffixes: Ends of names of videos.
    """
    sensors, videos = set(sensor_suffixes), set(video_suffixes)
    roots = Roots(uri, settings.allowed_roots)
    system, path = storage.filesystem(uri)
    infos = system.get_file_info(pafs.FileSelector(path, recursive=True))
    files = sorted(
        posixpath.relpath(info.path, path) for info in infos if info.type == pafs.FileType.File
    )
    files = [name for name in files if not any(part.startswith(".") for part in name.split("/"))]
    files = [name for name in files if name not in ANNOTATION_NAMES]
    pattern = re.compile(settings.path_pattern) if settings.path_pattern else None
    rows: dict[str, ManifestRow] = {}
    quarantined: list[Quarantined] = []

    def leave_out(name: str, kind: Literal["rejected", "skipped"], reason: str) -> None:
        quarantined.append(Quarantined(recording_id=name, source=name, kind=kind, reason=reason))

    for name in files:
        suffix = _suffix(name, sensors | videos)
        if suffix is None:
            leave_out(name, "skipped", "neither a sensor file nor a video, by its name")
            continue
        found = pattern.search(name) if pattern else None
        if pattern is not None and found is None:
            leave_out(name, "rejected", "its path does not fit path_pattern of the settings")
            continue
        groups = {} if found is None else {k: v for k, v in found.groupdict().items() if v}
        recording_id = groups.get("recording_id", name)
        if recording_id in rows:
            leave_out(name, "rejected", f"another file has the id {recording_id!r} already")
            continue
        try:
            place = roots.resolve(name)
        except UnreadableError as error:
            leave_out(name, "rejected", error.message)
            continue
        rows[recording_id] = ManifestRow(
            recording_id=recording_id,
            subject=groups.get("subject", f"{UNKNOWN_SUBJECT}{recording_id}"),
            label=groups.get("label", ""),
            sensors=place if suffix in sensors else None,
            video=place if suffix in videos else None,
            metadata={"file": name},
        )
    return Manifest(rows=tuple(rows[name] for name in sorted(rows)), quarantined=tuple(quarantined))


def _suffix(name: str, known: set[str]) -> str | None:
    """The ending of a file's name, if it is known: `.fit.gz` before `.gz`."""
    lower = name.lower()
    fitting = [suffix for suffix in known if lower.endswith(suffix)]
    return max(fitting, key=len) if fitting else None
