"""A committed dataset, read with nothing but pyarrow.

In: the URI of a dataset. Out: its card, tables and recordings. Works in a notebook and on any node,
without Ray. Axes: T samples, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from motoric.core import storage
from motoric.core.errors import DatasetError, NotFoundError
from motoric.data import tables
from motoric.data.card import DatasetCard, read_card
from motoric.data.recording import Annotation, Channel, Flag, Recording, Stream, Video


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """At most 60 s of one stream: times (T,) in s, values (T, C) in the order of `channels`."""

    stream: str
    rate_hz: float
    channels: tuple[str, ...]
    time_s: NDArray[np.float64]
    values_TC: NDArray[np.float32] | NDArray[np.float64]


class Dataset:
    """One dataset as it was committed when it was opened.

    Args:
        uri: A folder or bucket prefix.

    Raises:
        DatasetError: No dataset lies there.
    """

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.card: DatasetCard = read_card(uri)

    def recordings_table(self) -> pa.Table:
        """Recordings: id, subject, duration (s), streams, video, flags, metadata, digests."""
        return tables.read_table(self.uri, self.card.tables.recordings, tables.RECORDINGS)

    def annotations_table(self) -> pa.Table:
        """Labelled intervals: recording, start (s), end (s), label."""
        return tables.read_table(self.uri, self.card.tables.annotations, tables.ANNOTATIONS)

    def quarantine_table(self) -> pa.Table:
        """Inputs that are not in the dataset, and why: rejected ones and skipped ones."""
        return tables.read_table(self.uri, self.card.tables.quarantine, tables.QUARANTINE)

    def labels(self) -> list[str]:
        """All labels, sorted."""
        column = self.annotations_table()["label"]
        return sorted(pc.unique(column).to_pylist())

    def subjects(self) -> list[str]:
        """All subjects, sorted; unknown ones as `unknown:<recording_id>`."""
        return sorted(set(self.recordings_table()["subject"].to_pylist()))

    def outlines(
        self, subjects: Iterable[str] | None = None, recording_ids: Iterable[str] | None = None
    ) -> list[Recording]:
        """Recordings without their streams, in the order of their ids."""
        return [
            _recording(row, self._annotations.get(row["recording_id"], ()))
            for row in self._rows(subjects, recording_ids)
        ]

    def recordings(
        self, subjects: Iterable[str] | None = None, recording_ids: Iterable[str] | None = None
    ) -> Iterator[Recording]:
        """Recordings in the order of their ids, optionally of some subjects or ids only.

        One recording and a row group are in memory at a time; `chunks` reads a long one in parts.

        Raises:
            NotFoundError: An id is not in the dataset.
        """
        for row in self._rows(subjects, recording_ids):
            annotations = self._annotations.get(row["recording_id"], ())
            yield _recording(row, annotations, tuple(self._streams(row)))

    def recording(self, recording_id: str) -> Recording:
        """One recording.

        Raises:
            NotFoundError: There is none of that id.
        """
        return next(self.recordings(recording_ids=[recording_id]))

    def chunks(self, recording_id: str, stream: str) -> Iterator[Chunk]:
        """One stream of a recording in parts of at most 60 s, in bounded memory.

        Raises:
            NotFoundError: There is no recording of that id.
        """
        (row,) = self._rows(None, [recording_id])
        if row["part"] is not None:
            yield from self._reader(row["part"]).chunks(recording_id, stream)

    def video_uri(self, video: Video) -> str:
        """Where the file of a recording's video lies."""
        return video.uri if storage.is_absolute(video.uri) else storage.join(self.uri, video.uri)

    def _rows(
        self, subjects: Iterable[str] | None, recording_ids: Iterable[str] | None
    ) -> list[dict[str, Any]]:
        rows = self._by_id
        if recording_ids is not None:
            wanted = list(recording_ids)
            unknown = [name for name in wanted if name not in rows]
            if unknown:
                raise NotFoundError(f"{self.uri} has no recording {unknown[0]!r}")
            found = [rows[name] for name in sorted(wanted)]
        else:
            found = list(rows.values())
        if subjects is None:
            return found
        chosen = set(subjects)
        return [row for row in found if row["subject"] in chosen]

    @functools.cached_property
    def _by_id(self) -> dict[str, dict[str, Any]]:
        return {row["recording_id"]: row for row in self.recordings_table().to_pylist()}

    @functools.cached_property
    def _annotations(self) -> dict[str, tuple[Annotation, ...]]:
        found: dict[str, list[Annotation]] = {}
        for row in self.annotations_table().to_pylist():
            annotation = Annotation(start_s=row["start_s"], end_s=row["end_s"], label=row["label"])
            found.setdefault(row["recording_id"], []).append(annotation)
        return {recording_id: tuple(items) for recording_id, items in found.items()}

    def _streams(self, row: dict[str, Any]) -> Iterator[Stream]:
        if row["part"] is None:
            return
        chunks: dict[str, list[Chunk]] = {}
        for chunk in self._reader(row["part"]).chunks(row["recording_id"]):
            chunks.setdefault(chunk.stream, []).append(chunk)
        for summary in row["streams"]:
            found = chunks.get(summary["stream"])
            if not found:
                raise DatasetError(
                    f"{self.uri}/{row['part']} lacks stream {summary['stream']!r} of"
                    f" {row['recording_id']}: the dataset is damaged, build it again"
                )
            yield Stream(
                name=summary["stream"],
                rate_hz=summary["rate_hz"],
                channels=_channels(summary),
                time_s=np.concatenate([chunk.time_s for chunk in found]),
                values_TC=np.concatenate([chunk.values_TC for chunk in found]),
            )

    def _reader(self, part: str) -> PartReader:
        if self._part is None or self._part.path != part:
            self._part = PartReader(self.uri, part)
        return self._part

    _part: PartReader | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Open files do not travel to workers.
        return {"uri": self.uri, "card": self.card}


class PartReader:
    """Reads the chunks of single recordings out of one file of streams.

    Args:
        dataset_uri: The dataset that it belongs to.
        path: Of the file, relative to the dataset.

    Raises:
        DatasetError: The file is not there.

    Row groups are found by their statistics; the last one read is kept, since recordings are
    mostly read in order and share row groups.
    """

    def __init__(self, dataset_uri: str, path: str) -> None:
        self.path = path
        system, place = storage.filesystem(storage.join(dataset_uri, path))
        try:
            self._file = pq.ParquetFile(place, filesystem=system)
        except FileNotFoundError as error:
            raise DatasetError(
                f"{dataset_uri} lacks its file {path}: build or ingest it again"
            ) from error
        column = tables.STREAMS.names.index("recording_id")
        self._ranges: list[tuple[str, str]] = []
        for number in range(self._file.num_row_groups):
            # The column index differs from the field's: nested fields come after this flat one.
            statistics = self._file.metadata.row_group(number).column(column).statistics
            self._ranges.append((statistics.min, statistics.max))
        self._last: tuple[int, pa.Table] | None = None

    def chunks(self, recording_id: str, stream: str | None = None) -> Iterator[Chunk]:
        """Chunks of a recording in order, of one stream or of all."""
        for number, (first, last) in enumerate(self._ranges):
            if first <= recording_id <= last:
                table = self._row_group(number)
                chosen = pc.equal(table["recording_id"], recording_id)
                if stream is not None:
                    chosen = pc.and_(chosen, pc.equal(table["stream"], stream))
                for index in pc.indices_nonzero(chosen).to_pylist():
                    yield _chunk(table, index)

    def _row_group(self, number: int) -> pa.Table:
        if self._last is None or self._last[0] != number:
            self._last = None  # never two in memory
            self._last = (number, self._file.read_row_group(number).combine_chunks())
        return self._last[1]


def _chunk(table: pa.Table, index: int) -> Chunk:
    channels = tuple(table["channels"][index].as_py())
    values = table["values"][index]
    if not values.is_valid:
        values = table["values_f64"][index]
    flat = values.values.to_numpy(zero_copy_only=False)
    return Chunk(
        stream=table["stream"][index].as_py(),
        rate_hz=table["rate_hz"][index].as_py(),
        channels=channels,
        time_s=table["time_s"][index].values.to_numpy(zero_copy_only=False),
        values_TC=flat.reshape(-1, len(channels)),
    )


def _channels(summary: dict[str, Any]) -> tuple[Channel, ...]:
    return tuple(Channel(name=item["name"], unit=item["unit"]) for item in summary["channels"])


def _recording(
    row: dict[str, Any], annotations: Sequence[Annotation], streams: tuple[Stream, ...] = ()
) -> Recording:
    video = row["video"]
    return Recording(
        recording_id=row["recording_id"],
        subject=row["subject"],
        streams=streams,
        video=None if video is None else Video(**video),
        annotations=tuple(annotations),
        flags=tuple(Flag(**flag) for flag in row["flags"]),
        start_time_s=row["start_time_s"],
        metadata=dict(row["metadata"]),
    )


def open_dataset(uri: str) -> Dataset:
    """Open the dataset at `uri`, without Ray.

    Raises:
        DatasetError: No dataset lies there.
    """
    return Dataset(uri)
