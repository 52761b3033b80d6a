"""Networks by the name a recipe gives them. A new one is one file here and one line in `MODELS`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError
from torch import nn

from motoric.core.errors import RecipeError
from motoric.core.settings import describe
from motoric.models import (
    frame_recurrent,
    fusion,
    inception,
    late_fusion,
    patch_transformer,
    r2plus1d,
    random_kernels,
    recurrent,
)
from motoric.models.shapes import InputShapes

Modality = Literal["sensors", "clip"]
StrategyName = Literal["ddp", "fsdp", "tensor", "parameter_server"]

# What needs nothing of a network but its parameters and their gradients.
OPAQUE: tuple[StrategyName, ...] = ("ddp", "parameter_server")


@dataclass(frozen=True, slots=True)
class ModelKind:
    """The settings of a network, how to make it from them, what it takes, and who can train it.

    `build` is called as `build(config, shapes, num_outputs)`. A network of two branches is trained
    by the strategies that all three are. One that `is_solved` has no gradient: its head follows
    from all examples in one pass, by one worker.
    """

    config: type[BaseModel]
    build: Callable[[Any, InputShapes, int], nn.Module]
    takes: tuple[Modality, ...]
    strategies: tuple[StrategyName, ...] = OPAQUE
    is_solved: bool = False


MODELS: dict[str, ModelKind] = {
    "recurrent": ModelKind(
        recurrent.RecurrentConfig, recurrent.build, ("sensors",), (*OPAQUE, "fsdp")
    ),
    "inception": ModelKind(
        inception.InceptionConfig, inception.build, ("sensors",), (*OPAQUE, "fsdp")
    ),
    "patch_transformer": ModelKind(
        patch_transformer.PatchTransformerConfig,
        patch_transformer.build,
        ("sensors",),
        (*OPAQUE, "fsdp", "tensor"),
    ),
    "random_kernels": ModelKind(
        random_kernels.RandomKernelsConfig,
        random_kernels.build,
        ("sensors",),
        ("ddp",),
        is_solved=True,
    ),
    "r2plus1d": ModelKind(r2plus1d.R2Plus1dConfig, r2plus1d.build, ("clip",), (*OPAQUE, "fsdp")),
    "frame_recurrent": ModelKind(
        frame_recurrent.FrameRecurrentConfig, frame_recurrent.build, ("clip",), (*OPAQUE, "fsdp")
    ),
    "fusion": ModelKind(fusion.FusionConfig, fusion.build, ("sensors", "clip"), (*OPAQUE, "fsdp")),
    "late_fusion": ModelKind(
        late_fusion.LateFusionConfig, late_fusion.build, ("sensors", "clip"), (*OPAQUE, "fsdp")
    ),
}


def parse_config(content: dict[str, Any]) -> BaseModel:
    """Check the `model:` part of a recipe.

    Raises:
        RecipeError: Unknown name, unknown key or wrong value.
    """
    kind = model_kind(content.get("name"))
    try:
        return kind.config.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"model: {describe(error)}") from error


def build_model(config: BaseModel, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make a network from settings that `parse_config` returned.

    Raises:
        RecipeError: The settings do not fit the shapes, or the recipe lacks an input it needs.
    """
    name = getattr(config, "name", None)
    kind = model_kind(name)
    missing = [modality for modality in kind.takes if getattr(shapes, modality) is None]
    if missing:
        part = {"sensors": "window:", "clip": "clip:"}[missing[0]]
        raise RecipeError(f"model {name!r} needs {missing[0]}: add `{part}` to the recipe")
    return kind.build(config, shapes, num_outputs)


def model_kind(name: Any) -> ModelKind:
    """What stands under a name.

    Raises:
        RecipeError: Nothing does.
    """
    if name not in MODELS:
        raise RecipeError(f"model.name is {name!r}; there are: {', '.join(sorted(MODELS))}")
    return MODELS[name]
