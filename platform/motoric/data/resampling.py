"""From irregular samples with gaps to uniform segments at one rate, incrementally.

In: samples of one stream in the order of time, cut into pushes in any way. Out: parts of segments
on the grid `origin + m / target rate`. Two stages: linear interpolation onto a uniform grid at the
stream's own rate, which closes short gaps and splits at long ones; then, where the rates differ,
an anti-aliased polyphase filter on each segment. What comes out does not depend on the pushes, so
that a live stream and a file give the same values.

Axes: T samples, C channels, R rows of a grid. Positions on the grid at the stream's own rate are
counted in its periods from the origin.
"""

from __future__ import annotations

import functools
import itertools
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError, InputError
from motoric.data.recording import GAP_PERIODS

Floats = NDArray[np.float64]
Values = NDArray[np.float32] | NDArray[np.float64]

# Times this close to the grid are on it, in periods: clocks of 1 us, and rounding.
_SNAP_PERIODS = 1e-4
_LIMIT_TOLERANCE_PERIODS = 1e-3
# Positions above it have no exact place in float64.
_MAX_POSITION = 2.0**50
_MAX_DENOMINATOR = 1000
_KAISER_BETA = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentPart:
    """Consecutive rows of one segment; parts of one segment follow each other without a gap.

    Attributes:
        segment: Number of the segment; it only grows.
        first_row: Place of the first row on the target grid.
        start_s: Time of the first row.
        values_TC: Shape (T, C), T >= 1, all finite.
    """

    segment: int
    first_row: int
    start_s: float
    values_TC: Floats


class Resampler:
    """Turns one stream into uniform segments.

    A row of the grid is interpolated between the last value before and the first after it, by
    channel. It is missing if for any channel these are further apart than 1.5 periods and than
    `max_gap_s`; a missing row ends the segment. Between different rates each segment is filtered
    like `scipy.signal.resample_poly` does (Kaiser 5.0, half length 10 * max(up, down), ends padded
    with the edge value), but on the absolute grid.

    The filter's ratio is the nearest fraction with a denominator up to 1000; what is left (under
    0.1 %, nothing for common rates) is done by the interpolation, so that the target grid is exact.

    Held between pushes: the samples of at most twice the longest gap, and the filter's length.

    Args:
        native_rate_hz: Nominal rate of the stream.
        target_rate_hz: Rate of the segments.
        max_gap_s: Longest time between two values that is interpolated across; 0 fills nothing
            beyond 1.5 periods.
        origin_s: Time of row 0 of both grids; by default that of the first sample.

    Raises:
        DatasetError: A rate is not above 0, or `max_gap_s` is below 0.
    """

    def __init__(
        self,
        *,
        native_rate_hz: float,
        target_rate_hz: float,
        max_gap_s: float = 0.0,
        origin_s: float | None = None,
    ) -> None:
        if not (0 < native_rate_hz < np.inf and 0 < target_rate_hz < np.inf):
            raise DatasetError(
                f"cannot resample from {native_rate_hz:g} to {target_rate_hz:g} Hz: a rate must be"
                " above 0"
            )
        if not 0 <= max_gap_s < np.inf:
            raise DatasetError(f"max_gap_s is {max_gap_s:g}: it must be 0 or more")
        ratio = _ratio(native_rate_hz, target_rate_hz)
        self.target_rate_hz = target_rate_hz
        self._up, self._down = ratio.numerator, ratio.denominator
        self._grid_rate_hz = target_rate_hz * self._down / self._up
        limit_s = max(GAP_PERIODS / native_rate_hz, max_gap_s)
        self._grid = _Grid(limit_s * self._grid_rate_hz + _LIMIT_TOLERANCE_PERIODS)
        self._origin_s = origin_s
        self._latest_s = -np.inf
        self._open: _PassThrough | _Polyphase | None = None
        self._num_segments = 0

    @property
    def num_held(self) -> int:
        """Samples and rows held for what is still undecided."""
        return self._grid.num_held + (0 if self._open is None else self._open.num_held)

    def push(self, time_s: Floats, values_TC: Values) -> list[SegmentPart]:
        """Take the next samples; gives the rows that they decide.

        Args:
            time_s: Shape (T,), increasing, also from push to push; T may be 0.
            values_TC: Shape (T, C). What is not finite is a missing value.

        Raises:
            InputError: The times do not increase, or the shapes do not fit.
        """
        time_s = np.asarray(time_s, dtype=np.float64)
        values_TC = np.asarray(values_TC, dtype=np.float64)
        if values_TC.ndim != 2 or time_s.shape != values_TC.shape[:1] or not values_TC.shape[1]:
            shapes = f"times of shape {list(time_s.shape)} for values of {list(values_TC.shape)}"
            raise InputError(f"samples need one time a row and a column a channel: got {shapes}")
        if len(time_s) == 0:
            return []
        self._check_times(time_s)
        assert self._origin_s is not None, "the first sample has set it"
        positions_T = (time_s - self._origin_s) * self._grid_rate_hz
        self._latest_s = float(time_s[-1])
        nearest_T = np.rint(positions_T)
        is_near_T = np.abs(positions_T - nearest_T) < _SNAP_PERIODS
        self._grid.push(np.where(is_near_T, nearest_T, positions_T), values_TC)
        return self._parts(is_last=False)

    def finish(self) -> list[SegmentPart]:
        """The rows that were waiting for more samples. Call it once, after the last push."""
        return self._parts(is_last=True) + self._close()

    def _check_times(self, time_s: Floats) -> None:
        before_s = np.concatenate([[self._latest_s], time_s[:-1]])
        is_good_T = (time_s > before_s) & np.isfinite(time_s)
        if not is_good_T.all():
            bad = int(np.argmin(is_good_T))
            raise InputError(
                f"the times of a stream must increase: {float(time_s[bad])!r} s follows"
                f" {float(before_s[bad])!r} s; order the samples and drop repeated ones"
            )
        if self._origin_s is None:
            self._origin_s = float(time_s[0])
        if np.abs(time_s[[0, -1]] - self._origin_s).max() > _MAX_POSITION / self._grid_rate_hz:
            raise InputError(
                f"the time {time_s[-1]:g} s lies too far from the stream's start at"
                f" {self._origin_s:g} s: give times in seconds"
            )

    def _parts(self, *, is_last: bool) -> list[SegmentPart]:
        rows_R, values_RC = self._grid.decide(is_last=is_last)
        breaks = np.flatnonzero(np.diff(rows_R) != 1) + 1
        parts: list[SegmentPart] = []
        for first, last in itertools.pairwise([0, *breaks.tolist(), len(rows_R)]):
            if first == last:
                continue
            row = int(rows_R[first])
            if self._open is None or self._open.next_row != row:
                parts.extend(self._close())
                self._num_segments += 1
                is_same_rate = self._up == self._down
                self._open = (
                    _PassThrough(row) if is_same_rate else _Polyphase(row, self._up, self._down)
                )
            parts.extend(self._part(self._open.push(values_RC[first:last])))
        if self._open is not None and self._open.next_row < self._grid.next_row:
            parts.extend(self._close())
        return parts

    def _close(self) -> list[SegmentPart]:
        segment, self._open = self._open, None
        return [] if segment is None else self._part(segment.finish())

    def _part(self, rows: tuple[int, Floats]) -> list[SegmentPart]:
        first_row, values_TC = rows
        if len(values_TC) == 0:
            return []
        assert self._origin_s is not None, "rows come of samples"
        return [
            SegmentPart(
                segment=self._num_segments - 1,
                first_row=first_row,
                start_s=self._origin_s + first_row / self.target_rate_hz,
                values_TC=values_TC,
            )
        ]


def _ratio(native_rate_hz: float, target_rate_hz: float) -> Fraction:
    if target_rate_hz >= native_rate_hz:
        return 1 / Fraction(native_rate_hz / target_rate_hz).limit_denominator(_MAX_DENOMINATOR)
    return Fraction(target_rate_hz / native_rate_hz).limit_denominator(_MAX_DENOMINATOR)


class _Grid:
    """Linear interpolation onto whole positions, as far as it is decided.

    Args:
        limit: Periods between two values that are interpolated across, at most.
    """

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._positions_T: Floats = np.empty(0)
        self._values_TC: Floats = np.empty((0, 0))
        # First row that is not decided; before the first sample, one before all others.
        self.next_row = -(2**53)

    @property
    def num_held(self) -> int:
        return len(self._positions_T)

    def push(self, positions_T: Floats, values_TC: Floats) -> None:
        num_channels = self._values_TC.shape[1] or values_TC.shape[1]
        if values_TC.shape[1] != num_channels:
            raise InputError(
                f"the stream has {num_channels} channels, these samples {values_TC.shape[1]}"
            )
        self._positions_T = np.concatenate([self._positions_T, positions_T])
        self._values_TC = np.concatenate([self._values_TC.reshape(-1, num_channels), values_TC])

    def decide(self, *, is_last: bool) -> tuple[NDArray[np.int64], Floats]:
        """Rows that are not missing, in order, and their values; forgets what they needed."""
        is_valid_TC = np.isfinite(self._values_TC)
        end = self._decided_end(is_valid_TC, is_last=is_last)
        rows_R = self._candidates(end)
        values_RC = self._interpolated(rows_R, is_valid_TC)
        self.next_row = max(self.next_row, end)
        self._forget(is_valid_TC)
        is_whole_R = np.isfinite(values_RC).all(axis=1)
        return rows_R[is_whole_R], values_RC[is_whole_R]

    def _decided_end(self, is_valid_TC: NDArray[np.bool_], *, is_last: bool) -> int:
        """The row after the last one that no later sample can change."""
        if len(self._positions_T) == 0:
            return self.next_row
        latest = float(self._positions_T[-1])
        if is_last or is_valid_TC[-1].all():
            return int(np.floor(latest)) + 1
        last_C = np.where(
            is_valid_TC.any(axis=0),
            self._positions_T[-1 - is_valid_TC[::-1].argmax(axis=0)],
            -np.inf,
        )
        # Too long without a value: the rows up to now are missing, whatever comes.
        known_C = np.where(latest - last_C > self._limit, latest, last_C)
        return int(np.floor(known_C.min())) + 1

    def _candidates(self, end: int) -> NDArray[np.int64]:
        """Rows from `next_row` up to `end`, less those in gaps: days of them would fill memory."""
        positions_T = self._positions_T
        if end <= self.next_row or len(positions_T) == 0:
            return np.empty(0, dtype=np.int64)
        breaks = np.flatnonzero(np.diff(positions_T) > self._limit)
        lows = np.ceil(positions_T[np.concatenate([[0], breaks + 1])]).astype(np.int64)
        highs = np.floor(positions_T[np.append(breaks, len(positions_T) - 1)]).astype(np.int64)
        lows = np.maximum(lows, self.next_row)
        lengths = np.maximum(np.minimum(highs, end - 1) - lows + 1, 0)
        offsets = np.cumsum(lengths) - lengths
        return np.repeat(lows - offsets, lengths) + np.arange(int(lengths.sum()))

    def _interpolated(self, rows_R: NDArray[np.int64], is_valid_TC: NDArray[np.bool_]) -> Floats:
        if is_valid_TC.all():
            return _interpolate(self._positions_T, self._values_TC, rows_R, self._limit)
        values_RC = np.empty((len(rows_R), self._values_TC.shape[1]))
        for channel, is_valid_T in enumerate(is_valid_TC.T):
            values_RC[:, channel : channel + 1] = _interpolate(
                self._positions_T[is_valid_T],
                self._values_TC[is_valid_T, channel : channel + 1],
                rows_R,
                self._limit,
            )
        return values_RC

    def _forget(self, is_valid_TC: NDArray[np.bool_]) -> None:
        """Keep, of what lies before the next row, the last value of each channel."""
        before = int(np.searchsorted(self._positions_T, self.next_row))
        oldest = int(np.searchsorted(self._positions_T, self.next_row - self._limit - 1))
        is_valid_TC = is_valid_TC[oldest:before]
        has_left_C = is_valid_TC.any(axis=0)
        keep = before
        if has_left_C.any():
            keep -= 1 + int(is_valid_TC[::-1].argmax(axis=0)[has_left_C].max())
        self._positions_T = self._positions_T[keep:].copy()
        self._values_TC = self._values_TC[keep:].copy()


def _interpolate(
    positions_T: Floats, values_TC: Floats, rows_R: NDArray[np.int64], limit: float
) -> Floats:
    """Values at `rows_R`, NaN where the neighbours are more than `limit` apart or lacking."""
    if len(positions_T) == 0:
        return np.full((len(rows_R), values_TC.shape[1]), np.nan)
    right_R = np.searchsorted(positions_T, rows_R)
    is_known_R, has_left_R = right_R < len(positions_T), right_R > 0
    left_R = np.maximum(right_R - 1, 0)
    right_R = np.minimum(right_R, len(positions_T) - 1)
    is_exact_R = is_known_R & (positions_T[right_R] == rows_R)
    span_R = positions_T[right_R] - positions_T[left_R]
    is_known_R &= is_exact_R | (has_left_R & (span_R <= limit))
    weight_R = (rows_R - positions_T[left_R]) / np.where(span_R > 0, span_R, 1.0)
    left_RC, right_RC = values_TC[left_R], values_TC[right_R]
    between_RC = left_RC + (right_RC - left_RC) * weight_R[:, None]
    values_RC: Floats = np.where(is_exact_R[:, None], right_RC, between_RC)
    values_RC[~is_known_R] = np.nan
    return values_RC


class _PassThrough:
    """A segment whose rate stays."""

    num_held = 0

    def __init__(self, first_row: int) -> None:
        self.next_row = first_row

    def push(self, values_RC: Floats) -> tuple[int, Floats]:
        first_row = self.next_row
        self.next_row += len(values_RC)
        return first_row, values_RC

    def finish(self) -> tuple[int, Floats]:
        return self.next_row, np.empty((0, 0))


@functools.lru_cache(maxsize=64)
def _fir(up: int, down: int) -> Floats:
    """The low-pass filter of `scipy.signal.resample_poly`, odd and symmetric."""
    # scipy takes seconds to load, and those whose rates agree never need it.
    from scipy.signal import firwin

    most = max(up, down)
    fir: Floats = firwin(20 * most + 1, 1 / most, window=("kaiser", _KAISER_BETA)) * up
    return fir


class _Polyphase:
    """A segment at `up / down` times its rate.

    Output m is the sum over rows k of `value[k] * fir[half + m * down - k * up]`. Outputs go from
    the first row up to one period after the last.
    """

    def __init__(self, first_row: int, up: int, down: int) -> None:
        self._up, self._down = up, down
        self._fir = _fir(up, down)
        self._half = len(self._fir) // 2
        # Copies of the first and the last row that the filter reaches.
        self._num_edge = self._half // up + 1
        self.next_row = first_row
        self._next_output = -(-first_row * up // down)
        self._base = first_row - self._num_edge
        self._rows_RC: Floats = np.empty((0, 0))

    @property
    def num_held(self) -> int:
        return len(self._rows_RC)

    def push(self, values_RC: Floats) -> tuple[int, Floats]:
        if self._rows_RC.shape[1] == 0:
            self._rows_RC = np.repeat(values_RC[:1], self._num_edge, axis=0)
        self._rows_RC = np.concatenate([self._rows_RC, values_RC])
        self.next_row += len(values_RC)
        return self._take((self.next_row * self._up - self._half - 1) // self._down + 1)

    def finish(self) -> tuple[int, Floats]:
        last_RC = np.repeat(self._rows_RC[-1:], self._num_edge, axis=0)
        self._rows_RC = np.concatenate([self._rows_RC, last_RC])
        return self._take(-(-self.next_row * self._up // self._down))

    def _take(self, end: int) -> tuple[int, Floats]:
        """Outputs up to `end`; rows that no later output needs are forgotten."""
        first = self._next_output
        if end <= first:
            return first, np.empty((0, self._rows_RC.shape[1]))
        from scipy.signal import upfirdn

        # Zeros before the filter put outputs on whole steps of `down` from the first row held.
        shift = self._half - self._base * self._up
        num_zeros = -shift % self._down
        fir = np.concatenate([np.zeros(num_zeros), self._fir])
        outputs_TC = upfirdn(fir, self._rows_RC, self._up, self._down, axis=0)
        skip = first + (shift + num_zeros) // self._down
        taken_TC = outputs_TC[skip : skip + end - first].copy()
        self._next_output = end
        needed = -((self._half - end * self._down) // self._up)
        num_old = max(0, needed - self._base)
        self._rows_RC = self._rows_RC[num_old:].copy()
        self._base += num_old
        return first, taken_TC
