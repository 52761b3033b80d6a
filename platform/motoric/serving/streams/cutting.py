"""Windows of a live stream, and where another server can take it up.

In: samples of one stream. Out: the windows that `data.windows.Windower` cuts of the whole stream,
each with the place to go on from after it. A cutter made with that place, and given the samples
from its `replay_from` on, cuts the same windows from there.

Why that is so: a row of the grid is interpolated between the values around it, at most `limit_s`
apart, and the resampling filter reaches `half_s` to each side. So rows at a time t are the same
for all who have the samples since `t - reach_s`; and all rows up to `latest - reach_s` have come,
or never will. Leaving earlier samples out can only take rows away, never change one or add one.
The place names rows of the grid by number, since windows stand on the hops of their segment, and a
server that sees only its end cannot know where the segment began.

Axes: T samples or rows, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import SensorInput
from motoric.data.recording import GAP_PERIODS
from motoric.data.resampling import Resampler, SegmentPart, Values
from motoric.serving.streams.messages import Resume

# Half length of the resampling filter, in periods of the slower rate.
_FILTER_PERIODS = 10.0
# For rounding, of times and of the filter's ratio, and for the rows between two samples.
_SLACK_PERIODS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CutWindow:
    """One window, numbered.

    Attributes:
        number: From 0, over the whole stream.
        start_s: Start of the window, after its context.
        end_s: Its end.
        values_TC: Shape (context + T, C), float32.
        resume: Where the stream is after this window.
    """

    number: int
    start_s: float
    end_s: float
    values_TC: NDArray[np.float32]
    resume: Resume


def reach_s(sensors: SensorInput, native_rate_hz: float, max_gap_s: float) -> float:
    """How long before and after a row samples can matter to it."""
    slower_s = max(1 / native_rate_hz, 1 / sensors.rate_hz)
    half_s = 0.0 if native_rate_hz == sensors.rate_hz else _FILTER_PERIODS * slower_s
    limit_s = max(GAP_PERIODS / native_rate_hz, max_gap_s)
    return half_s + limit_s + _SLACK_PERIODS * (1 / native_rate_hz + 1 / sensors.rate_hz)


def replay_s(sensors: SensorInput, native_rate_hz: float, max_gap_s: float) -> float:
    """How far before the latest sample the samples that may be needed again lie, at most."""
    window_s = max(sensors.context_s + sensors.length_s, sensors.hop_s) + 2 / sensors.rate_hz
    return window_s + 2 * reach_s(sensors, native_rate_hz, max_gap_s)


class LiveCutter:
    """Cuts one stream into windows, from its beginning or from where another cutter was.

    Args:
        sensors: What windows the model takes.
        max_gap_s: Longest gap that is interpolated, from the signature.
        native_rate_hz: Nominal rate of the samples.
        origin_s: Time of sample 0; by default that of the first pushed.
        resume: Where the stream was; the next push must begin with sample `resume.replay_from`.
    """

    def __init__(
        self,
        *,
        sensors: SensorInput,
        max_gap_s: float,
        native_rate_hz: float,
        origin_s: float | None = None,
        resume: Resume | None = None,
    ) -> None:
        self._rate_hz = sensors.rate_hz
        self._num_samples = sensors.num_samples
        self._num_context = sensors.num_context_samples
        self._hop = max(1, round(sensors.hop_s * sensors.rate_hz))
        self._reach_s = reach_s(sensors, native_rate_hz, max_gap_s)
        self._origin_s = origin_s if resume is None else resume.origin_s
        self._native_rate_hz = native_rate_hz
        # Whether sample n of a numbered stream is row n.
        self._is_on_grid = native_rate_hz == sensors.rate_hz and self._origin_s == 0.0
        self._resampler = Resampler(
            native_rate_hz=native_rate_hz,
            target_rate_hz=sensors.rate_hz,
            max_gap_s=max_gap_s,
            origin_s=self._origin_s,
        )
        self.windows = windows_text(sensors, max_gap_s)
        # Where the stream is. Rows before `_row` are of no use; a segment of which the first useful
        # row is `_resumed_row` goes on with a window at `_next_row`.
        self._number = 0 if resume is None else resume.next_prediction
        self._row = self._resumed_row = 0 if resume is None else resume.row
        self._next_row = 0 if resume is None else resume.next_row
        self._segment = -1
        self._rows_TC: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)
        self._base = 0  # row of the first of `_rows_TC`
        self._end = self._row  # row after the last that has come
        self._first_sample = 0 if resume is None else resume.replay_from
        self._next_sample = self._first_sample
        # Times of the samples that may be needed again, to find their numbers; a numbered stream
        # needs none.
        self._time_s_T: NDArray[np.float64] | None = None
        self._latest_s = -math.inf
        # The last sample, where it passed the resampler by.
        self._passed_TC: NDArray[np.float32] | None = None

    @property
    def num_held(self) -> int:
        """Samples and rows held for windows to come."""
        num_samples = self._next_sample - self._first_sample
        return self._resampler.num_held + len(self._rows_TC) + num_samples

    @property
    def next_prediction(self) -> int:
        """Number of the next window."""
        return self._number

    @property
    def replay_from(self) -> int:
        """Number of the earliest sample that may be needed again."""
        return self._first_sample

    def push(self, time_s: NDArray[np.float64], values_TC: Values) -> list[CutWindow]:
        """Take the next samples; gives the windows that they complete.

        Args:
            time_s: Shape (T,), increasing, also from push to push.
            values_TC: Shape (T, C). What is not finite is a missing value.

        Raises:
            InputError: The times do not increase, or the shapes do not fit.
        """
        if self._time_s_T is None:
            self._time_s_T = np.empty(0)
        return self._push(time_s, values_TC)

    def push_numbered(self, values_TC: NDArray[np.float32]) -> list[CutWindow]:
        """As `push`, for a stream whose sample n is at n / native_rate_hz.

        Whole samples at the rate of the windows are their rows as they are: such samples pass the
        resampler by, which is most of its cost.
        """
        first, stop = self._next_sample, self._next_sample + len(values_TC)
        # The segment must go on at `first`; the first of all samples starts it the long way.
        is_next = self._is_on_grid and self._end == first and self._segment >= 0
        if is_next and np.isfinite(values_TC).all():
            self._next_sample = self._end = stop
            self._passed_TC = values_TC[-1:]
            if len(self._rows_TC):
                values_TC = np.concatenate([self._rows_TC, values_TC])
            self._rows_TC = values_TC
            return list(self._complete())
        self._rejoin()
        # By division and not by steps, so that they are the same however chunks are cut.
        time_s = np.arange(first, stop, dtype=np.float64) / self._native_rate_hz
        return self._push(time_s, values_TC)

    def finish(self) -> list[CutWindow]:
        """The windows that were waiting for more samples. Call it once, after the last push."""
        return self._cut(self._resampler.finish())

    def resume(self) -> Resume:
        """Where the stream is now, after all windows that were given."""
        return Resume(
            replay_from=self._first_sample,
            next_prediction=self._number,
            row=self._row,
            next_row=self._next_row,
            origin_s=0.0 if self._origin_s is None else self._origin_s,
            windows=self.windows,
        )

    def _push(self, time_s: NDArray[np.float64], values_TC: Values) -> list[CutWindow]:
        parts = self._resampler.push(time_s, values_TC)
        if len(time_s):
            self._latest_s = float(time_s[-1])
            if self._origin_s is None:
                self._origin_s = float(time_s[0])
        self._next_sample += len(time_s)
        if self._time_s_T is not None:
            self._time_s_T = np.concatenate([self._time_s_T, time_s])
        windows = self._cut(parts)
        self._pass_what_is_over()
        self._forget()
        return windows

    def _rejoin(self) -> None:
        """Tell the resampler of the last sample that passed it by; its row was given already."""
        if self._passed_TC is None:
            return
        time_s = np.array([(self._next_sample - 1) / self._native_rate_hz])
        self._segment = self._resampler.push(time_s, self._passed_TC)[-1].segment
        self._latest_s = float(time_s[0])
        self._passed_TC = None

    def _forget(self) -> None:
        """Leave out the samples that nothing from `_row` on needs."""
        needed_s = self._time_of(self._row) - self._reach_s
        if self._time_s_T is not None:
            num_old = int(np.searchsorted(self._time_s_T, needed_s))
            self._time_s_T = self._time_s_T[num_old:]
            self._first_sample += num_old
        else:
            needed = min(math.floor(needed_s * self._native_rate_hz), self._next_sample)
            self._first_sample = max(self._first_sample, needed)

    def _time_of(self, row: int) -> float:
        return (self._origin_s or 0.0) + row / self._rate_hz

    def _cut(self, parts: list[SegmentPart]) -> list[CutWindow]:
        windows: list[CutWindow] = []
        for part in parts:
            num_before = max(0, self._resumed_row - part.first_row)
            rows_TC = part.values_TC[num_before:].astype(np.float32)
            if len(rows_TC) == 0:
                continue
            if part.segment != self._segment:
                self._begin(part.segment, part.first_row + num_before, rows_TC)
            self._rows_TC = np.concatenate([self._rows_TC, rows_TC])
            self._end = part.first_row + len(part.values_TC)
            self._rows_TC.flags.writeable = False
            windows.extend(self._complete())
        return windows

    def _begin(self, segment: int, first_row: int, rows_TC: NDArray[np.float32]) -> None:
        if self._segment >= 0 or first_row != self._resumed_row:
            self._row = self._next_row = first_row
        self._segment = segment
        self._base = first_row - self._num_context
        self._rows_TC = np.repeat(rows_TC[:1], self._num_context, axis=0)

    def _complete(self) -> Iterator[CutWindow]:
        while (start := self._next_row) + self._num_samples <= self._base + len(self._rows_TC):
            place = start - self._base
            values_TC = self._rows_TC[place - self._num_context : place + self._num_samples]
            number = self._number
            self._number += 1
            self._next_row += self._hop
            # At least one row of this window, to know its segment by.
            needed = min(self._next_row - self._num_context, start + self._num_samples - 1)
            self._row = max(self._row, needed)
            self._forget()
            start_s = self._time_of(start)
            yield CutWindow(
                number=number,
                start_s=start_s,
                end_s=start_s + self._num_samples / self._rate_hz,
                values_TC=values_TC,
                resume=self.resume(),
            )
        num_old = self._next_row - self._num_context - self._base
        num_old = max(0, min(num_old, len(self._rows_TC)))
        self._rows_TC = self._rows_TC[num_old:]
        self._base += num_old

    def _pass_what_is_over(self) -> None:
        """Where the segment is surely over, only rows that have not come can start another."""
        if self._origin_s is None or self._latest_s == -math.inf:
            return
        latest_s = self._latest_s - self._reach_s - self._origin_s
        settled = math.floor(latest_s * self._rate_hz)
        if settled >= max(self._end, self._row):
            self._row = self._next_row = settled + 1


def windows_text(sensors: SensorInput, max_gap_s: float) -> str:
    """How windows are cut, in one line; rows of a stream mean the same where it is the same."""
    return (
        f"{sensors.num_context_samples}+{sensors.num_samples} samples at {sensors.rate_hz!r} Hz,"
        f" every {max(1, round(sensors.hop_s * sensors.rate_hz))}, gaps to {max_gap_s!r} s"
    )
