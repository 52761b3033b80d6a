"""A worker of the parameter server: pull, one batch, push. A plain class that Ray makes an actor.

Axes: P numbers of all trained parameters.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray
import torch

from motoric.data.dataset import open_dataset
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe
from motoric.training.run import State, Worker
from motoric.training.strategies.flat import Layout, Vector
from motoric.training.strategies.gradients import GradientWorker, Place
from motoric.training.strategies.parameter_slice import Pulled
from motoric.training.system import SystemSampler


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What the run needs to know before the first batch.

    Attributes:
        weights: Where the recipe begins.
        layout: Of the parameters.
        num_examples: That are trained on.
    """

    weights: State
    layout: Layout
    num_examples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Worked:
    """One batch, done.

    Attributes:
        loss: Its mean.
        num_examples: In it.
        num_missed: Updates of others between its pull and its push.
        num_bytes: Of the vectors that were pulled and pushed.
        worked_s: From the pull to the end of the push.
        waited_s: Of these, for the servers.
    """

    loss: float
    num_examples: int
    num_missed: int
    num_bytes: int
    worked_s: float
    waited_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Validated:
    """Figures of the validation part; None where nobody is held out."""

    loss: float | None
    score: float | None
    score_name: str
    system: dict[str, float]


class ServerWorker:
    """Works batches with parameters that others hold.

    Args:
        content: Of the recipe.
        dataset_uri: Absolute URI of the dataset.
    """

    _worker: GradientWorker
    _sampler: SystemSampler

    def __init__(self, content: dict[str, Any], dataset_uri: str) -> None:
        self._content, self._dataset_uri = content, dataset_uri

    def ready(self) -> None:
        """Read the examples and make the network.

        Not done by `__init__`: Ray would take what is wrong with them for the actor's death.
        """
        recipe = Recipe.model_validate(self._content)
        torch.set_num_threads(max(1, int(recipe.resources.cpus_per_worker)))
        share = recipe.resources.gpus_per_worker
        on_gpu = share > 0 and torch.cuda.is_available()
        if on_gpu and share < 1:
            # To Ray a share is bookkeeping alone: nothing else keeps a worker from the whole card.
            torch.cuda.set_per_process_memory_fraction(share)
        worker = Worker(device="cuda" if on_gpu else "cpu")
        self._sampler = SystemSampler(with_gpu=on_gpu)
        data = load_split(recipe, open_dataset(self._dataset_uri))
        self._worker = GradientWorker(recipe, data, worker)

    def facts(self) -> Facts:
        """What the run needs to know."""
        return Facts(
            weights=self._worker.weights,
            layout=self._worker.layout,
            num_examples=len(self._worker.run.data.train),
        )

    def work(self, servers: list[Any], place: Place) -> Worked:
        """One batch."""
        started_s = time.perf_counter()
        version, num_bytes = self._pull(servers)
        pulled_s = time.perf_counter()
        made = self._worker.gradient(place)
        made_s = time.perf_counter()
        parts = self._worker.layout.slices(len(servers))
        before: list[int] = ray.get(
            [
                server.push.remote(
                    place.batch, made.vector_P[part], made.buffers if index == 0 else {}
                )
                for index, (server, part) in enumerate(zip(servers, parts, strict=True))
            ]
        )
        ended_s = time.perf_counter()
        num_bytes += made.vector_P.nbytes + sum(item.nbytes for item in made.buffers.values())
        return Worked(
            loss=made.loss,
            num_examples=made.num_examples,
            num_missed=before[0] - version,
            num_bytes=num_bytes,
            worked_s=ended_s - started_s,
            waited_s=(pulled_s - started_s) + (ended_s - made_s),
        )

    def validate(self, servers: list[Any]) -> Validated:
        """Figures of the parameters as they are now."""
        self._pull(servers)
        loss, score = self._worker.validate()
        return Validated(
            loss=loss,
            score=score,
            score_name=self._worker.run.objective.score_name,
            system=self._sampler.sample(),
        )

    def _pull(self, servers: list[Any]) -> tuple[int, int]:
        """Take the parameters; returns the first server's version, and the bytes."""
        pulled: list[Pulled] = ray.get([server.pull.remote() for server in servers])
        values_P: Vector = np.concatenate([item.values_S for item in pulled])
        buffers = pulled[0].buffers
        self._worker.set(values_P, buffers)
        num_bytes = values_P.nbytes + sum(item.nbytes for item in buffers.values())
        return pulled[0].version, num_bytes
