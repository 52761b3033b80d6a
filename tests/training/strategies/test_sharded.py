"""Two processes over gloo give what one process gives on the same examples.

Sums over two halves round differently from the sum over all, and AdamW divides a gradient by its
own size: after a few steps weights differ by a small share of the learning rate. The key's bias is
left out: a softmax does not see it, so its gradient is rounding alone, which AdamW makes full steps
of.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from motoric.training.run import State
from ranks import RankError, Ranks
from recordings import SineSource, write_dataset
from shared_training import (
    fail_on_the_second,
    held_together,
    step_together,
    train_on,
    train_together,
)
from trainings import load, train_here

# Without normalisation over a batch, which each worker would do over its own share, and without
# dropout, which each draws for itself.
WHOLE_BATCH = {
    "name": "patch_transformer",
    "patch_samples": 10,
    "stride_samples": 5,
    "width": 16,
    "depth": 2,
    "num_heads": 2,
    "stem_channels": 0,
    "dropout": 0.0,
}
SHARDED = ["fsdp", "tensor"]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=17.0))
    return folder


def furthest(first: State, second: State) -> float:
    """The largest difference of two states."""
    assert first.keys() == second.keys()
    return max(
        float((first[name].double() - second[name].double()).abs().max())
        for name in first
        if "attention.key.bias" not in name
    )


@pytest.mark.parametrize("strategy", ["ddp", *SHARDED])
def test_a_recipe_trained_by_two_ends_as_by_one(pair: Ranks, uri: str, strategy: str) -> None:
    learning_rate = 0.005
    changes: dict[str, Any] = {
        "model": WHOLE_BATCH,
        "optimiser": {"learning_rate": learning_rate},
        "train": {"epochs": 3, "batch_size": 8},
    }
    recipe, data = load(uri, **changes)
    assert len(data.train) % 8 == 0  # else the last batch of two workers holds an example twice
    single = train_here(recipe, data)
    weights, losses = pair.call(train_together, uri, changes | {"strategy": strategy})[0]
    assert furthest(weights, single.weights) < 0.02 * learning_rate
    assert losses == pytest.approx([item.validation_loss for item in single.epochs], abs=1e-4)
    assert losses[-1] < 0.8 * losses[0]  # it has learned: equality of nothing would say nothing


@pytest.mark.parametrize("strategy", SHARDED)
@pytest.mark.parametrize("num_parts", [1, 2])
@pytest.mark.parametrize("max_norm", [0.05, 100.0])
def test_clipping_and_accumulating_are_those_of_the_whole(
    pair: Ranks, alone: Ranks, strategy: str, num_parts: int, max_norm: float
) -> None:
    wanted = alone.call(step_together, "ddp", WHOLE_BATCH, 2, 1, max_norm)[0]
    found = pair.call(step_together, strategy, WHOLE_BATCH, 2, num_parts, max_norm)[0]
    assert furthest(found[0], wanted[0]) < 2e-5  # the learning rate is 1e-3
    assert furthest(found[1], wanted[1]) < 1e-5


@pytest.mark.parametrize(
    ("first", "second"), [("fsdp", "ddp"), ("tensor", "fsdp"), ("ddp", "tensor")]
)
def test_what_one_strategy_leaves_another_goes_on_from(
    pair: Ranks, alone: Ranks, first: str, second: str
) -> None:
    wanted = alone.call(step_together, "ddp", WHOLE_BATCH, 4)[0]
    half = pair.call(step_together, first, WHOLE_BATCH, 2)[0]
    found = pair.call(step_together, second, WHOLE_BATCH, 2, 1, 1.0, half)[0]
    assert furthest(found[0], wanted[0]) < 2e-5
    assert furthest(found[1], wanted[1]) < 1e-5
    # By another number of workers too; and the optimiser's state matters.
    one = alone.call(step_together, "ddp", WHOLE_BATCH, 2, 1, 1.0, half)[0]
    assert furthest(one[0], wanted[0]) < 2e-5
    forgetful = alone.call(step_together, "ddp", WHOLE_BATCH, 2, 1, 1.0, (half[0], {}))[0]
    assert furthest(forgetful[0], wanted[0]) > 1e-4


def test_a_run_of_fsdp_that_was_stopped_goes_on_by_ddp_and_by_one_process(
    pair: Ranks, uri: str, tmp_path: Path
) -> None:
    learning_rate = 0.005
    changes: dict[str, Any] = {
        "model": WHOLE_BATCH,
        "optimiser": {"learning_rate": learning_rate},
        "train": {"epochs": 3, "batch_size": 8},
        "stopping": {"keep": "last"},
    }
    wanted = train_here(*load(uri, **changes)).weights
    run = str(tmp_path / "run"), changes | {"strategy": "fsdp"}
    assert pair.call(train_on, uri, *run, 1) == [None, None]
    shutil.copytree(tmp_path / "run", tmp_path / "alone")
    found = pair.call(train_on, uri, run[0], changes | {"strategy": "ddp"})[0]
    assert furthest(found, wanted) < 0.02 * learning_rate
    single = train_on(0, 1, uri, str(tmp_path / "alone"), changes)
    assert single is not None
    assert furthest(single, wanted) < 0.02 * learning_rate


@pytest.mark.parametrize("strategy", SHARDED)
def test_loading_and_reading_back_changes_nothing(pair: Ranks, strategy: str) -> None:
    half = pair.call(step_together, strategy, WHOLE_BATCH, 2)[0]
    again = pair.call(step_together, strategy, WHOLE_BATCH, 0, 1, 1.0, half)[0]
    assert furthest(again[0], half[0]) == 0
    assert furthest(again[1], half[1]) == 0


@pytest.mark.parametrize(("strategy", "share"), [("ddp", 1.0), ("fsdp", 0.52), ("tensor", 0.65)])
def test_a_worker_holds_its_pieces_alone(
    pair: Ranks, alone: Ranks, strategy: str, share: float
) -> None:
    whole = alone.call(held_together, "ddp", WHOLE_BATCH)[0]
    for held in pair.call(held_together, strategy, WHOLE_BATCH):
        assert held[0] <= share * whole[0]
        assert held[1] <= share * whole[1]


def test_a_failure_of_one_process_is_told_and_ends_both() -> None:
    ranks = Ranks(2)
    with pytest.raises(RankError, match=r"(?s)rank 1: .*the second one fails"):
        ranks.call(fail_on_the_second)
    assert ranks.call(held_together, "fsdp", WHOLE_BATCH)[0] > (0, 0)  # by new ones
    ranks.close()


def test_states_are_plain_tensors_of_the_first_worker(pair: Ranks) -> None:
    (weights, optimiser), others = pair.call(step_together, "fsdp", WHOLE_BATCH)
    for value in (*weights.values(), *optimiser.values()):
        assert type(value) is torch.Tensor
        assert value.device.type == "cpu"
    assert others == ({}, {})
