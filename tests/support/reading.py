"""Reads a whole sensor file and joins the batches of each stream."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motoric.data.formats.catalogue import reader_for
from motoric.data.ingest.samples import BATCH_ROWS, Notes, Samples
from motoric.data.ingest.settings import SensorSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What one file gave."""

    batches: list[Samples]
    notes: Notes

    @property
    def streams(self) -> list[str]:
        return sorted({one.stream for one in self.batches})

    def channels(self, stream: str) -> dict[str, str]:
        """Units by channel."""
        found = {one.channels for one in self.batches if one.stream == stream}
        assert len(found) == 1
        return {channel.name: channel.unit for channel in found.pop()}

    def times(self, stream: str) -> NDArray[np.float64]:
        return np.concatenate([one.time_s for one in self.batches if one.stream == stream])

    def values(self, stream: str, channel: str) -> NDArray[np.float64]:
        index = list(self.channels(stream)).index(channel)
        parts = [one.values_TC[:, index] for one in self.batches if one.stream == stream]
        return np.concatenate(parts)

    @property
    def is_unix_time(self) -> bool:
        (found,) = {one.is_unix_time for one in self.batches}
        return found

    def repairs(self) -> set[str]:
        return {flag.kind for flag in self.notes.flags if flag.is_repair}

    def remarks(self) -> set[str]:
        return {flag.kind for flag in self.notes.flags if not flag.is_repair}


def read_file(path: Path, settings: SensorSettings | None = None) -> Read:
    reader = reader_for(str(path))
    assert reader is not None
    notes = Notes()
    batches = list(reader(str(path), settings or SensorSettings(), notes))
    for batch in batches:
        assert batch.values_TC.shape == (len(batch.time_s), len(batch.channels))
        assert 0 < len(batch.time_s) <= BATCH_ROWS
        assert batch.values_TC.dtype == batch.time_s.dtype == np.float64
    return Read(batches=batches, notes=notes)
