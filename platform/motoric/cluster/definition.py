"""The cluster definition: `cluster.yaml`, checked against Ray's own schema.

In: the file. Out: its content as Ray's cluster launcher would take it.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from motoric.core.errors import SettingsError


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


def _schema() -> dict[str, Any]:
    # Found without importing Ray, which takes a second.
    spec = importlib.util.find_spec("ray")
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "autoscaler" / "ray-schema.json"
    schema: dict[str, Any] = json.loads(path.read_text())
    return schema
