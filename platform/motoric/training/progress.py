"""The figures of one epoch, as they travel from a worker to whoever watches. Plain Python."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochReport:
    """Figures of one epoch; validation is measured on all its windows by every worker."""

    epoch: int
    train_loss: float
    validation_loss: float
    validation_accuracy: float
    learning_rate: float
    windows_per_s: float
    is_best: bool
