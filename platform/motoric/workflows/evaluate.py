"""Cross-validation: each fold and seed is a Ray task around the plain training loop.

In: a recipe, a protocol, a number of seeds. Out: one evaluation over all held-out people, its
report, and the predictions, tracked as a run. A fold that was done is not done again: its result
lies under `evaluations/` in the storage, named by everything that it depends on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq
import ray
from ray.exceptions import RayError, RayTaskError

import motoric
from motoric.core import storage
from motoric.core.errors import MotoricError, NotFoundError, PlatformError, RecipeError
from motoric.core.settings import Settings
from motoric.data.dataset import Dataset, open_dataset
from motoric.registry.registry import Registry
from motoric.training import folds
from motoric.training.evaluation.evaluate import Evaluation, evaluate
from motoric.training.evaluation.leaks import Leak, find_leaks
from motoric.training.evaluation.predictions import Predictions, concatenate, from_table
from motoric.training.evaluation.timeline_plots import PlottedSeries, timeline_plot
from motoric.training.evaluation.timeline_scores import TimelineScore, pool, score_timeline
from motoric.training.evaluation.timeline_series import Series, check_timeline
from motoric.training.examples import Examples
from motoric.training.folds import Fold, FoldResult, plan_folds
from motoric.training.inputs import ModelInputs, model_inputs
from motoric.training.loading import load_examples
from motoric.training.partition import with_examples
from motoric.training.recipe import Recipe
from motoric.training.room import check_cluster
from motoric.training.split_config import LeakingSplit
from motoric.training.trainer import new_run_id
from motoric.workflows.machines import this_machine
from motoric.workflows.tracking import TrackedRun, parquet_bytes, tracked
from motoric.workflows.train import keep_report, run_facts


class Watcher(Protocol):
    """Told what happens, while it happens."""

    def on_stage(self, name: str) -> None:
        """A stage begins."""
        ...

    def on_fold(self, fold: Fold, seed: int, score: str, num_done: int, num_all: int) -> None:
        """A fold ended; `score` says how well, in words."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationPlan:
    """How a recipe is evaluated.

    Attributes:
        protocol: `hold_out`, `group_k_fold` or `leave_one_out`.
        num_folds: Of `group_k_fold`.
        num_seeds: Seeds of the training, from the recipe's own upwards.
        training_people_only: Leave the recipe's test people out altogether: for choosing settings.
        fresh: Do folds again that were done.
        timelines: Make timelines of the test people's long recordings too.
    """

    protocol: folds.Protocol = "hold_out"
    num_folds: int = 5
    num_seeds: int = 1
    training_people_only: bool = False
    fresh: bool = False
    timelines: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluatedRecipe:
    """What cross-validation found."""

    run_id: str
    tracking_run_id: str
    evaluation: Evaluation
    predictions: Predictions
    leaks: tuple[Leak, ...]
    report_uri: str
    num_reused: int
    timeline: TimelineScore | None = None
    unsmoothed: TimelineScore | None = None


def evaluate_recipe(
    recipe: Recipe, plan: EvaluationPlan, settings: Settings, watcher: Watcher
) -> EvaluatedRecipe:
    """Cross-validate on the Ray that this process is connected to.

    Raises:
        MotoricError: What went wrong in a fold, as it was raised there; folds that were done stay.
    """
    if plan.timelines:
        check_timeline(recipe)
    if recipe.train.data not in ("auto", "memory"):
        raise RecipeError(
            f"train.data is {recipe.train.data}, but folds share one copy of the examples in"
            " memory: add --set train.data=memory"
        )
    dataset = open_dataset(storage.resolve(recipe.dataset, settings.storage_uri))
    watcher.on_stage("reading examples")
    inputs = model_inputs(recipe, dataset)
    examples = load_examples(recipe, dataset, inputs)
    inputs = with_examples(inputs, examples)
    if plan.training_people_only:
        inputs = folds.only_training_groups(recipe, inputs)
    planned = plan_folds(recipe, inputs, plan.protocol, plan.num_folds)
    jobs = [
        (fold, recipe.train.seed + index) for index in range(plan.num_seeds) for fold in planned
    ]
    store = _FoldStore(settings.storage_uri, recipe, dataset, plan)
    # Predictions alone are kept, so timelines need the network again.
    anew = plan.fresh or plan.timelines
    done = {} if anew else {job: found for job in jobs if (found := store.read(job))}
    num_reused = len(done)
    registry = Registry(settings.registry_uri, settings.storage_uri)
    run_id = new_run_id(recipe)
    digest = dataset.card.content_digest
    with tracked(registry, recipe, name=run_id, kind="evaluate", dataset_digest=digest) as tracking:
        if num_reused < len(jobs):
            watcher.on_stage(f"{len(jobs) - num_reused} of {len(jobs)} folds to train")
            if settings.profile == "local":
                check_cluster(recipe, 1)
            waiting = [job for job in jobs if job not in done]
            timelines_of = dataset.uri if plan.timelines else None
            for job, result in _run(recipe, inputs, examples, waiting, timelines_of):
                store.write(job, result)
                done[job] = result
                _log_epochs(tracking, job, result, is_only=len(jobs) == 1)
                watcher.on_fold(*job, _score(result), len(done), len(jobs))
        leaks = tuple(find_leaks(dataset, inputs.outlines)) if recipe.task == "classify" else ()
        return _conclude(
            recipe, plan, settings, dataset, jobs, done, leaks, tracking, run_id, num_reused
        )


_Job = tuple[Fold, int]
# Series in the picture of timelines.
_SHOWN = 6


def _run(
    recipe: Recipe,
    inputs: ModelInputs,
    examples: Examples,
    jobs: Sequence[_Job],
    timelines_of: str | None,
) -> Iterator[tuple[_Job, FoldResult]]:
    """Results in the order in which they end."""
    shared = ray.put((recipe, inputs, examples, timelines_of))
    wanted = dict(recipe.resources.of_worker)
    task = ray.remote(_fold).options(
        num_cpus=wanted.pop("CPU"),
        num_gpus=wanted.pop("GPU", 0),
        memory=int(wanted.pop("memory", 0)) or None,
        resources=wanted,
        max_retries=1,
    )
    at_once = _at_once(recipe.resources.cpus_per_worker)
    waiting = deque(jobs)
    pending: dict[Any, _Job] = {}
    try:
        while waiting or pending:
            while waiting and len(pending) < at_once:
                fold, seed = waiting.popleft()
                pending[task.remote(shared, fold, seed)] = (fold, seed)
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            job = pending.pop(ready)
            yield job, _result(ready)
    finally:
        for reference in pending:
            ray.cancel(reference, force=True)


def _at_once(cpus: float) -> float:
    """How many folds to hand to Ray; what no node has room for waits there.

    A local platform has more logical CPUs than cores, for replicas that are mostly idle. Folds are
    not: more of them than cores would only take each other's time and memory.
    """
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    alive = [node["NodeID"] for node in nodes if node["Alive"]]
    if alive != [ray.get_runtime_context().get_node_id()]:
        return math.inf
    return max(1, this_machine().num_cpus // max(1, cpus))


def _result(reference: Any) -> FoldResult:
    try:
        found: FoldResult = ray.get(reference)
    except RayTaskError as error:
        if isinstance(error.cause, MotoricError):
            raise error.cause from error
        raise PlatformError(f"a fold failed: {error}") from error
    except ray.exceptions.OutOfMemoryError as error:
        raise RecipeError(
            "Ray ended a fold because its node ran out of memory: lower train.batch_size,"
            " clip.height, clip.width or clip.num_frames, or give folds more"
            " resources.cpus_per_worker, so that fewer run at a time"
        ) from error
    except RayError as error:
        raise PlatformError(f"a fold failed: {error}") from error
    return found


def _fold(
    shared: tuple[Recipe, ModelInputs, Examples, str | None], fold: Fold, seed: int
) -> FoldResult:
    """What one task does."""
    import torch

    recipe, inputs, examples, timelines_of = shared
    torch.set_num_threads(max(1, int(recipe.resources.cpus_per_worker)))
    device = "cuda" if recipe.resources.gpus_per_worker > 0 else "cpu"
    dataset = None if timelines_of is None else open_dataset(timelines_of)
    return folds.run_fold(
        recipe, inputs, examples, fold, seed=seed, device=device, timelines_of=dataset
    )


def _log_epochs(tracking: TrackedRun, job: _Job, result: FoldResult, *, is_only: bool) -> None:
    fold, seed = job
    for report in result.epochs:
        tracking.log_epoch(report, "" if is_only else f"fold_{fold.number}/seed_{seed}/")


def _score(result: FoldResult) -> str:
    predictions = result.predictions
    if predictions.task == "classify":
        right_B = predictions.outputs_BK.argmax(axis=1) == predictions.targets_B
        return f"accuracy {right_B.mean():.1%}"
    found = evaluate(predictions)
    return f"MAE {getattr(found, 'mae', float('nan')):.3g} {predictions.unit}"


def _conclude(
    recipe: Recipe,
    plan: EvaluationPlan,
    settings: Settings,
    dataset: Dataset,
    jobs: Sequence[_Job],
    done: dict[_Job, FoldResult],
    leaks: tuple[Leak, ...],
    tracking: TrackedRun,
    run_id: str,
    num_reused: int,
) -> EvaluatedRecipe:
    predictions = concatenate([done[job].predictions for job in jobs])
    evaluation = evaluate(predictions)
    tracking.log_test(evaluation)
    folder_uri = storage.join(settings.storage_uri, "runs", run_id, "report")
    num_folds = len(jobs) // plan.num_seeds
    facts = run_facts(run_id, dataset) | {
        "protocol": f"{plan.protocol.replace('_', ' ')}, {num_folds} fold(s)",
        "seeds": ", ".join(str(seed) for seed in sorted({seed for _, seed in jobs})),
    }
    if plan.training_people_only:
        facts["people"] = "training people of the recipe's split only, for choosing settings"
    single = done[jobs[0]].epochs if len(jobs) == 1 else ()
    report_uri = keep_report(
        tracking, folder_uri, recipe, facts, evaluation, predictions, single, leaks
    )
    timeline = unsmoothed = None
    if plan.timelines:
        series = [item for job in jobs for item in done[job].series]
        timeline = pool(score_timeline(item.found, item.true) for item in series)
        unsmoothed = pool(score_timeline(item.unsmoothed, item.true) for item in series)
        _keep_timelines(tracking, folder_uri, timeline, series)
    return EvaluatedRecipe(
        run_id=run_id,
        tracking_run_id=tracking.run_id,
        evaluation=evaluation,
        predictions=predictions,
        leaks=leaks,
        report_uri=report_uri,
        num_reused=num_reused,
        timeline=timeline,
        unsmoothed=unsmoothed,
    )


def _keep_timelines(
    tracking: TrackedRun, folder_uri: str, score: TimelineScore, series: Sequence[Series]
) -> None:
    """Figures, segments and a picture of the first few series."""
    figures = {name: value for name, value in score.figures().items() if value is not None}
    tracking.registry.log_metrics(
        tracking.run_id, {f"timeline_{name}": value for name, value in figures.items()}
    )
    segments = {item.name: [asdict(segment) for segment in item.found] for item in series}
    shown = {item.name: PlottedSeries(true=item.true, found=item.found) for item in series[:_SHOWN]}
    content = {
        "timelines.json": json.dumps({"figures": figures, "segments": segments}).encode(),
        "timelines.png": timeline_plot(shown),
    }
    tracking.keep(content, folder_uri)


class _FoldStore:
    """Results of folds, named by the recipe, the data, the split and the code that trains."""

    def __init__(
        self, storage_uri: str, recipe: Recipe, dataset: Dataset, plan: EvaluationPlan
    ) -> None:
        self._folder = storage.join(storage_uri, "evaluations", recipe.name)
        # What neither changes weights nor predictions.
        aside = {"tracking", "registry", "resources", "timeline", "split", "name", "search"}
        content = recipe.model_dump(mode="json", exclude=aside)
        content["train"].pop("seed")
        if isinstance(recipe.split, LeakingSplit):
            # Its parts hold everybody, so that they do not say which windows are tested.
            content["split"] = recipe.split.model_dump(mode="json")
        if recipe.initial_weights is not None:
            weights = storage.read_bytes(recipe.initial_weights)
            content["initial_weights"] = hashlib.sha256(weights).hexdigest()
        self._base = json.dumps(
            [content, dataset.card.content_digest, plan.training_people_only, _code_digest()],
            sort_keys=True,
        )

    def read(self, job: _Job) -> FoldResult | None:
        """What an earlier evaluation found, if there was one."""
        try:
            content = storage.read_bytes(self._uri(job))
        except NotFoundError:
            return None
        table = pq.read_table(pa.BufferReader(content))
        return FoldResult(predictions=_renumbered(from_table(table), job), epochs=())

    def write(self, job: _Job, result: FoldResult) -> None:
        storage.write_bytes(self._uri(job), parquet_bytes(result.predictions))

    def _uri(self, job: _Job) -> str:
        fold, seed = job
        key = json.dumps([self._base, asdict(fold.split), seed])
        name = hashlib.sha256(key.encode()).hexdigest()[:20]
        return storage.join(self._folder, f"{name}.parquet")


def _code_digest() -> str:
    """Of the sources that weights and predictions depend on: a version number outlives edits."""
    package = Path(motoric.__file__).parent
    digest = hashlib.sha256()
    for folder in ("artefact", "data", "models", "training"):
        for path in sorted((package / folder).rglob("*.py")):
            digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()


def _renumbered(predictions: Predictions, job: _Job) -> Predictions:
    """The same split may have had another number in another protocol."""
    fold, _ = job
    return replace(predictions, fold_B=predictions.fold_B * 0 + fold.number)
