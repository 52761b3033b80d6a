"""Networks by the name a recipe gives them. A new one is one file here and one line in `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError
from torch import nn

from motoric.core.errors import RecipeError
from motoric.core.settings import describe
from motoric.models import gru


@dataclass(frozen=True, slots=True)
class ModelKind:
    """The settings of a network, and how to make it from them."""

    config: type[BaseModel]
    build: Callable[..., nn.Module]


MODELS: dict[str, ModelKind] = {
    "gru": ModelKind(gru.GruConfig, gru.build),
}


def parse_config(content: dict[str, Any]) -> BaseModel:
    """Check the `model:` part of a recipe.

    Raises:
        RecipeError: Unknown name, unknown key or wrong value.
    """
    kind = _kind(content.get("name"))
    try:
        return kind.config.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"model: {describe(error)}") from error


def build_model(config: BaseModel, *, num_channels: int, num_classes: int) -> nn.Module:
    """Make a network from settings that `parse_config` returned."""
    kind = _kind(getattr(config, "name", None))
    return kind.build(config, num_channels=num_channels, num_classes=num_classes)


def _kind(name: Any) -> ModelKind:
    if name not in MODELS:
        raise RecipeError(f"model.name is {name!r}; there are: {', '.join(sorted(MODELS))}")
    return MODELS[name]
