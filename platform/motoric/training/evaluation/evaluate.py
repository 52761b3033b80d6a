"""Evaluation on people never seen in training: figures, the per-subject table, calibration.

In: probabilities (B, K) and the windows they are for. Out: a frozen `Evaluation`, which is
`metrics.json`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    f1_score,
    log_loss,
    recall_score,
)

from motoric.data.windows import WindowSet


class SubjectScore(BaseModel):
    """One held-out person."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subject: str
    num_windows: int
    num_recordings: int
    accuracy: float
    recording_accuracy: float


class Evaluation(BaseModel):
    """How good a model is on the held-out subjects."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_windows: int
    num_subjects: int
    accuracy: float
    balanced_accuracy: float
    macro_f1: float
    log_loss: float
    subject_accuracy_mean: float
    subject_accuracy_min: float
    subject_accuracy_max: float
    recording_accuracy: float
    recall_by_class: dict[str, float]
    subjects: tuple[SubjectScore, ...]
    classes: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]


def evaluate(probabilities_BK: NDArray[np.float32], windows: WindowSet) -> Evaluation:
    """Score probabilities of held-out windows.

    `recording_accuracy` counts a recording as right when the mean probability over its windows is
    highest for its label.

    Args:
        probabilities_BK: Shape (B, num_classes).
        windows: The windows, in the same order.
    """
    labels_B, predicted_B = windows.labels_B, probabilities_BK.argmax(axis=1)
    indices = np.arange(len(windows.classes))
    subjects = _by_subject(probabilities_BK, windows)
    accuracies = [score.accuracy for score in subjects]
    recalls = recall_score(labels_B, predicted_B, labels=indices, average=None, zero_division=0.0)
    present = np.unique(labels_B)
    # Rows of float32 add up to 1 only nearly.
    exact_BK = probabilities_BK.astype(np.float64)
    exact_BK /= exact_BK.sum(axis=1, keepdims=True)
    num_recordings = sum(score.num_recordings for score in subjects)
    right = sum(score.recording_accuracy * score.num_recordings for score in subjects)
    return Evaluation(
        num_windows=len(windows),
        num_subjects=len(subjects),
        accuracy=float(accuracy_score(labels_B, predicted_B)),
        balanced_accuracy=float(recalls[present].mean()),
        macro_f1=float(f1_score(labels_B, predicted_B, average="macro", labels=present)),
        log_loss=float(log_loss(labels_B, exact_BK, labels=indices)),
        subject_accuracy_mean=float(np.mean(accuracies)),
        subject_accuracy_min=min(accuracies),
        subject_accuracy_max=max(accuracies),
        recording_accuracy=right / num_recordings,
        recall_by_class=dict(zip(windows.classes, recalls.tolist(), strict=True)),
        subjects=subjects,
        classes=windows.classes,
        confusion=tuple(
            tuple(row) for row in confusion_matrix(labels_B, predicted_B, labels=indices).tolist()
        ),
    )


def _by_subject(
    probabilities_BK: NDArray[np.float32], windows: WindowSet
) -> tuple[SubjectScore, ...]:
    subject_B = np.array(windows.subjects)
    recording_B = np.array(windows.recording_ids)
    right_B = probabilities_BK.argmax(axis=1) == windows.labels_B
    scores = []
    for subject in sorted(set(windows.subjects)):
        mine_B = subject_B == subject
        recordings = sorted(set(recording_B[mine_B].tolist()))
        right = 0
        for recording in recordings:
            of_B = recording_B == recording
            mean_K = probabilities_BK[of_B].mean(axis=0)
            right += int(mean_K.argmax() == np.bincount(windows.labels_B[of_B]).argmax())
        scores.append(
            SubjectScore(
                subject=subject,
                num_windows=int(mine_B.sum()),
                num_recordings=len(recordings),
                accuracy=float(right_B[mine_B].mean()),
                recording_accuracy=right / len(recordings),
            )
        )
    return tuple(scores)
