from __future__ import annotations

from typing import Any

import pytest
import torch

from motoric.core.errors import RecipeError
from motoric.training.recipe import parse_recipe
from motoric.training.schedule import make_scheduler, place
from recordings import recipe_content

NUM = 40
SCHEDULES: list[dict[str, Any]] = [
    {"name": "constant"},
    {"name": "one_cycle"},
    {"name": "cosine"},
    {"name": "cosine", "warmup_share": 0.25, "final_share": 0.1},
]


def start(schedule: dict[str, Any]) -> tuple[torch.optim.AdamW, Any]:
    recipe = parse_recipe(recipe_content("x", schedule=schedule), "r")
    optimiser = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    return optimiser, make_scheduler(recipe, optimiser, NUM)


def walked(schedule: dict[str, Any], first: int = 0) -> list[tuple[float, Any]]:
    """Learning rate and momentum of each step that is left."""
    optimiser, scheduler = start(schedule)
    place(scheduler, first)
    seen = []
    for _ in range(first, NUM):
        group = optimiser.param_groups[0]
        seen.append((float(group["lr"]), group["betas"]))
        optimiser.step()
        if len(seen) + first < NUM:
            scheduler.step()
    return seen


@pytest.mark.parametrize("schedule", SCHEDULES, ids=str)
@pytest.mark.parametrize("first", [1, 2, 17, NUM - 1])
def test_a_schedule_goes_on_anywhere_as_if_it_had_walked_there(
    schedule: dict[str, Any], first: int
) -> None:
    assert walked(schedule, first) == walked(schedule)[first:]


def test_a_cosine_rises_to_the_learning_rate_and_falls_to_its_end() -> None:
    rates = [rate for rate, _ in walked(SCHEDULES[-1])]
    top = rates.index(max(rates))
    assert top == 10
    assert rates[top] == pytest.approx(0.02)
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.002, rel=0.1)
    assert rates[0] > 0


def test_what_only_a_cosine_has_is_refused_for_others() -> None:
    with pytest.raises(RecipeError, match="final_share are of schedule cosine, this is constant"):
        start({"name": "constant", "final_share": 0.5})
