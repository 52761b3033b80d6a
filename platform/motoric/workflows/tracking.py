"""What a run leaves in MLflow: its recipe, data, code, machine, figures and files."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from motoric.core import storage
from motoric.core.errors import MotoricError
from motoric.registry.environment import ENVIRONMENT_FILE, describe_environment
from motoric.registry.registry import Registry
from motoric.registry.runs import RECIPE_FILE, Kind, run_tags
from motoric.training.evaluation.classification_scores import ClassificationEvaluation
from motoric.training.evaluation.evaluate import Evaluation
from motoric.training.evaluation.forecast_scores import ForecastEvaluation
from motoric.training.evaluation.predictions import Predictions
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedRun:
    """One run while it is open.

    Attributes:
        registry: Where it is tracked.
        run_id: MLflow's.
    """

    registry: Registry
    run_id: str

    def log_epoch(self, report: EpochReport, prefix: str = "") -> None:
        """Figures of one epoch; `prefix` names a fold."""
        self.registry.log_metrics(self.run_id, epoch_metrics(report, prefix), step=report.epoch)

    def log_test(self, evaluation: Evaluation) -> None:
        """Figures on the test people."""
        self.registry.log_metrics(self.run_id, test_metrics(evaluation))

    def keep(self, content: Mapping[str, bytes], folder_uri: str) -> None:
        """Keep files with the run, and under `folder_uri`."""
        with tempfile.TemporaryDirectory() as folder:
            for name, data in content.items():
                (Path(folder) / name).write_bytes(data)
                storage.write_bytes(storage.join(folder_uri, name), data)
            self.registry.log_files(self.run_id, Path(folder))


@contextmanager
def tracked(
    registry: Registry,
    recipe: Recipe,
    *,
    name: str,
    kind: Kind,
    dataset_digest: str,
    resumed: str | None = None,
) -> Iterator[TrackedRun]:
    """A tracked run; what is raised inside marks it as failed, with the reason.

    Args:
        registry: Where it is tracked.
        recipe: Its parameters.
        name: What people call it.
        kind: What it does.
        dataset_digest: Of what it sees.
        resumed: Id of the tracked run to go on with, instead of a new one.
    """
    environment = describe_environment()
    run_id = resumed
    if run_id is None:
        parameters = recipe.model_dump(mode="json") | {"dataset_digest": dataset_digest}
        tags = run_tags(kind=kind, dataset_digest=dataset_digest, environment=environment)
        run_id = registry.start_run(recipe.tracking.experiment, name, parameters, tags)
    else:
        registry.reopen_run(run_id)
    try:
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / RECIPE_FILE).write_text(recipe.to_yaml())
            (Path(folder) / ENVIRONMENT_FILE).write_text(environment.to_text())
            registry.log_files(run_id, Path(folder))
        yield TrackedRun(registry=registry, run_id=run_id)
    except BaseException as error:  # Ctrl-C too: no run stays "running" for ever
        reason = repr(error)
        if isinstance(error, MotoricError):
            reason = error.message
        elif isinstance(error, KeyboardInterrupt):
            reason = "interrupted"
        registry.end_run(run_id, failed=True, error=reason)
        raise
    registry.end_run(run_id)


def parquet_bytes(predictions: Predictions) -> bytes:
    """Predictions as a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(predictions.to_table(), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def epoch_metrics(report: EpochReport, prefix: str = "") -> dict[str, float]:
    """Figures of an epoch by metric name."""
    score = "validation_accuracy" if report.score_name == "accuracy" else "validation_mae"
    found = {
        "train_loss": report.train_loss,
        "validation_loss": report.validation_loss,
        score: report.validation_score,
        "learning_rate": report.learning_rate,
        "windows_per_s": report.windows_per_s,
        "waiting_share": report.waiting_share,
        "num_workers": float(report.num_workers),
        **report.system,
    }
    return {f"{prefix}{name}": value for name, value in found.items() if value is not None}


def test_metrics(evaluation: Evaluation) -> dict[str, float]:
    """Figures on the test people by metric name."""
    if isinstance(evaluation, ClassificationEvaluation):
        found: dict[str, float | None] = {
            "test_accuracy": evaluation.accuracy,
            "test_balanced_accuracy": evaluation.balanced_accuracy,
            "test_macro_f1": evaluation.macro_f1,
            "test_recording_accuracy": evaluation.recording_accuracy,
            "test_log_loss": evaluation.log_loss,
            "test_calibration_error": evaluation.calibration_error,
            "test_accuracy_worst_subject": evaluation.subject_accuracy.min,
        }
        interval = None if evaluation.intervals is None else evaluation.intervals.accuracy
        if interval is not None:
            found |= {"test_accuracy_low": interval.low, "test_accuracy_high": interval.high}
    else:
        found = {"test_mae": evaluation.mae, "test_rmse": evaluation.rmse}
        if isinstance(evaluation, ForecastEvaluation):
            found["test_persistence_mae"] = evaluation.persistence_mae
            found["test_skill"] = evaluation.skill
    return {name: value for name, value in found.items() if value is not None}
