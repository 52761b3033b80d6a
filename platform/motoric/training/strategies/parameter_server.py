"""The parameter server on Ray: actors that hold the parameters, workers that do not wait for all.

In: a recipe and the URI of its dataset. Out: after each epoch, a checkpoint of the whole network.
Each worker pulls the parameters, works one batch, and pushes its gradient, which the servers apply
at once (Dean et al. 2012, "Large Scale Distributed Deep Networks"; Li et al. 2014, "Scaling
Distributed Machine Learning with the Parameter Server"). How far apart workers may be is what
`Backlog` decides. The vectors go straight between workers and servers, through Ray's object store;
this process only says who works which batch.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import ray
from ray.exceptions import RayActorError

from motoric.core.errors import RecipeError
from motoric.training.checkpoint import Checkpoint, Position
from motoric.training.clock import Clock
from motoric.training.progress import EpochReport, Tick
from motoric.training.recipe import Recipe
from motoric.training.run import State
from motoric.training.strategies.backlog import Backlog
from motoric.training.strategies.crew import SPREAD, Crew, server_died
from motoric.training.strategies.gradients import Place
from motoric.training.strategies.parameter_slice import ParameterSlice
from motoric.training.strategies.server_worker import Facts, ServerWorker, Validated, Worked
from motoric.training.strategies.slices import cut, together

OnCheckpoint = Callable[[Checkpoint], None]

_POLL_S = 1.0


class ParameterServer:
    """One run.

    Args:
        recipe: The recipe.
        dataset_uri: Absolute URI of the dataset.
        on_checkpoint: Called after each epoch; the last report of its history is of that epoch.
        on_tick: Told where the run is, every few seconds.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        dataset_uri: str,
        on_checkpoint: OnCheckpoint,
        on_tick: Callable[[Tick], None],
    ) -> None:
        self._recipe = recipe
        self._bound = recipe.parameter_server.bound(recipe.resources.max_workers)
        self._on_checkpoint, self._on_tick = on_checkpoint, on_tick
        self._clock = Clock(recipe.train.epochs)
        self._began_s = time.perf_counter()
        self._servers: list[Any] = []
        self._crew = Crew(
            ServerWorker,
            (recipe.model_dump(mode="json"), dataset_uri),
            resources=recipe.resources.of_worker,
            # Those that there is no room for yet join when there is.
            num=recipe.resources.max_workers,
            max_replaced=recipe.resources.max_restarts,
        )

    def run(self, begin: Checkpoint | None = None) -> Checkpoint:
        """Train to the end; returns the last checkpoint.

        Args:
            begin: Where to go on from, by whichever strategy it was made.

        Raises:
            MotoricError: As a worker raised it.
            ServerLostError: A server died.
            PlatformError: Every worker did.
        """
        try:
            return self._train(begin)
        except RayActorError as error:
            raise server_died(error) from error
        finally:
            self._crew.close()
            for server in self._servers:
                ray.kill(server)

    def _train(self, begin: Checkpoint | None) -> Checkpoint:
        facts: Facts = self._ask("facts")
        checkpoint = begin or Checkpoint(position=Position(), weights=facts.weights)
        self._start_servers(facts, checkpoint)
        epochs = self._recipe.train.epochs
        share = checkpoint.position.num_drawn / facts.num_examples
        self._clock.start(checkpoint.position.epoch + share)
        self._tick(checkpoint.position, (), share, is_start=True)
        while checkpoint.position.epoch < epochs and not checkpoint.position.is_finished:
            checkpoint = self._epoch(facts, checkpoint)
            self._on_checkpoint(checkpoint)
        return checkpoint

    def _start_servers(self, facts: Facts, checkpoint: Checkpoint) -> None:
        recipe, position = self._recipe, checkpoint.position
        per_epoch = math.ceil(facts.num_examples / recipe.train.batch_size)
        states = cut(
            facts.layout,
            checkpoint.weights,
            checkpoint.optimiser,
            num_steps=position.epoch * per_epoch + position.num_drawn // recipe.train.batch_size,
            num_slices=recipe.parameter_server.num_servers,
        )
        # They ask for no CPU: an update takes little beside a gradient, and they must never wait
        # for room that the workers have taken.
        make = ray.remote(ParameterSlice).options(num_cpus=0, scheduling_strategy=SPREAD)
        total = per_epoch * recipe.train.epochs
        self._servers = [make.remote(recipe, state, total) for state in states]

    def _epoch(self, facts: Facts, checkpoint: Checkpoint) -> Checkpoint:
        """Work every batch once, validate, and put the whole states together."""
        recipe, position = self._recipe, checkpoint.position
        num_left = max(0, facts.num_examples - position.num_drawn)
        backlog: Backlog[int] = Backlog(math.ceil(num_left / recipe.train.batch_size), self._bound)
        worked: list[Worked] = []
        self._began_s = time.perf_counter()
        while not backlog.is_done:
            for seat in tuple(self._crew.idle):
                batch = backlog.take(seat)
                if batch is not None:
                    place = Place(epoch=position.epoch, batch=batch, num_drawn=position.num_drawn)
                    self._crew.call(seat, "work", self._servers, place)
            event = self._crew.wait(_POLL_S)
            if event is not None and event.is_lost:
                backlog.lost(event.seat)
            elif event is not None and event.result is not None:
                backlog.done(event.seat)
                worked.append(event.result)
            self._tick(position, worked, len(worked) / backlog.num_batches)
        elapsed_s = time.perf_counter() - self._began_s
        rates = ray.get([server.end_epoch.remote() for server in self._servers])
        validated: Validated = self._ask("validate", self._servers)
        states = ray.get([server.state.remote() for server in self._servers])
        weights, optimiser = together(facts.layout, states)
        report = self._report(position, worked, validated, rates[0], num_left / elapsed_s)
        if not all(bool(value.isfinite().all()) for value in weights.values()):
            raise self._diverged(math.nan, position.epoch)
        return self._checkpoint(checkpoint, report, weights, optimiser)

    def _ask(self, method: str, *arguments: Any) -> Any:
        """What one worker says, whichever is there; another is asked if it dies."""
        asked = None
        while True:
            if asked is None and self._crew.idle:
                asked = self._crew.idle[0]
                self._crew.call(asked, method, *arguments)
            event = self._crew.wait(_POLL_S)
            if event is None or event.seat != asked:
                continue
            if not event.is_lost:
                return event.result
            asked = None

    def _report(
        self,
        position: Position,
        worked: Sequence[Worked],
        validated: Validated,
        learning_rate: float,
        windows_per_s: float,
    ) -> EpochReport:
        loss = validated.loss
        if loss is not None and not math.isfinite(loss):
            raise self._diverged(loss, position.epoch)
        missed = [item.num_missed for item in worked]
        waited_s = sum(item.waited_s for item in worked)
        return EpochReport(
            epoch=position.epoch,
            train_loss=float(np.mean([*position.losses, *(item.loss for item in worked)])),
            validation_loss=loss,
            validation_score=validated.score,
            score_name=validated.score_name,
            learning_rate=learning_rate,
            windows_per_s=windows_per_s,
            is_best=loss is not None and loss < position.best_loss,
            num_workers=self._crew.num_alive,
            system={
                **validated.system,
                "strategy/updates_missed_mean": float(np.mean(missed)),
                "strategy/updates_missed_max": float(max(missed)),
                "strategy/exchange_share": waited_s / sum(item.worked_s for item in worked),
                "strategy/exchanged_mb": sum(item.num_bytes for item in worked) / 1e6,
            },
        )

    def _checkpoint(
        self, before: Checkpoint, report: EpochReport, weights: State, optimiser: State
    ) -> Checkpoint:
        stopping, position = self._recipe.stopping, before.position
        best_loss, stale = position.best_loss, position.stale
        if report.validation_loss is not None:
            best_loss = min(best_loss, report.validation_loss)
            stale = 0 if report.is_best else stale + 1
        epoch = position.epoch + 1
        has_stopped = stopping.patience is not None and stale >= stopping.patience
        is_kept = report.is_best or stopping.keep == "last"
        return Checkpoint(
            position=Position(
                epoch=epoch,
                best_loss=best_loss,
                stale=stale,
                is_finished=has_stopped or epoch == self._recipe.train.epochs,
                history=(*position.history, report),
            ),
            weights=weights,
            kept=None if is_kept else before.to_keep,
            optimiser=optimiser,
        )

    def _diverged(self, value: float, epoch: int) -> RecipeError:
        rate = self._recipe.optimiser.learning_rate
        return RecipeError(
            f"the loss is {value} in epoch {epoch}, validation: lower optimiser.learning_rate (now"
            f" {rate:g}) or parameter_server.max_staleness (now {self._bound})"
        )

    def _tick(
        self, position: Position, worked: Sequence[Worked], share: float, *, is_start: bool = False
    ) -> None:
        """Tell where the run is, if it is time to."""
        if not (is_start or self._clock.is_due()):
            return
        elapsed_s = time.perf_counter() - self._began_s
        self._on_tick(
            Tick(
                epoch=position.epoch,
                share=share,
                num_epochs=self._recipe.train.epochs,
                loss=float(np.mean([item.loss for item in worked])) if worked else None,
                windows_per_s=sum(item.num_examples for item in worked) / elapsed_s,
                num_workers=self._crew.num_alive,
                left_s=self._clock.left_s(position.epoch + share),
                is_start=is_start,
            )
        )
