"""The parts of the parameter server without Ray: one after the other they are plain training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from motoric.core.errors import RecipeError
from motoric.training.run import State, Worker
from motoric.training.strategies.flat import Layout, layout_of
from motoric.training.strategies.gradients import GradientWorker, Place
from motoric.training.strategies.parameter_slice import ParameterSlice
from motoric.training.strategies.slices import cut, together
from recordings import SineSource, write_dataset
from trainings import load, train_here

MODEL = {"name": "recurrent", "hidden_size": 4, "stem_channels": 4, "dropout": 0.0}
EPOCHS, BATCH = 2, 16


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=17.0))
    return folder


def work_in_turn(
    uri: str, num_slices: int, begin: tuple[State, State] | None = None, **changes: Any
) -> list[tuple[State, State]]:
    """Whole states after each epoch, of one worker that pulls and pushes batch after batch."""
    recipe, data = load(uri, model=MODEL, train={"epochs": EPOCHS, "batch_size": BATCH}, **changes)
    worker = GradientWorker(recipe, data, Worker())
    per_epoch = -(-len(data.train) // BATCH)
    weights, optimiser = begin or (worker.weights, {})
    first = 1 if begin else 0
    states = cut(
        worker.layout,
        weights,
        optimiser,
        num_steps=first * per_epoch,
        num_slices=num_slices,
    )
    servers = [ParameterSlice(recipe, state, EPOCHS * per_epoch) for state in states]
    found = []
    for epoch in range(first, EPOCHS):
        for batch in range(per_epoch):
            pulled = [server.pull() for server in servers]
            worker.set(np.concatenate([item.values_S for item in pulled]), pulled[0].buffers)
            made = worker.gradient(Place(epoch=epoch, batch=batch))
            for index, (server, part) in enumerate(
                zip(servers, worker.layout.slices(num_slices), strict=True)
            ):
                buffers = made.buffers if index == 0 else {}
                assert server.push(batch, made.vector_P[part], buffers) == pulled[0].version
        for server in servers:
            server.end_epoch()
        found.append(together(worker.layout, [server.state() for server in servers]))
    return found


def assert_equal(first: State, second: State) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.mark.parametrize("num_slices", [1, 3])
def test_one_worker_after_the_other_is_the_single_process(uri: str, num_slices: int) -> None:
    """Bit for bit: AdamW works number by number, and nothing is summed in another order."""
    recipe, data = load(
        uri,
        model=MODEL,
        train={"epochs": EPOCHS, "batch_size": BATCH},
        stopping={"keep": "last"},
    )
    assert_equal(work_in_turn(uri, num_slices)[-1][0], train_here(recipe, data).weights)


def test_it_goes_on_from_whole_states_with_other_slices(uri: str) -> None:
    first, last = work_in_turn(uri, 2)
    again = work_in_turn(uri, 5, begin=first)[-1]
    assert_equal(again[0], last[0])
    assert_equal(again[1], last[1])


def test_a_batch_that_comes_twice_counts_once(uri: str) -> None:
    recipe, data = load(uri, model=MODEL)
    worker = GradientWorker(recipe, data, Worker())
    (state,) = cut(worker.layout, worker.weights, {}, num_steps=0, num_slices=1)
    server = ParameterSlice(recipe, state, 10)
    gradient = worker.gradient(Place(epoch=0, batch=0))
    assert server.push(0, gradient.vector_P, gradient.buffers) == 0
    once = server.state()
    assert server.push(0, gradient.vector_P, gradient.buffers) == 1
    assert server.state().num_steps == 1
    np.testing.assert_array_equal(server.state().values_S, once.values_S)
    server.end_epoch()
    server.push(0, gradient.vector_P, gradient.buffers)
    assert server.state().num_steps == 2


def test_a_batch_draws_the_same_whoever_works_it(uri: str) -> None:
    augmented = {"rotation_deg": 10, "jitter_std": 0.1}
    dropped = MODEL | {"dropout": 0.5}
    recipe, data = load(uri, model=dropped, augmentation=augmented)
    first, second = (GradientWorker(recipe, data, Worker()) for _ in range(2))
    place = Place(epoch=1, batch=2)
    second.gradient(Place(epoch=0, batch=0))
    second.set(first.layout.join(first.weights), {})
    one, other = first.gradient(place).vector_P, second.gradient(place).vector_P
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, first.gradient(Place(epoch=1, batch=1)).vector_P)


def test_a_loss_that_is_no_number_says_where(uri: str) -> None:
    recipe, data = load(uri, model=MODEL)
    worker = GradientWorker(recipe, data, Worker())
    worker.set(np.full(worker.layout.size, np.nan, dtype=np.float32), {})
    with pytest.raises(RecipeError, match="in epoch 1, step 2"):
        worker.gradient(Place(epoch=1, batch=2))


@given(
    shapes=st.lists(st.lists(st.integers(1, 5), max_size=3).map(tuple), min_size=1, max_size=6),
    num=st.integers(1, 9),
)
def test_slices_cover_the_vector_evenly_and_lead_back(
    shapes: list[tuple[int, ...]], num: int
) -> None:
    layout = Layout(names=tuple(f"p{index}" for index in range(len(shapes))), shapes=tuple(shapes))
    vector_P = np.arange(layout.size, dtype=np.float32)
    parts = [vector_P[part] for part in layout.slices(num)]
    np.testing.assert_array_equal(np.concatenate(parts), vector_P)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    np.testing.assert_array_equal(layout.join(layout.split(vector_P)), vector_P)


def test_only_what_is_trained_is_in_the_vector() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    network[0].bias.requires_grad_(False)
    assert layout_of(network).names == ("0.weight", "1.weight", "1.bias")
    assert layout_of(network).size == 6 + 2 + 2
