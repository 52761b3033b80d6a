from __future__ import annotations

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from motoric.training.recipe import parse_recipe
from motoric.training.search_config import SearchConfig
from motoric.training.tuning.space import num_trials, random_values, trial_recipe
from recordings import recipe_content

SPACE = {
    "optimiser.learning_rate": {"loguniform": [1e-4, 1e-2]},
    "model.dropout": {"uniform": [0.0, 0.5]},
    "train.batch_size": {"int": [8, 64]},
    "model.hidden_size": {"choice": [8, 16]},
}


def search(space: dict[str, Any] | None = None, **changes: Any) -> SearchConfig:
    return SearchConfig.model_validate({"space": space or SPACE, **changes})


@given(seed=st.integers(0, 2**31), number=st.integers(0, 10_000))
def test_values_lie_in_their_ranges_and_follow_from_seed_and_number(seed: int, number: int) -> None:
    found = random_values(search(seed=seed), number)
    assert found == random_values(search(seed=seed, num_trials=7), number)
    assert list(found) == list(SPACE)
    assert 1e-4 <= found["optimiser.learning_rate"] <= 1e-2
    assert 0 <= found["model.dropout"] <= 0.5
    assert 8 <= found["train.batch_size"] <= 64
    assert isinstance(found["train.batch_size"], int)
    assert found["model.hidden_size"] in (8, 16)


def test_loguniform_gives_each_order_of_magnitude_its_share() -> None:
    drawn = [random_values(search(), number)["optimiser.learning_rate"] for number in range(400)]
    below = sum(math.log10(value) < -3 for value in drawn)
    assert 160 < below < 240


def test_a_space_of_few_combinations_is_drawn_from_without_drawing_one_twice() -> None:
    few = search(
        {"model.hidden_size": {"choice": [8, 16, 32]}, "train.batch_size": {"int": [1, 4]}}
    )
    assert num_trials(few) == 12
    drawn = [tuple(random_values(few, number).values()) for number in range(12)]
    assert sorted(drawn) == [(size, batch) for size in (8, 16, 32) for batch in (1, 2, 3, 4)]


def test_a_trial_is_the_recipe_with_its_values_and_without_the_search() -> None:
    recipe = parse_recipe(recipe_content("x", search={"space": SPACE}), "r")
    values = random_values(search(), 0)
    found = trial_recipe(recipe, values)
    assert found.search is None
    assert found.optimiser.learning_rate == values["optimiser.learning_rate"]
    assert found.model["hidden_size"] == values["model.hidden_size"]
    changed = {"optimiser", "model", "train", "search"}
    assert found.model_dump(exclude=changed) == recipe.model_dump(exclude=changed)
