"""Tracked runs, read back: who they are, their figures by epoch, their files, how they differ.

In: an open `Registry`. Out: frozen `RunSummary` and `RunHistory`. What a run is tagged with at its
start is made here too, so that writing and reading agree.
"""

from __future__ import annotations

import difflib
import io
import math
import re
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from motoric.core.errors import NotFoundError, UserError
from motoric.registry.environment import DIRTY, GIT_COMMIT, Environment
from motoric.registry.registry import ERROR, Registry, mlflow_errors

Kind = Literal["train", "evaluate", "tune", "trial"]

KIND = "motoric.kind"
DATASET_DIGEST = "motoric.dataset_digest"
REPORT = "motoric.report"
# MLflow's own pages show runs with this tag below the run that it names.
PARENT = "mlflow.parentRunId"
RECIPE_FILE = "recipe.yaml"
METRICS_FILE = "metrics.json"
REPORT_FILE = "report.html"
PREDICTIONS_FILE = "predictions.parquet"

# MLflow's own page shows the commit under this one.
_MLFLOW_COMMIT = "mlflow.source.git.commit"
_MAX_NAMED = 20
_NUM_LOOKED_AT = 1000
_PAGE = 500
# SQL has no infinity, so MLflow keeps the largest double in its place.
_INFINITE = 1.797e308
_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#805ad5", "#b7791f", "#00a3c4", "#718096")
_STYLES = ("-", "--", ":", "-.")
_LOWER = frozenset(
    {"loss", "mae", "rmse", "mse", "mase", "nll", "brier", "error", "ece", "pinball"}
)
_HIGHER = frozenset(
    {"accuracy", "f1", "recall", "precision", "kappa", "auc", "auroc", "r2", "skill"}
)


def run_tags(*, kind: Kind, dataset_digest: str, environment: Environment) -> dict[str, str]:
    """The tags that a run gets at its start."""
    tags = {KIND: kind, DATASET_DIGEST: dataset_digest, **environment.tags()}
    return tags | ({_MLFLOW_COMMIT: tags[GIT_COMMIT]} if GIT_COMMIT in tags else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSummary:
    """One tracked run.

    `run_id` is MLflow's, `name` what people call it. `duration_s` counts up to now while it runs.
    `metrics` are the last values, `steps` the steps they are of (epochs count from 0).
    """

    run_id: str
    name: str
    experiment: str
    status: str
    started_at_s: float
    duration_s: float
    parameters: Mapping[str, str]
    metrics: Mapping[str, float]
    steps: Mapping[str, int]
    tags: Mapping[str, str]
    files_uri: str

    @property
    def kind(self) -> str:
        """A `Kind`; empty where the run does not say."""
        return self.tags.get(KIND, "")

    @property
    def model(self) -> str:
        """Name of the network; empty where the run does not say."""
        return self.parameters.get("model.name", "")

    @property
    def dataset_digest(self) -> str:
        """Digest of the dataset's content; empty where the run does not say."""
        return self.tags.get(DATASET_DIGEST) or self.parameters.get("dataset_digest", "")

    @property
    def num_epochs(self) -> int | None:
        """Epochs that are finished; None where none is tracked."""
        for name in ("validation_loss", "train_loss"):
            if name in self.steps:
                return self.steps[name] + 1
        return None

    @property
    def commit(self) -> str:
        """Commit of the code, marked where it had changes; empty where the run does not say."""
        commit = self.tags.get(GIT_COMMIT, "")
        return f"{commit} (with changes)" if self.tags.get(DIRTY) == "true" else commit

    @property
    def error(self) -> str:
        """Why it failed; empty where it did not."""
        return self.tags.get(ERROR, "")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunHistory:
    """All values of the metrics of a run, `(step, value)` in the order of steps."""

    points: Mapping[str, tuple[tuple[int, float], ...]]

    def best(self, metric: str) -> tuple[int, float] | None:
        """The step and value of a metric's best; None for a metric that is neither good nor bad."""
        sign = direction(metric)
        finite = [point for point in self.points.get(metric, ()) if math.isfinite(point[1])]
        if sign is None or not finite:
            return None
        return min(finite, key=lambda point: -point[1] if sign == "higher" else point[1])


class Runs:
    """Reads the runs of a registry.

    Args:
        registry: An open one: SQLite or a server.
    """

    def __init__(self, registry: Registry) -> None:
        self._client = registry.client
        self._uri = registry.registry_uri

    def list(self, experiment: str | None = None, limit: int = 50) -> tuple[RunSummary, ...]:
        """Runs of one experiment or of all, the newest first.

        Raises:
            NotFoundError: No such experiment; the message names those there are.
        """
        experiments = self._experiments()
        chosen = {
            key: name
            for key, name in experiments.items()
            if experiment is None or name == experiment
        }
        if not chosen:
            known = ", ".join(sorted(experiments.values())[:_MAX_NAMED]) or "none yet"
            raise NotFoundError(f"no experiment {experiment!r} (there are: {known})")
        return self._search(chosen, "", limit)

    def get(self, name_or_id: str) -> RunSummary:
        """The run of a name, of an id, or of the beginning of either that fits one run only.

        Raises:
            NotFoundError: There is none; the message names runs of similar names.
            UserError: Several fit.
        """
        experiments = self._experiments()
        quote = '"' if "'" in name_or_id else "'"
        if name_or_id and not ("'" in name_or_id and '"' in name_or_id):
            for filter_, exact in (
                (f"attributes.run_id = {quote}{name_or_id}{quote}", True),
                (f"attributes.run_name = {quote}{name_or_id}{quote}", True),
                (f"attributes.run_name LIKE {quote}{name_or_id}%{quote}", False),
                (f"attributes.run_id LIKE {quote}{name_or_id}%{quote}", False),
            ):
                found = self._search(experiments, filter_, _MAX_NAMED + 1)
                # In the pattern of LIKE, `_` and `%` stand for anything.
                fitting = [
                    run
                    for run in found
                    if exact or run.name.startswith(name_or_id) or run.run_id.startswith(name_or_id)
                ]
                if len(fitting) > 1:
                    raise UserError(_ambiguous(name_or_id, fitting))
                if fitting:
                    return fitting[0]
        raise NotFoundError(self._unknown(name_or_id, experiments))

    def history(self, run: RunSummary, metrics: Iterable[str] | None = None) -> RunHistory:
        """Values by step of all metrics of a run, or of some; a metric it lacks has no points."""
        wanted = (
            run.metrics if metrics is None else [name for name in metrics if name in run.metrics]
        )
        points = {}
        with mlflow_errors(f"the metrics of {run.name} cannot be read"):
            for name in wanted:
                found = self._client.get_metric_history(run.run_id, name)
                # A resumed run tracks an epoch again; the later value is the one that counts.
                by_step = {
                    item.step: _value(item.value)
                    for item in sorted(found, key=lambda item: item.timestamp)
                }
                points[name] = tuple(sorted(by_step.items()))
        return RunHistory(points=points)

    def files(self, run: RunSummary) -> tuple[str, ...]:
        """Paths of the files kept with a run, relative to `files_uri`."""
        paths: list[str] = []
        folders: list[str | None] = [None]
        with mlflow_errors(f"the files of {run.name} cannot be read"):
            while folders:
                for item in self._client.list_artifacts(run.run_id, folders.pop()):
                    (folders if item.is_dir else paths).append(item.path)
        return tuple(sorted(paths))

    def download(self, run: RunSummary, file: str) -> bytes:
        """The content of a file kept with a run.

        Raises:
            NotFoundError: It has no such file; the message names those it has.
        """
        files = self.files(run)
        if file not in files:
            known = ", ".join(files[:_MAX_NAMED]) or "none"
            raise NotFoundError(f"run {run.name} keeps no file {file!r} (it keeps: {known})")
        with (
            mlflow_errors(f"{file} of run {run.name} cannot be read"),
            tempfile.TemporaryDirectory() as folder,
        ):
            return Path(self._client.download_artifacts(run.run_id, file, folder)).read_bytes()

    def _experiments(self) -> dict[str, str]:
        """Names of experiments by id."""
        found: dict[str, str] = {}
        token: str | None = None
        with mlflow_errors(f"the registry at {self._uri} cannot be read"):
            while True:
                page = self._client.search_experiments(max_results=_PAGE, page_token=token)
                found |= {item.experiment_id: item.name for item in page}
                token = page.token
                if not token:
                    return found

    def _search(
        self, experiments: Mapping[str, str], filter_: str, limit: int
    ) -> tuple[RunSummary, ...]:
        found: dict[str, RunSummary] = {}
        token: str | None = None
        with mlflow_errors(f"the runs at {self._uri} cannot be read"):
            while len(found) < limit:
                page = self._client.search_runs(
                    [*experiments],
                    filter_string=filter_,
                    max_results=min(limit - len(found), _PAGE),
                    order_by=["attributes.start_time DESC"],
                    page_token=token,
                )
                for item in page:
                    found[item.info.run_id] = _summary(item, experiments[item.info.experiment_id])
                token = page.token
                if not token:
                    break
        return tuple(found.values())

    def _unknown(self, wanted: str, experiments: Mapping[str, str]) -> str:
        names = [run.name for run in self._search(experiments, "", _NUM_LOOKED_AT)]
        holding = [name for name in names if wanted and wanted in name]
        near = [*holding, *difflib.get_close_matches(wanted, names, n=5, cutoff=0.5)]
        if near:
            return f"no run {wanted!r}; near to it: {', '.join(dict.fromkeys(near[:8]))}"
        hint = "`motoric runs list` names them" if names else "no run is tracked yet"
        return f"no run {wanted!r} ({hint})"


def direction(metric: str) -> Literal["higher", "lower"] | None:
    """Whether higher or lower values of a metric are better; None where neither is, or unknown."""
    words = set(re.split(r"[^a-z0-9]+", metric.lower()))
    if metric.startswith("system/") or "persistence" in words:  # a baseline is no merit
        return None
    if words & _LOWER:
        return "lower"
    return "higher" if words & _HIGHER else None


def best_of(metric: str, values: Sequence[float | None]) -> frozenset[int]:
    """Indices of the best values of a metric; none where there is no best, or all are the same."""
    sign = direction(metric)
    known = {index: value for index, value in enumerate(values) if value is not None}
    known = {index: value for index, value in known.items() if not math.isnan(value)}
    if sign is None or len(known) < 2 or len(set(known.values())) == 1:
        return frozenset()
    best = max(known.values()) if sign == "higher" else min(known.values())
    return frozenset(index for index, value in known.items() if value == best)


def differing(runs: Sequence[RunSummary]) -> dict[str, tuple[str | None, ...]]:
    """Parameters that are not the same in all runs: the value in each, None where it has none."""
    names = dict.fromkeys(name for run in runs for name in sorted(run.parameters))
    values = {name: tuple(run.parameters.get(name) for run in runs) for name in names}
    return {name: found for name, found in sorted(values.items()) if len(set(found)) > 1}


def unlike(runs: Sequence[RunSummary]) -> tuple[str, ...]:
    """What makes the scores of runs hard to compare, in sentences; empty where nothing does."""
    found = []
    if len({run.dataset_digest for run in runs}) > 1:
        found.append("they read different data (by the datasets' digests)")
    names = {name.partition(".")[0] for name in differing(runs)}
    for part, what in (
        ("split", "they were tested on differently drawn people or windows"),
        ("window", "their windows differ, so their test scores count different things"),
        ("target", "they predict different targets"),
        ("horizon_s", "they forecast at different horizons"),
    ):
        if part in names:
            found.append(what)
    return tuple(found)


def curves_png(runs: Sequence[RunSummary], histories: Sequence[RunHistory], metric: str) -> bytes:
    """The curves of one metric of several runs in one picture, the best epoch of each circled."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from motoric.data.report.plots import plot_text

    figure = Figure(figsize=(8.5, 4.2))
    axes = figure.add_subplot()
    lines, names = [], []
    for index, (run, history) in enumerate(zip(runs, histories, strict=True)):
        points = [point for point in history.points.get(metric, ()) if math.isfinite(point[1])]
        colour = _COLOURS[index % len(_COLOURS)]
        style = _STYLES[index // len(_COLOURS) % len(_STYLES)]
        epochs, values = [step + 1 for step, _ in points], [value for _, value in points]
        # Few points are dots too: a run of one epoch has no line.
        marker = "." if len(points) < 40 else None
        lines += axes.plot(epochs, values, style, color=colour, linewidth=1.6, marker=marker)
        best = history.best(metric)
        if best is not None:
            axes.plot(best[0] + 1, best[1], "o", color=colour, markersize=9, fillstyle="none")
        score = "" if best is None else f": {best[1]:.4g} in epoch {best[0] + 1}"
        names.append(plot_text(run.name) + (score if points else ": none"))
    axes.legend(lines, names, frameon=False, fontsize=8)
    axes.set_xlabel("epoch" if direction(metric) is None else "epoch (the best is circled)")
    axes.set_ylabel(plot_text(metric.replace("_", " ")))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return buffer.getvalue()


def _summary(item: Any, experiment: str) -> RunSummary:
    info, data = item.info, item.data
    started_at_s = info.start_time / 1000
    ended_at_s = info.end_time / 1000 if info.end_time else time.time()
    return RunSummary(
        run_id=info.run_id,
        name=info.run_name or info.run_id,
        experiment=experiment,
        status=info.status.lower(),
        started_at_s=started_at_s,
        duration_s=max(0.0, ended_at_s - started_at_s),
        parameters=dict(sorted(data.params.items())),
        metrics={name: _value(value) for name, value in sorted(data.metrics.items())},
        # Of a metric's last value, MLflow tells the step in the message alone.
        steps={metric.key: int(metric.step) for metric in data.to_proto().metrics},
        tags={name: value for name, value in data.tags.items() if not name.startswith("mlflow.")},
        files_uri=info.artifact_uri,
    )


def _value(value: float) -> float:
    return math.copysign(math.inf, value) if abs(value) > _INFINITE else float(value)


def _ambiguous(wanted: str, runs: Sequence[RunSummary]) -> str:
    same = len({run.name for run in runs}) < len(runs)
    named = [f"{run.name} (id {run.run_id})" if same else run.name for run in runs[:_MAX_NAMED]]
    more = ", and more" if len(runs) > _MAX_NAMED else ""
    mend = "give its id" if same else "give more of its name"
    return f"{wanted!r} fits several runs; {mend}: {', '.join(named)}{more}"
