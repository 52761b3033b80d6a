"""What ingest notices in a stream and leaves as it is: gaps, spikes, dropouts, changed rates.

Pure, one chunk after the other. Axes: T samples, C channels.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motoric.data.ingest.samples import Notes
from motoric.data.recording import GAP_PERIODS, Channel

# A heart rate below this is a sensor that lost the skin.
MIN_HEART_RATE_BPM = 25.0
# A single sample out and back by so many typical steps is a spike.
_SPIKE_STEPS = 20.0
_RATE_TOLERANCE = 0.15
_STRETCH_S = 10.0
_MIN_ROWS = 20

_SPIKE_UNITS = frozenset({"m/s^2", "rad/s"})


def measure_rate(time_s: NDArray[np.float64]) -> float:
    """Nominal rate in Hz of increasing times: the mean over steps that are not gaps.

    A mean, since devices round times to milliseconds; whole numbers within half a percent are
    taken for the rate that was meant.
    """
    steps_s = np.diff(time_s)
    if not len(steps_s):
        return 1.0
    usual = steps_s[steps_s <= GAP_PERIODS * np.median(steps_s)]
    rate_hz = len(usual) / float(usual.sum())
    nearest = round(rate_hz)
    if nearest and abs(rate_hz - nearest) <= 0.005 * nearest:
        return float(nearest)
    return float(f"{rate_hz:.4g}")


def usual_rate(time_s: NDArray[np.float64]) -> float:
    """Nominal rate in Hz of a stream from its first chunk: that of most of its stretches."""
    return statistics.mode(measure_rate(part_s) for part_s in _stretches(time_s))


def _stretches(time_s: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Parts of 10 s each, without those of few rows; the whole where no part has enough."""
    edges = np.arange(time_s[0], time_s[-1], _STRETCH_S)[1:]
    parts = np.split(time_s, np.searchsorted(time_s, edges))
    return [part_s for part_s in parts if len(part_s) >= _MIN_ROWS] or [time_s]


def _is_even(steps_s: NDArray[np.float64], rate_hz: float) -> bool:
    """Whether no step is far from the nominal one, so that no stretch can have another rate."""
    low, high = (1 - _RATE_TOLERANCE) / rate_hz, (1 + _RATE_TOLERANCE) / rate_hz
    return bool(steps_s.min() >= low and steps_s.max() <= high)


@dataclass(slots=True)
class StreamWatch:
    """Counts what is odd in a stream while its chunks pass by.

    Args:
        stream: Its name.
        rate_hz: Its nominal rate.
        channels: C channels.
    """

    stream: str
    rate_hz: float
    channels: tuple[Channel, ...]
    num_gaps: int = 0
    gap_s: float = 0.0
    _longest_gap_s: float = 0.0
    _longest_at_s: float = 0.0
    _last_s: float | None = None
    _num_rows: int = 0
    _num_other_rate: int = 0
    _other_rate_hz: float = 0.0
    _other_rate_at_s: float = 0.0
    _missing_C: NDArray[np.int64] = field(init=False)
    _spikes_C: NDArray[np.int64] = field(init=False)
    _dropouts: int = 0
    _in_dropout: bool = False

    def __post_init__(self) -> None:
        self._missing_C = np.zeros(len(self.channels), dtype=np.int64)
        self._spikes_C = np.zeros(len(self.channels), dtype=np.int64)

    def update(
        self, time_s: NDArray[np.float64], values_TC: NDArray[np.float32] | NDArray[np.float64]
    ) -> None:
        """Look at one chunk: times increasing, shape (T,), values of shape (T, C)."""
        self._watch_time(time_s)
        self._num_rows += len(time_s)
        missing_C = np.isnan(values_TC).sum(axis=0)
        self._missing_C += missing_C
        self._watch_spikes(values_TC, has_missing=bool(missing_C.any()))
        for index, channel in enumerate(self.channels):
            if channel.name == "heart_rate":
                self._watch_heart_rate(values_TC[:, index])

    def _watch_time(self, time_s: NDArray[np.float64]) -> None:
        before = [] if self._last_s is None else [self._last_s]
        times_s = np.concatenate([before, time_s])
        steps_s = np.diff(times_s)
        gaps = np.flatnonzero(steps_s > GAP_PERIODS / self.rate_hz)
        if len(gaps):
            lengths_s = steps_s[gaps]
            self.num_gaps += len(gaps)
            self.gap_s += float(lengths_s.sum()) - len(gaps) / self.rate_hz
            if lengths_s.max() > self._longest_gap_s:
                longest = int(gaps[lengths_s.argmax()])
                self._longest_gap_s = float(steps_s[longest])
                self._longest_at_s = float(times_s[longest])
        self._last_s = float(time_s[-1])
        if len(steps_s) and _is_even(steps_s, self.rate_hz):
            return
        for part_s in _stretches(time_s):
            if len(part_s) < _MIN_ROWS:
                continue
            found_hz = measure_rate(part_s)
            if abs(found_hz - self.rate_hz) > _RATE_TOLERANCE * self.rate_hz:
                if not self._num_other_rate:
                    self._other_rate_hz = found_hz
                    self._other_rate_at_s = float(part_s[0])
                self._num_other_rate += 1

    def _watch_spikes(
        self, values_TC: NDArray[np.float32] | NDArray[np.float64], *, has_missing: bool
    ) -> None:
        if len(values_TC) < _MIN_ROWS or self.channels[0].unit not in _SPIKE_UNITS:
            return
        steps_TC = np.diff(values_TC, axis=0)
        sizes_TC = np.abs(steps_TC)
        # The mean, since most steps of a sensor at rest are zero and a median would be too.
        if has_missing:
            num_C = np.maximum((~np.isnan(sizes_TC)).sum(axis=0), 1)
            usual_C = np.nansum(sizes_TC, axis=0) / num_C
        else:
            usual_C = sizes_TC.mean(axis=0)
        limit_C = _SPIKE_STEPS * np.maximum(usual_C, 1e-3)
        smaller_TC = np.minimum(sizes_TC[:-1], sizes_TC[1:])
        opposite_TC = (steps_TC[:-1] > 0) != (steps_TC[1:] > 0)
        self._spikes_C += ((smaller_TC > limit_C) & opposite_TC).sum(axis=0)

    def _watch_heart_rate(self, bpm_T: NDArray[np.float32] | NDArray[np.float64]) -> None:
        lost = np.isnan(bpm_T) | (bpm_T < MIN_HEART_RATE_BPM)
        starts = lost & ~np.concatenate([[self._in_dropout], lost[:-1]])
        self._dropouts += int(starts.sum())
        self._in_dropout = bool(lost[-1])

    def report(self, notes: Notes) -> None:
        """Note what was seen."""
        if self.num_gaps:
            notes.add(
                "gap",
                f"{self.num_gaps} gaps of {self.gap_s:.4g} s in all, the longest"
                f" {self._longest_gap_s:.3g} s at {self._longest_at_s:.1f} s",
                stream=self.stream,
                count=self.num_gaps,
            )
        if self._num_other_rate:
            notes.add(
                "rate_change",
                f"{self._num_other_rate} stretches of 10 s at another rate than"
                f" {self.rate_hz:g} Hz, the first at {self._other_rate_at_s:.1f} s with"
                f" {self._other_rate_hz:g} Hz",
                stream=self.stream,
                count=self._num_other_rate,
            )
        for index, channel in enumerate(self.channels):
            self._report_channel(channel.name, index, notes)
        if self._dropouts:
            notes.add(
                "heart_rate_dropout",
                f"heart rate lost {self._dropouts} times",
                stream=self.stream,
                channel="heart_rate",
                count=self._dropouts,
            )

    def _report_channel(self, name: str, index: int, notes: Notes) -> None:
        missing, spikes = int(self._missing_C[index]), int(self._spikes_C[index])
        if missing:
            share = missing / self._num_rows
            notes.add(
                "missing",
                f"{missing} values of {name} are missing ({share:.1%})",
                stream=self.stream,
                channel=name,
                count=missing,
            )
        if spikes:
            notes.add(
                "spike",
                f"{spikes} single samples of {name} far out",
                stream=self.stream,
                channel=name,
                count=spikes,
            )
