"""How good a regression is on people never seen in training.

In: predictions of windows. Out: a frozen `ValueEvaluation`. Of several seeds, figures are the mean
over the seeds. Axes: B windows, D draws, R seeds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import mean_absolute_error, r2_score, root_mean_squared_error

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
from motoric.training.evaluation.predictions import Predictions


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectError(_Part):
    """One held-out person; `bias` is the mean of predicted minus true."""

    subject: str
    num_windows: int
    num_recordings: int
    mae: float
    rmse: float
    bias: float


class SeedError(_Part):
    """The figures of one seed."""

    seed: int
    mae: float
    rmse: float
    r2: float | None
    bias: float


class ValueIntervals(_Part):
    """95 % intervals."""

    resampled: UnitKind
    num_units: int
    mae: Interval | None
    rmse: Interval | None
    bias: Interval | None


class ValueEvaluation(_Part):
    """How good a regression is on the held-out people, in `unit`.

    `r2` is None where all targets are one value. `num_subjects` counts known people.
    """

    task: Literal["regress"] = "regress"
    unit: str
    num_windows: int
    num_recordings: int
    num_subjects: int
    mae: float
    rmse: float
    r2: float | None
    bias: float
    target_mean: float
    target_std: float
    intervals: ValueIntervals | None
    subjects: tuple[SubjectError, ...]
    seeds: tuple[SeedError, ...]
    notes: tuple[str, ...]


def evaluate_values(predictions: Predictions) -> ValueEvaluation:
    """Score values of held-out windows."""
    targets_B = predictions.targets_B.astype(np.float64)
    values_B = predictions.outputs_BK[:, 0].astype(np.float64)
    units, notes = resampling_units(predictions.subjects, predictions.recording_ids)
    seeds = tuple(
        _seed_error(
            seed, targets_B[predictions.seed_B == seed], values_B[predictions.seed_B == seed]
        )
        for seed in np.unique(predictions.seed_B).tolist()
    )
    r2 = [score.r2 for score in seeds if score.r2 is not None]
    subjects = _by_subject(predictions, values_B - targets_B)
    return ValueEvaluation(
        unit=predictions.unit,
        num_windows=predictions.num_windows,
        num_recordings=len(set(predictions.recording_ids)),
        num_subjects=sum(is_known(score.subject) for score in subjects),
        mae=float(np.mean([score.mae for score in seeds])),
        rmse=float(np.mean([score.rmse for score in seeds])),
        r2=float(np.mean(r2)) if len(r2) == len(seeds) else None,
        bias=float(np.mean([score.bias for score in seeds])),
        target_mean=float(targets_B.mean()),
        target_std=float(targets_B.std()),
        intervals=None if units is None else _intervals(predictions, units, values_B - targets_B),
        subjects=subjects,
        seeds=seeds,
        notes=notes,
    )


def _seed_error(
    seed: int, targets_B: NDArray[np.float64], values_B: NDArray[np.float64]
) -> SeedError:
    return SeedError(
        seed=seed,
        mae=float(mean_absolute_error(targets_B, values_B)),
        rmse=float(root_mean_squared_error(targets_B, values_B)),
        r2=float(r2_score(targets_B, values_B)) if np.ptp(targets_B) > 0 else None,
        bias=float((values_B - targets_B).mean()),
    )


def _by_subject(
    predictions: Predictions, errors_B: NDArray[np.float64]
) -> tuple[SubjectError, ...]:
    subject_B = np.array(predictions.subjects)
    recording_B = np.array(predictions.recording_ids)
    scores = []
    for subject in sorted(set(predictions.subjects)):
        mine_B = subject_B == subject
        scores.append(
            SubjectError(
                subject=subject,
                num_windows=predictions.count_windows(mine_B),
                num_recordings=len(set(recording_B[mine_B].tolist())),
                mae=float(np.abs(errors_B[mine_B]).mean()),
                rmse=float(np.sqrt((errors_B[mine_B] ** 2).mean())),
                bias=float(errors_B[mine_B].mean()),
            )
        )
    return tuple(scores)


def _intervals(
    predictions: Predictions, units: Units, errors_B: NDArray[np.float64]
) -> ValueIntervals:
    weights_DS = draw_weights(units.num_units)
    mae_RD, rmse_RD, bias_RD = [], [], []
    for seed in np.unique(predictions.seed_B):
        mine_B = predictions.seed_B == seed
        values_B4 = np.stack(
            [np.abs(errors_B), errors_B**2, errors_B, np.ones_like(errors_B)], axis=1
        )
        sums_D4 = weights_DS @ sums_by_unit(units, values_B4 * mine_B[:, None])
        mae_RD.append(ratio(sums_D4[:, 0], sums_D4[:, 3]))
        rmse_RD.append(np.sqrt(ratio(sums_D4[:, 1], sums_D4[:, 3])))
        bias_RD.append(ratio(sums_D4[:, 2], sums_D4[:, 3]))
    return ValueIntervals(
        resampled=units.kind,
        num_units=units.num_units,
        mae=percentile_interval(np.mean(mae_RD, axis=0)),
        rmse=percentile_interval(np.mean(rmse_RD, axis=0)),
        bias=percentile_interval(np.mean(bias_RD, axis=0)),
    )
