"""Training windows that stream from Ray Data, where no worker's memory or disk should hold them.

In: the recordings of the training part, by what the index says of them. Out: for each worker and
epoch, batches of places in the training part and their raw windows. Ray Data's tasks read
recordings and cut them as `motoric.training.loading` does; `streaming_split` deals the windows out
to the workers, to each as many. Which recordings come when follows from (seed, epoch); which worker
gets which window follows from the speed of the tasks too, so that a run goes on from the boundary
of an epoch.

Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import itertools
import json
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import ray
import ray.exceptions
from numpy.typing import NDArray

from motoric.core.errors import MotoricError, PlatformError
from motoric.data.dataset import Dataset
from motoric.training.agreement import bytes_of_first
from motoric.training.examples import SplitExamples
from motoric.training.recipe import Recipe
from motoric.training.stream_reader import Reading, WindowReader

# Neighbours share the row groups of a file, so that a run of them is read by one task. Runs come in
# an order by chance, some to a task: what a worker mixes then comes from all over the dataset.
_RUN_BYTES = 4 * 2**20
_RUNS_OF_TASK = 8
_BLOCK_BYTES = 8 * 2**20


def plan_epoch(
    recording_ids: Sequence[str], *, run_size: int, seed: int, epoch: int, num_workers: int
) -> list[tuple[Reading, ...]]:
    """Runs of recordings in the order of an epoch: every window once, as many for each worker.

    To make that so, at most `num_workers - 1` windows come twice. A pure function, as the sampler.

    Args:
        recording_ids: Of each training window; those of a recording stand together.
        run_size: Windows of a run, about: recordings are not cut.
        seed: Of the recipe.
        epoch: From 0.
        num_workers: Among which the windows are divided.
    """
    readings: list[Reading] = []
    first = 0
    for name, windows in itertools.groupby(recording_ids):
        num = sum(1 for _ in windows)
        readings.append(Reading(name, first, num))
        first += num
    by_run = itertools.groupby(readings, lambda reading: reading.first // run_size)
    runs = [tuple(found) for _, found in by_run]
    order = np.random.default_rng([seed, epoch]).permutation(len(runs))
    planned = [runs[item] for item in order]
    lacking = -first % num_workers
    for reading in itertools.cycle(itertools.chain(*planned)):
        if lacking == 0:
            break
        again = replace(reading, num=min(lacking, reading.num))
        planned.append((again,))
        lacking -= again.num
    return planned


class WindowStream:
    """The windows of each epoch for one worker of a run.

    Args:
        recipe: The recipe.
        dataset: Its dataset.
        data: Its examples, without the training windows.
        rank: Of this worker.
        num_workers: In all.
        device: Where tensors go that workers share.
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        data: SplitExamples,
        *,
        rank: int,
        num_workers: int,
        device: str,
    ) -> None:
        self._recipe, self._dataset = recipe, dataset
        self._recording_ids = data.train.recording_ids
        self._window_bytes = data.at_hand.num_bytes // len(data.at_hand)
        self._rank, self._num_workers, self._device = rank, num_workers, device
        self._shards: list[Any] = []

    def __call__(
        self, epoch: int, batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Places in the training part and raw windows, by batches; all workers iterate together.

        Raises:
            MotoricError: What a task could not read.
            PlatformError: Ray Data failed otherwise.
        """
        train = self._recipe.train
        # Ray Data ends a stream of which the first worker, who made it, holds no shard any more.
        self._shards = self._shared(epoch)
        seeds = np.random.SeedSequence([train.seed, epoch, self._rank])
        num_left = math.ceil(len(self._recording_ids) / self._num_workers)
        try:
            for batch in self._shards[self._rank].iter_batches(
                batch_size=batch_size,
                batch_format="numpy",
                local_shuffle_buffer_size=max(batch_size, train.shuffle_buffer),
                local_shuffle_seed=int(seeds.generate_state(1)[0]),
            ):
                num_left -= len(batch["place"])
                yield batch["place"], batch["window"]
        except ray.exceptions.RayError as error:
            raise _told(error) from error
        if num_left:
            raise PlatformError(
                f"the stream of epoch {epoch} was divided unequally: worker {self._rank} got"
                f" {-num_left:+d} windows of its share"
            )

    def _shared(self, epoch: int) -> list[Any]:
        """The shards of all workers, made by the first."""
        content = b""
        if self._rank == 0:
            content = ray.cloudpickle.dumps(self._split(epoch))  # type: ignore[no-untyped-call]
        # Of this run's own first worker: no pickle from outside is read.
        shards: list[Any] = ray.cloudpickle.loads(bytes_of_first(content, self._device))
        return shards

    def _split(self, epoch: int) -> list[Any]:
        import ray.data

        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.print_on_execution_start = False
        readings = plan_epoch(
            self._recording_ids,
            run_size=max(1, _RUN_BYTES // self._window_bytes),
            seed=self._recipe.train.seed,
            epoch=epoch,
            num_workers=self._num_workers,
        )
        rows = [
            {"run": json.dumps([(item.recording_id, item.first, item.num) for item in run])}
            for run in readings
        ]
        # Small data too is read by some tasks at once.
        per_task = min(_RUNS_OF_TASK, math.ceil(len(rows) / (2 * self._num_workers)))
        source = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / per_task))
        source.context.target_max_block_size = _BLOCK_BYTES
        reader = WindowReader(
            self._recipe.model_dump_json(), self._dataset.uri, self._dataset.card.content_digest
        )
        windows = source.map_batches(reader, batch_size=None)
        # Ray Data sets its own log levels when a dataset is made, so this comes after.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        return windows.streaming_split(self._num_workers, equal=True)


def _told(error: Exception) -> MotoricError:
    """What ended a stream, in the words of the task that failed."""
    found: BaseException | None = error
    seen: list[BaseException] = []
    while found is not None and found not in seen:
        if isinstance(found, MotoricError):
            return found
        seen.append(found)
        found = found.__cause__ or getattr(found, "cause", None)
    last = (str(seen[-1]).strip().splitlines() or [type(error).__name__])[-1]
    return PlatformError(f"the stream of training windows ended: {last}")
