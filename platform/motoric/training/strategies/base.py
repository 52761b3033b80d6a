"""What the training loop asks of a strategy: one object a worker, in plain torch.

In: a network and the gradients of one worker. Out: a step that all workers agree on, and states
that any other strategy, with any number of workers, can go on from.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from motoric.training.run import State, Worker, weights_of

if TYPE_CHECKING:
    from motoric.training.recipe import Recipe


class Strategy(ABC):
    """How the workers of a run share gradients and states.

    The loop calls `prepare` once, then for each step `accumulate` around each micro-batch, `clip`
    and `step`. `weights`, `optimiser_state` and `load` are called by all workers at the same place.

    Args:
        recipe: The recipe.
        worker: This worker.
    """

    name: ClassVar[str]

    def __init__(self, recipe: Recipe, worker: Worker) -> None:
        self.recipe = recipe
        self.worker = worker

    @property
    def num_shares(self) -> int:
        """Into how many parts an epoch's examples are divided; workers of a part see the same."""
        return self.worker.world_size

    @property
    def share(self) -> int:
        """This worker's part of the examples, from 0."""
        return self.worker.rank

    @abstractmethod
    def prepare(self, network: nn.Module) -> nn.Module:
        """Make a network, on its worker's device, ready to be trained by all workers.

        Args:
            network: With the same weights on each worker. It may be changed in place; validation
                goes on calling it, by all workers on the same examples.

        Returns:
            What the loop calls forward on, and whose parameters the optimiser gets.
        """

    @abstractmethod
    def accumulate(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Around the forward and backward of one micro-batch; only the last exchanges gradients."""

    def clip(self, parameters: Iterable[Tensor], max_norm: float) -> None:
        """Scale the gradients of a step so that their norm over the network is `max_norm`."""
        nn.utils.clip_grad_norm_(parameters, max_norm)

    def step(self, optimiser: Optimizer, scheduler: LRScheduler) -> None:
        """Change the parameters by the gradients of a step, and move the learning rate on."""
        optimiser.step()
        scheduler.step()

    def is_finite(self, network: nn.Module) -> bool:
        """Whether all parameters are finite numbers, as far as this worker holds them."""
        return all(bool(item.isfinite().all()) for item in network.parameters())

    def weights(self, network: nn.Module) -> State:
        """A copy of the whole network's weights on the CPU; of use on the first worker alone.

        Args:
            network: As it was given to `prepare`.
        """
        return weights_of(network)

    def optimiser_state(self, network: nn.Module, optimiser: Optimizer) -> State:
        """A copy of the optimiser's whole state on the CPU; of use on the first worker alone.

        Returns:
            Tensors by `<parameter>.<entry>`, such as `head.weight.exp_avg`. What stands in the
            parameter groups follows from the recipe and the step.
        """
        found = {}
        for name, parameter in network.named_parameters():
            for entry, value in optimiser.state.get(parameter, {}).items():
                found[f"{name}.{entry}"] = value.detach().to("cpu", copy=True)
        return found

    def load(
        self, network: nn.Module, optimiser: Optimizer, weights: State, optimiser_state: State
    ) -> None:
        """Go on from what `weights` and `optimiser_state` gave, after `prepare`.

        Each worker gets the whole of both, on the CPU, whichever strategy they came from.
        """
        network.load_state_dict(weights)
        for name, parameter in network.named_parameters():
            prefix = f"{name}."
            entries = {
                key.removeprefix(prefix): value
                for key, value in optimiser_state.items()
                if key.startswith(prefix) and "." not in key.removeprefix(prefix)
            }
            if entries:
                # `step` stays on the CPU, as torch keeps it.
                optimiser.state[parameter] = {
                    entry: value.clone()
                    if value.ndim == 0
                    else value.to(parameter.device, copy=True)
                    for entry, value in entries.items()
                }

    def close(self) -> None:  # noqa: B027 - most have nothing to end
        """Training ended, well or not."""
