"""Gradient descent: one worker's part of it, from the beginning or from a checkpoint.

In: a run and its strategy. Out: the weights to keep, one `EpochReport` an epoch, checkpoints.
Axes: B examples, K outputs, W workers.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import CheckpointError
from motoric.training.agreement import text_of_first
from motoric.training.backward import add_gradients
from motoric.training.checkpoint import Checkpoint, Checkpoints, Position
from motoric.training.clock import Clock
from motoric.training.examples import Examples
from motoric.training.memory import batches_that_fit
from motoric.training.optimiser import make_optimiser
from motoric.training.prefetch import Drawn, draw
from motoric.training.progress import EpochReport, Tick
from motoric.training.random_state import get_states, set_states
from motoric.training.run import OnEpoch, Run, State, diverged
from motoric.training.sampler import epoch_indices
from motoric.training.schedule import make_scheduler, place
from motoric.training.strategies.base import Strategy
from motoric.training.strategies.catalogue import make_strategy

logger = logging.getLogger(__name__)


def descend(run: Run, on_epoch: OnEpoch, checkpoints: Checkpoints | None) -> State:
    """Train a network by its gradients; go on from the newest checkpoint, if there is one.

    Raises:
        RecipeError: As `motoric.training.loop.fit`.
        CheckpointError: No checkpoint can be read, or it is of another recipe or other data.
        PlatformError: A checkpoint cannot be written.
    """
    strategy = make_strategy(run.recipe, run.worker)
    try:
        descent = Descent(run, strategy, checkpoints)
        descent.resume()
        return descent.train(on_epoch)
    finally:
        strategy.close()


class Descent:
    """What gradient descent knows between two steps.

    Args:
        run: The run.
        strategy: How its workers share.
        checkpoints: Where states are kept; None keeps none.
    """

    def __init__(self, run: Run, strategy: Strategy, checkpoints: Checkpoints | None) -> None:
        recipe = run.recipe
        self._run, self._strategy, self._checkpoints = run, strategy, checkpoints
        if recipe.train.compile:
            run.network.compile()
        self._parallel = strategy.prepare(run.network)
        self._parameters = [item for item in self._parallel.parameters() if item.requires_grad]
        self._optimiser = make_optimiser(recipe, self._parameters)
        self._batch = max(1, recipe.train.batch_size // strategy.num_shares)
        self._steps_per_epoch = self._steps_left(0)
        total = self._steps_per_epoch * recipe.train.epochs
        self._scheduler = make_scheduler(recipe, self._optimiser, total)
        self._kept: State | None = None
        self._random: State = {}
        self._history: list[EpochReport] = []
        self._is_finished = False
        self._epoch = 0
        self._begin_epoch(0)
        self._clock = Clock(recipe.train.epochs)

    def resume(self) -> None:
        """Go on from the newest checkpoint that is whole; all workers from the same."""
        if self._checkpoints is None:
            return
        run = self._run
        newest = (self._checkpoints.newest() or "") if run.worker.rank == 0 else ""
        name = text_of_first(newest, run.worker.device)
        if not name:
            return
        found = self._checkpoints.read(name)
        position = found.position
        self._check_way(position)
        self._strategy.load(run.network, self._optimiser, found.weights, found.optimiser)
        self._begin_epoch(position.epoch)
        self._num_drawn, self._losses = position.num_drawn, list(position.losses)
        self._elapsed_s, self._waited_s = position.elapsed_s, position.waited_s
        self._history, self._is_finished = list(position.history), position.is_finished
        run.best_loss, run.stale = position.best_loss, position.stale
        if run.recipe.stopping.keep == "best" and math.isfinite(position.best_loss):
            self._kept = found.to_keep
        # Of another number of workers the generators begin anew, from where the run stands.
        self._random = found.random if position.num_workers == run.worker.world_size else {}
        done = self._steps_per_epoch - self._steps_left(self._num_drawn)
        place(self._scheduler, self._steps_per_epoch * self._epoch + done)

    def _check_way(self, position: Position) -> None:
        """Whether a run may go on there in the way that its windows come now."""
        streams = self._run.worker.stream is not None
        if streams and position.num_drawn:
            raise CheckpointError(
                f"the last checkpoint is from within epoch {position.epoch + 1}, and with"
                " train.data: stream a run goes on from the end of an epoch: go on with"
                " train.data=memory or mapped"
            )
        if streams != position.streams:
            ways = ("by the sampler", "in a stream")
            logger.warning(
                "the windows of this run came %s so far, and come %s now: the order is another one",
                ways[position.streams],
                ways[streams],
            )

    def train(self, on_epoch: OnEpoch) -> State:
        """The epochs that are left; returns the weights to keep."""
        run, recipe = self._run, self._run.recipe
        self._clock.start(self._epoch + self._share())
        self._tick(is_start=True)
        while not self._is_finished:
            self._train_epoch()
            report = run.report(
                self._epoch,
                float(np.mean(self._losses)),
                float(self._optimiser.param_groups[0]["lr"]),
                len(run.data.train) / self._elapsed_s,
                self._waited_s / self._elapsed_s,
            )
            weights = self._strategy.weights(run.network)
            if report.is_best or recipe.stopping.keep == "last":
                self._kept = weights
            self._history.append(report)
            patience = recipe.stopping.patience
            self._begin_epoch(self._epoch + 1)
            self._is_finished = self._epoch >= recipe.train.epochs or (
                patience is not None and run.stale >= patience
            )
            self._save(weights)
            assert self._kept is not None
            on_epoch(report, self._kept)
        if self._checkpoints is not None:
            self._checkpoints.wait()
        return self._strategy.weights(run.network) if self._kept is None else self._kept

    def _begin_epoch(self, epoch: int) -> None:
        self._epoch, self._num_drawn, self._losses = epoch, 0, list[float]()
        self._elapsed_s = self._waited_s = 0.0

    def _train_epoch(self) -> None:
        """What is left of one pass over this worker's examples."""
        run, epoch, first = self._run, self._epoch, self._num_drawn
        run.network.train()
        num_steps = self._steps_left(first)
        done = self._steps_per_epoch - num_steps
        examples = self._examples(num_steps)
        alike, self._random = self._random, {}
        generator = run.generator(epoch, self._strategy.share, 0 if alike else first)
        if alike:
            set_states(alike, generator, run.worker)
        every = run.recipe.train.checkpoint_every_steps
        began_s = time.perf_counter()
        with closing(draw(run, examples, generator)) as steps:
            for number in range(num_steps):
                with batches_that_fit(self._batch, run.worker.device):
                    drawn = next(steps)
                    loss = self._step(drawn, (epoch, done + number))
                now_s = time.perf_counter()
                self._advance(drawn, loss, now_s - began_s)
                began_s = now_s
                if number == 0:
                    run.limit.check(f"step {done} of epoch {epoch}")
                self._tick()
                if every and (done + number + 1) % every == 0 and number + 1 < num_steps:
                    self._check_finite()
                    self._random = get_states(drawn.generator_state, run.worker)
                    self._save(self._strategy.weights(run.network))
                    self._random = {}
        run.limit.check(f"epoch {epoch}")
        # The last step may have spoilt what its own loss did not show yet.
        self._check_finite()

    def _step(self, drawn: Drawn, place_: tuple[int, int]) -> float:
        """One step of the optimiser; returns the loss."""
        strategy = self._strategy
        self._optimiser.zero_grad()
        loss = add_gradients(
            self._run,
            self._parallel,
            drawn,
            place=place_,
            around=lambda is_last: strategy.accumulate(is_last=is_last),
        )
        strategy.clip(self._parameters, self._run.recipe.optimiser.max_grad_norm)
        strategy.step(self._optimiser, self._scheduler)
        return loss

    def _advance(self, drawn: Drawn, loss: float, elapsed_s: float) -> None:
        self._num_drawn += drawn.num * self._strategy.num_shares
        self._losses.append(loss)
        self._elapsed_s += elapsed_s
        self._waited_s += drawn.waited_s

    def _check_finite(self) -> None:
        if not self._strategy.is_finite(self._run.network):
            place_ = f"epoch {self._epoch}, step {len(self._losses) - 1}"
            raise diverged(self._run, math.nan, place_, self._epoch)

    def _save(self, weights: State) -> None:
        """Keep the state; all workers come here together, the first one writes."""
        if self._checkpoints is None:
            return
        run = self._run
        optimiser = self._strategy.optimiser_state(run.network, self._optimiser)
        if run.worker.rank != 0:
            return
        position = Position(
            epoch=self._epoch,
            num_drawn=self._num_drawn,
            losses=tuple(self._losses),
            elapsed_s=self._elapsed_s,
            waited_s=self._waited_s,
            best_loss=run.best_loss,
            stale=run.stale,
            num_workers=run.worker.world_size,
            streams=run.worker.stream is not None,
            is_finished=self._is_finished,
            history=tuple(self._history),
        )
        self._checkpoints.save(
            Checkpoint(
                position=position,
                weights=weights,
                kept=None if self._kept is weights else self._kept,
                optimiser=optimiser,
                random=self._random,
            )
        )

    def _steps_left(self, num_drawn: int) -> int:
        """Steps of an epoch of which so many examples were drawn."""
        left = max(0, len(self._run.data.train) - num_drawn)
        return math.ceil(math.ceil(left / self._strategy.num_shares) / self._batch)

    def _examples(self, num_steps: int) -> Iterator[tuple[Examples, NDArray[np.int64]]]:
        """What is left of the epoch for this worker, step by step: examples, and which of them."""
        train, stream = self._run.data.train, self._run.worker.stream
        if stream is not None:
            return (
                (replace(train.take(places_B), windows_BTC=windows_BTC), np.arange(len(places_B)))
                for places_B, windows_BTC in stream(self._epoch, self._batch)
            )
        indices = epoch_indices(
            len(train),
            seed=self._run.recipe.train.seed,
            epoch=self._epoch,
            rank=self._strategy.share,
            world_size=self._strategy.num_shares,
            num_drawn=self._num_drawn,
        )
        return (
            (train, indices[at * self._batch : (at + 1) * self._batch]) for at in range(num_steps)
        )

    def _share(self) -> float:
        return min(1.0, self._num_drawn / len(self._run.data.train))

    def _tick(self, *, is_start: bool = False) -> None:
        """Tell where the run is, if it is time to."""
        if not (is_start or self._clock.is_due()):
            return
        share = self._share()
        self._run.worker.on_tick(
            Tick(
                epoch=min(self._epoch, self._run.recipe.train.epochs - 1),
                share=share,
                num_epochs=self._run.recipe.train.epochs,
                loss=float(np.mean(self._losses)) if self._losses else None,
                windows_per_s=self._num_drawn / self._elapsed_s if self._elapsed_s else 0.0,
                num_workers=self._run.worker.world_size,
                left_s=self._clock.left_s(self._epoch + share),
                is_start=is_start,
            )
        )
