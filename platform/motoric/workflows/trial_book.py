"""How each trial of a search stands: written to the storage, tracked as a run, shown."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Protocol

from motoric.core.errors import RecipeError
from motoric.registry.environment import describe_environment
from motoric.registry.runs import PARENT, run_tags
from motoric.training.recipe import Recipe
from motoric.training.tuning.search import longest_trial
from motoric.training.tuning.space import num_trials, trial_recipe
from motoric.training.tuning.store import SearchStore
from motoric.training.tuning.trial import run_name
from motoric.training.tuning.trials import Metric, Progress, Trial, progress
from motoric.workflows.tracking import TrackedRun, epoch_metrics

_TRIAL_END = "motoric.trial_end"


class Watcher(Protocol):
    """Told what happens, while it happens."""

    def on_stage(self, name: str) -> None:
        """A stage begins."""
        ...

    def on_trial(self, trial: Trial, found: Progress, metric: Metric, max_epochs: int) -> None:
        """A trial began, trained an epoch, or ended."""
        ...


class TrialBook:
    """Keeps each trial: on the storage, as a tracked run, for whoever watches.

    Args:
        store: Of the search.
        tracking: The run of the search.
        recipe: With its `search`.
        dataset_digest: Of the dataset's content.
        metric: What trials are compared by.
        trials: Those of earlier starts, by number.
        watcher: Told how each trial stands.
    """

    def __init__(
        self,
        *,
        store: SearchStore,
        tracking: TrackedRun,
        recipe: Recipe,
        dataset_digest: str,
        metric: Metric,
        trials: Mapping[int, Trial],
        watcher: Watcher,
    ) -> None:
        assert recipe.search is not None
        self.trials = dict(trials)
        self._store = store
        self._tracking = tracking
        self._recipe = recipe
        self._metric = metric
        self._watcher = watcher
        self._num_trials = num_trials(recipe.search)
        self._max_epochs = longest_trial(recipe)
        self._tags = run_tags(
            kind="trial", dataset_digest=dataset_digest, environment=describe_environment()
        ) | {PARENT: tracking.run_id}
        self._dataset_digest = dataset_digest
        self._open: set[str] = set()
        self._started_s = time.monotonic()
        over = [trial for trial in trials.values() if trial.is_over]
        self._num_epochs_before = sum(len(trial.epochs) for trial in over)

    def on_trial(self, trial: Trial) -> None:
        """A trial began, trained an epoch, or ended."""
        known = self.trials.get(trial.number)
        run_id = self._run_of(trial, known)
        trial = trial.model_copy(update={"tracking_run_id": run_id})
        num_known = 0 if known is None else len(known.epochs)
        for report in trial.epochs[num_known:]:
            figures = epoch_metrics(report)
            self._tracking.registry.log_metrics(run_id, figures, step=report.epoch)
        if trial.is_over:
            self._end(trial)
        self._store.write_trial(trial)
        self.trials[trial.number] = trial
        found = progress(
            self.trials,
            num_trials=self._num_trials,
            max_epochs=self._max_epochs,
            metric=self._metric,
            num_epochs_before=self._num_epochs_before,
            elapsed_s=time.monotonic() - self._started_s,
        )
        self._watcher.on_trial(trial, found, self._metric, self._max_epochs)

    def close(self) -> None:
        """No run stays "running" for ever."""
        for run_id in self._open:
            self._tracking.registry.end_run(run_id, failed=True, error="the search was cut short")
        self._open.clear()

    def _run_of(self, trial: Trial, known: Trial | None) -> str:
        """The tracked run of a trial; one that was cut short is opened again."""
        registry = self._tracking.registry
        run_id = trial.tracking_run_id or (known.tracking_run_id if known is not None else "")
        if not run_id:
            parameters = _parameters(self._recipe, trial) | {"dataset_digest": self._dataset_digest}
            run_id = registry.start_run(
                self._recipe.tracking.experiment,
                run_name(self._store.name, trial.number),
                parameters,
                self._tags,
            )
        elif run_id not in self._open:
            registry.reopen_run(run_id)
        self._open.add(run_id)
        return run_id

    def _end(self, trial: Trial) -> None:
        registry, run_id = self._tracking.registry, trial.tracking_run_id
        registry.set_tags(run_id, {_TRIAL_END: trial.status})
        failed = trial.status == "failed"
        registry.end_run(run_id, failed=failed, error=trial.error or None)
        self._open.discard(run_id)


def _parameters(recipe: Recipe, trial: Trial) -> dict[str, Any]:
    try:
        content = trial_recipe(recipe, trial.values).model_dump(mode="json", exclude={"search"})
    except RecipeError:  # the trial itself will fail, and say so
        content = recipe.model_dump(mode="json", exclude={"search"})
    return content | {"trial": trial.values}
