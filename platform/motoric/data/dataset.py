"""A committed dataset, read with nothing but pyarrow.

In: the URI of a dataset. Out: its card, tables and recordings. Works in a notebook and on any node,
without Ray.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from motoric.data import tables
from motoric.data.card import DatasetCard, read_card
from motoric.data.recording import Annotation, Recording, Stream


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
        """Recordings: id, subject, duration (s), digest, metadata."""
        return tables.read_table(self.uri, self.card.tables.recordings, tables.RECORDINGS)

    def annotations_table(self) -> pa.Table:
        """Labelled intervals: recording, start (s), end (s), label."""
        return tables.read_table(self.uri, self.card.tables.annotations, tables.ANNOTATIONS)

    def quarantine_table(self) -> pa.Table:
        """Rejected inputs and why."""
        return tables.read_table(self.uri, self.card.tables.quarantine, tables.QUARANTINE)

    def labels(self) -> list[str]:
        """All labels, sorted."""
        column = self.annotations_table()["label"]
        return sorted(pc.unique(column).to_pylist())

    def subjects(self) -> list[str]:
        """All subjects, sorted."""
        return sorted(self.card.recordings_by_subject)

    def recordings(self, subjects: Iterable[str] | None = None) -> Iterator[Recording]:
        """Recordings in the order of their ids, optionally of some subjects only.

        One file of streams is in memory at a time.
        """
        wanted = None if subjects is None else set(subjects)
        about = {row["recording_id"]: row for row in self.recordings_table().to_pylist()}
        annotations: dict[str, list[Annotation]] = {}
        for row in self.annotations_table().to_pylist():
            found = annotations.setdefault(row["recording_id"], [])
            found.append(Annotation(start_s=row["start_s"], end_s=row["end_s"], label=row["label"]))
        for part in self.card.tables.streams:
            table = tables.read_table(self.uri, [part], tables.STREAMS)
            for recording_id in pc.unique(table["recording_id"]).to_pylist():
                row = about[recording_id]
                if wanted is not None and row["subject"] not in wanted:
                    continue
                rows = table.filter(pc.equal(table["recording_id"], recording_id))
                yield Recording(
                    recording_id=recording_id,
                    subject=row["subject"],
                    streams=tuple(self._streams(rows)),
                    annotations=tuple(annotations.get(recording_id, ())),
                    metadata=dict(row["metadata"]),
                )

    def _streams(self, rows: pa.Table) -> Iterator[Stream]:
        for name in pc.unique(rows["stream"]).to_pylist():
            chunks = rows.filter(pc.equal(rows["stream"], name)).sort_by("chunk")
            num_channels = len(self.card.stream(name).channels)
            time_s = chunks["time_s"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            values = chunks["values"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            yield Stream(
                name=name,
                rate_hz=chunks["rate_hz"][0].as_py(),
                time_s=time_s.astype(np.float64, copy=False),
                values_TC=values.reshape(-1, num_channels).astype(np.float32, copy=False),
            )


def open_dataset(uri: str) -> Dataset:
    """Open the dataset at `uri`, without Ray.

    Raises:
        DatasetError: No dataset lies there.
    """
    return Dataset(uri)
