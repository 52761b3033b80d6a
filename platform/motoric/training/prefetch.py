"""Batches made ahead, so that a step does not wait for its data."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from motoric.training.batches import Batch
from motoric.training.run import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """The examples of one step.

    Attributes:
        parts: Batches to add up, one after the other.
        num: Examples in all.
        generator_state: Of the generator of batches, after these.
        waited_s: For how long the step waited for them.
    """

    parts: tuple[Batch, ...]
    num: int
    generator_state: Tensor
    waited_s: float


def draw(
    run: Run,
    steps: Sequence[NDArray[np.int64]],
    generator: torch.Generator,
) -> Generator[Drawn]:
    """The batches of steps in their order; while one is used, the next is made in a thread.

    The generator alone decides what comes out, so that it is the same as without the thread.
    """
    at_most = run.recipe.train.accumulate

    def make(chosen: NDArray[np.int64]) -> tuple[tuple[Batch, ...], Tensor]:
        parts = tuple(
            run.batches.training(run.data.train, part, generator)
            for part in np.array_split(chosen, min(at_most, len(chosen)))
        )
        return parts, generator.get_state()

    with ThreadPoolExecutor(1, thread_name_prefix="motoric-batches") as beside:
        coming = beside.submit(make, steps[0]) if steps else None
        for number, chosen in enumerate(steps):
            assert coming is not None
            began_s = time.perf_counter()
            parts, state = coming.result()
            waited_s = time.perf_counter() - began_s
            is_last = number + 1 == len(steps)
            coming = None if is_last else beside.submit(make, steps[number + 1])
            yield Drawn(parts=parts, num=len(chosen), generator_state=state, waited_s=waited_s)
