"""Values for the trials of a search, drawn from its space: a function of the seed and the number.

Trial 7 has the same values however many trials there are, and after a search was cut short.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from motoric.core.errors import RecipeError
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.search_config import Range, SearchConfig, with_values

# Spaces of fewer combinations are drawn from without drawing one twice.
_MAX_LISTED = 100_000
_DIGITS = 4

Values = dict[str, Any]


def num_trials(search: SearchConfig) -> int:
    """Trials of a search: no more than there are different ones, where they are drawn at random."""
    num = search.num_combinations
    if num is None or search.algorithm != "random":
        return search.num_trials
    return min(search.num_trials, num)


def random_values(search: SearchConfig, number: int) -> Values:
    """The values of one trial of a random search."""
    num = search.num_combinations
    if num is not None and num <= _MAX_LISTED:
        order = np.random.default_rng(search.seed).permutation(num)
        return _combination(search, int(order[number % num]))
    rng = np.random.default_rng([search.seed, number])
    return {key: _draw(values, rng) for key, values in search.space.items()}


def trial_recipe(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """The recipe of one trial.

    Raises:
        RecipeError: The recipe refuses these values together.
    """
    named = ", ".join(f"{key}={value}" for key, value in values.items())
    try:
        content = with_values(recipe.model_dump(mode="json"), values)
    except ValueError as error:
        raise RecipeError(str(error)) from error
    return parse_recipe(content, f"{recipe.name} with {named}")


def _draw(values: Range, rng: np.random.Generator) -> Any:
    if values.choice is not None:
        return values.choice[int(rng.integers(len(values.choice)))]
    if values.int is not None:
        return int(rng.integers(values.int[0], values.int[1], endpoint=True))
    if values.uniform is not None:
        low, high = values.uniform
        return rounded(float(rng.uniform(low, high)), values)
    assert values.loguniform is not None
    low, high = values.loguniform
    return rounded(math.exp(rng.uniform(math.log(low), math.log(high))), values)


def rounded(value: float, values: Range) -> float:
    """A value with the digits that a person would write, inside its range."""
    low, high = (float(end) for end in values.probes)
    return min(max(float(f"{value:.{_DIGITS}g}"), low), high)


def _combination(search: SearchConfig, index: int) -> Values:
    """The combination of a number, as digits of mixed bases."""
    found: Values = {}
    for key, values in search.space.items():
        assert values.num_values is not None
        index, digit = divmod(index, values.num_values)
        found[key] = values.int[0] + digit if values.int else values.probes[digit]
    return found
