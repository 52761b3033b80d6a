"""What a parameter server does, in plain torch: a slice of the parameters and its optimiser.

Axes: S numbers of the slice.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from motoric.training.optimiser import make_optimiser
from motoric.training.recipe import Recipe
from motoric.training.schedule import make_scheduler, place
from motoric.training.strategies.flat import Vector

Arrays = dict[str, NDArray[np.generic]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceState:
    """All that a slice goes on from.

    Attributes:
        values_S: The parameters.
        num_steps: Updates of the run so far.
        entries: The optimiser's state, such as `exp_avg` (S,); empty before the first update.
        buffers: What the network keeps beside parameters, such as running statistics; the first
            slice has them for all.
    """

    values_S: Vector
    num_steps: int = 0
    entries: Arrays = field(default_factory=dict)
    buffers: Arrays = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pulled:
    """A slice as it stands after `version` updates."""

    version: int
    values_S: Vector
    buffers: Arrays


class ParameterSlice:
    """Parameters that gradients are pushed to and that are pulled.

    AdamW works number by number, so that a slice is updated as it would be within the network.
    Buffers are those of the last push: running means of the same examples' statistics, where the
    shares of batches that other workers saw at the same time are lost.

    Args:
        recipe: Its optimiser and schedule.
        state: Where it begins.
        total_steps: Of the run.
    """

    def __init__(self, recipe: Recipe, state: SliceState, total_steps: int) -> None:
        self._values_S = nn.Parameter(torch.from_numpy(state.values_S.copy()))
        self._optimiser = make_optimiser(recipe, [self._values_S])
        self._scheduler = make_scheduler(recipe, self._optimiser, total_steps)
        place(self._scheduler, state.num_steps)
        self._optimiser.state[self._values_S] = {
            key: torch.from_numpy(np.array(value)) for key, value in state.entries.items()
        }
        self._buffers = dict(state.buffers)
        self._num_steps = state.num_steps
        self._pushed: set[int] = set()

    def pull(self) -> Pulled:
        """A copy of the parameters."""
        values_S: Vector = self._values_S.detach().numpy().copy()
        return Pulled(version=self._num_steps, values_S=values_S, buffers=self._buffers)

    def push(self, batch: int, gradient_S: Vector, buffers: Arrays) -> int:
        """Update by the gradient of a batch; returns the updates that there were before.

        A batch that comes again, since its worker died on the way, counts once.

        Args:
            batch: Its number in the epoch.
            gradient_S: Clipped.
            buffers: As they are after the batch.
        """
        before = self._num_steps
        if batch in self._pushed:
            return before
        self._pushed.add(batch)
        # An array that came through the object store cannot be written to.
        self._values_S.grad = torch.from_numpy(np.array(gradient_S))
        self._optimiser.step()
        self._scheduler.step()
        self._buffers = {**self._buffers, **buffers}
        self._num_steps += 1
        return before

    def end_epoch(self) -> float:
        """Batches are counted anew; returns the learning rate."""
        self._pushed.clear()
        return float(self._optimiser.param_groups[0]["lr"])

    def state(self) -> SliceState:
        """A copy of everything."""
        entries = self._optimiser.state.get(self._values_S, {})
        return SliceState(
            values_S=self.pull().values_S,
            num_steps=self._num_steps,
            entries={key: value.detach().numpy().copy() for key, value in entries.items()},
            buffers=self._buffers,
        )
