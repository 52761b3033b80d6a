"""The figures of a run, as they travel from a worker to whoever watches. Plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """Figures of one epoch; validation is measured on all its examples by every worker.

    Attributes:
        epoch: From 0.
        train_loss: Mean over the epoch's steps, with augmentation.
        validation_loss: None where nobody is held out for validation.
        validation_score: In terms of `score_name`; None as above.
        score_name: "accuracy", or an error with its unit such as "MAE, bpm".
        learning_rate: At the end of the epoch.
        windows_per_s: Training examples a second, of all workers.
        is_best: Whether the validation loss is the lowest so far.
        num_workers: That trained the end of the epoch.
        waiting_share: Of the time of its steps that the first worker waited for data.
        system: Figures of the worker's process, such as "system/memory_rss_mb".
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    validation_score: float | None
    score_name: str
    learning_rate: float
    windows_per_s: float
    is_best: bool
    num_workers: int = 1
    waiting_share: float = 0.0
    system: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Where a run is, every few seconds.

    Attributes:
        epoch: From 0.
        share: Of the epoch that is done, 0 to 1.
        num_epochs: At most.
        loss: Mean of the epoch's steps so far; None before the first.
        windows_per_s: Training examples a second, of all workers, of this epoch.
        num_workers: That train now.
        left_s: Until the last epoch, going by the time that was taken so far; None at the start.
        is_start: These workers have just begun, at the beginning or from a checkpoint.
    """

    epoch: int
    share: float
    num_epochs: int
    loss: float | None
    windows_per_s: float
    num_workers: int
    left_s: float | None
    is_start: bool = False
