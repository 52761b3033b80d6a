"""A search by ray.tune: trials side by side, each reporting its epochs, ended early by ASHA.

In: what trials share, those of earlier starts. Out: calls that say how each trial stands. What
ray.tune writes goes to a temporary folder and is never read: a search goes on from its trials.
"""

from __future__ import annotations

import logging
import math
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray import tune

from motoric.core import storage
from motoric.core.errors import MotoricError, PlatformError, RecipeError
from motoric.training.examples import SplitExamples
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.tuning.proposals import NUMBER, VALUES, Proposals
from motoric.training.tuning.scheduler import SearchScheduler
from motoric.training.tuning.trial import (
    ERROR,
    REPORT,
    TrialWork,
    is_alone,
    run_uri,
    train_trial,
)
from motoric.training.tuning.trials import Trial

# Told how a trial stands, after each of its epochs and at its end.
OnTrial = Callable[[Trial], None]

# A node that is lost takes its trials along; they begin again, elsewhere.
_MAX_FAILURES = 2
_ENVIRONMENT = {
    # Ctrl-C ends the search at once; ray.tune would wait for all trials, and return as if done.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # Trials and their epochs are kept and shown by us.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    # The report of an error has no metric.
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


def run_search(
    work: TrialWork,
    data: SplitExamples | None,
    trials: Mapping[int, Trial],
    *,
    at_once: int,
    on_trial: OnTrial,
) -> None:
    """Run what is left of a search on the Ray that this process is connected to.

    Args:
        work: What trials share.
        data: The examples, where all trials have the same.
        trials: Those of earlier starts, by number.
        at_once: Trials to hand to Ray; what no node has room for waits there.
        on_trial: Called in this process.

    Raises:
        MotoricError: What `on_trial` raised.
        PlatformError: ray.tune itself failed.
    """
    recipe = Recipe.model_validate(work.recipe)
    assert recipe.search is not None
    proposals = Proposals(recipe.search, work.metric, trials)
    if proposals.num_waiting == 0:
        return
    scheduler = SearchScheduler(recipe.search, work.metric, longest_trial(recipe))
    over = [trial for trial in trials.values() if trial.is_over]
    scheduler.replay(over, work.metric)
    follower = _Follower(scheduler, trials, work, on_trial)
    trainable: Any = tune.with_parameters(train_trial, work=work, data=data)
    # It would warn that the files which it did not write are missing.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="mt-") as scratch, _environment(_ENVIRONMENT):
        try:
            tune.run(
                tune.with_resources(trainable, _resources(recipe)),
                name=work.search_name,
                storage_path=scratch,
                search_alg=proposals,
                scheduler=scheduler,
                num_samples=proposals.num_waiting,
                max_concurrent_trials=min(at_once, proposals.num_waiting),
                max_failures=_MAX_FAILURES,
                # Starting a process costs seconds. One that was held to a limit of memory must not
                # answer for what the trial before it left.
                reuse_actors=is_alone(recipe) and recipe.resources.memory_gib_per_worker is None,
                raise_on_failed_trial=False,
                callbacks=[follower],
                verbose=0,
            )
        except MotoricError:
            raise
        except (tune.TuneError, ray.exceptions.RayError) as error:
            raise PlatformError(
                f"the search broke off: {error}; go on with it by `--resume {work.search_name}`"
            ) from error
        finally:
            follower.remove_checkpoints()


def longest_trial(recipe: Recipe) -> int:
    """Epochs of a trial that nothing ends early, at most."""
    assert recipe.search is not None
    searched = recipe.search.space.get("train.epochs")
    return recipe.train.epochs if searched is None else int(max(searched.probes))


def check_fits(recipe: Recipe, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a trial that a fixed cluster can never carry, instead of waiting for ever.

    Args:
        recipe: Its resources are those of one trial.
        nodes: As `ray.nodes()` lists them.

    Raises:
        RecipeError: No node has what a worker needs, or all together not what its workers need.
    """
    wanted = recipe.resources.of_worker
    room = sum(_room(node["Resources"], wanted) for node in nodes if node["Alive"])
    if room >= recipe.resources.min_workers:
        return
    needs = ", ".join(f"{amount:g} {name}" for name, amount in wanted.items())
    largest = ", ".join(
        f"{max((node['Resources'].get(name, 0.0) for node in nodes if node['Alive']), default=0):g}"
        f" {name}"
        for name in wanted
    )
    raise RecipeError(
        f"resources: a trial needs {recipe.resources.min_workers} worker(s), each with {needs};"
        f" the cluster has room for {room} (the most of one node: {largest}): lower resources.*,"
        " or grow the cluster"
    )


def capacity(recipe: Recipe, nodes: Sequence[Mapping[str, Any]]) -> int:
    """Trials that the nodes carry at once, at least 1."""
    wanted = recipe.resources.of_worker
    room = sum(_room(node["Resources"], wanted) for node in nodes if node["Alive"])
    return max(1, room // recipe.resources.min_workers)


def _room(there: Mapping[str, float], wanted: Mapping[str, float]) -> int:
    """Workers that a node carries."""
    return int(min(there.get(name, 0.0) / amount for name, amount in wanted.items()))


def _resources(recipe: Recipe) -> tune.PlacementGroupFactory:
    """What the process of a trial asks for: its own training, or next to nothing beside workers."""
    if is_alone(recipe):
        return tune.PlacementGroupFactory([recipe.resources.of_worker])
    return tune.PlacementGroupFactory([{"memory": 1}])


class _Follower(tune.Callback):
    """Keeps how each trial stands, and tells it. ray.tune calls it with keywords alone."""

    def __init__(
        self,
        scheduler: SearchScheduler,
        trials: Mapping[int, Trial],
        work: TrialWork,
        on_trial: OnTrial,
    ) -> None:
        self._scheduler = scheduler
        self._trials = dict(trials)
        self._work = work
        self._on_trial = on_trial
        self._started_s: dict[int, float] = {}
        self._failure: BaseException | None = None

    def on_trial_start(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """A trial begins, or begins again."""
        number = trial.config[NUMBER]
        before = self._trials.get(number)
        self._started_s[number] = time.monotonic()
        run_id = "" if before is None else before.tracking_run_id
        self._tell(Trial(number=number, values=trial.config[VALUES], tracking_run_id=run_id))

    def on_trial_result(  # type: ignore[override]
        self, *, trial: Any, result: dict[str, Any], **_: Any
    ) -> None:
        """An epoch of a trial ended, or the trial with an error."""
        known = self._trials[trial.config[NUMBER]]
        if REPORT in result:
            epochs = (*known.epochs, EpochReport(**result[REPORT]))
            self._tell(known.model_copy(update={"epochs": epochs, **self._duration(known)}))
        elif ERROR in result:
            self._tell(known.model_copy(update={"error": result[ERROR]}))

    def on_trial_complete(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """A trial is over."""
        known = self._trials[trial.config[NUMBER]]
        status = "failed" if known.error else "done"
        if trial.trial_id in self._scheduler.stopped and not self._is_whole(known):
            status = "stopped"
        self._end(known, {"status": status})

    def on_trial_error(self, *, trial: Any, **_: Any) -> None:  # type: ignore[override]
        """The process of a trial was lost, again and again."""
        known = self._trials[trial.config[NUMBER]]
        reason = _last_line(trial.get_error())
        self._end(known, {"status": "failed", "error": reason})

    def remove_checkpoints(self) -> None:
        """Of trials that are over: what one was writing when it was ended may have come later."""
        for trial in self._trials.values():
            if trial.is_over:
                storage.remove_folder(run_uri(self._work, trial.number))

    def on_step_end(self, **_: Any) -> None:  # type: ignore[override]
        """Raise what telling raised: inside the other calls it would count as a trial's failure."""
        if self._failure is not None:
            raise self._failure

    def _end(self, known: Trial, update: dict[str, Any]) -> None:
        self._tell(known.model_copy(update={**update, **self._duration(known)}))
        storage.remove_folder(run_uri(self._work, known.number))

    def _is_whole(self, trial: Trial) -> bool:
        recipe = Recipe.model_validate(self._work.recipe)
        epochs = trial.values.get("train.epochs", recipe.train.epochs)
        return len(trial.epochs) >= int(epochs)

    def _duration(self, known: Trial) -> dict[str, float]:
        return {"duration_s": time.monotonic() - self._started_s.get(known.number, math.nan)}

    def _tell(self, trial: Trial) -> None:
        self._trials[trial.number] = trial
        try:
            self._on_trial(trial)
        except Exception as error:  # noqa: BLE001 - raised again after the step
            self._failure = self._failure or error


def _last_line(error: object) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "its process was lost"


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
