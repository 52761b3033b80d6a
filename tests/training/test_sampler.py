from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from motoric.training.sampler import epoch_indices


@given(
    num_windows=st.integers(1, 300),
    world_size=st.integers(1, 9),
    epoch=st.integers(0, 50),
    seed=st.integers(0, 50),
)
def test_every_window_is_drawn_once_an_epoch_whatever_the_number_of_workers(
    num_windows: int, world_size: int, epoch: int, seed: int
) -> None:
    drawn = [
        epoch_indices(num_windows, seed=seed, epoch=epoch, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]
    assert len({len(part) for part in drawn}) == 1
    counts = np.bincount(np.concatenate(drawn), minlength=num_windows)
    assert counts.min() >= 1
    assert counts.sum() - num_windows < world_size


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return epoch_indices(100, seed=seed, epoch=epoch, rank=0, world_size=1).tolist()

    assert order(0, 0) == order(0, 0)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@given(
    num=st.integers(20, 200),
    before=st.integers(1, 5),
    after=st.integers(1, 5),
    batch=st.integers(1, 7),
    steps=st.integers(0, 6),
)
def test_an_epoch_that_other_workers_began_is_drawn_to_its_end(
    num: int, before: int, after: int, batch: int, steps: int
) -> None:
    first = [
        epoch_indices(num, seed=3, epoch=2, rank=rank, world_size=before)[: steps * batch]
        for rank in range(before)
    ]
    drawn = sum(len(part) for part in first)
    rest = [
        epoch_indices(num, seed=3, epoch=2, rank=rank, world_size=after, num_drawn=drawn)
        for rank in range(after)
    ]
    assert len({len(part) for part in rest}) == 1
    seen = np.concatenate([*first, *rest])
    assert set(seen.tolist()) == set(range(num))
    assert len(seen) < num + max(before, after)


@given(num=st.integers(20, 200), workers=st.integers(1, 5), steps=st.integers(0, 4))
def test_the_same_workers_go_on_exactly(num: int, workers: int, steps: int) -> None:
    for rank in range(workers):
        whole = epoch_indices(num, seed=1, epoch=0, rank=rank, world_size=workers)
        rest = epoch_indices(
            num, seed=1, epoch=0, rank=rank, world_size=workers, num_drawn=steps * workers
        )
        assert rest.tolist() == whole[steps:].tolist()
