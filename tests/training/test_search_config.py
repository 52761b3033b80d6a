"""The `search:` of a recipe: what is refused when the recipe is read, and by which words."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from motoric.core.errors import RecipeError
from motoric.training.recipe import Recipe, parse_recipe
from recordings import recipe_content

RATE = {"optimiser.learning_rate": {"loguniform": [1e-4, 1e-2]}}


def recipe(
    space: dict[str, Any], *, changes: dict[str, Any] | None = None, **search: Any
) -> Recipe:
    content = recipe_content("x", search={"space": space, **search}, **(changes or {}))
    return parse_recipe(content, "r")


def test_a_search_is_kept_by_writing_and_reading_its_recipe() -> None:
    space = {**RATE, "model.hidden_size": {"choice": [8, 16]}, "train.batch_size": {"int": [8, 64]}}
    found = recipe(space, num_trials=5)
    assert parse_recipe(yaml.safe_load(found.to_yaml()), "again") == found
    assert found.search is not None
    assert found.model_dump(mode="json")["search"]["space"]["train.batch_size"] == {"int": [8, 64]}
    assert [str(values) for values in found.search.space.values()] == [
        "0.0001 to 0.01, log-uniform",
        "one of 8, 16",
        "8 to 64, whole numbers",
    ]


def test_a_whole_part_can_be_searched() -> None:
    models = [{"name": "recurrent", "hidden_size": 8, "stem_channels": 8}, {"name": "inception"}]
    assert recipe({"model": {"choice": models}}).search is not None


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"optimiser.lr": {"uniform": [0.1, 0.2]}}, r"space\.optimiser\.lr.*unknown key"),
        ({"optimizer.learning_rate": {"uniform": [0.1, 0.2]}}, "this recipe has no optimizer"),
        ({"optimiser.learning_rate.x": {"uniform": [0.1, 0.2]}}, "has no optimiser.learning_rate"),
        ({"model.hidden": {"choice": [8]}}, r"space\.model\.hidden.*unknown key hidden"),
        ({"model.dropout": {"uniform": [0.0, 2.0]}}, r"space\.model\.dropout, value 2\.0.*dropout"),
        ({"model.hidden_size": {"choice": [8, "many"]}}, r"hidden_size, value 'many'"),
        ({"train.batch_size": {"uniform": [8, 64.5]}}, r"train\.batch_size.*value 64\.5"),
        ({"model.name": {"choice": ["recurrent", "gru"]}}, "model.name is 'gru'; there are"),
        ({"model": {"choice": [{"name": "r2plus1d"}]}}, "takes clip: the recipe needs `clip:`"),
        ({"optimiser.learning_rate": {"loguniform": [0, 1]}}, "needs values above 0, not 0"),
        ({"optimiser.learning_rate": {"uniform": [1, 0.1]}}, "the first value, 1, must be below"),
        ({"optimiser.learning_rate": {"log": [1, 2]}}, r"exactly one of .*choice.*\['log'\]"),
        ({"optimiser.learning_rate": {"uniform": [0, 1], "int": [1, 2]}}, "exactly one of"),
        ({"optimiser.learning_rate": [0.1, 0.2]}, "write a range as one of loguniform"),
        ({"optimiser.learning_rate": {"uniform": [0.1]}}, "learning_rate.uniform"),
        ({"model": {"choice": [{"name": "inception"}]}, "model.name": {"choice": [0]}}, "part of"),
        ({"split.seed": {"int": [0, 5]}}, "cannot be searched: trials must be validated"),
        ({"resources.num_workers": {"int": [1, 2]}}, "it changes nothing of what is learned"),
        ({"train.label_smoothing": {"uniform": [0, 0.1]}}, "set search.metric to validation_score"),
        ({}, "search.space"),
    ],
)  # fmt: skip
def test_what_no_trial_could_train_with_is_refused_by_its_key(
    space: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe(space)


def test_the_loss_may_vary_where_the_score_compares() -> None:
    space = {"train.label_smoothing": {"uniform": [0, 0.1]}}
    found = recipe(space, metric="validation_score")
    assert found.search is not None
    assert found.search.mode("classify") == "max"
    assert found.search.mode("regress") == "min"


def test_a_search_needs_validation_people_and_epochs_to_grant() -> None:
    nobody = {
        "split": {"num_test_subjects": 1, "num_validation_subjects": 0},
        "stopping": {"keep": "last"},
    }
    with pytest.raises(RecipeError, match="nobody to compare trials on"):
        recipe(RATE, changes=nobody)
    with pytest.raises(RecipeError, match=r"grace_epochs is 9, more than train\.epochs \(3\)"):
        recipe(RATE, grace_epochs=9)
