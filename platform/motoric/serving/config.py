"""Deployments as files: what a person edits, and the complete Serve config made from it.

In: `deployments/models/<name>.yaml`, one a model. Out: `deployments/serve.yaml` (write it again
with `python -m motoric.serving.config deployments`), or the running config with one model merged
in (`motoric deploy`). All functions but the two that read and write files are pure.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from motoric.core.errors import SettingsError, UserError
from motoric.core.releases import check_model_name
from motoric.core.settings import describe
from motoric.serving.cors import check_origin_setting
from motoric.serving.files.places import parse_place
from motoric.serving.open_inference.grpc import SERVICER_FUNCTION

PLATFORM_APP = "platform"
PLATFORM_IMPORT = "motoric.serving.platform_app:build"
MODEL_IMPORT = "motoric.serving.model_app:build"
MODEL_DEPLOYMENT = "model"  # of each model's application
DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8000
DEFAULT_GRPC_PORT = 9000
# Of one message over gRPC, which lies in memory before its key is checked, and of a request that
# the platform's application passes on. Over HTTP a model takes larger ones where its limits do.
MAX_MESSAGE_MIB = 32
REQUEST_TIMEOUT_S = 300.0  # over gRPC: longer than any model needs, and not for ever
_HEADER = """\
# The complete Serve config: the platform application and every model of deployments/models/.
# Made by `python -m motoric.serving.config deployments`; edit deployments/models/*.yaml instead.
# `serve deploy deployments/serve.yaml` removes every application that this file does not name;
# `motoric deploy <name>` adds or changes one and leaves the others alone.
"""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Replicas(_Section):
    """How many copies of the model run, and when more start."""

    min: int = Field(
        default=1, ge=0, description="0 lets the model sleep; its first request then waits"
    )
    max: int = Field(default=1, ge=1)
    target_ongoing_requests: float = Field(
        default=16, gt=0, description="requests in flight a replica; above it, more replicas start"
    )
    upscale_delay_s: float = Field(default=5, ge=0)
    downscale_delay_s: float = Field(default=300, ge=0)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min ({self.min}) is above max ({self.max})")
        return self


class Batching(_Section):
    """How requests are put together."""

    max_windows: int = Field(default=32, ge=1, le=4096, description="most windows of a batch")
    max_wait_ms: float = Field(
        default=0,
        ge=0,
        le=1000,
        description="how long a request may wait for company; 0: not at all",
    )


class Limits(_Section):
    """What a replica takes on."""

    max_ongoing_requests: int = Field(default=64, ge=1, description="in flight a replica")
    max_queued_requests: int = Field(
        default=256,
        ge=-1,
        description="waiting a replica; above it, 503 with Retry-After; -1: no limit",
    )
    max_body_mib: float = Field(
        default=8, gt=0, le=256, description="of one request, unpacked too; of files: files.max_mib"
    )
    max_body_s: float = Field(
        default=30, gt=0, description="until the last byte of a request's body has come"
    )
    max_request_windows: int = Field(default=1024, ge=1, description="windows or clips a request")
    max_wait_s: float = Field(
        default=30,
        gt=0,
        description="how long a request may wait for its turn; a client may ask for less by"
        " X-Timeout-Ms",
    )
    max_sessions: int = Field(
        default=1000, ge=0, description="live streams a replica; 0: streams are not served"
    )
    idle_timeout_s: float = Field(
        default=60, gt=0, description="a live stream without a message is closed after this long"
    )


class Files(_Section):
    """What a replica takes on of whole files; see docs/serving/files.md."""

    max_mib: float = Field(default=64, gt=0, le=4096, description="of one request, all its parts")
    uri_prefixes: tuple[str, ...] = Field(
        default=(),
        description="folders (/data/x) and prefixes (s3://bucket/x) whose files a request may name"
        " by URI; none by default",
    )
    max_duration_s: float = Field(default=4 * 3600, gt=0, description="of one recording")
    max_s: float = Field(
        default=60, gt=0, description="until a file has come, and again until it is answered"
    )
    max_windows: int = Field(default=50_000, ge=1, description="windows or clips of one file")
    max_at_once: int = Field(default=2, ge=1, le=64, description="files that are read at a time")
    max_memory_mib: int = Field(
        default=1024, ge=64, description="of the process that reads a file, beyond its libraries"
    )

    @field_validator("uri_prefixes")
    @classmethod
    def _check_prefixes(cls, prefixes: tuple[str, ...]) -> tuple[str, ...]:
        try:
            for prefix in prefixes:
                if not parse_place(prefix).segments:
                    raise ValueError(f"{prefix!r} is the whole disk: name folders on it")
        except UserError as error:
            raise ValueError(error.message) from error
        return prefixes


class ModelAppArgs(_Section):
    """Arguments of `motoric.serving.model_app:build`."""

    model: str
    cpu: float = Field(default=1, ge=0, description="CPUs a replica reserves")
    gpu: float = Field(default=0, ge=0, description="share of a GPU a replica may use")
    num_threads: int = Field(default=1, ge=1, description="threads of onnxruntime")
    resources: dict[str, float] = Field(
        default_factory=dict, description="custom resources of the nodes to run on"
    )
    replicas: Replicas = Replicas()
    batching: Batching = Batching()
    limits: Limits = Limits()
    files: Files = Files()
    cors_origins: tuple[Annotated[str, AfterValidator(check_origin_setting)], ...] = Field(
        default=(), description="origins of web pages that may ask, as https://host; * is any"
    )
    storage_uri: str | None = Field(
        default=None, description="only where it differs from the node's MOTORIC_STORAGE_URI"
    )

    @field_validator("model")
    @classmethod
    def _check_name(cls, name: str) -> str:
        try:
            return check_model_name(name)
        except UserError as error:
            raise ValueError(error.message) from error

    @field_validator("gpu")
    @classmethod
    def _check_gpu(cls, gpu: float) -> float:
        if gpu > 1 and gpu != int(gpu):
            raise ValueError("above 1 it must be a whole number of GPUs")
        return gpu


class ModelDeployment(ModelAppArgs):
    """One file of `deployments/models/`."""

    alias: str = Field(default="champion", description="which version of the registry to release")


def load_deployment(path: Path) -> ModelDeployment:
    """Read one deployment file.

    Raises:
        SettingsError: It is missing, not YAML, has a wrong key or value, or another name than
            its model.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"there is no deployment file {path}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise SettingsError(f"{path} must hold keys and values, 'model: NAME' at least")
    try:
        deployment = ModelDeployment.model_validate(content)
    except ValidationError as error:
        raise SettingsError(f"{path}: {describe(error)}") from error
    if deployment.model != path.stem:
        raise SettingsError(
            f"{path}: model is {deployment.model!r}, but the file is named for {path.stem!r}"
        )
    return deployment


def load_deployments(folder: Path) -> list[ModelDeployment]:
    """Read all deployment files of `folder`, by name.

    Raises:
        SettingsError: As `load_deployment`.
    """
    return [load_deployment(path) for path in sorted(folder.glob("*.yaml"))]


def model_application(model: ModelAppArgs) -> dict[str, Any]:
    """One model's entry in a Serve config."""
    args = model.model_dump(mode="json", exclude={"alias"}, exclude_none=True)
    return {
        "name": model.model,
        "route_prefix": f"/v1/models/{model.model}",
        "import_path": MODEL_IMPORT,
        "args": args,
    }


def platform_application() -> dict[str, Any]:
    """The platform's entry in a Serve config."""
    return {"name": PLATFORM_APP, "route_prefix": "/", "import_path": PLATFORM_IMPORT, "args": {}}


def grpc_options(port: int = DEFAULT_GRPC_PORT) -> dict[str, Any]:
    """The gRPC side of a Serve config, on the address of the HTTP side.

    Without reflection, which would answer whoever has no key.
    """
    return {
        "port": port,
        "grpc_servicer_functions": [SERVICER_FUNCTION],
        "request_timeout_s": REQUEST_TIMEOUT_S,
        "enable_reflection": False,
    }


def serve_config(
    models: Sequence[ModelAppArgs],
    *,
    http_host: str = DEFAULT_HOST,
    http_port: int = DEFAULT_PORT,
    grpc_port: int = DEFAULT_GRPC_PORT,
) -> dict[str, Any]:
    """The complete Serve config of the platform and `models`.

    Raises:
        SettingsError: Two deployments have one name, or one has the platform's own.
    """
    names = [model.model for model in models]
    for name in names:
        if names.count(name) > 1 or name == PLATFORM_APP:
            raise SettingsError(f"the application name {name!r} is taken twice")
    return {
        "proxy_location": "HeadOnly",
        "http_options": {"host": http_host, "port": http_port},
        "grpc_options": grpc_options(grpc_port),
        "logging_config": {"enable_access_log": False},
        "applications": [platform_application(), *map(model_application, models)],
    }


def merge(running_config: Mapping[str, Any], model: ModelAppArgs) -> dict[str, Any]:
    """The running config with one model added or replaced; no other application is touched.

    Args:
        running_config: A Serve config as it is put (`config_of` makes one of what Serve reports).
        model: What to deploy.

    Raises:
        SettingsError: The model is called like the platform's own application.
    """
    if model.model == PLATFORM_APP:
        raise SettingsError(
            f"a model cannot be called {PLATFORM_APP!r}: the platform's application is"
        )
    merged = deepcopy(dict(running_config))
    entry = model_application(model)
    applications = list(merged.get("applications", []))
    for index, application in enumerate(applications):
        if application["name"] == entry["name"]:
            applications[index] = entry
            break
    else:
        applications.append(entry)
    merged["applications"] = applications
    return merged


def config_of(details: Mapping[str, Any]) -> dict[str, Any]:
    """The Serve config behind what `GET /api/serve/applications/` reports.

    Raises:
        SettingsError: An application was not started from a config.
    """
    applications = []
    for name, application in details.get("applications", {}).items():
        config = application.get("deployed_app_config")
        if config is None:
            raise SettingsError(
                f"application {name!r} was started by code (serve.run), not from a config: putting "
                "a config would remove it; start it from a config or end it first"
            )
        applications.append(config)
    found: dict[str, Any] = {"applications": applications}
    if details.get("proxy_location"):
        found["proxy_location"] = details["proxy_location"]
    http = details.get("http_options") or {}
    if http.get("host") and http.get("port"):
        found["http_options"] = {"host": http["host"], "port": http["port"]}
    grpc = details.get("grpc_options") or {}
    if grpc.get("grpc_servicer_functions"):
        found["grpc_options"] = {key: grpc[key] for key in grpc_options() if key in grpc}
    return found


def render(config: Mapping[str, Any]) -> str:
    """The text of `deployments/serve.yaml`."""
    return _HEADER + yaml.safe_dump(dict(config), sort_keys=False)


def write_serve_config(deployments: Path) -> Path:
    """Write `serve.yaml` in `deployments` from its `models/`; returns its path.

    Raises:
        SettingsError: As `load_deployment`.
    """
    path = deployments / "serve.yaml"
    path.write_text(render(serve_config(load_deployments(deployments / "models"))))
    return path


if __name__ == "__main__":
    write_serve_config(Path(sys.argv[1] if len(sys.argv) > 1 else "deployments"))
