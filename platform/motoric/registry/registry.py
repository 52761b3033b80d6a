"""Runs, versions and aliases, kept in MLflow: SQLite by default, an MLflow server on a cluster.

In: figures and artefact URIs. Out: numbered versions. Only the command line, jobs and the platform
app open it; replicas follow releases.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motoric.core import storage
from motoric.core.errors import NotFoundError, PlatformError, UserError

if TYPE_CHECKING:
    from mlflow import MlflowClient

ERROR = "motoric.error"

_DIGEST = "motoric.digest"
_SQLITE = "sqlite:///"
# What MLflow takes in one call, by its REST API's limits.
_MAX_PARAMETERS, _MAX_METRICS = 100, 1000
_MAX_ERROR_CHARACTERS = 4000


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredVersion:
    """One version of a model in the registry."""

    model: str
    version: int
    digest: str
    artefact_uri: str
    run_id: str
    created_at_s: float
    aliases: tuple[str, ...]
    figures: Mapping[str, str]


class Registry:
    """The registry at one URI.

    Args:
        registry_uri: `sqlite:///...` or the address of an MLflow server.
        storage_uri: Where runs keep their files.

    Raises:
        PlatformError: It cannot be opened.
    """

    def __init__(self, registry_uri: str, storage_uri: str) -> None:
        self.registry_uri = registry_uri
        self._files_uri = storage.join(storage_uri, "mlflow")
        with mlflow_errors(f"the registry at {registry_uri} cannot be opened"):
            self._client = _open(registry_uri)

    @property
    def client(self) -> MlflowClient:
        """MLflow's own client, for the reading side in `registry.runs`."""
        return self._client

    def start_run(
        self,
        experiment: str,
        name: str,
        parameters: Mapping[str, Any],
        tags: Mapping[str, str] | None = None,
    ) -> str:
        """Start a tracked run; returns its id.

        Args:
            experiment: Made where it does not exist yet.
            name: What people call the run.
            parameters: The recipe; nested ones get dotted names.
            tags: Such as `registry.runs.run_tags` gives.
        """
        from mlflow.entities import Param

        with mlflow_errors("the run cannot be tracked"):
            found = self._client.get_experiment_by_name(experiment)
            experiment_id = (
                found.experiment_id
                if found is not None
                else self._client.create_experiment(experiment, artifact_location=self._files_uri)
            )
            run = self._client.create_run(experiment_id, run_name=name, tags=dict(tags or {}))
            flat = [Param(key, str(value)) for key, value in _flatten(parameters)]
            for batch in _batches(flat, _MAX_PARAMETERS):
                self._client.log_batch(run.info.run_id, params=batch)
        return str(run.info.run_id)

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of a run."""
        from mlflow.entities import RunTag

        flat = [RunTag(key, value) for key, value in tags.items()]
        with mlflow_errors("tags cannot be tracked"):
            for batch in _batches(flat, _MAX_PARAMETERS):
                self._client.log_batch(run_id, tags=batch)

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], step: int = 0) -> None:
        """Log figures of one step."""
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        flat = [Metric(name, value, now_ms, step) for name, value in metrics.items()]
        with mlflow_errors("figures cannot be tracked"):
            for batch in _batches(flat, _MAX_METRICS):
                self._client.log_batch(run_id, metrics=batch)

    def log_files(self, run_id: str, folder: Path) -> None:
        """Keep the files of a local folder with the run."""
        with mlflow_errors("files cannot be tracked"):
            self._client.log_artifacts(run_id, str(folder))

    def log_text(self, run_id: str, name: str, text: str) -> None:
        """Keep a text, such as `recipe.yaml` or `environment.txt`, with the run."""
        with mlflow_errors(f"{name} cannot be tracked"):
            self._client.log_text(run_id, text, name)

    def end_run(self, run_id: str, *, failed: bool = False, error: str | None = None) -> None:
        """Mark a run as finished or failed; `error` says why, and is kept as a tag."""
        with mlflow_errors("the run cannot be ended"):
            if error is not None:
                self._client.set_tag(run_id, ERROR, error[:_MAX_ERROR_CHARACTERS])
            self._client.set_terminated(run_id, "FAILED" if failed else "FINISHED")

    def reopen_run(self, run_id: str) -> None:
        """Go on with a tracked run that was stopped.

        Raises:
            NotFoundError: There is none of this id.
            UserError: It is finished.
        """
        from mlflow.exceptions import MlflowException

        try:
            status = self._client.get_run(run_id).info.status
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise PlatformError(f"the registry cannot be read: {error}") from error
            raise NotFoundError(
                f"run {run_id} is not in the registry at {self.registry_uri}: train anew"
            ) from error
        if status == "FINISHED":
            raise UserError("the run is finished: there is nothing to go on with")
        with mlflow_errors("the run cannot be tracked"):
            self._client.set_tag(run_id, ERROR, "")
            self._client.update_run(run_id, status="RUNNING")

    def register(
        self, model: str, *, artefact_uri: str, digest: str, run_id: str, figures: Mapping[str, str]
    ) -> RegisteredVersion:
        """Add a version to a model, which is made at its first version."""
        with mlflow_errors(f"{model} cannot be registered"):
            if not self._has(model):
                self._client.create_registered_model(model)
            tags = {_DIGEST: digest, **{f"motoric.{key}": value for key, value in figures.items()}}
            made = self._client.create_model_version(
                model, source=artefact_uri, run_id=run_id, tags=tags
            )
        return _version(made)

    def set_alias(self, model: str, alias: str, version: int) -> None:
        """Move an alias."""
        self.version(model, version)
        with mlflow_errors(f"alias {alias} of {model} cannot be set"):
            self._client.set_registered_model_alias(model, alias, str(version))

    def models(self) -> dict[str, list[RegisteredVersion]]:
        """All models, each with its versions, newest first."""
        with mlflow_errors("the registry cannot be read"):
            names = [model.name for model in self._client.search_registered_models()]
        return {name: self.versions(name) for name in sorted(names)}

    def versions(self, model: str) -> list[RegisteredVersion]:
        """Versions of a model, newest first.

        Raises:
            NotFoundError: No such model; the message names those there are.
        """
        if not self._has(model):
            known = ", ".join(sorted(self.models())) or "none yet"
            raise NotFoundError(f"no model {model!r} is registered (registered: {known})")
        with mlflow_errors("the registry cannot be read"):
            aliases = self._client.get_registered_model(model).aliases
            found = self._client.search_model_versions(f"name = '{model}'")
        by_version: dict[int, list[str]] = {}
        for alias, number in aliases.items():
            by_version.setdefault(int(number), []).append(alias)
        versions = [_version(item, by_version.get(int(item.version), ())) for item in found]
        return sorted(versions, key=lambda item: -item.version)

    def version(self, model: str, version: int) -> RegisteredVersion:
        """One version by its number.

        Raises:
            NotFoundError: No such model or version.
        """
        versions = self.versions(model)
        for found in versions:
            if found.version == version:
                return found
        known = ", ".join(str(item.version) for item in versions)
        raise NotFoundError(f"{model} has no version {version} (it has: {known})")

    def by_alias(self, model: str, alias: str) -> RegisteredVersion:
        """The version that bears an alias.

        Raises:
            NotFoundError: No such model, or no version bears the alias.
        """
        for found in self.versions(model):
            if alias in found.aliases:
                return found
        raise NotFoundError(
            f"no version of {model} has the alias {alias!r}:"
            f" `motoric models alias {model} {alias} VERSION` sets it"
        )

    def _has(self, model: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            self._client.get_registered_model(model)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise PlatformError(f"the registry cannot be read: {error}") from error
        return True


def _open(registry_uri: str) -> MlflowClient:
    # MLflow reports its use to a server outside unless told not to.
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # It prints into what a command prints: bars over files, and addresses of runs on a server.
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    if registry_uri.startswith(_SQLITE):
        folder = Path(registry_uri.removeprefix(_SQLITE)).parent
        folder.mkdir(parents=True, exist_ok=True)
    from mlflow import MlflowClient

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=registry_uri, registry_uri=registry_uri)
    client.search_registered_models(max_results=1)  # makes the tables of a new database
    return client


@contextmanager
def mlflow_errors(what: str) -> Iterator[None]:
    """Turn what MLflow and its database raise into a `PlatformError` that begins with `what`."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise PlatformError(f"{what}: {error}") from error


def _version(item: Any, aliases: Sequence[str] = ()) -> RegisteredVersion:
    tags = dict(item.tags)
    return RegisteredVersion(
        model=item.name,
        version=int(item.version),
        digest=tags.pop(_DIGEST, ""),
        artefact_uri=item.source,
        run_id=item.run_id or "",
        created_at_s=item.creation_timestamp / 1000,
        aliases=tuple(sorted(aliases)),
        figures={key.removeprefix("motoric."): value for key, value in tags.items()},
    )


def _batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
