"""The chain from a recipe to a released model: train, export, verify, evaluate, write, register.

In: a recipe and the settings. Out: a `TrainedModel`. The figures come from the exported graph run
by the predictor that serves it, on people that training never saw.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from safetensors.torch import save

from motoric.artefact import files
from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.preprocessing import prepare
from motoric.core import storage
from motoric.core.settings import Settings
from motoric.data.dataset import Dataset, open_dataset
from motoric.optimization.export import export_onnx, verify_onnx
from motoric.registry.promotion import promote
from motoric.registry.registry import RegisteredVersion, Registry
from motoric.training.evaluation import Evaluation, evaluate
from motoric.training.loop import make_network
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.report import render_report
from motoric.training.trainer import TrainedRun, new_run_id, train
from motoric.training.windows import SplitWindows, load_windows

_VERIFY_WINDOWS = 64


class Watcher(Protocol):
    """Told what happens, while it happens."""

    def on_stage(self, name: str) -> None:
        """A stage begins."""
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
    report_uri: str
    registered: RegisteredVersion | None


def train_model(recipe: Recipe, settings: Settings, watcher: Watcher) -> TrainedModel:
    """Run the whole chain on the Ray that this process is connected to.

    Raises:
        MotoricError: What went wrong; a tracked run is marked as failed.
    """
    dataset_uri = storage.resolve(recipe.dataset, settings.storage_uri)
    dataset = open_dataset(dataset_uri)
    watcher.on_stage("reading windows")
    data = load_windows(recipe, dataset)
    registry = Registry(settings.registry_uri, settings.storage_uri)
    run_id = new_run_id(recipe)
    parameters = recipe.model_dump(mode="json") | {"dataset_digest": dataset.card.content_digest}
    with _tracked(registry, recipe, run_id, parameters) as tracking_run_id:

        def on_epoch(report: EpochReport) -> None:
            watcher.on_epoch(report, recipe.train.epochs)
            registry.log_metrics(tracking_run_id, _epoch_metrics(report), step=report.epoch)

        watcher.on_stage(f"training on {recipe.resources.num_workers} worker(s)")
        run = train(
            recipe,
            dataset_uri=dataset_uri,
            storage_uri=settings.storage_uri,
            run_id=run_id,
            can_grow=settings.profile != "local",
            on_epoch=on_epoch,
        )
        watcher.on_stage("exporting to ONNX and verifying")
        model = _export(recipe, data, run)
        watcher.on_stage(f"evaluating on {recipe.tested_on}")
        evaluation = _evaluate(model, data)
        watcher.on_stage("writing the artefact and the report")
        artefact_uri, digest = _write_artefact(
            recipe, data, run, model, evaluation, settings.storage_uri
        )
        registry.log_metrics(tracking_run_id, _test_metrics(evaluation))
        report_uri = _write_report(
            recipe,
            dataset,
            data,
            run,
            evaluation,
            digest=digest,
            folder_uri=storage.join(settings.storage_uri, "runs", run_id, "report"),
            track=lambda folder: registry.log_files(tracking_run_id, folder),
        )
        registered = None
        if recipe.registry is not None:
            watcher.on_stage("registering")
            registered = _register(
                registry,
                recipe,
                settings.storage_uri,
                artefact_uri,
                digest,
                evaluation,
                run_id=run_id,
                tracking_run_id=tracking_run_id,
                dataset_digest=dataset.card.content_digest,
            )
    return TrainedModel(
        run_id=run_id,
        tracking_run_id=tracking_run_id,
        artefact_uri=artefact_uri,
        digest=digest,
        evaluation=evaluation,
        report_uri=report_uri,
        registered=registered,
    )


@contextmanager
def _tracked(
    registry: Registry, recipe: Recipe, run_id: str, parameters: Mapping[str, object]
) -> Iterator[str]:
    tracking_run_id = registry.start_run(recipe.tracking.experiment, run_id, parameters)
    try:
        yield tracking_run_id
    except BaseException:  # Ctrl-C too: no run stays "running" for ever
        registry.end_run(tracking_run_id, failed=True)
        raise
    registry.end_run(tracking_run_id)


def _epoch_metrics(report: EpochReport) -> dict[str, float]:
    return {
        "train_loss": report.train_loss,
        "validation_loss": report.validation_loss,
        "validation_accuracy": report.validation_accuracy,
        "learning_rate": report.learning_rate,
        "windows_per_s": report.windows_per_s,
    }


def _test_metrics(evaluation: Evaluation) -> dict[str, float]:
    return {
        "test_accuracy": evaluation.accuracy,
        "test_balanced_accuracy": evaluation.balanced_accuracy,
        "test_macro_f1": evaluation.macro_f1,
        "test_log_loss": evaluation.log_loss,
        "test_accuracy_worst_subject": evaluation.subject_accuracy_min,
    }


def _export(recipe: Recipe, data: SplitWindows, run: TrainedRun) -> bytes:
    network = make_network(recipe, data)
    network.load_state_dict(run.weights)
    model = export_onnx(network, data.signature)
    sample = data.validation.windows_BTC[:_VERIFY_WINDOWS]
    verify_onnx(
        model, network, prepare(sample, data.signature.preprocessing, data.signature.sensors)
    )
    return model


def _evaluate(model: bytes, data: SplitWindows) -> Evaluation:
    artefact = LoadedArtefact(uri="(new)", digest="", signature=data.signature, model=model)
    return evaluate(Predictor(artefact).predict(data.test.windows_BTC), data.test)


def _write_artefact(
    recipe: Recipe,
    data: SplitWindows,
    run: TrainedRun,
    model: bytes,
    evaluation: Evaluation,
    storage_uri: str,
) -> tuple[str, str]:
    content = {
        files.MODEL: model,
        files.WEIGHTS: save(run.weights),
        files.RECIPE: recipe.to_yaml().encode(),
        files.SIGNATURE: data.signature.model_dump_json(indent=1).encode(),
        files.METRICS: evaluation.model_dump_json(indent=1).encode(),
        files.CARD: _card(recipe, data, run, evaluation).encode(),
    }
    digest = files.digest_of(files.sums(content))
    name = recipe.registry.model if recipe.registry is not None else recipe.name
    uri = storage.join(storage_uri, "artefacts", name, digest.removeprefix("sha256:")[:16])
    return uri, files.write_artefact(uri, content)


def _card(recipe: Recipe, data: SplitWindows, run: TrainedRun, evaluation: Evaluation) -> str:
    sensors = data.signature.sensors
    channels = ", ".join(f"{item.name} ({item.unit})" for item in sensors.channels)
    people = "\n".join(
        f"| {score.subject} | {score.num_windows} | {score.accuracy:.1%} |"
        f" {score.recording_accuracy:.1%} |"
        for score in evaluation.subjects
    )
    return f"""# {recipe.name}

Run `{run.run_id}`: `{recipe.model["name"]}`, {len(run.epochs)} epochs on {run.num_workers}
worker(s).

- **Input**: {sensors.num_input_samples} samples at {sensors.rate_hz:g} Hz, the first
  {sensors.num_context_samples} of them context of filters, of {channels}.
- **Output**: probabilities of {", ".join(data.signature.classes)}.
- **Trained on**: {", ".join(data.split.train)}; watched on {", ".join(data.split.validation)}.
- **Tested on {recipe.tested_on}**: {", ".join(data.split.test)}; {evaluation.num_windows} windows.

Accuracy {evaluation.accuracy:.1%} ({evaluation.subject_accuracy_min:.1%} to
{evaluation.subject_accuracy_max:.1%} over people), macro F1 {evaluation.macro_f1:.3f}.

| person | windows | accuracy | whole recordings |
|---|---|---|---|
{people}
"""


def _write_report(
    recipe: Recipe,
    dataset: Dataset,
    data: SplitWindows,
    run: TrainedRun,
    evaluation: Evaluation,
    *,
    digest: str,
    folder_uri: str,
    track: Callable[[Path], None],
) -> str:
    facts = {
        "run": run.run_id,
        "artefact": digest,
        "dataset": f"{dataset.card.name}, {dataset.card.num_recordings} recordings",
        "dataset digest": dataset.card.content_digest,
        "trained on": ", ".join(data.split.train),
        "validated on": ", ".join(data.split.validation),
        "tested on": ", ".join(data.split.test),
        "made": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }
    html, plots = render_report(
        title=recipe.name,
        facts=facts,
        evaluation=evaluation,
        epochs=run.epochs,
        recipe_yaml=recipe.to_yaml(),
        tested_on=recipe.tested_on,
    )
    content = {"report.html": html.encode(), **plots}
    content["metrics.json"] = json.dumps(evaluation.model_dump(mode="json"), indent=1).encode()
    with tempfile.TemporaryDirectory() as folder:
        for name, data_bytes in content.items():
            (Path(folder) / name).write_bytes(data_bytes)
            storage.write_bytes(storage.join(folder_uri, name), data_bytes)
        track(Path(folder))
    return storage.join(folder_uri, "report.html")


def _register(
    registry: Registry,
    recipe: Recipe,
    storage_uri: str,
    artefact_uri: str,
    digest: str,
    evaluation: Evaluation,
    *,
    run_id: str,
    tracking_run_id: str,
    dataset_digest: str,
) -> RegisteredVersion:
    assert recipe.registry is not None
    registered = registry.register(
        recipe.registry.model,
        artefact_uri=artefact_uri,
        digest=digest,
        run_id=tracking_run_id,
        figures={
            "accuracy": f"{evaluation.accuracy:.4f}",
            "accuracy_worst_subject": f"{evaluation.subject_accuracy_min:.4f}",
            "num_test_subjects": str(evaluation.num_subjects),
            "dataset_digest": dataset_digest,
            "run": run_id,
        },
    )
    if recipe.registry.alias is not None:
        promote(registry, storage_uri, registered.model, recipe.registry.alias, registered.version)
    return registry.version(registered.model, registered.version)
