"""Batches made ahead, so that a step does not wait for its data."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from motoric.training.batches import Batch
from motoric.training.examples import Examples
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
    steps: Iterator[tuple[Examples, NDArray[np.int64]]],
    generator: torch.Generator,
) -> Generator[Drawn]:
    """The batches of steps in their order; while one is used, the next is made in a thread.

    The generator alone decides what becomes of the examples, as without the thread.

    Args:
        run: Of its recipe.
        steps: Examples, and which of them a step takes.
        generator: Randomness of the batches.
    """
    at_most = run.recipe.train.accumulate

    def make() -> tuple[tuple[Batch, ...], int, Tensor] | None:
        step = next(steps, None)
        if step is None:
            return None
        examples, chosen = step
        parts = tuple(
            run.batches.training(examples, part, generator)
            for part in np.array_split(chosen, min(at_most, len(chosen)))
        )
        return parts, len(chosen), generator.get_state()

    with ThreadPoolExecutor(1, thread_name_prefix="motoric-batches") as beside:
        coming = beside.submit(make)
        while True:
            began_s = time.perf_counter()
            made = coming.result()
            if made is None:
                return
            parts, num, state = made
            waited_s = time.perf_counter() - began_s
            coming = beside.submit(make)
            yield Drawn(parts=parts, num=num, generator_state=state, waited_s=waited_s)
