"""How good a forecast is on people never seen in training, against saying "it stays as it is".

In: quantiles for windows, and the last value that the model saw (persistence). Out: a frozen
`ForecastEvaluation`. Of several seeds, the windows of all are taken together, so that each figure
that is a mean over windows is the mean over seeds. Axes: B windows, Q quantiles, D draws.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, root_mean_squared_error

from motoric.training.evaluation.bootstrap import (
    Interval,
    UnitKind,
    Units,
    draw_weights,
    is_known,
    percentile_interval,
    ratio,
    resampling_units,
    sums_by_unit,
)
from motoric.training.evaluation.predictions import MEDIAN, Predictions


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class QuantileScore(_Part):
    """One quantile: its pinball loss, and the share of targets at or below it."""

    quantile: float
    pinball_loss: float
    persistence_pinball_loss: float | None
    share_below: float


class CoverageScore(_Part):
    """How often the target lies between two quantiles: `observed` should be `nominal`."""

    low: float
    high: float
    nominal: float
    observed: float
    mean_width: float


class RecordingError(_Part):
    """One held-out recording."""

    recording_id: str
    subject: str
    num_windows: int
    mae: float
    persistence_mae: float | None
    skill: float | None


class ForecastIntervals(_Part):
    """95 % intervals."""

    resampled: UnitKind
    num_units: int
    mae: Interval | None
    skill: Interval | None


class ForecastEvaluation(_Part):
    """How good a forecast is on held-out windows, in `unit`; errors are those of the median.

    `skill` is 1 - MAE / MAE of persistence: above 0 the model is better than the last value seen,
    and 1 is without error. `pinball_loss` is the mean over the quantiles (Koenker and Bassett,
    1978). Figures of persistence are None where it was not kept, or has no error at all.
    """

    task: Literal["forecast"] = "forecast"
    unit: str
    horizon_s: float
    num_windows: int
    num_recordings: int
    num_subjects: int
    num_seeds: int
    mae: float
    rmse: float
    bias: float
    persistence_mae: float | None
    persistence_rmse: float | None
    skill: float | None
    pinball_loss: float
    num_recordings_better: int | None
    intervals: ForecastIntervals | None
    quantiles: tuple[QuantileScore, ...]
    coverage: tuple[CoverageScore, ...]
    recordings: tuple[RecordingError, ...]
    notes: tuple[str, ...]


def evaluate_forecast(predictions: Predictions) -> ForecastEvaluation:
    """Score quantiles of held-out windows."""
    targets_B = predictions.targets_B.astype(np.float64)
    median_B = median_of(predictions)
    last_B = predictions.persistence_B
    mae = float(mean_absolute_error(targets_B, median_B))
    last_mae = None if last_B is None else float(mean_absolute_error(targets_B, last_B))
    units, notes = resampling_units(
        predictions.subjects, predictions.recording_ids, recordings_stand_in=True
    )
    if last_B is None:
        notes = (*notes, "the last value seen was not kept: nothing is compared with persistence")
    recordings = _by_recording(predictions, median_B)
    better = [score.skill > 0 for score in recordings if score.skill is not None]
    quantiles = _by_quantile(predictions)
    return ForecastEvaluation(
        unit=predictions.unit,
        horizon_s=predictions.horizon_s,
        num_windows=predictions.num_windows,
        num_recordings=len(recordings),
        num_subjects=len({score.subject for score in recordings if is_known(score.subject)}),
        num_seeds=len(np.unique(predictions.seed_B)),
        mae=mae,
        rmse=float(root_mean_squared_error(targets_B, median_B)),
        bias=float((median_B - targets_B).mean()),
        persistence_mae=last_mae,
        persistence_rmse=None
        if last_B is None
        else float(root_mean_squared_error(targets_B, last_B)),
        skill=_skill(mae, last_mae),
        pinball_loss=float(np.mean([score.pinball_loss for score in quantiles])),
        num_recordings_better=None if last_B is None else sum(better),
        intervals=None if units is None else _intervals(predictions, units, median_B),
        quantiles=quantiles,
        coverage=_coverage(predictions),
        recordings=recordings,
        notes=notes,
    )


def median_of(predictions: Predictions) -> NDArray[np.float64]:
    """The median of each window's forecast."""
    column = predictions.quantiles.index(MEDIAN)
    return predictions.outputs_BK[:, column].astype(np.float64)


def _skill(mae: float, persistence_mae: float | None) -> float | None:
    return 1 - mae / persistence_mae if persistence_mae else None


def _by_quantile(predictions: Predictions) -> tuple[QuantileScore, ...]:
    targets_B, last_B = predictions.targets_B, predictions.persistence_B
    scores = []
    for column, quantile in enumerate(predictions.quantiles):
        values_B = predictions.outputs_BK[:, column]
        last = None
        if last_B is not None:
            last = float(mean_pinball_loss(targets_B, last_B, alpha=quantile))
        scores.append(
            QuantileScore(
                quantile=quantile,
                pinball_loss=float(mean_pinball_loss(targets_B, values_B, alpha=quantile)),
                persistence_pinball_loss=last,
                share_below=float((targets_B <= values_B).mean()),
            )
        )
    return tuple(scores)


def _coverage(predictions: Predictions) -> tuple[CoverageScore, ...]:
    """Intervals from the outside to the inside: first with last, second with last but one."""
    targets_B, values_BQ = predictions.targets_B, predictions.outputs_BK.astype(np.float64)
    levels = predictions.quantiles
    scores = []
    for first in range(len(levels) // 2):
        last = len(levels) - 1 - first
        inside_B = (values_BQ[:, first] <= targets_B) & (targets_B <= values_BQ[:, last])
        scores.append(
            CoverageScore(
                low=levels[first],
                high=levels[last],
                nominal=round(levels[last] - levels[first], 9),
                observed=float(inside_B.mean()),
                mean_width=float((values_BQ[:, last] - values_BQ[:, first]).mean()),
            )
        )
    return tuple(scores)


def _by_recording(
    predictions: Predictions, median_B: NDArray[np.float64]
) -> tuple[RecordingError, ...]:
    recording_B = np.array(predictions.recording_ids)
    scores = []
    for recording_id in sorted(set(predictions.recording_ids)):
        mine_B = recording_B == recording_id
        targets_B = predictions.targets_B[mine_B]
        mae = float(np.abs(median_B[mine_B] - targets_B).mean())
        last_mae = None
        if predictions.persistence_B is not None:
            last_mae = float(np.abs(predictions.persistence_B[mine_B] - targets_B).mean())
        scores.append(
            RecordingError(
                recording_id=recording_id,
                subject=predictions.subjects[int(mine_B.argmax())],
                num_windows=predictions.count_windows(mine_B),
                mae=mae,
                persistence_mae=last_mae,
                skill=_skill(mae, last_mae),
            )
        )
    return tuple(scores)


def _intervals(
    predictions: Predictions, units: Units, median_B: NDArray[np.float64]
) -> ForecastIntervals:
    error_B = np.abs(median_B - predictions.targets_B)
    columns = [np.ones_like(error_B), error_B]
    if predictions.persistence_B is not None:
        columns.append(np.abs(predictions.persistence_B - predictions.targets_B))
    sums_DM = draw_weights(units.num_units) @ sums_by_unit(units, np.stack(columns, axis=1))
    skill = None
    if predictions.persistence_B is not None:
        skill = percentile_interval(1 - ratio(sums_DM[:, 1], sums_DM[:, 2]))
    return ForecastIntervals(
        resampled=units.kind,
        num_units=units.num_units,
        mae=percentile_interval(ratio(sums_DM[:, 1], sums_DM[:, 0])),
        skill=skill,
    )
