"""What there is to ingest: a manifest or a folder, with the annotations that go with it.

In: a URI. Out: a `Manifest`. No file of a recording is opened here.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable
from dataclasses import replace

from pyarrow import fs as pafs

from motoric.core import storage
from motoric.core.errors import DatasetError, NotFoundError, UnreadableError
from motoric.data.ingest.folder import ANNOTATION_NAMES, list_folder
from motoric.data.ingest.manifest import Manifest, ManifestRow, number_of, read_manifest
from motoric.data.ingest.records import read_records, texts_of
from motoric.data.ingest.settings import IngestSettings
from motoric.data.ingest.source import Quarantined
from motoric.data.recording import Annotation

MANIFEST_NAMES = ("manifest.csv", "manifest.parquet", "manifest.jsonl")
ANNOTATION_COLUMNS = ("recording_id", "start_s", "end_s", "label")


def list_recordings(
    uri: str,
    settings: IngestSettings,
    *,
    sensor_suffixes: Iterable[str],
    video_suffixes: Iterable[str],
    annotations_uri: str | None = None,
) -> Manifest:
    """Read a manifest, or list a folder.

    Args:
        uri: A table, or a folder; a folder that holds `manifest.csv` (or .parquet, .jsonl) is read
            by it.
        settings: Of the ingest.
        sensor_suffixes: File names that are sensor files, in lower case: `.fit`.
        video_suffixes: File names that are videos.
        annotations_uri: A table of labelled intervals; `annotations.csv` (or .parquet, .jsonl)
            beside the manifest is found by itself.

    Raises:
        NotFoundError: Nothing lies there.
        DatasetError: Not a table, without the columns it needs, or an empty folder.
    """
    system, path = storage.filesystem(uri)
    kind = system.get_file_info(path).type
    if kind == pafs.FileType.NotFound:
        raise NotFoundError(f"no manifest and no folder at {uri}")
    base_uri = uri
    if kind == pafs.FileType.Directory:
        names = storage.list_names(uri)
        found = [name for name in MANIFEST_NAMES if name in names]
        if not found:
            manifest = list_folder(
                uri, settings, sensor_suffixes=sensor_suffixes, video_suffixes=video_suffixes
            )
            return _with_annotations(manifest, uri, annotations_uri)
        uri = storage.join(uri, found[0])
    else:
        base_uri = posixpath.dirname(uri) or "."
    return _with_annotations(read_manifest(uri, settings), base_uri, annotations_uri)


def _with_annotations(manifest: Manifest, base_uri: str, annotations_uri: str | None) -> Manifest:
    if annotations_uri is None:
        found = [name for name in storage.list_names(base_uri) if name in ANNOTATION_NAMES]
        if not found:
            return manifest
        annotations_uri = storage.join(base_uri, found[0])
    return _annotate(manifest, annotations_uri)


def _annotate(manifest: Manifest, uri: str) -> Manifest:
    records = read_records(uri)
    missing = [name for name in ANNOTATION_COLUMNS if records and name not in records[0]]
    if missing:
        raise DatasetError(
            f"{uri} lacks the column(s) {', '.join(missing)}: annotations need"
            f" {', '.join(ANNOTATION_COLUMNS)}"
        )
    known = {row.recording_id for row in manifest.rows}
    found: dict[str, list[Annotation]] = {}
    quarantined = list(manifest.quarantined)
    for number, record in enumerate(records, start=2):
        texts = texts_of(record)
        recording_id = texts["recording_id"].strip()
        try:
            annotation = _annotation(texts)
            if recording_id not in known:
                raise UnreadableError(
                    f"annotates {recording_id!r}, which the manifest does not have"
                )
            found.setdefault(recording_id, []).append(annotation)
        except UnreadableError as error:
            quarantined.append(
                Quarantined(
                    recording_id=recording_id,
                    source=f"{posixpath.basename(uri)}, row {number}",
                    kind="rejected",
                    reason=error.message,
                )
            )
    rows = tuple(_add_annotations(row, found.get(row.recording_id, [])) for row in manifest.rows)
    return Manifest(rows=rows, quarantined=tuple(quarantined), extra_columns=manifest.extra_columns)


def _annotation(texts: dict[str, str]) -> Annotation:
    start_s, end_s = number_of(texts, "start_s"), number_of(texts, "end_s")
    label = texts["label"].strip()
    if start_s is None or end_s is None or not label:
        raise UnreadableError("start_s, end_s and label must all be given")
    if end_s <= start_s:
        raise UnreadableError(f"ends at {end_s:g} s, which is not after its start at {start_s:g} s")
    return Annotation(start_s=start_s, end_s=end_s, label=label)


def _add_annotations(row: ManifestRow, found: list[Annotation]) -> ManifestRow:
    ordered = sorted(found, key=lambda item: (item.start_s, item.end_s, item.label))
    return replace(row, annotations=tuple(ordered))
