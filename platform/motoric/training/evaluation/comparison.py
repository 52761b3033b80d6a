"""Is one model better than another? Both are judged on the same windows of the same people.

In: predictions of two runs. Out: the difference on the windows that both predicted, with an
interval over people. Axes: N windows that both have, S people, D draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from motoric.core.errors import DatasetError
from motoric.training.evaluation.bootstrap import (
    Interval,
    UnitKind,
    draw_weights,
    percentile_interval,
    ratio,
    resampling_units,
    sums_by_unit,
)
from motoric.training.evaluation.forecast_scores import median_of
from motoric.training.evaluation.predictions import Predictions

# Two recipes put the same window at times that differ by rounding only.
_SAME_START_S = 1e-3
_SAME_TARGET = 1e-4

Key = tuple[str, int]


class McNemar(BaseModel):
    """Windows by which model is right about them (McNemar, 1947)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    both: int
    only_a: int
    only_b: int
    neither: int


class Comparison(BaseModel):
    """Model a against model b on the windows that both predicted.

    `difference` is a's figure minus b's, and `share_above_0` the share of draws of people in which
    it is above 0. The sign that is good depends on `score`: of "accuracy" the higher, of "MAE" the
    lower. Where a window has several seeds, its mean over them counts, and there is no `mcnemar`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name_a: str
    name_b: str
    score: Literal["accuracy", "MAE"]
    unit: str
    score_a: float
    score_b: float
    difference: float
    interval: Interval | None
    share_above_0: float | None
    resampled: UnitKind | None
    num_units: int
    num_shared: int
    num_only_a: int
    num_only_b: int
    mcnemar: McNemar | None
    notes: tuple[str, ...]

    @property
    def winner(self) -> str | None:
        """Name of the better one; None where the interval holds 0, or there is none."""
        if self.interval is None or self.interval.low <= 0 <= self.interval.high:
            return None
        a_is_better = (self.difference > 0) == (self.score == "accuracy")
        return self.name_a if a_is_better else self.name_b


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _PerWindow:
    """One row a window, whatever the number of its seeds."""

    row_of: dict[Key, int]
    first_N: NDArray[np.int64]
    score_N: NDArray[np.float64]
    is_single: bool


def compare(a: Predictions, b: Predictions, *, name_a: str = "a", name_b: str = "b") -> Comparison:
    """Compare two models pairwise, by recording and start of the window.

    The interval is a paired bootstrap over people: a draw takes both models' windows of a person.

    Raises:
        DatasetError: They are of different tasks, units or horizons, share no window, or disagree
            about what is true of one.
    """
    _check_alike(a, b, name_a, name_b)
    rows_a, rows_b = _per_window(a), _per_window(b)
    shared = sorted(rows_a.row_of.keys() & rows_b.row_of.keys())
    if not shared:
        raise DatasetError(
            f"{name_a} ({len(rows_a.row_of)} windows) and {name_b} ({len(rows_b.row_of)}) share"
            " none: compare runs with the same dataset, window.hop_s and test people"
        )
    chosen_a = np.array([rows_a.row_of[key] for key in shared])
    chosen_b = np.array([rows_b.row_of[key] for key in shared])
    first_a, first_b = rows_a.first_N[chosen_a], rows_b.first_N[chosen_b]
    _check_same_truth(_truth(a, first_a), _truth(b, first_b), name_a, name_b)
    scores_N2 = np.stack([rows_a.score_N[chosen_a], rows_b.score_N[chosen_b]], axis=1)
    units, notes = resampling_units(
        [a.subjects[row] for row in first_a],
        [a.recording_ids[row] for row in first_a],
        recordings_stand_in=a.task == "forecast",
    )
    interval, share = None, None
    if units is not None:
        values_N2 = np.stack([scores_N2[:, 0] - scores_N2[:, 1], np.ones(len(shared))], axis=1)
        sums_D2 = draw_weights(units.num_units) @ sums_by_unit(units, values_N2)
        difference_D = ratio(sums_D2[:, 0], sums_D2[:, 1])
        interval, share = percentile_interval(difference_D), float((difference_D > 0).mean())
    single = a.task == "classify" and rows_a.is_single and rows_b.is_single
    score_a, score_b = scores_N2.mean(axis=0).tolist()
    return Comparison(
        name_a=name_a,
        name_b=name_b,
        score="accuracy" if a.task == "classify" else "MAE",
        unit=a.unit,
        score_a=score_a,
        score_b=score_b,
        difference=score_a - score_b,
        interval=interval,
        share_above_0=share,
        resampled=None if units is None else units.kind,
        num_units=0 if units is None else units.num_units,
        num_shared=len(shared),
        num_only_a=len(rows_a.row_of) - len(shared),
        num_only_b=len(rows_b.row_of) - len(shared),
        mcnemar=_mcnemar(scores_N2 > 0.5) if single else None,
        notes=notes,
    )


def _check_alike(a: Predictions, b: Predictions, name_a: str, name_b: str) -> None:
    for name in ("task", "unit", "horizon_s"):
        of_a, of_b = getattr(a, name), getattr(b, name)
        if of_a != of_b:
            raise DatasetError(
                f"{name} is {of_a!r} of {name_a} and {of_b!r} of {name_b}: compare runs of one task"
            )


def _per_window(predictions: Predictions) -> _PerWindow:
    row_of: dict[Key, int] = {}
    first: list[int] = []
    window_B = np.empty(len(predictions), dtype=np.int64)
    starts = np.round(predictions.start_s_B / _SAME_START_S).astype(np.int64).tolist()
    for row, key in enumerate(zip(predictions.recording_ids, starts, strict=True)):
        if key not in row_of:
            row_of[key] = len(first)
            first.append(row)
        window_B[row] = row_of[key]
    count_N = np.bincount(window_B)
    score_N = np.bincount(window_B, weights=_scores(predictions)) / count_N
    return _PerWindow(
        row_of=row_of,
        first_N=np.array(first),
        score_N=score_N,
        is_single=bool((count_N == 1).all()),
    )


def _scores(predictions: Predictions) -> NDArray[np.float64]:
    if predictions.task == "classify":
        is_right_B = predictions.outputs_BK.argmax(axis=1) == predictions.targets_B
        scores_B: NDArray[np.float64] = is_right_B.astype(np.float64)
        return scores_B
    is_forecast = predictions.task == "forecast"
    values_B = median_of(predictions) if is_forecast else predictions.outputs_BK[:, 0]
    errors_B: NDArray[np.float64] = np.abs(values_B - predictions.targets_B.astype(np.float64))
    return errors_B


def _truth(predictions: Predictions, rows: NDArray[np.int64]) -> NDArray[np.generic]:
    """Targets by name, since two runs may number the classes differently."""
    targets = predictions.targets_B[rows]
    return np.array(predictions.classes)[targets] if predictions.task == "classify" else targets


def _check_same_truth(
    truth_a: NDArray[np.generic], truth_b: NDArray[np.generic], name_a: str, name_b: str
) -> None:
    if np.issubdtype(truth_a.dtype, np.floating):
        differ_N = ~np.isclose(
            truth_a.astype(np.float64), truth_b.astype(np.float64), rtol=_SAME_TARGET
        )
    else:
        differ_N = truth_a != truth_b
    if differ_N.any():
        row = int(differ_N.argmax())
        raise DatasetError(
            f"{name_a} and {name_b} have other targets in {int(differ_N.sum())} of the"
            f" {len(differ_N)} windows they share ({truth_a[row]} and {truth_b[row]} in one):"
            " compare runs with the same dataset, target and window length"
        )


def _mcnemar(is_right_N2: NDArray[np.bool_]) -> McNemar:
    a, b = is_right_N2[:, 0], is_right_N2[:, 1]
    return McNemar(
        both=int((a & b).sum()),
        only_a=int((a & ~b).sum()),
        only_b=int((~a & b).sum()),
        neither=int((~a & ~b).sum()),
    )
