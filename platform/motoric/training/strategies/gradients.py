"""What a worker of the parameter server does, in plain torch: the gradient of a batch.

Axes: P numbers of all trained parameters, B examples.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from motoric.training.backward import add_gradients
from motoric.training.examples import SplitExamples
from motoric.training.loop import make_network
from motoric.training.memory import batches_that_fit
from motoric.training.prefetch import draw
from motoric.training.recipe import Recipe
from motoric.training.run import Run, State, Worker, weights_of
from motoric.training.sampler import epoch_indices
from motoric.training.strategies.flat import Vector, layout_of
from motoric.training.strategies.parameter_slice import Arrays


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A batch of a run.

    Attributes:
        epoch: From 0.
        batch: Its number among those of the epoch that are left.
        num_drawn: Examples of the epoch that were drawn before, by another run.
    """

    epoch: int
    batch: int
    num_drawn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradient:
    """Of one batch.

    Attributes:
        vector_P: Clipped to the recipe's norm.
        loss: Mean of the batch.
        num_examples: In the batch.
        buffers: Of the network after it.
    """

    vector_P: Vector
    loss: float
    num_examples: int
    buffers: Arrays


class GradientWorker:
    """One network, whose parameters are set before each batch.

    Args:
        recipe: The recipe.
        data: Its examples; each worker has all of them.
        worker: Its device.
    """

    def __init__(self, recipe: Recipe, data: SplitExamples, worker: Worker) -> None:
        network = make_network(recipe, data).to(worker.device)
        if recipe.train.compile:
            network.compile()
        self.run = Run(recipe=recipe, data=data, worker=worker, network=network)
        self.layout = layout_of(network)
        self._parameters = dict(network.named_parameters())
        self._buffers = [name for name in network.state_dict() if name not in self._parameters]

    @property
    def weights(self) -> State:
        """A copy of the network's weights; before the first batch, of where the recipe begins."""
        return weights_of(self.run.network)

    def set(self, values_P: Vector, buffers: Arrays) -> None:
        """Give the network its parameters and buffers."""
        own = self.run.network.state_dict()
        for name, value in self.layout.split(values_P).items():
            own[name].copy_(value)
        for name, array in buffers.items():
            own[name].copy_(torch.from_numpy(np.array(array)))

    def gradient(self, place: Place) -> Gradient:
        """The gradient of a batch; what is random in it follows from its place alone.

        Raises:
            RecipeError: The loss is no longer finite, or the batch does not fit the memory.
        """
        run, recipe = self.run, self.run.recipe
        network = run.network.train()
        first = place.num_drawn + place.batch * recipe.train.batch_size
        chosen = self._chosen(place)
        generator = run.generator(place.epoch, num_drawn=first)
        network.zero_grad()
        steps = draw(run, iter([(run.data.train, chosen)]), generator)
        with batches_that_fit(len(chosen), run.worker.device), closing(steps):
            loss = add_gradients(run, network, next(steps), place=(place.epoch, place.batch))
        nn.utils.clip_grad_norm_(network.parameters(), recipe.optimiser.max_grad_norm)
        run.limit.check(f"batch {place.batch} of epoch {place.epoch}")
        gradients = {
            name: self._parameters[name].grad.cpu()  # type: ignore[union-attr]
            for name in self.layout.names
            if self._parameters[name].grad is not None
        }
        own = network.state_dict()
        return Gradient(
            vector_P=self.layout.join(gradients),
            loss=loss,
            num_examples=len(chosen),
            buffers={name: own[name].detach().cpu().numpy().copy() for name in self._buffers},
        )

    def validate(self) -> tuple[float | None, float | None]:
        """Loss and score on the validation part; None where nobody is held out."""
        if not len(self.run.data.validation):
            return None, None
        return self.run.validate()

    def _chosen(self, place: Place) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        recipe = self.run.recipe
        order = epoch_indices(
            len(self.run.data.train),
            seed=recipe.train.seed,
            epoch=place.epoch,
            rank=0,
            world_size=1,
            num_drawn=place.num_drawn,
        )
        first = place.batch * recipe.train.batch_size
        return order[first : first + recipe.train.batch_size]
