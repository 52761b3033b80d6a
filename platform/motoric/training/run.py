"""One worker's part of a training run: what gradient descent and solving share.

Axes: B examples, K outputs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from motoric.core.errors import RecipeError
from motoric.training.agreement import number_of_first
from motoric.training.batches import Batch, Batches
from motoric.training.examples import Examples, SplitExamples
from motoric.training.memory import MemoryLimit, batches_that_fit
from motoric.training.objective import Objective
from motoric.training.progress import EpochReport, Tick
from motoric.training.recipe import Recipe

EVALUATION_BATCH = 256
_EVALUATION_CLIPS = 32

State = dict[str, Tensor]
# Given an epoch and a batch's size: places in the training part and raw windows, batch by batch.
Stream = Callable[[int, int], Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]]
OnEpoch = Callable[[EpochReport, State], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Which worker this is.

    Attributes:
        rank: From 0.
        world_size: Workers in all.
        device: Where the network is.
        sample_system: Figures of this process, once an epoch.
        on_tick: Told where the run is, every few seconds.
        stream: Where this worker's training windows come from, if they are not in the examples.
    """

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    sample_system: Callable[[], dict[str, float]] = dict
    on_tick: Callable[[Tick], None] = lambda _: None
    stream: Stream | None = None


class Run:
    """What the parts of a training run share."""

    def __init__(
        self, *, recipe: Recipe, data: SplitExamples, worker: Worker, network: nn.Module
    ) -> None:
        self.recipe = recipe
        self.data = data
        self.worker = worker
        self.network = network
        self.batches = Batches(recipe, data, worker.device)
        self.objective = Objective(recipe, data)
        self.limit = MemoryLimit(recipe.resources.memory_gib_per_worker)
        self.limit.check("reading the examples")
        self.best_loss, self.stale = math.inf, 0

    def report(
        self,
        epoch: int,
        train_loss: float,
        learning_rate: float,
        windows_per_s: float,
        waiting_share: float = 0.0,
    ) -> EpochReport:
        """Validate and put an epoch's figures together."""
        loss, score, improved = None, None, False
        if len(self.data.validation):
            loss, score = self.validate()
            if not math.isfinite(loss):
                raise diverged(self, loss, f"epoch {epoch}, validation", epoch)
            # Weights are equal on all workers, the statistics of normalisation layers are not.
            loss = number_of_first(loss, self.worker.device)
            improved = loss < self.best_loss
            self.best_loss, self.stale = (loss, 0) if improved else (self.best_loss, self.stale + 1)
        return EpochReport(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=loss,
            validation_score=score,
            score_name=self.objective.score_name,
            learning_rate=learning_rate,
            windows_per_s=windows_per_s,
            is_best=improved,
            num_workers=self.worker.world_size,
            waiting_share=waiting_share,
            system=self.worker.sample_system(),
        )

    def validate(self) -> tuple[float, float]:
        """Loss and score on the validation part, without augmentation."""
        examples = self.data.validation
        predicted = []
        loss = self.mean_loss(
            examples,
            lambda outputs_BK, batch: predicted.append(
                self.objective.head(outputs_BK, batch.windows_BTC).cpu()
            ),
        )
        score = self.objective.score(torch.cat(predicted), torch.from_numpy(examples.targets_B))
        return loss, score

    def mean_loss(
        self, examples: Examples, on_batch: Callable[[Tensor, Batch], None] | None = None
    ) -> float:
        """Loss on examples as they are; class weights count over all of them together."""
        outputs, targets = [], []
        self.network.eval()
        with torch.no_grad():
            for chosen in chunks_of(examples, self.recipe):
                with batches_that_fit(len(chosen), self.worker.device):
                    batch = self.batches.plain(examples, chosen)
                    outputs.append(self.network(*batch.inputs))
                targets.append(batch.targets_B)
                if on_batch is not None:
                    on_batch(outputs[-1], batch)
            return self.objective.loss(torch.cat(outputs), torch.cat(targets)).item()

    def generator(self, epoch: int, share: int = 0, num_drawn: int = 0) -> torch.Generator:
        """Randomness of an epoch; torch's own generator is set alike, for dropout.

        Args:
            epoch: From 0.
            share: Which part of the examples this worker draws.
            num_drawn: Examples that had been drawn in this epoch by another number of workers.
        """
        place = [self.recipe.train.seed, epoch, share]
        seeds = np.random.SeedSequence([*place, num_drawn] if num_drawn else place)
        seed = int(seeds.generate_state(1)[0])
        torch.manual_seed(seed)
        return torch.Generator().manual_seed(seed)


def diverged(run: Run, value: float, place: str, epoch: int) -> RecipeError:
    """The error of a loss that is no longer a number; `place` says where, as a reader counts."""
    last = f"the checkpoint of epoch {epoch - 1} is kept" if epoch else "no epoch was finished"
    return RecipeError(
        f"the loss is {value} in {place}: lower optimiser.learning_rate (now"
        f" {run.recipe.optimiser.learning_rate:g}) or optimiser.max_grad_norm (now"
        f" {run.recipe.optimiser.max_grad_norm:g}); {last}"
    )


def chunks_of(examples: Examples, recipe: Recipe) -> list[NDArray[np.int64]]:
    """Batches for evaluation: what trains in a batch fits without gradients too."""
    most = EVALUATION_BATCH if examples.clips_BTHWC is None else _EVALUATION_CLIPS
    size = min(most, 2 * recipe.train.batch_size)
    return [
        np.arange(first, min(first + size, len(examples)))
        for first in range(0, len(examples), size)
    ]


def weights_of(network: nn.Module) -> State:
    """A copy of a network's weights, on the CPU."""
    return {
        name: copy.deepcopy(value.detach().cpu()) for name, value in network.state_dict().items()
    }
