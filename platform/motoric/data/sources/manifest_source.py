"""A manifest or a folder as a source: what `motoric ingest` builds from."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from contextlib import contextmanager

from motoric.core import storage
from motoric.core.errors import NotFoundError, UnreadableError
from motoric.data.formats.catalogue import READERS, VIDEO_SUFFIXES, reader_for
from motoric.data.ingest.listing import list_recordings
from motoric.data.ingest.manifest import Manifest, ManifestRow
from motoric.data.ingest.part_writer import file_sha256
from motoric.data.ingest.settings import IngestSettings
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, VideoInput, combine


class ManifestSource:
    """The recordings of a manifest or a folder.

    Args:
        uri: A manifest (CSV, Parquet, JSON lines) or a folder.
        settings: Of the ingest.
        annotations_uri: A table of labelled intervals.
        name: Of the dataset.

    Raises:
        NotFoundError: Nothing lies there.
        DatasetError: The manifest cannot be used.
    """

    def __init__(
        self,
        uri: str,
        settings: IngestSettings,
        *,
        annotations_uri: str | None = None,
        name: str | None = None,
        description: str = "",
        origin: str | None = None,
    ) -> None:
        self.manifest: Manifest = list_recordings(
            uri,
            settings,
            # A .txt in a folder is a licence or a note; a manifest may name one as a table.
            sensor_suffixes=set(READERS) - {".txt"},
            video_suffixes=VIDEO_SUFFIXES,
            annotations_uri=annotations_uri,
        )
        self.name = name or settings.name or default_name(uri)
        self.description = description or settings.description or f"Recordings of {uri}"
        self.origin = origin or uri
        self._settings = settings

    def digests(self) -> dict[str, str]:
        """None: whether anything changed shows only in the files of each recording."""
        return {}

    def settings(self) -> dict[str, str]:
        """What of the settings decides the content."""
        chosen = self._settings.model_dump_json(include={"sensors", "alignment", "video"})
        return {"ingest": chosen}

    def items(self) -> list[SourceItem]:
        """One a row; a missing file is found when it is opened."""
        return [
            SourceItem(
                recording_id=row.recording_id,
                place=row.metadata.get("file") or row.sensors or row.video or "",
                num_bytes=sum(_size_or_zero(uri) for uri in (row.sensors, row.video) if uri),
            )
            for row in self.manifest.rows
        ]

    def rejected(self) -> list[Quarantined]:
        """Rows and files that could not be used."""
        return list(self.manifest.quarantined)

    def digest(self, index: int) -> str:
        """Of the row, its files and the settings."""
        row = self.manifest.rows[index]
        files = [
            f"{name} {digest_of(uri)}"
            for name, uri, digest_of in (
                ("sensors", row.sensors, storage.blake2b),
                ("video", row.video, file_sha256),
            )
            if uri is not None and storage.exists(uri)
        ]
        # Where the files lie counts too: a referenced video must be found at its place.
        return combine(repr(row), *files, *self.settings().values())

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        """Open one recording."""
        row = self.manifest.rows[index]
        for uri in (row.sensors, row.video):
            if uri is not None and not storage.exists(uri):
                raise NotFoundError(f"no file at {uri}")
        yield self._raw(row)

    def _raw(self, row: ManifestRow) -> RawRecording:
        raw = RawRecording(
            recording_id=row.recording_id,
            subject=row.subject,
            label=row.label,
            annotations=row.annotations,
            start_time_s=row.start_time_s,
            metadata=dict(row.metadata),
        )
        if row.sensors is not None:
            reader = reader_for(row.sensors)
            if reader is None:
                known = ", ".join(sorted(READERS))
                raise UnreadableError(
                    f"{posixpath.basename(row.sensors)} is not a sensor file by its name (known:"
                    f" {known})"
                )
            raw.samples = reader(row.sensors, self._settings.sensors, raw.notes)
        if row.video is not None:
            raw.video = VideoInput(
                uri=row.video,
                offset_s=row.video_offset_s,
                start_time_s=row.video_start_time_s,
                is_copied=self._settings.video == "copy",
                alignment=self._settings.alignment,
            )
        return raw


def _size_or_zero(uri: str) -> int:
    found = storage.fingerprint(uri)
    return 0 if found is None else found[0]


def default_name(uri: str) -> str:
    """A dataset's name from where it comes from: its folder's, or its manifest's."""
    path = posixpath.normpath(uri)
    base, suffix = posixpath.splitext(posixpath.basename(path))
    if base == "manifest":
        base = posixpath.basename(posixpath.dirname(path))
    return base or suffix or "dataset"
