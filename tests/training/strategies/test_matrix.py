"""Which strategies train which models: the catalogue says it, recipes and networks hold to it."""

from __future__ import annotations

import re
from typing import Any, get_args

import pytest
import torch

from filmed import CLIP
from motoric.core.errors import RecipeError
from motoric.models.catalogue import MODELS, StrategyName
from motoric.training.recipe import parse_recipe
from motoric.training.strategies.catalogue import STRATEGIES
from motoric.training.strategies.flat import layout_of
from motoric.training.strategies.matrix import strategies_of
from ranks import Ranks
from recordings import recipe_content
from shared_training import new_network, shared_steps, train_alone

SENSORS, CLIPS = {"name": "inception", "filters": 4}, {"name": "r2plus1d", "stages": [4, 8]}
BRANCHES = {"sensors": SENSORS, "clip": CLIPS}
SETTINGS: dict[str, dict[str, Any]] = {
    "recurrent": {"hidden_size": 4, "stem_channels": 4},
    "inception": {"filters": 4},
    "patch_transformer": {"width": 8, "depth": 2, "num_heads": 2, "stem_channels": 4},
    "random_kernels": {"num_features": 84},
    "r2plus1d": {"stages": [4, 8]},
    "frame_recurrent": {"channels": [4, 8], "hidden_size": 4},
    "fusion": {**BRANCHES, "embedding_size": 8},
    "late_fusion": BRANCHES,
}
# What a softmax or a normalisation takes off again: its gradient is rounding alone, of which AdamW
# makes whole steps.
_BLIND = re.compile(r"(attention\.key|stem\.\d)\.bias$")
NAMES = get_args(StrategyName)
PAIRS = [(strategy, model) for strategy in NAMES for model in MODELS]


def model_of(name: str) -> dict[str, Any]:
    return {"name": name, **SETTINGS[name]}


def content(strategy: str, model: dict[str, Any], **changes: Any) -> dict[str, Any]:
    takes = MODELS[model["name"]].takes
    made = recipe_content("datasets/sines", model=model, strategy=strategy, **changes)
    if "clip" in takes:
        made["clip"] = CLIP
    if "sensors" not in takes:
        del made["window"]
    return made


@pytest.mark.parametrize(("strategy", "model"), PAIRS)
def test_a_recipe_is_read_exactly_if_the_matrix_says_so(strategy: str, model: str) -> None:
    made = content(strategy, model_of(model))
    known = MODELS[model].strategies
    if strategy in known:
        assert parse_recipe(made, "r").strategy == strategy
        return
    with pytest.raises(RecipeError) as caught:
        parse_recipe(made, "r")
    said = caught.value.message
    assert f"strategy '{strategy}' does not train model '{model}'" in said
    assert said.endswith(f"set strategy to {' or '.join(known)}")


def test_every_strategy_has_a_model_and_every_model_a_strategy() -> None:
    assert {*STRATEGIES, "parameter_server"} == set(NAMES)
    assert {name for kind in MODELS.values() for name in kind.strategies} == set(NAMES)
    assert all("ddp" in kind.strategies for kind in MODELS.values())


@pytest.mark.parametrize(
    ("strategy", "model"),
    [(name, model) for name in STRATEGIES for model in MODELS if name in MODELS[model].strategies],
)
def test_what_the_matrix_says_goes_does(pair: Ranks, strategy: str, model: str) -> None:
    """Steps of two workers leave both with the same weights: those that `ddp` leaves, if divided.

    To two workers of either, normalisation over a batch and dropout are the same.
    """
    if model == "random_kernels":
        pytest.skip("solved by one worker, without steps: tests/training/test_loop.py")
    before = new_network(model_of(model)).state_dict()
    first, second = pair.call(shared_steps, strategy, model_of(model))
    trained = dict(new_network(model_of(model)).named_parameters())
    for name in trained:
        torch.testing.assert_close(first[name], second[name], rtol=0, atol=0)
    moved = [name for name in trained if not torch.equal(first[name], before[name])]
    assert set(trained) - set(moved) <= {"nothing_K"}  # of recordings without any input
    if strategy == "fsdp":
        wanted = pair.call(shared_steps, "ddp", model_of(model))[0]
        for name in trained:
            if not _BLIND.search(name):
                torch.testing.assert_close(first[name], wanted[name], rtol=0, atol=2e-5)


@pytest.mark.parametrize(
    "model", [name for name, kind in MODELS.items() if "parameter_server" in kind.strategies]
)
def test_every_parameter_that_is_served_gets_a_gradient(model: str) -> None:
    """One without would count as zeros, which AdamW's decay moves."""
    network = train_alone(model_of(model))
    layout = layout_of(network)
    assert layout.size == sum(item.numel() for item in network.parameters())
    assert [name for name, item in network.named_parameters() if item.grad is None] == []


def test_a_model_of_branches_is_trained_as_all_its_parts_are() -> None:
    late = {"name": "late_fusion", "clip": CLIPS}
    assert strategies_of({**late, "sensors": {"name": "random_kernels"}}) == ("ddp",)
    assert "fsdp" in strategies_of({**late, "sensors": {"name": "recurrent"}})
    with pytest.raises(RecipeError, match="'late_fusion' of random_kernels and r2plus1d"):
        parse_recipe(content("fsdp", {**late, "sensors": {"name": "random_kernels"}}), "r")


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        ("tensor", {"resources": {"num_workers": 4}}, r"model\.num_heads \(2\).*num_workers \(4\)"),
        ("tensor", {"resources": {"num_workers": [1, 2]}}, "write one number"),
        ("ddp", {"parameter_server": {"num_servers": 2}}, "set strategy to parameter_server"),
        ("parameter_server", {"parameter_server": {"max_staleness": -1}}, "max_staleness"),
        (
            "parameter_server",
            {"train": {"checkpoint_every_steps": 5}},
            r"train\.checkpoint_every_steps.*leave it out",
        ),
        ("zero", {}, "strategy.*'ddp', 'fsdp', 'tensor' or 'parameter_server'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    strategy: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(content(strategy, model_of("patch_transformer"), **changes), "r")
