"""The chain of a search: read, try trials side by side, write the best recipe and the report.

In: a recipe with `search:`. Out: a `TunedRecipe`. Everything that is known of a trial is written
after each of its epochs, so that a search that was cut short goes on with the trials not finished.
Each trial is tracked as a run below the run of the search.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
import yaml

from motoric.core import storage
from motoric.core.errors import MotoricError, RecipeError, UserError
from motoric.core.settings import Settings
from motoric.data.dataset import Dataset, open_dataset
from motoric.registry.environment import describe_environment
from motoric.registry.registry import Registry, mlflow_errors
from motoric.registry.runs import REPORT, REPORT_FILE, Kind, run_tags
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.search_config import SearchConfig
from motoric.training.trainer import new_run_id
from motoric.training.tuning.page import render_search
from motoric.training.tuning.search import capacity, check_fits, longest_trial, run_search
from motoric.training.tuning.space import num_trials, random_values, trial_recipe
from motoric.training.tuning.store import SearchDocument, SearchStore, check_same
from motoric.training.tuning.trial import TrialWork, is_alone, shares_examples
from motoric.training.tuning.trials import Metric, Trial, rungs
from motoric.workflows.machines import this_machine
from motoric.workflows.tracking import TrackedRun
from motoric.workflows.trial_book import TrialBook, Watcher

BEST_FILE = "best.yaml"

_MAX_NAME = 64
_TUNED = "-tuned"


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedRecipe:
    """What a search found.

    Attributes:
        name: Of the search; `--resume` takes it.
        recipe: With its `search`.
        metric: What trials were compared by.
        trials: By number.
        best: The best trial.
        best_yaml: Its recipe, as a file for `motoric train`.
        report_html: The report, plots inside.
        folder_uri: Where both lie.
        num_reused: Trials that an earlier start had finished.
    """

    name: str
    recipe: Recipe
    metric: Metric
    trials: Mapping[int, Trial]
    best: Trial
    best_yaml: str
    report_html: str
    folder_uri: str
    num_reused: int


def search_of(recipe: Recipe) -> SearchConfig:
    """The search of a recipe.

    Raises:
        RecipeError: It has none, or draws trials that the recipe refuses.
    """
    search = recipe.search
    if search is None:
        raise RecipeError(
            f"{recipe.name} has no `search:`: say which keys vary, such as search: {{space:"
            " {optimiser.learning_rate: {loguniform: [1.0e-4, 1.0e-2]}}}"
        )
    if search.algorithm == "random":
        for number in range(num_trials(search)):
            trial_recipe(recipe, random_values(search, number))
    return search


def stored_recipe(settings: Settings, name: str) -> Recipe:
    """The recipe that a search was started with.

    Raises:
        NotFoundError: No such search.
    """
    return parse_recipe(SearchStore(settings.storage_uri, name).read().recipe, f"search {name}")


def trials_at_once(recipe: Recipe, nodes: list[dict[str, Any]], *, is_local: bool) -> int:
    """How many trials to hand to Ray at once.

    A local platform has more logical CPUs than cores, for replicas that are mostly idle. Trials are
    not: more of them than cores would only take each other's time. Where an autoscaler can add
    nodes, all are handed over, so that it sees what is wanted.

    Args:
        recipe: With its `search`.
        nodes: As `ray.nodes()` lists them.
        is_local: Whether nothing can add nodes.
    """
    search = search_of(recipe)
    wanted = search.max_concurrent
    if not is_local:
        return wanted or num_trials(search)
    carried = capacity(recipe, nodes)
    if not is_alone(recipe):  # their workers wait in Ray Train, which gives up in time
        return min(wanted or carried, carried)
    if wanted is not None:
        return wanted
    if len([node for node in nodes if node["Alive"]]) == 1:
        carried = min(carried, int(this_machine().num_cpus // recipe.resources.cpus_per_worker))
    return max(1, carried)


def tune_recipe(
    recipe: Recipe,
    settings: Settings,
    watcher: Watcher,
    *,
    name: str | None = None,
    resume: bool = False,
) -> TunedRecipe:
    """Search on the Ray that this process is connected to.

    Args:
        recipe: With its `search`.
        settings: Where things are.
        watcher: Told what happens.
        name: Of the search; by default one is made from the recipe's.
        resume: Go on with the search of that name.

    Raises:
        MotoricError: What went wrong; trials that ended stay known.
    """
    search = search_of(recipe)
    if recipe.train.data == "stream":
        raise RecipeError(
            "train.data is stream, but the trials of a search read no streams: add --set"
            " train.data=mapped, or search on fewer people (`where`)"
        )
    is_local = settings.profile == "local"
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    if is_local:
        check_fits(recipe, nodes)
    store = SearchStore(settings.storage_uri, name or new_run_id(recipe))
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    before = _earlier(store, recipe, dataset, resume=resume)
    watcher.on_stage("reading examples")
    data = load_split(recipe, dataset)  # also where trials read: what is refused is refused here
    registry = Registry(settings.registry_uri, settings.storage_uri)
    metric = Metric.of(search, recipe.task)
    with _tracked(registry, store, recipe, dataset, is_new=not resume) as tracking:
        book = TrialBook(
            store=store,
            tracking=tracking,
            recipe=recipe,
            dataset_digest=dataset.card.content_digest,
            metric=metric,
            trials=before,
            watcher=watcher,
        )
        num_reused = sum(trial.is_over for trial in before.values())
        at_once = trials_at_once(recipe, nodes, is_local=is_local)
        watcher.on_stage(f"{num_trials(search) - num_reused} trials, up to {at_once} at once")
        work = TrialWork(
            recipe=recipe.model_dump(mode="json"),
            dataset_uri=dataset.uri,
            storage_uri=settings.storage_uri,
            search_name=store.name,
            metric=metric,
        )
        try:
            run_search(
                work,
                data if shares_examples(search) and is_alone(recipe) else None,
                before,
                at_once=at_once,
                on_trial=book.on_trial,
            )
        finally:
            book.close()
        watcher.on_stage("writing the best recipe and the report")
        return _conclude(recipe, dataset, store, tracking, metric, book.trials, num_reused)


def _earlier(
    store: SearchStore, recipe: Recipe, dataset: Dataset, *, resume: bool
) -> dict[int, Trial]:
    """The trials of earlier starts."""
    if resume:
        check_same(store.read(), recipe, dataset.card.content_digest)
        return store.read_trials()
    if store.exists():
        raise UserError(
            f"a search {store.name!r} exists at {store.uri}: go on with it by --resume"
            f" {store.name}, or choose another --name"
        )
    return {}


@contextmanager
def _tracked(
    registry: Registry, store: SearchStore, recipe: Recipe, dataset: Dataset, *, is_new: bool
) -> Iterator[TrackedRun]:
    """The tracked run of a search: a new one, or that of its first start."""
    kind: Kind = "tune"
    digest = dataset.card.content_digest
    if is_new:
        tags = run_tags(kind=kind, dataset_digest=digest, environment=describe_environment())
        parameters = recipe.model_dump(mode="json") | {"dataset_digest": digest}
        run_id = registry.start_run(recipe.tracking.experiment, store.name, parameters, tags)
        store.write(
            SearchDocument(
                name=store.name,
                recipe=recipe.model_dump(mode="json"),
                dataset_uri=dataset.uri,
                dataset_digest=digest,
                tracking_run_id=run_id,
            )
        )
    else:
        run_id = store.read().tracking_run_id
        with mlflow_errors(f"the run of search {store.name} cannot be read"):
            status = registry.client.get_run(run_id).info.status
        if status != "FINISHED":  # one that was whole may get more trials
            registry.reopen_run(run_id)
    try:
        yield TrackedRun(registry=registry, run_id=run_id)
    except BaseException as error:  # Ctrl-C too
        reason = error.message if isinstance(error, MotoricError) else repr(error)
        reason += f"; `motoric tune --resume {store.name}` goes on"
        registry.end_run(run_id, failed=True, error=reason)
        raise
    registry.end_run(run_id)


def _conclude(
    recipe: Recipe,
    dataset: Dataset,
    store: SearchStore,
    tracking: TrackedRun,
    metric: Metric,
    trials: Mapping[int, Trial],
    num_reused: int,
) -> TunedRecipe:
    """From the trials to the best recipe and the report."""
    assert recipe.search is not None
    ordered = metric.ordered(trials)
    if not ordered:
        first = next((trial.error for trial in trials.values() if trial.error), "no epoch ended")
        raise RecipeError(f"all {len(trials)} trials of {store.name} failed; the first: {first}")
    best = ordered[0]
    best_yaml = _best_yaml(recipe, store.name, best, metric, trials)
    html, plots = render_search(
        name=store.name,
        recipe=recipe,
        trials=trials,
        metric=metric,
        rungs=rungs(recipe.search, longest_trial(recipe)),
        facts=_facts(recipe, dataset, trials, metric, best),
        best_yaml=best_yaml,
    )
    content = {BEST_FILE: best_yaml.encode(), REPORT_FILE: html.encode(), **plots}
    tracking.keep(content, store.uri)
    figures = {f"best_{metric.kind}": metric.best_value(best), "best_trial": float(best.number)}
    tracking.registry.log_metrics(tracking.run_id, figures)
    tracking.registry.set_tags(tracking.run_id, {REPORT: storage.join(store.uri, REPORT_FILE)})
    return TunedRecipe(
        name=store.name,
        recipe=recipe,
        metric=metric,
        trials=trials,
        best=best,
        best_yaml=best_yaml,
        report_html=html,
        folder_uri=store.uri,
        num_reused=num_reused,
    )


def _best_yaml(
    recipe: Recipe, name: str, best: Trial, metric: Metric, trials: Mapping[int, Trial]
) -> str:
    """The recipe of the best trial as a file: every key, no search."""
    found = trial_recipe(recipe, best.values)
    content = found.model_dump(mode="json", exclude={"search"})
    content["name"] = recipe.name[: _MAX_NAME - len(_TUNED)] + _TUNED
    epoch = metric.best_epoch(best)
    assert epoch is not None
    head = (
        f"# The best of {len(trials)} trials of search {name}: trial {best.number},"
        f" {metric.name(trials)} {metric.text(metric.value(epoch))} in epoch {epoch.epoch + 1}.\n"
    )
    return head + yaml.safe_dump(content, sort_keys=False)


def _facts(
    recipe: Recipe,
    dataset: Dataset,
    trials: Mapping[int, Trial],
    metric: Metric,
    best: Trial,
) -> dict[str, str]:
    assert recipe.search is not None
    search = recipe.search
    best_value = metric.text(metric.best_value(best))
    num = {
        status: sum(trial.status == status for trial in trials.values())
        for status in ("done", "stopped", "failed")
    }
    epochs = sum(len(trial.epochs) for trial in trials.values())
    return {
        "recipe": recipe.name,
        "dataset": f"{dataset.card.name}, {dataset.card.num_recordings} recordings",
        "dataset digest": dataset.card.content_digest,
        "best": f"trial {best.number}, {metric.name(trials)} {best_value}",
        "trials": f"{len(trials)}: {num['done']} trained to the end, {num['stopped']} stopped by"
        f" ASHA, {num['failed']} failed",
        "epochs": f"{epochs} of at most {longest_trial(recipe) * len(trials)}",
        "algorithm": f"{search.algorithm}, seed {search.seed}; ASHA from epoch"
        f" {search.grace_epochs}, the best 1/{search.reduction_factor:g} go on",
        "space": "; ".join(f"{key}: {values}" for key, values in search.space.items()),
    }
