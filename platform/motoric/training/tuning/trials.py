"""What is known of the trials of a search, and what follows from it: the best, the time left.

Plain values without Ray: the driver keeps them, the storage holds them as JSON.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from motoric.training.progress import EpochReport
from motoric.training.search_config import SearchConfig

Status = Literal["running", "done", "stopped", "failed"]


class Trial(BaseModel):
    """One trial.

    `stopped` are those that ASHA ended before their last epoch, `failed` those whose recipe or
    data gave an error, which `error` says.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    number: int = Field(ge=0)
    values: dict[str, Any]
    status: Status = "running"
    epochs: tuple[EpochReport, ...] = ()
    error: str = ""
    duration_s: float = 0.0
    tracking_run_id: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing more will come of it."""
        return self.status != "running"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What trials are compared by.

    Attributes:
        kind: `validation_loss` or `validation_score`.
        mode: Whether low or high values are good.
    """

    kind: Literal["validation_loss", "validation_score"]
    mode: Literal["min", "max"]

    @classmethod
    def of(cls, search: SearchConfig, task: str) -> Metric:
        """The metric of a recipe's search."""
        return cls(kind=search.metric, mode=search.mode(task))

    def value(self, report: EpochReport) -> float:
        """Of one epoch; NaN where there is none."""
        found: float | None = getattr(report, self.kind)
        return math.nan if found is None else found

    def best_epoch(self, trial: Trial) -> EpochReport | None:
        """The best epoch of a trial; None before its first."""
        known = [report for report in trial.epochs if math.isfinite(self.value(report))]
        return min(known, key=lambda report: self.rank(self.value(report)), default=None)

    def best_value(self, trial: Trial) -> float:
        """Of its best epoch; NaN before the first."""
        best = self.best_epoch(trial)
        return math.nan if best is None else self.value(best)

    def rank(self, value: float) -> float:
        """The lower the better."""
        return -value if self.mode == "max" else value

    def ordered(self, trials: Mapping[int, Trial]) -> list[Trial]:
        """Trials with a value, the best first; of equal ones the earlier."""
        known = [trial for trial in trials.values() if math.isfinite(self.best_value(trial))]
        return sorted(known, key=lambda trial: (self.rank(self.best_value(trial)), trial.number))

    def name(self, trials: Mapping[int, Trial]) -> str:
        """For people, such as `validation accuracy`."""
        if self.kind == "validation_loss":
            return "validation loss"
        names = (trial.epochs[0].score_name for trial in trials.values() if trial.epochs)
        return f"validation {next(names, 'score')}"

    def text(self, value: float) -> str:
        """A value for people."""
        if not math.isfinite(value):
            return "none"
        is_share = self.kind == "validation_score" and self.mode == "max"
        return f"{value:.1%}" if is_share else f"{value:.4g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a search stands.

    Attributes:
        num_trials: In all.
        num_done: That trained to their end.
        num_stopped: That ASHA ended.
        num_failed: That gave an error.
        num_running: Now.
        num_epochs: Trained in all, of trials of an earlier start too.
        best: The best so far.
        left_s: Estimate; None before there is ground for one, and at the end.
    """

    num_trials: int
    num_done: int
    num_stopped: int
    num_failed: int
    num_running: int
    num_epochs: int
    best: Trial | None
    left_s: float | None

    @property
    def num_over(self) -> int:
        """Trials of which nothing more will come."""
        return self.num_done + self.num_stopped + self.num_failed


def progress(
    trials: Mapping[int, Trial],
    *,
    num_trials: int,
    max_epochs: int,
    metric: Metric,
    num_epochs_before: int,
    elapsed_s: float,
) -> Progress:
    """Where a search stands.

    Args:
        trials: By number, those that were begun.
        num_trials: In all.
        max_epochs: Of a trial that is not stopped.
        metric: What trials are compared by.
        num_epochs_before: Trained before this start of the search.
        elapsed_s: Since this start.
    """
    count = dict.fromkeys(("running", "done", "stopped", "failed"), 0)
    for trial in trials.values():
        count[trial.status] += 1
    num_epochs = sum(len(trial.epochs) for trial in trials.values())
    over = [trial for trial in trials.values() if trial.status in ("done", "stopped")]
    each = sum(len(trial.epochs) for trial in over) / len(over) if over else float(max_epochs)
    ahead = each * (num_trials - len(trials)) + sum(
        max(each - len(trial.epochs), 1.0) for trial in trials.values() if not trial.is_over
    )
    trained = num_epochs - num_epochs_before
    ordered = metric.ordered(trials)
    return Progress(
        num_trials=num_trials,
        num_done=count["done"],
        num_stopped=count["stopped"],
        num_failed=count["failed"],
        num_running=count["running"],
        num_epochs=num_epochs,
        best=ordered[0] if ordered else None,
        left_s=elapsed_s / trained * ahead if trained > 0 and ahead > 0 else None,
    )


def rungs(search: SearchConfig, max_epochs: int) -> list[float]:
    """Epochs after which ASHA compares trials, those before the last epoch."""
    found, rung = [], float(search.grace_epochs)
    while rung < max_epochs:
        found.append(rung)
        rung *= search.reduction_factor
    return found


def expected_epochs(search: SearchConfig, max_epochs: int) -> float:
    """Epochs of a trial on average, where at each rung of ASHA all but the best 1/n are stopped.

    ASHA promotes without waiting for others (Li et al. 2018, arXiv 1810.05934), so that the first
    trials go further than this says.
    """
    decided = [*rungs(search, max_epochs), float(max_epochs)]
    total, share = decided[0], 1.0
    for rung, following in itertools.pairwise(decided):
        share /= search.reduction_factor
        total += share * (following - rung)
    return total
