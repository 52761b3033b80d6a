"""Strategies by the name a recipe gives."""

from __future__ import annotations

from motoric.training.recipe import Recipe
from motoric.training.run import Worker
from motoric.training.strategies.base import Strategy
from motoric.training.strategies.ddp import DataParallel
from motoric.training.strategies.fsdp import FullySharded
from motoric.training.strategies.tensor import TensorParallel

# The parameter server is none of these: its workers take no step together (`parameter_server`).
STRATEGIES: dict[str, type[Strategy]] = {
    "ddp": DataParallel,
    "fsdp": FullySharded,
    "tensor": TensorParallel,
}


def make_strategy(recipe: Recipe, worker: Worker) -> Strategy:
    """The strategy of a recipe for one worker; that it trains the model was seen on reading it."""
    return STRATEGIES[recipe.strategy](recipe, worker)
