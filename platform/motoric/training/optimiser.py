"""The optimiser of a recipe."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from motoric.training.recipe import Recipe


def make_optimiser(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter 2017, arXiv 1711.05101) on the parameters that are trained."""
    return torch.optim.AdamW(
        (item for item in parameters if item.requires_grad),
        lr=recipe.optimiser.learning_rate,
        weight_decay=recipe.optimiser.weight_decay,
    )
