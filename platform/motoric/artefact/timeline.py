"""Timelines: the class probabilities of overlapping windows become labelled segments.

In: where windows start and what a model says of each. Out: segments in order of time, without
overlaps, and without holes where windows cover the time; a gap of the recording stays one. Files
and live streams take one path: `smooth` is a `TimelineBuilder` that waits for the end. Pure numpy.

Axes: B windows, K classes, P cells in the making, S = K * D states, of D cells of the shortest
segment.

Windows that follow each other without a gap are a run. Its time is cut into cells of one hop; a
cell's log-probabilities are the mean of those of the windows over it, by how long each is over it.
Windows that overlap say the same again and again, so a cell counts only by its share of a window's
length. The labels are then the most probable path (Viterbi's algorithm) of a hidden Markov model
that changes class once in `mean_segment_s`, to any other alike, and stays `min_segment_s` at least.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from motoric.core.errors import InputError

# A window counts against no class more than this: networks are surer than they should be.
_MIN_PROBABILITY = 1e-3
_TOLERANCE_S = 1e-6
# Cells that may wait before the path is first asked what is settled, while many are pushed at once.
_FIRST_LOOK = 256

_Floats = NDArray[np.float64]


class TimelineSettings(BaseModel):
    """How windows become segments.

    Attributes:
        smoothing: `viterbi`; or `none`: each cell of a hop takes its most probable class.
        mean_segment_s: How long segments last on average; longer smooths more. Viterbi only.
        min_segment_s: No segment is shorter, save where the run of windows is. Viterbi only.
        min_probability: A segment whose mean probability is below gets the label None.
        background: A class that stands for nothing of interest: its segments get the label None.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    smoothing: Literal["viterbi", "none"] = "viterbi"
    mean_segment_s: float = Field(default=30.0, gt=0, le=86400.0)
    min_segment_s: float = Field(default=2.0, ge=0, le=3600.0)
    min_probability: float = Field(default=0.0, ge=0, le=1)
    background: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A span of time with one label.

    Attributes:
        start_s: In the time of the windows.
        end_s: After `start_s`.
        label: A class; None where it is too uncertain or the background.
        probability: Mean, over the segment's time, of the probability that the windows gave its
            class (of a None, the classes that were too uncertain or the background).
    """

    start_s: float
    end_s: float
    label: str | None
    probability: float


# Sorted, without overlap; two that touch differ in label.
Timeline = tuple[Segment, ...]


def smooth(
    start_s_B: ArrayLike,
    probabilities_BK: ArrayLike,
    *,
    length_s: float,
    hop_s: float,
    classes: Sequence[str],
    settings: TimelineSettings | None = None,
) -> Timeline:
    """The timeline of a whole recording.

    Args:
        start_s_B: Where windows start, increasing, in seconds.
        probabilities_BK: Of each window, shape (B, K); rows sum to 1.
        length_s: As all that follow, of `TimelineBuilder`.
        hop_s: From one window's start to the next.
        classes: Names of the K classes.
        settings: By default those of `TimelineSettings`.

    Raises:
        InputError: Starts that do not increase, or what are not probabilities of these classes.
    """
    builder = TimelineBuilder(length_s=length_s, hop_s=hop_s, classes=classes, settings=settings)
    return (*builder.push(start_s_B, probabilities_BK), *builder.finish())


class TimelineBuilder:
    """Builds a timeline window by window.

    A segment comes out as soon as no later window can change it. Where that takes longer than
    `max_lag_s`, the path that is best then is kept: so what is held is bounded. The segments do
    not depend on how windows are cut into pushes; if the lag is never reached, they are `smooth`'s.

    Args:
        length_s: Length of a window.
        hop_s: From one window's start to the next as a rule, and the length of a cell. Above
            `length_s`, every window is a run of its own and nothing is smoothed.
        classes: Names of the K classes.
        settings: By default those of `TimelineSettings`.
        max_lag_s: How long a decision may wait for later windows; by default without bound.

    Raises:
        InputError: A time below 0.001 s, repeated classes, or a background that is none of them.
    """

    def __init__(
        self,
        *,
        length_s: float,
        hop_s: float,
        classes: Sequence[str],
        settings: TimelineSettings | None = None,
        max_lag_s: float | None = None,
    ) -> None:
        settings = settings or TimelineSettings()
        for name, value in (("length_s", length_s), ("hop_s", hop_s), ("max_lag_s", max_lag_s)):
            if value is not None and not 1e-3 <= value < math.inf:
                raise InputError(f"{name} of a timeline is {value:g}: it must be 0.001 s or more")
        if not classes or len(set(classes)) != len(classes):
            raise InputError(f"the classes of a timeline must be distinct: got {list(classes)}")
        if settings.background is not None and settings.background not in classes:
            raise InputError(
                f"the background {settings.background!r} of a timeline is none of the model's"
                f" classes ({', '.join(classes)})"
            )
        step_s = min(hop_s, length_s)
        self._classes, self._settings = tuple(classes), settings
        self._max_cells = None if max_lag_s is None else math.ceil(max_lag_s / step_s)
        self._last_start_s = -math.inf
        self._cells = _CellMaker(length_s, step_s, len(classes))
        self._path = _Path(settings, len(classes), step_s)
        self._open: Segment | None = None
        self._held: Segment | None = None

    @property
    def num_held(self) -> int:
        """Cells whose label is not final yet."""
        return len(self._path.cells)

    def push(self, start_s_B: ArrayLike, probabilities_BK: ArrayLike) -> Timeline:
        """Take the next windows, or one; gives the segments that became final.

        Args:
            start_s_B: Shape (B,), increasing, also from push to push; or one number.
            probabilities_BK: Shape (B, K), or (K,) of one window.

        Raises:
            InputError: As `smooth`.
        """
        starts_B, values_BK = self._checked(start_s_B, probabilities_BK)
        found: list[Segment] = []
        for start_s, values_K in zip(starts_B.tolist(), values_BK, strict=True):
            for cell in self._cells.push(start_s, values_K):
                found.extend(self._take(cell))
        return (*found, *self._decided(self._path.settled()))

    def finish(self) -> Timeline:
        """The segments that were waiting for more windows. Call it once, after the last push."""
        found = [item for cell in self._cells.finish() for item in self._take(cell)]
        found += [*self._decided(self._path.finish()), *self._close()]
        held, self._held = self._held, None
        return tuple(found) if held is None else (*found, held)

    def _take(self, cell: _Cell) -> Iterator[Segment]:
        if cell.is_first:
            yield from self._decided(self._path.finish())
        self._path.add(cell)
        yield from self._decided(self._path.settled_or_forced(self._max_cells))

    def _decided(self, decisions: list[tuple[_Cell, int]]) -> Iterator[Segment]:
        for cell, index in decisions:
            label, probability = self._classes[index], min(1.0, cell.probabilities_K[index])
            piece = Segment(
                start_s=cell.start_s, end_s=cell.end_s, label=label, probability=float(probability)
            )
            if self._open is not None and _belong_together(self._open, piece):
                self._open = _joined(self._open, piece)
            else:
                yield from self._close()
                self._open = piece

    def _close(self) -> Iterator[Segment]:
        """The open segment; one without label is held, since the next may have none either."""
        if self._open is None:
            return
        done, self._open = self._open, None
        sure, background = self._settings.min_probability, self._settings.background
        if done.probability < sure or done.label == background:
            done = replace(done, label=None)
        if self._held is not None:
            if _belong_together(self._held, done):
                self._held = _joined(self._held, done)
                return
            yield self._held
        self._held = done if done.label is None else None
        if done.label is not None:
            yield done

    def _checked(self, starts: ArrayLike, probabilities: ArrayLike) -> tuple[_Floats, _Floats]:
        starts_B = np.atleast_1d(np.asarray(starts, dtype=np.float64))
        values_BK = np.atleast_2d(np.asarray(probabilities, dtype=np.float64))
        if starts_B.ndim != 1 or values_BK.shape != (len(starts_B), len(self._classes)):
            raise InputError(
                f"starts of shape {starts_B.shape} and probabilities of {values_BK.shape} are no"
                f" windows: give one start a window, and {len(self._classes)} probabilities"
            )
        is_later_B = np.isfinite(starts_B) & (np.diff(starts_B, prepend=self._last_start_s) > 0)
        is_sound_B = (values_BK >= 0).all(axis=1) & (np.abs(values_BK.sum(axis=1) - 1) <= 1e-2)
        for is_good_B, mend in (
            (is_later_B, "give windows in order of time, each once"),
            (is_sound_B, "give probabilities: 0 or more, and 1 in all"),
        ):
            if not is_good_B.all():
                first = int(np.argmin(is_good_B))
                raise InputError(
                    f"window {first} of a timeline starts at {starts_B[first]:g} s and has the"
                    f" probabilities {values_BK[first].tolist()}: {mend}"
                )
        if len(starts_B):
            self._last_start_s = float(starts_B[-1])
        return starts_B, values_BK


def _belong_together(one: Segment, other: Segment) -> bool:
    # The edges of a run's cells are computed alike, so those that touch are equal.
    return one.label == other.label and one.end_s == other.start_s


def _joined(one: Segment, other: Segment) -> Segment:
    share = (other.end_s - other.start_s) / (other.end_s - one.start_s)
    mean = one.probability + share * (other.probability - one.probability)
    return replace(one, end_s=other.end_s, probability=mean)


class _Cell(NamedTuple):
    """A span of one hop: evidence for each class (log), and its mean probabilities."""

    start_s: float
    end_s: float
    evidence_K: _Floats
    probabilities_K: _Floats
    is_first: bool


class _CellMaker:
    """Turns windows into the cells that no later window covers."""

    def __init__(self, length_s: float, step_s: float, num_classes: int) -> None:
        self._length_s, self._step_s = length_s, step_s
        num_cells = math.ceil(length_s / step_s) + 2
        # Of the windows over each cell, by time: logs, probabilities and ones.
        self._sums_P3K = np.zeros((num_cells, 3, num_classes))
        self._numbers_P = np.arange(num_cells + 1)
        self._run_start_s, self._end_s, self._next = 0.0, -math.inf, 0

    def push(self, start_s: float, probabilities_K: _Floats) -> list[_Cell]:
        if start_s > self._end_s + _TOLERANCE_S:
            done = self.finish()
            self._run_start_s, self._next = start_s, 0
        else:
            first = int((start_s - self._run_start_s + _TOLERANCE_S) / self._step_s)
            done = self._complete(first - self._next)
        self._end_s = start_s + self._length_s
        edges_P = self._run_start_s + (self._next + self._numbers_P) * self._step_s
        times_P = np.diff(np.clip(edges_P, start_s, self._end_s))
        logs_K = np.log(np.maximum(probabilities_K, _MIN_PROBABILITY))
        parts_3K = np.stack([logs_K, probabilities_K, np.ones_like(logs_K)])
        self._sums_P3K += times_P[:, None, None] * parts_3K
        return done

    def finish(self) -> list[_Cell]:
        if not math.isfinite(self._end_s):
            return []
        last = int((self._end_s - self._run_start_s - _TOLERANCE_S) / self._step_s)
        done = self._complete(last + 1 - self._next)
        self._end_s = -math.inf
        return done

    def _complete(self, num_cells: int) -> list[_Cell]:
        done = []
        for number, sums_3K in enumerate(self._sums_P3K[:num_cells], start=self._next):
            start_s = self._run_start_s + number * self._step_s
            end_s = self._run_start_s + (number + 1) * self._step_s
            # Only a cell that a run really leaves open: rounding must not part two that touch.
            if end_s > self._end_s + 3 * _TOLERANCE_S:
                end_s = self._end_s
            logs_K, probabilities_K = sums_3K[:2] / sums_3K[2]
            evidence_K = logs_K * ((end_s - start_s) / self._length_s)
            done.append(_Cell(start_s, end_s, evidence_K, probabilities_K, number == 0))
        self._sums_P3K = np.roll(self._sums_P3K, -num_cells, axis=0)
        self._sums_P3K[len(self._sums_P3K) - num_cells :] = 0
        self._next += num_cells
        return done


class _Path:
    """The most probable labels of a run: Viterbi's algorithm (Forney 1973, Proc. IEEE 61(3)).

    A class is a chain of D states, of which only the last may be left or stayed in: so a segment
    lasts D cells at least. Since every change costs the same, the best class to come from is one
    for all: O(S) a cell.
    """

    def __init__(self, settings: TimelineSettings, num_classes: int, step_s: float) -> None:
        is_smooth = settings.smoothing == "viterbi"
        num_cells = math.ceil(settings.min_segment_s / step_s - 1e-9) if is_smooth else 1
        self._depth = max(1, num_cells)
        self._cost = 0.0
        if is_smooth and num_classes > 1:
            # log(stay / change), where stay = exp(-step / mean) and change = (1 - stay) / (K - 1).
            share = step_s / settings.mean_segment_s
            change = -math.expm1(-share) / (num_classes - 1)
            self._cost = max(0.0, -share - math.log(change))
        self._own_KD = np.arange(num_classes * self._depth).reshape(num_classes, -1)
        self._scores_KD = np.zeros(self._own_KD.shape)
        self._from_S: list[NDArray[np.intp]] = []
        self._look_at = _FIRST_LOOK
        self.cells: list[_Cell] = []

    def add(self, cell: _Cell) -> None:
        """Take the next cell; a first one starts anew."""
        old_KD, own_KD = self._scores_KD, self._own_KD
        new_KD, from_KD = np.full(old_KD.shape, -np.inf), own_KD.copy()
        if cell.is_first:
            new_KD[:, 0] = 0.0
        else:
            leaving = int(np.argmax(old_KD[:, -1]))
            new_KD[:, 0], from_KD[:, 0] = old_KD[leaving, -1] - self._cost, own_KD[leaving, -1]
            new_KD[:, 1:], from_KD[:, 1:] = old_KD[:, :-1], own_KD[:, :-1]
            is_stay_K = old_KD[:, -1] >= new_KD[:, -1]
            new_KD[is_stay_K, -1] = old_KD[is_stay_K, -1]
            from_KD[is_stay_K, -1] = own_KD[is_stay_K, -1]
        new_KD += cell.evidence_K[:, None]
        self._scores_KD = new_KD - new_KD.max()
        self._from_S.append(from_KD.ravel())
        self.cells.append(cell)

    def settled(self) -> list[tuple[_Cell, int]]:
        """The cells whose class all paths that are left agree on."""
        states_S = np.flatnonzero(self._scores_KD > -np.inf)
        for place in range(len(self.cells) - 1, -1, -1):
            if (states_S == states_S[0]).all():
                return self._pop(int(states_S[0]), place + 1)
            states_S = self._from_S[place][states_S]
        return []

    def settled_or_forced(self, max_cells: int | None) -> list[tuple[_Cell, int]]:
        """As `settled` when many wait; with more than `max_cells`, the best path decides."""
        if len(self.cells) <= min(self._look_at, max_cells or self._look_at):
            return []
        found = self.settled()
        self._look_at = max(_FIRST_LOOK, 2 * len(self.cells))
        while max_cells is not None and len(self.cells) > max_cells:
            states_S = alive_S = np.flatnonzero(self._scores_KD > -np.inf)
            for from_S in self._from_S[:0:-1]:
                states_S = from_S[states_S]
            scores_S = self._scores_KD.ravel()
            kept = int(states_S[np.argmax(scores_S[alive_S])])
            scores_S[alive_S[states_S != kept]] = -np.inf
            found.extend(self._pop(kept, 1))
        return found

    def finish(self) -> list[tuple[_Cell, int]]:
        """All cells that are left, by the best path that ends in a segment of full length."""
        if not self.cells:
            return []
        # In a run that is too short for a whole segment, any state may be the last.
        first = self._depth - 1 if np.isfinite(self._scores_KD[:, -1]).any() else 0
        best = np.argmax(self._scores_KD[:, first:])
        return self._pop(int(self._own_KD[:, first:].flat[best]), len(self.cells))

    def _pop(self, state: int, num_cells: int) -> list[tuple[_Cell, int]]:
        """Take the first cells away; `state` is the last one's."""
        found = []
        for place in range(num_cells - 1, -1, -1):
            found.append((self.cells[place], state // self._depth))
            state = int(self._from_S[place][state])
        del self.cells[:num_cells], self._from_S[:num_cells]
        return found[::-1]
