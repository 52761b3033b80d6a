"""The release of a model: what its deployment should serve now (a control document).

The alias in the registry is the desired version. Whoever moves the alias writes the release;
replicas follow it.
"""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field

from motoric.core import documents, storage
from motoric.core.errors import NotFoundError, UserError

MODEL_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


def check_model_name(name: str) -> str:
    """Return `name` if it can stand in a URL and a file name.

    Raises:
        UserError: It cannot.
    """
    if not MODEL_NAME.fullmatch(name):
        raise UserError(
            f"{name!r} is not a model name: use lower-case letters, digits and hyphens,"
            " 63 characters at most"
        )
    return name


class ReleasedVersion(documents.ControlDocument):
    """One version of a model, found without opening the registry."""

    version: int = Field(ge=1)
    digest: str = Field(description="sha256:... over the artefact's SHA256SUMS")
    artefact: str = Field(description="URI, relative to the storage URI where it lies under it")


class Release(documents.ControlDocument):
    """What the deployment of `model` serves."""

    model: str
    alias: str = "champion"
    primary: ReleasedVersion
    candidate: ReleasedVersion | None = None
    mode: Literal["plain", "canary", "shadow"] = "plain"
    weight: float = Field(default=0.0, ge=0.0, le=1.0)


def release_uri(storage_uri: str, model: str) -> str:
    """Where the release of a model lies."""
    return documents.control_uri(storage_uri, "releases", f"{check_model_name(model)}.json")


def write_release(storage_uri: str, release: Release) -> None:
    """Publish a release; replicas pick it up within a second or two."""
    documents.write_document(release_uri(storage_uri, release.model), release)


def read_release(storage_uri: str, model: str) -> Release:
    """Read the release of a model.

    Raises:
        NotFoundError: The model has none; the message names those that have.
    """
    try:
        return documents.read_document(release_uri(storage_uri, model), Release)
    except NotFoundError as error:
        known = ", ".join(list_released(storage_uri)) or "none yet"
        raise NotFoundError(f"no model {model!r} is released (released: {known})") from error


def list_released(storage_uri: str) -> list[str]:
    """Names of the models that have a release."""
    names = storage.list_names(documents.control_uri(storage_uri, "releases"))
    return [name.removesuffix(".json") for name in names if name.endswith(".json")]
