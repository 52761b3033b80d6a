"""How good a classifier is on people never seen in training.

In: predictions of windows. Out: a frozen `ClassificationEvaluation`. Of several seeds, figures are
the mean over the seeds, and counts (the confusion matrix, the bins) are sums over them.

Axes: B windows, K classes, R seeds, S people, D draws, G groups of windows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    precision_recall_fscore_support,
    recall_score,
)

from motoric.training.evaluation.bootstrap import (
    Interval,
    UnitKind,
    Units,
    draw_weights,
    is_known,
    percentile_interval,
    ratio,
    resampling_units,
)
from motoric.training.evaluation.predictions import Predictions

NUM_BINS = 15


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectScore(_Part):
    """One held-out person."""

    subject: str
    num_windows: int
    num_recordings: int
    accuracy: float
    recording_accuracy: float


class ClassScore(_Part):
    """One class; `support` is how many held-out windows truly have it, with 0 all are 0."""

    label: str
    support: int
    precision: float
    recall: float
    f1: float


class SeedScore(_Part):
    """The figures of one seed."""

    seed: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    recording_accuracy: float
    log_loss: float
    brier: float
    calibration_error: float


class Spread(_Part):
    """How the accuracy varies from person to person."""

    mean: float
    std: float
    min: float
    quarter: float
    median: float
    three_quarters: float
    max: float


class ReliabilityBin(_Part):
    """Windows whose most likely class got a probability above `low`, up to `high`."""

    low: float
    high: float
    num_windows: int
    confidence: float
    accuracy: float


class ClassificationIntervals(_Part):
    """95 % intervals; None where a draw leaves the figure undefined."""

    resampled: UnitKind
    num_units: int
    accuracy: Interval | None
    balanced_accuracy: Interval | None
    macro_f1: Interval | None
    recording_accuracy: Interval | None


class ClassificationEvaluation(_Part):
    """How good a classifier is on the held-out people.

    `balanced_accuracy` and `macro_f1` are means over the classes that held-out windows have.
    `recording_accuracy` counts a recording as right when the mean probability over its windows is
    highest for its label; one with several labels counts once for each. `brier` is the sum over
    classes, 0 to 2 (Brier, 1950). `calibration_error` is the expected calibration error over 15
    bins of equal width (Guo et al., 2017). `num_subjects` counts known people.
    """

    task: Literal["classify"] = "classify"
    num_windows: int
    num_recordings: int
    num_subjects: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    recording_accuracy: float
    log_loss: float
    brier: float
    calibration_error: float
    intervals: ClassificationIntervals | None
    subject_accuracy: Spread
    subjects: tuple[SubjectScore, ...]
    by_class: tuple[ClassScore, ...]
    seeds: tuple[SeedScore, ...]
    reliability: tuple[ReliabilityBin, ...]
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Votes:
    """One vote for each seed, recording and label: `first_G` is a window of each."""

    first_G: NDArray[np.int64]
    is_right_G: NDArray[np.bool_]


def evaluate_classes(predictions: Predictions) -> ClassificationEvaluation:
    """Score probabilities of held-out windows."""
    labels_B = predictions.targets_B.astype(np.int64)
    predicted_B = predictions.outputs_BK.argmax(axis=1)
    indices = np.arange(len(predictions.classes))
    votes = _vote(predictions)
    subjects = _by_subject(predictions, predicted_B == labels_B, votes)
    accuracies = np.array([score.accuracy for score in subjects])
    seeds = _by_seed(predictions, votes)
    units, notes = resampling_units(predictions.subjects, predictions.recording_ids)
    absent = sorted(set(indices.tolist()) - set(labels_B.tolist()))
    if absent:
        names = ", ".join(predictions.classes[index] for index in absent)
        notes = (*notes, f"no held-out window is of {names}: nothing is known about it")
    precision_K, recall_K, f1_K, support_K = precision_recall_fscore_support(
        labels_B, predicted_B, labels=indices, zero_division=0.0
    )
    return ClassificationEvaluation(
        num_windows=predictions.num_windows,
        num_recordings=len(set(predictions.recording_ids)),
        num_subjects=sum(is_known(score.subject) for score in subjects),
        **{
            name: float(np.mean([getattr(score, name) for score in seeds]))
            for name in SeedScore.model_fields
            if name != "seed"
        },
        intervals=None if units is None else _intervals(predictions, units, votes),
        subject_accuracy=_spread(accuracies),
        subjects=subjects,
        by_class=tuple(
            ClassScore(
                label=label,
                support=int(support_K[index]),
                precision=float(precision_K[index]),
                recall=float(recall_K[index]),
                f1=float(f1_K[index]),
            )
            for index, label in enumerate(predictions.classes)
        ),
        seeds=seeds,
        reliability=reliability_bins(predictions.outputs_BK, labels_B),
        classes=predictions.classes,
        confusion=tuple(
            tuple(row) for row in confusion_matrix(labels_B, predicted_B, labels=indices).tolist()
        ),
        notes=notes,
    )


def reliability_bins(
    probabilities_BK: NDArray[np.float32], labels_B: NDArray[np.int64]
) -> tuple[ReliabilityBin, ...]:
    """The bins of a reliability diagram, 15 of equal width (Guo et al., 2017); no empty ones."""
    confidence_B = probabilities_BK.max(axis=1).astype(np.float64)
    is_right_B = probabilities_BK.argmax(axis=1) == labels_B
    bin_B = np.clip(np.ceil(confidence_B * NUM_BINS).astype(int) - 1, 0, NUM_BINS - 1)
    return tuple(
        ReliabilityBin(
            low=number / NUM_BINS,
            high=(number + 1) / NUM_BINS,
            num_windows=int((bin_B == number).sum()),
            confidence=float(confidence_B[bin_B == number].mean()),
            accuracy=float(is_right_B[bin_B == number].mean()),
        )
        for number in np.unique(bin_B).tolist()
    )


def _calibration_error(bins: tuple[ReliabilityBin, ...]) -> float:
    gaps = [item.num_windows * abs(item.confidence - item.accuracy) for item in bins]
    return sum(gaps) / sum(item.num_windows for item in bins)


def _vote(predictions: Predictions) -> _Votes:
    _, recording_B = np.unique(np.array(predictions.recording_ids), return_inverse=True)
    keys_B3 = np.stack([predictions.seed_B, recording_B, predictions.targets_B], axis=1)
    _, first_G, group_B = np.unique(keys_B3, axis=0, return_index=True, return_inverse=True)
    # The sum has its largest value where the mean has it.
    sums_GK = np.zeros((len(first_G), predictions.outputs_BK.shape[1]))
    np.add.at(sums_GK, group_B.ravel(), predictions.outputs_BK)
    return _Votes(
        first_G=first_G, is_right_G=sums_GK.argmax(axis=1) == predictions.targets_B[first_G]
    )


def _by_subject(
    predictions: Predictions, is_right_B: NDArray[np.bool_], votes: _Votes
) -> tuple[SubjectScore, ...]:
    subject_B = np.array(predictions.subjects)
    recording_B = np.array(predictions.recording_ids)
    scores = []
    for subject in sorted(set(predictions.subjects)):
        mine_B = subject_B == subject
        recordings_B = recording_B[mine_B]
        scores.append(
            SubjectScore(
                subject=subject,
                num_windows=predictions.count_windows(mine_B),
                num_recordings=len(set(recordings_B.tolist())),
                accuracy=float(is_right_B[mine_B].mean()),
                recording_accuracy=float(votes.is_right_G[mine_B[votes.first_G]].mean()),
            )
        )
    return tuple(scores)


def _by_seed(predictions: Predictions, votes: _Votes) -> tuple[SeedScore, ...]:
    indices = np.arange(len(predictions.classes))
    scores = []
    for seed in np.unique(predictions.seed_B).tolist():
        mine_B = predictions.seed_B == seed
        labels_B = predictions.targets_B[mine_B].astype(np.int64)
        outputs_BK = predictions.outputs_BK[mine_B]
        predicted_B = outputs_BK.argmax(axis=1)
        # Rows of float32 add up to 1 only nearly.
        exact_BK = outputs_BK.astype(np.float64)
        exact_BK /= exact_BK.sum(axis=1, keepdims=True)
        present = np.unique(labels_B)
        recalls = recall_score(
            labels_B, predicted_B, labels=present, average=None, zero_division=0.0
        )
        scores.append(
            SeedScore(
                seed=seed,
                accuracy=float(accuracy_score(labels_B, predicted_B)),
                balanced_accuracy=float(recalls.mean()),
                macro_f1=float(
                    f1_score(
                        labels_B, predicted_B, average="macro", labels=present, zero_division=0.0
                    )
                ),
                recording_accuracy=float(votes.is_right_G[mine_B[votes.first_G]].mean()),
                log_loss=float(log_loss(labels_B, exact_BK, labels=indices)),
                brier=float(
                    brier_score_loss(labels_B, exact_BK, labels=indices, scale_by_half=False)
                ),
                calibration_error=_calibration_error(reliability_bins(outputs_BK, labels_B)),
            )
        )
    return tuple(scores)


def _spread(accuracies: NDArray[np.float64]) -> Spread:
    low, quarter, median, three_quarters, high = np.quantile(accuracies, [0, 0.25, 0.5, 0.75, 1])
    return Spread(
        mean=float(accuracies.mean()),
        std=float(accuracies.std()),
        min=float(low),
        quarter=float(quarter),
        median=float(median),
        three_quarters=float(three_quarters),
        max=float(high),
    )


def _intervals(predictions: Predictions, units: Units, votes: _Votes) -> ClassificationIntervals:
    """Figures of all draws at once: they follow from sums of counts over the people drawn."""
    seeds, seed_B = np.unique(predictions.seed_B, return_inverse=True)
    num_classes = len(predictions.classes)
    labels_B = predictions.targets_B.astype(np.int64)
    predicted_B = predictions.outputs_BK.argmax(axis=1)
    cell_B = units.index_B * len(seeds) + seed_B
    weights_DS = draw_weights(units.num_units)

    def drawn(classes_B: NDArray[np.int64], chosen_B: NDArray[np.bool_]) -> NDArray[np.float64]:
        flat_B = (cell_B * num_classes + classes_B)[chosen_B]
        counts = np.bincount(flat_B, minlength=units.num_units * len(seeds) * num_classes)
        sums_DM = weights_DS @ counts.reshape(units.num_units, -1)
        return sums_DM.reshape(len(weights_DS), len(seeds), num_classes).astype(np.float64)

    every_B = np.ones(len(labels_B), dtype=bool)
    right_DRK = drawn(labels_B, labels_B == predicted_B)
    support_DRK, predicted_DRK = drawn(labels_B, every_B), drawn(predicted_B, every_B)
    votes_SR2 = np.zeros((units.num_units, len(seeds), 2))
    cells = (units.index_B[votes.first_G], seed_B[votes.first_G])
    np.add.at(votes_SR2, cells, np.stack([votes.is_right_G, np.ones_like(votes.is_right_G)], 1))
    votes_DR2 = np.einsum("ds,srm->drm", weights_DS, votes_SR2)
    # A draw may lack a class: means go over the classes that are there.
    num_present_DR = (support_DRK > 0).sum(axis=2)
    recall_DRK = right_DRK / np.maximum(support_DRK, 1)
    f1_DRK = (2 * right_DRK / np.maximum(support_DRK + predicted_DRK, 1)) * (support_DRK > 0)

    def interval(dividend_DR: NDArray[np.float64], divisor_DR: NDArray[Any]) -> Interval | None:
        return percentile_interval(ratio(dividend_DR, divisor_DR).mean(axis=1))

    return ClassificationIntervals(
        resampled=units.kind,
        num_units=units.num_units,
        accuracy=interval(right_DRK.sum(axis=2), support_DRK.sum(axis=2)),
        balanced_accuracy=interval(recall_DRK.sum(axis=2), num_present_DR),
        macro_f1=interval(f1_DRK.sum(axis=2), num_present_DR),
        recording_accuracy=interval(votes_DR2[..., 0], votes_DR2[..., 1]),
    )
