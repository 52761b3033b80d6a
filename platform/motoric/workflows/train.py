"""The chain from a recipe to a released model: train, export, verify, evaluate, write, register.

In: a recipe and the settings. Out: a `TrainedModel`. The figures come from the exported graph run
by the predictor that serves it, on people that training never saw.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from motoric.core import storage
from motoric.core.settings import Settings
from motoric.data.dataset import Dataset, open_dataset
from motoric.registry.promotion import promote
from motoric.registry.registry import RegisteredVersion, Registry
from motoric.registry.runs import METRICS_FILE, PREDICTIONS_FILE, REPORT, REPORT_FILE
from motoric.training.evaluation.classification_scores import ClassificationEvaluation
from motoric.training.evaluation.evaluate import Evaluation, evaluate
from motoric.training.evaluation.leaks import Leak, find_leaks
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.report import render_report
from motoric.training.examples import SplitExamples
from motoric.training.inputs import chosen_outlines
from motoric.training.partition import load_split
from motoric.training.progress import EpochReport, Tick
from motoric.training.recipe import Recipe
from motoric.training.trainer import TrainedRun, new_run_id, train
from motoric.workflows import artefact
from motoric.workflows.saved_run import SavedRun, save_run
from motoric.workflows.tracking import TrackedRun, parquet_bytes, tracked


class Watcher(Protocol):
    """Told what happens, while it happens."""

    def on_stage(self, name: str) -> None:
        """A stage begins."""
        ...

    def on_run(self, run_id: str) -> None:
        """The run has a name now, by which it can go on."""
        ...

    def on_tick(self, tick: Tick) -> None:
        """Training has begun with these workers, or goes on; every few seconds."""
        ...

    def on_epoch(self, report: EpochReport, num_epochs: int) -> None:
        """An epoch of training ended."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedModel:
    """What the chain made."""

    run_id: str
    tracking_run_id: str
    artefact_uri: str
    digest: str
    evaluation: Evaluation
    leaks: tuple[Leak, ...]
    report_uri: str
    registered: RegisteredVersion | None


def train_model(recipe: Recipe, settings: Settings, watcher: Watcher) -> TrainedModel:
    """Run the whole chain on the Ray that this process is connected to.

    Raises:
        MotoricError: What went wrong; a tracked run is marked as failed.
    """
    return _train(recipe, settings, watcher, None)


def resume_model(run: SavedRun, settings: Settings, watcher: Watcher) -> TrainedModel:
    """Go on with a run that was stopped, from its last checkpoint to the end of the chain.

    Raises:
        UserError: It is finished.
        MotoricError: As `train_model`.
    """
    return _train(run.recipe, settings, watcher, run)


def _train(
    recipe: Recipe, settings: Settings, watcher: Watcher, resumed: SavedRun | None
) -> TrainedModel:
    dataset_uri = storage.resolve(recipe.dataset, settings.storage_uri)
    dataset = open_dataset(dataset_uri)
    data = load_split(
        recipe,
        dataset,
        on_plan=lambda plan: watcher.on_stage(f"reading examples, {plan.text}"),
        may_stream=True,
    )
    if data.sample is not None:
        # A stream needs all workers, so they must not choose by what their own node has room for.
        streams = recipe.train.model_copy(update={"data": "stream"})
        recipe = recipe.model_copy(update={"train": streams})
    registry = Registry(settings.registry_uri, settings.storage_uri)
    run_id = new_run_id(recipe) if resumed is None else resumed.run_id
    watcher.on_run(run_id)
    with tracked(
        registry,
        recipe,
        name=run_id,
        kind="train",
        dataset_digest=dataset.card.content_digest,
        resumed=None if resumed is None else resumed.tracking_run_id,
    ) as tracking:
        if resumed is None:
            saved = SavedRun(run_id=run_id, tracking_run_id=tracking.run_id, recipe=recipe)
            save_run(saved, settings.storage_uri)

        def on_epoch(report: EpochReport) -> None:
            watcher.on_epoch(report, recipe.train.epochs)
            tracking.log_epoch(report)

        watcher.on_stage("starting workers")
        run = train(
            recipe,
            dataset_uri=dataset_uri,
            storage_uri=settings.storage_uri,
            run_id=run_id,
            can_grow=settings.profile != "local",
            on_epoch=on_epoch,
            on_tick=watcher.on_tick,
        )
        return _conclude(recipe, settings, dataset, data, run, tracking, watcher)


def _conclude(
    recipe: Recipe,
    settings: Settings,
    dataset: Dataset,
    data: SplitExamples,
    run: TrainedRun,
    tracking: TrackedRun,
    watcher: Watcher,
) -> TrainedModel:
    """From the weights to the registered version."""
    watcher.on_stage("exporting to ONNX and verifying")
    model = artefact.export(recipe, data, run)
    watcher.on_stage(f"evaluating on {recipe.tested_on}")
    predictions = artefact.predict_test(model, data, recipe.train.seed)
    evaluation = evaluate(predictions)
    watcher.on_stage("writing the artefact and the report")
    artefact_uri, digest = artefact.write(
        recipe, data, run, model, evaluation, settings.storage_uri
    )
    tracking.log_test(evaluation)
    leaks: tuple[Leak, ...] = ()
    if recipe.task == "classify":
        leaks = tuple(find_leaks(dataset, chosen_outlines(recipe, dataset)))
    folder_uri = storage.join(settings.storage_uri, "runs", run.run_id, "report")
    facts = run_facts(run.run_id, dataset) | {
        "artefact": digest,
        "trained on": ", ".join(data.split.train),
        "validated on": ", ".join(data.split.validation) or "nobody",
        "tested on": ", ".join(data.split.test),
    }
    report_uri = keep_report(
        tracking, folder_uri, recipe, facts, evaluation, predictions, run.epochs, leaks
    )
    registered = None
    if recipe.registry is not None:
        watcher.on_stage("registering")
        registered = _register(
            tracking, recipe, settings, artefact_uri, digest, evaluation, run.run_id, dataset
        )
    return TrainedModel(
        run_id=run.run_id,
        tracking_run_id=tracking.run_id,
        artefact_uri=artefact_uri,
        digest=digest,
        evaluation=evaluation,
        leaks=leaks,
        report_uri=report_uri,
        registered=registered,
    )


def run_facts(run_id: str, dataset: Dataset) -> dict[str, str]:
    """What every report says of its run."""
    return {
        "run": run_id,
        "dataset": f"{dataset.card.name}, {dataset.card.num_recordings} recordings",
        "dataset digest": dataset.card.content_digest,
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def keep_report(
    tracking: TrackedRun,
    folder_uri: str,
    recipe: Recipe,
    facts: Mapping[str, str],
    evaluation: Evaluation,
    predictions: Predictions,
    epochs: Sequence[EpochReport],
    leaks: Sequence[Leak],
) -> str:
    """Write the report with its plots, figures and predictions, and track them; returns its URI."""
    html, plots = render_report(
        title=recipe.name,
        facts=facts,
        evaluation=evaluation,
        predictions=predictions,
        epochs=epochs,
        recipe_yaml=recipe.to_yaml(),
        tested_on=recipe.tested_on,
        leaks=leaks,
    )
    content = {
        REPORT_FILE: html.encode(),
        **plots,
        METRICS_FILE: evaluation.model_dump_json(indent=1).encode(),
        PREDICTIONS_FILE: parquet_bytes(predictions),
    }
    tracking.keep(content, folder_uri)
    report_uri = storage.join(folder_uri, REPORT_FILE)
    tracking.registry.set_tags(tracking.run_id, {REPORT: report_uri})
    return report_uri


def _register(
    tracking: TrackedRun,
    recipe: Recipe,
    settings: Settings,
    artefact_uri: str,
    digest: str,
    evaluation: Evaluation,
    run_id: str,
    dataset: Dataset,
) -> RegisteredVersion:
    assert recipe.registry is not None
    registry = tracking.registry
    registered = registry.register(
        recipe.registry.model,
        artefact_uri=artefact_uri,
        digest=digest,
        run_id=tracking.run_id,
        figures={
            **_figures(evaluation),
            "dataset_digest": dataset.card.content_digest,
            "run": run_id,
        },
    )
    if recipe.registry.alias is not None:
        promote(
            registry,
            settings.storage_uri,
            registered.model,
            recipe.registry.alias,
            registered.version,
        )
    return registry.version(registered.model, registered.version)


def _figures(evaluation: Evaluation) -> dict[str, str]:
    if isinstance(evaluation, ClassificationEvaluation):
        return {
            "accuracy": f"{evaluation.accuracy:.4f}",
            "accuracy_worst_subject": f"{evaluation.subject_accuracy.min:.4f}",
            "num_test_subjects": str(evaluation.num_subjects),
        }
    return {"mae": f"{evaluation.mae:.4g}", "unit": evaluation.unit}
