"""Puts the samples of a stream in order: times increase, clocks that jump are closed up.

In: `Samples` in the order of the file. Out: rows of increasing time, in batches, with what was put
right counted. Values are never changed, but for infinite ones, which become missing (NaN). Memory
is bounded: rows wait at most `REORDER_S` for earlier ones. Axes: T samples, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.data.ingest.samples import Notes

# Rows at most so much out of order are sorted; a clock that goes back further was set.
REORDER_S = 5.0
# A longer step forward within one recording is a clock being set, not a pause.
MAX_STEP_S = 24 * 3600.0

Times = NDArray[np.float64]
Values = NDArray[np.float64]
Rows = tuple[Times, Values]


@dataclass(slots=True)
class _Counts:
    no_time: int = 0
    bad_time: int = 0
    not_finite: int = 0
    out_of_order: int = 0
    duplicate: int = 0
    duplicate_differs: int = 0
    jumps: int = 0
    largest_jump_s: float = 0.0


class Sequencer:
    """Orders the rows of one stream.

    Args:
        num_channels: C.
    """

    def __init__(self, num_channels: int) -> None:
        self._counts = _Counts()
        self._raw: Rows = (np.empty(0), np.empty((0, num_channels)))
        self._held: Rows = self._raw
        self._shift_s = 0.0
        self._latest_s = -np.inf
        self._released_s = -np.inf
        self._step_s = 0.0
        self._previous_s = np.nan  # the last time, unshifted, of what was taken in

    def push(self, time_s: Times, values_TC: Values) -> Rows:
        """Take some rows in; returns those that nothing can come before any more."""
        rows = self._drop_untimed(time_s, values_TC)
        time_s, values_TC = _join(self._raw, rows)
        # The last row waits: whether its time is a glitch shows in the row after it.
        if len(time_s) < 2:
            self._raw = (time_s, values_TC)
            return time_s[:0], values_TC[:0]
        kept = self._not_glitches(time_s)
        self._raw = (time_s[-1:], values_TC[-1:])
        return self._take(time_s[:-1][kept[:-1]], values_TC[:-1][kept[:-1]])

    def finish(self) -> Rows:
        """The remaining rows."""
        first = self._take(*self._raw)
        time_s, values_TC = self._release(np.inf)
        return _join(first, (time_s, values_TC))

    def _drop_untimed(self, time_s: Times, values_TC: Values) -> Rows:
        timed = np.isfinite(time_s)
        if not timed.all():
            self._counts.no_time += int((~timed).sum())
            time_s, values_TC = time_s[timed], values_TC[timed]
        infinite = np.isinf(values_TC)
        if infinite.any():
            self._counts.not_finite += int(infinite.sum())
            values_TC = np.where(infinite, np.nan, values_TC)
        return time_s, values_TC

    def _not_glitches(self, time_s: Times) -> NDArray[np.bool_]:
        """False where one time alone is far off while its neighbours agree."""
        before = np.concatenate([[self._previous_s], time_s[:-1]])
        after = np.concatenate([time_s[1:], [np.nan]])
        with np.errstate(invalid="ignore"):
            glitch = (
                (np.abs(time_s - before) > REORDER_S)
                & (np.abs(after - time_s) > REORDER_S)
                & (np.abs(after - before) <= REORDER_S)
            )
        self._counts.bad_time += int(glitch.sum())
        return np.asarray(~glitch, dtype=np.bool_)

    def _take(self, time_s: Times, values_TC: Values) -> Rows:
        if not len(time_s):
            return time_s, values_TC
        self._previous_s = float(time_s[-1])
        time_s = self._close_jumps(time_s)
        self._held = _join(self._held, (time_s, values_TC))
        return self._release(self._latest_s - REORDER_S)

    def _close_jumps(self, time_s: Times) -> Times:
        """Shift what follows a jump of the clock so that it continues one step after."""
        time_s = time_s + self._shift_s
        first = 0
        while True:
            rest_s = time_s[first:]
            latest_s = np.maximum.accumulate(np.concatenate([[self._latest_s], rest_s]))
            step_s = rest_s - latest_s[:-1]
            jumps = np.flatnonzero((step_s < -REORDER_S) | (step_s > MAX_STEP_S))
            # The first row of all has nothing to jump from.
            jumps = jumps[np.isfinite(step_s[jumps])]
            end = int(jumps[0]) if len(jumps) else len(rest_s)
            usual = step_s[:end][(step_s[:end] > 0) & np.isfinite(step_s[:end])]
            if len(usual):
                self._step_s = float(np.median(usual))
            self._latest_s = float(latest_s[end])
            if not len(jumps):
                return time_s
            jump_s = float(step_s[end])
            shift_s = self._latest_s + self._step_s - float(rest_s[end])
            self._counts.jumps += 1
            if abs(jump_s) > abs(self._counts.largest_jump_s):
                self._counts.largest_jump_s = jump_s
            self._shift_s += shift_s
            first += end
            time_s[first:] += shift_s

    def _release(self, until_s: float) -> Rows:
        time_s, values_TC = self._held
        steps_s = np.diff(time_s)
        if (steps_s < 0).any():
            self._counts.out_of_order += int((steps_s < 0).sum())
            order = np.argsort(time_s, kind="stable")
            time_s, values_TC = time_s[order], values_TC[order]
        count = int(np.searchsorted(time_s, until_s, side="right"))
        self._held = (time_s[count:], values_TC[count:])
        return self._without_duplicates(time_s[:count], values_TC[:count])

    def _without_duplicates(self, time_s: Times, values_TC: Values) -> Rows:
        is_new = np.diff(time_s, prepend=self._released_s) > 0
        if len(time_s):
            self._released_s = float(time_s[-1])
        if is_new.all():
            return time_s, values_TC
        repeated = np.flatnonzero(~is_new)
        self._counts.duplicate += len(repeated)
        before = values_TC[np.maximum(repeated - 1, 0)]
        differs = ~((before == values_TC[repeated]) | np.isnan(values_TC[repeated])).all(axis=1)
        self._counts.duplicate_differs += int(differs.sum())
        return time_s[is_new], values_TC[is_new]

    def report(self, stream: str, notes: Notes) -> None:
        """Note what was put right."""
        counts = self._counts

        def say(kind: str, count: int, detail: str, *, is_repair: bool = True) -> None:
            if count:
                notes.add(
                    kind, f"{count} {detail}", stream=stream, count=count, is_repair=is_repair
                )

        say("no_time", counts.no_time, "rows without a time left out")
        say("bad_time", counts.bad_time, "rows left out whose time alone is far off")
        say("not_finite", counts.not_finite, "infinite values taken for missing")
        say("out_of_order", counts.out_of_order, "steps back in time sorted", is_repair=False)
        say(
            "duplicate_time",
            counts.duplicate,
            f"rows of a time seen before left out, {counts.duplicate_differs} of other values",
            is_repair=counts.duplicate_differs > 0,
        )
        say(
            "clock_jump",
            counts.jumps,
            f"jumps of the clock closed up, the largest {counts.largest_jump_s:+.0f} s",
        )


def _join(first: Rows, second: Rows) -> Rows:
    if not len(first[0]):
        return second
    if not len(second[0]):
        return first
    return np.concatenate([first[0], second[0]]), np.concatenate([first[1], second[1]])
