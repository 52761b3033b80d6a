"""ASHA that knows what an earlier start of the search had found, and which trials it stopped."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ray.tune.schedulers import ASHAScheduler, TrialScheduler

from motoric.training.search_config import SearchConfig
from motoric.training.tuning.trials import Metric, Trial

# Keys of what trials report to ray.tune: the epoch from 1, and the metric's value.
EPOCH, VALUE = "epoch", "value"


@dataclass(frozen=True, slots=True, kw_only=True)
class _EarlierTrial:
    """What ASHA asks of a trial: to tell it from others."""

    trial_id: str


class SearchScheduler(ASHAScheduler):
    """Asynchronous successive halving (Li et al. 2018, arXiv 1810.05934) of a search's trials.

    Args:
        search: Grace period and reduction factor.
        metric: What is compared.
        max_epochs: Of the longest trial.
    """

    def __init__(self, search: SearchConfig, metric: Metric, max_epochs: int) -> None:
        super().__init__(
            time_attr=EPOCH,
            metric=VALUE,
            mode=metric.mode,
            max_t=max_epochs,
            grace_period=search.grace_epochs,
            reduction_factor=search.reduction_factor,
        )
        self.stopped: set[str] = set()

    def replay(self, trials: Iterable[Trial], metric: Metric) -> None:
        """Tell it the epochs of trials that are over, so that new ones compete with them."""
        for trial in trials:
            earlier: Any = _EarlierTrial(trial_id=f"earlier-{trial.number}")
            controller: Any = None  # it asks nothing of the controller
            super().on_trial_add(controller, earlier)
            for report in trial.epochs:
                result = {EPOCH: report.epoch + 1, VALUE: metric.value(report)}
                super().on_trial_result(controller, earlier, result)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Its decision; a trial that it ends is remembered."""
        decision: str = super().on_trial_result(tune_controller, trial, result)
        if decision == TrialScheduler.STOP:
            self.stopped.add(trial.trial_id)
        return decision
