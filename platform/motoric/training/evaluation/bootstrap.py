"""Confidence intervals by resampling people, since windows of one person are no independent draws.

In: which person each window is of, and sums over windows that a figure follows from. Out: intervals
of 95 %. Axes: B windows, S units (people, or recordings that stand in for them), D draws, M sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from motoric.data.recording import UNKNOWN_SUBJECT

NUM_DRAWS = 2000
MIN_UNITS = 3
LEVEL = 0.95
# Percentile intervals cover less than they say where there is little to draw from.
_FEW_UNITS = 8

UnitKind = Literal["subject", "recording"]


class Interval(BaseModel):
    """A 95 % confidence interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Units:
    """What is drawn with replacement.

    Attributes:
        kind: What a unit is.
        num_units: S, 3 or more.
        index_B: Unit of each window.
    """

    kind: UnitKind
    num_units: int
    index_B: NDArray[np.int64]


def is_known(subject: str) -> bool:
    """Whether somebody named the person; `unknown:...` may be anyone."""
    return not subject.startswith(UNKNOWN_SUBJECT)


def resampling_units(
    subjects: Sequence[str], recording_ids: Sequence[str], *, recordings_stand_in: bool = False
) -> tuple[Units | None, tuple[str, ...]]:
    """What intervals resample, and what a reader of them has to know.

    Args:
        subjects: Subject of each window. Unknown ones are a recording each.
        recording_ids: Recording of each window.
        recordings_stand_in: Resample recordings where there are fewer than 3 subjects, instead of
            giving no interval.

    Returns:
        The units, None where there are too few; and notes.
    """
    names, index_B = np.unique(np.array(subjects), return_inverse=True)
    kind: UnitKind = "subject"
    notes = []
    num_unknown = sum(not is_known(str(name)) for name in names)
    if num_unknown:
        kind = "recording" if num_unknown == len(names) else kind
        notes.append(
            f"the subject of {num_unknown} recording(s) is unknown: each stands in for a person,"
            " and intervals are too narrow where several are of the same one"
        )
    num_people = len(names)
    if num_people < MIN_UNITS and recordings_stand_in:
        names, index_B = np.unique(np.array(recording_ids), return_inverse=True)
        kind = "recording"
    num_units = len(names)
    if num_units < MIN_UNITS:
        what = "people or recordings" if recordings_stand_in else "people"
        notes.append(
            f"no confidence intervals: they resample {what}, and {num_units} is below {MIN_UNITS}"
        )
        return None, tuple(notes)
    if num_units != num_people or (kind == "recording" and not num_unknown):
        notes.append(
            f"the recordings are of {num_people} person(s), so intervals resample the {num_units}"
            " recordings and say nothing about other people"
        )
    if num_units < _FEW_UNITS:
        what = "people" if kind == "subject" else "recordings"
        notes.append(f"intervals resample only {num_units} {what}: the true ones are wider")
    return Units(kind=kind, num_units=num_units, index_B=index_B.astype(np.int64)), tuple(notes)


def draw_weights(num_units: int, *, num_draws: int = NUM_DRAWS, seed: int = 0) -> NDArray[np.int64]:
    """How often each unit is in each draw of `num_units` with replacement: (D, S).

    The non-parametric bootstrap (Efron, 1979) over clusters: a drawn person brings all of their
    windows. Sums over windows of a draw are `weights_DS @ sums_SM`, so that no draw is a loop.
    """
    rng = np.random.default_rng(seed)
    return rng.multinomial(num_units, np.full(num_units, 1 / num_units), size=num_draws)


def sums_by_unit(units: Units, values_BM: NDArray[np.floating]) -> NDArray[np.float64]:
    """Sums of (B, M) values over the windows of each unit: (S, M)."""
    sums_SM = np.zeros((units.num_units, values_BM.shape[1]))
    np.add.at(sums_SM, units.index_B, values_BM)
    return sums_SM


def ratio(dividend: NDArray[np.floating], divisor: NDArray[np.floating]) -> NDArray[np.float64]:
    """One sum over another, NaN where that is 0: a draw may lack what a figure is about."""
    empty = np.full(np.broadcast_shapes(dividend.shape, divisor.shape), np.nan)
    quotient: NDArray[np.float64] = np.divide(dividend, divisor, out=empty, where=divisor != 0)
    return quotient


def percentile_interval(draws_D: NDArray[np.float64]) -> Interval | None:
    """The middle 95 % of the draws of a figure; None where some draw leaves it undefined."""
    if not np.isfinite(draws_D).all():
        return None
    low, high = np.quantile(draws_D, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(low=float(low), high=float(high))
