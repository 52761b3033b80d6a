"""From the batches of a reader to the chunks of a dataset's `streams`, in bounded memory.

In: `Samples` of one recording, its streams interleaved as the file has them. Out: chunks of at most
60 s in a `PartFile`, and a summary and digest of each stream. Axes: T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.ingest.flags import StreamWatch, usual_rate
from motoric.data.ingest.ordering import Sequencer
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.recording import Channel
from motoric.data.tables import CHUNK_S, PartFile, StreamDigest, dtype_of

Times = NDArray[np.float64]
Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSummary:
    """One stream of one recording: what the table of recordings says of it."""

    stream: str
    channels: tuple[Channel, ...]
    rate_hz: float
    num_samples: int
    start_s: float
    end_s: float
    num_gaps: int
    gap_s: float
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """The streams of one recording as they were written."""

    streams: tuple[StreamSummary, ...]
    start_time_s: float | None


class _StreamAssembler:
    """Orders, chunks and writes one stream."""

    def __init__(self, part: PartFile, recording_id: str, first: Samples, start_s: float) -> None:
        self._part = part
        self._recording_id = recording_id
        self.name = first.stream
        self.channels = first.channels
        self._is_single = dtype_of(first.channels) is np.float32
        self._sequencer = Sequencer(len(first.channels))
        self._zero_s = start_s
        self._stated_rate_hz = first.rate_hz
        self._pending: list[tuple[Times, Values]] = []
        self._first_s = 0.0
        self._next_edge_s: float | None = None
        self._watch: StreamWatch | None = None
        self._digest: StreamDigest | None = None
        self._num_samples = 0
        self._end_s = 0.0

    def push(self, samples: Samples) -> None:
        if samples.channels != self.channels:
            raise UnreadableError(
                f"stream {self.name!r} changes its channels midway, from"
                f" {', '.join(item.name for item in self.channels)} to"
                f" {', '.join(item.name for item in samples.channels)}"
            )
        self._take(*self._sequencer.push(samples.time_s - self._zero_s, samples.values_TC))

    def finish(self, notes: Notes) -> StreamSummary | None:
        self._take(*self._sequencer.finish())
        self._sequencer.report(self.name, notes)
        self._write_chunk()
        if self._watch is None or self._digest is None:
            return None
        self._watch.report(notes)
        return StreamSummary(
            stream=self.name,
            channels=self.channels,
            rate_hz=self._watch.rate_hz,
            num_samples=self._num_samples,
            start_s=self._first_s,
            end_s=self._end_s + 1 / self._watch.rate_hz,
            num_gaps=self._watch.num_gaps,
            gap_s=self._watch.gap_s,
            digest=self._digest.hexdigest(),
        )

    def _take(self, time_s: Times, values_TC: Values) -> None:
        if not len(time_s):
            return
        if self._next_edge_s is None:
            self._first_s = float(time_s[0])
            self._next_edge_s = self._first_s + CHUNK_S
        while len(time_s) and time_s[-1] >= self._next_edge_s:
            count = int(np.searchsorted(time_s, self._next_edge_s, side="left"))
            self._pending.append((time_s[:count], values_TC[:count]))
            self._write_chunk()
            time_s, values_TC = time_s[count:], values_TC[count:]
            chunk = int((time_s[0] - self._first_s) // CHUNK_S)
            self._next_edge_s = self._first_s + (chunk + 1) * CHUNK_S
        if len(time_s):
            self._pending.append((time_s, values_TC))

    def _write_chunk(self) -> None:
        time_s = np.concatenate([np.empty(0), *(item[0] for item in self._pending)])
        if not len(time_s):
            return
        doubles_TC = np.concatenate([item[1] for item in self._pending])
        values_TC = doubles_TC.astype(np.float32) if self._is_single else doubles_TC
        self._pending = []
        if self._watch is None or self._digest is None:
            rate_hz = self._stated_rate_hz or usual_rate(time_s)
            self._watch = StreamWatch(self.name, rate_hz, self.channels)
            self._digest = StreamDigest(self.name, rate_hz, self.channels)
        self._watch.update(time_s, values_TC)
        self._digest.update(time_s, values_TC)
        self._part.add(
            recording_id=self._recording_id,
            stream=self.name,
            chunk=int((time_s[0] - self._first_s) // CHUNK_S),
            rate_hz=self._watch.rate_hz,
            channels=self.channels,
            time_s=time_s,
            values_TC=values_TC,
        )
        self._num_samples += len(time_s)
        self._end_s = float(time_s[-1])


def assemble(
    part: PartFile, recording_id: str, batches: Iterable[Samples], notes: Notes
) -> Assembled:
    """Write the streams of a recording.

    Times of a file that knows the time of day become seconds from its first sample; times that
    count from the file's own zero stay, so that annotations in the same times fit.

    Raises:
        UnreadableError: A stream changes its channels midway, or only some batches have the time of
            day.
    """
    assemblers: dict[str, _StreamAssembler] = {}
    start_time_s: float | None = None
    is_unix_time: bool | None = None
    for samples in batches:
        if is_unix_time is None:
            is_unix_time = samples.is_unix_time
        elif is_unix_time != samples.is_unix_time:
            raise UnreadableError("some samples have the time of day and others do not")
        if is_unix_time and start_time_s is None:
            finite_s = samples.time_s[np.isfinite(samples.time_s)]
            if not len(finite_s):
                continue
            start_time_s = float(finite_s[0])
        if samples.stream not in assemblers:
            assemblers[samples.stream] = _StreamAssembler(
                part, recording_id, samples, start_time_s or 0.0
            )
        assemblers[samples.stream].push(samples)
    done = [assemblers[name].finish(notes) for name in sorted(assemblers)]
    return Assembled(
        streams=tuple(item for item in done if item is not None), start_time_s=start_time_s
    )
