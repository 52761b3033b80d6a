"""The figures of one epoch, as they travel from a worker to whoever watches. Plain Python."""

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
    system: Mapping[str, float] = field(default_factory=dict)
