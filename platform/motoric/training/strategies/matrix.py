"""Which strategies train which models: what the catalogue of models says, branches looked through.

Pure, so that a recipe is refused while it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motoric.core.errors import RecipeError
from motoric.models.catalogue import StrategyName, model_kind
from motoric.models.patch_transformer import PatchTransformerConfig

_BRANCHES = ("sensors", "clip")


def strategies_of(model: Mapping[str, Any]) -> tuple[StrategyName, ...]:
    """The strategies that train a model; of one with branches those that train all parts.

    Args:
        model: A checked `model:` of a recipe.
    """
    found = model_kind(model["name"]).strategies
    for branch in _branches(model):
        found = tuple(name for name in found if name in strategies_of(branch))
    return found


def check_model(strategy: str, model: Mapping[str, Any], num_workers: int) -> None:
    """Refuse what does not go together.

    Args:
        strategy: Of the recipe.
        model: Its checked `model:`.
        num_workers: The most that it asks for.

    Raises:
        RecipeError: Says which strategies train the model, or how many workers can.
    """
    known = strategies_of(model)
    if strategy not in known:
        raise RecipeError(
            f"strategy {strategy!r} does not train model {_named(model)}: set strategy to"
            f" {' or '.join(known)}"
        )
    if strategy == "tensor":
        _check_cuts(model, num_workers)


def parts_of_batch(strategy: str, num_workers: int) -> int:
    """Into how many parts `train.batch_size` is divided.

    With the parameter server each worker works whole batches, and with `tensor` all the same.
    """
    return num_workers if strategy in ("ddp", "fsdp") else 1


def parts_of_epoch(strategy: str, num_workers: int) -> int:
    """Into how many parts an epoch's examples are divided."""
    return 1 if strategy == "tensor" else num_workers


def _check_cuts(model: Mapping[str, Any], num_workers: int) -> None:
    """A block is cut by heads and by hidden features, which must divide evenly."""
    config = PatchTransformerConfig.model_validate(model)
    for key, number in (("num_heads", config.num_heads), ("width * mlp_ratio", config.hidden)):
        if number % num_workers:
            raise RecipeError(
                f"strategy 'tensor' cuts model.{key} ({number}) over the workers, and"
                f" resources.num_workers ({num_workers}) does not divide it: change one of them"
            )


def _branches(model: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [model[key] for key in _BRANCHES if isinstance(model.get(key), Mapping)]


def _named(model: Mapping[str, Any]) -> str:
    branches = [str(branch["name"]) for branch in _branches(model)]
    return f"{model['name']!r}" + (f" of {' and '.join(branches)}" if branches else "")
