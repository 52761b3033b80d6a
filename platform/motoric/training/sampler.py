"""Which windows a worker draws in an epoch: a pure function of (seed, epoch, rank).

Every window is drawn once an epoch over all workers; to give each worker the same number, at most
`world_size - 1` windows are drawn twice.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def epoch_indices(
    num_windows: int, *, seed: int, epoch: int, rank: int, world_size: int, num_drawn: int = 0
) -> NDArray[np.int64]:
    """Indices for one worker, shuffled; the same number for each rank.

    Args:
        num_windows: Windows in all, at least `world_size`.
        seed: Of the recipe.
        epoch: From 0.
        rank: From 0 to `world_size - 1`.
        world_size: Workers.
        num_drawn: Windows of this epoch that workers drew before, however many those were: what is
            left is divided. Steps of all workers draw from the front, each the same number.
    """
    order = np.random.default_rng([seed, epoch]).permutation(num_windows)
    per_worker = -(-max(0, num_windows - num_drawn) // world_size)
    padded = np.resize(order, num_drawn + per_worker * world_size)
    return padded[num_drawn:][rank::world_size]
