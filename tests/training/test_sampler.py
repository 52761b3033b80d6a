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
