"""The cluster definition: `cluster.yaml`, checked against Ray's own schema.

In: the file. Out: its content as Ray's cluster launcher would take it, and what is still to be
filled in before it can be used for the cloud.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import ray
import yaml

from motoric.core.errors import SettingsError

PLACEHOLDER = "CHANGE-ME"


def load_definition(path: Path) -> dict[str, Any]:
    """Read a cluster definition.

    Raises:
        SettingsError: It is missing, is not YAML, or does not fit Ray's schema; the message names
            the key.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise SettingsError(f"there is no cluster definition at {path}") from error
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {error}") from error
    try:
        jsonschema.validate(content, _schema())
    except jsonschema.ValidationError as error:
        place = ".".join(str(part) for part in error.absolute_path) or "(top level)"
        raise SettingsError(f"{path}, {place}: {error.message}") from error
    definition: dict[str, Any] = content
    return definition


def placeholders(content: object, place: str = "") -> Iterator[str]:
    """Places whose value is still to be filled in, as dotted keys."""
    if isinstance(content, dict):
        for key, value in content.items():
            yield from placeholders(value, f"{place}.{key}" if place else str(key))
    elif isinstance(content, list):
        for index, value in enumerate(content):
            yield from placeholders(value, f"{place}.{index}")
    elif isinstance(content, str) and PLACEHOLDER in content:
        yield place


def _schema() -> dict[str, Any]:
    path = Path(ray.__file__).parent / "autoscaler" / "ray-schema.json"
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema
