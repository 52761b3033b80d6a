"""Training that goes on by an epoch whenever it is asked to, in processes of its own.

So that several can be measured in turn, each warm: a process that is not asked waits for its pipe.
"""

from __future__ import annotations

import datetime
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from motoric.training.recipe import Recipe

_WAIT_S, _END_S = 120.0, 5.0
ALL_CORES = tuple(sorted(os.sched_getaffinity(0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """Of one process.

    Attributes:
        step_s: Mean of its steps.
        whole_s: From being asked to the end of the epoch, by step.
        windows_per_s: By the steps.
        waiting_share: Of the steps' time, for data; 0 of the plain loop, which makes its own.
    """

    step_s: float
    whole_s: float
    windows_per_s: float
    waiting_share: float


class Team:
    """Processes that train one recipe together, or the plain loop.

    Args:
        recipe: The recipe.
        num_clips: Clips to train on, where it takes clips.
        num: Processes: 1, or workers that share their gradients over gloo.
        is_plain: The plain loop instead of Motoric's.
    """

    def __init__(
        self, recipe: Recipe, num_clips: int, *, num: int = 1, is_plain: bool = False
    ) -> None:
        context = get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        self._pipes: list[Connection] = []
        self._processes: list[SpawnProcess] = []
        for rank in range(num):
            ours, theirs = context.Pipe()
            work = (_Work(theirs), recipe, num_clips)
            target: Callable[..., None] = _plain if is_plain else _motoric
            more = () if is_plain else (rank, num, store)
            process = context.Process(target=target, args=(*work, *more), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)

    def ask(self, cores: Sequence[int] = ALL_CORES) -> None:
        """Have it go on by an epoch, on these cores; the first one takes care of itself."""
        for pipe in self._pipes:
            pipe.send(tuple(cores))

    def answer(self) -> list[Epoch]:
        """The epoch, of each process.

        Raises:
            RuntimeError: One ended, or takes too long.
        """
        found = []
        for pipe in self._pipes:
            if not pipe.poll(_WAIT_S):
                raise RuntimeError(f"an epoch took more than {_WAIT_S:g} s")
            try:
                found.append(pipe.recv())
            except EOFError as error:
                raise RuntimeError("a training process ended, see its error above") from error
        return found

    def epoch(self, cores: Sequence[int] = ALL_CORES) -> list[Epoch]:
        """Both."""
        self.ask(cores)
        return self.answer()

    def __enter__(self) -> Self:
        self.answer()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(_END_S)
            if process.is_alive():
                process.kill()
                process.join()
        self._folder.cleanup()


class _EndError(Exception):
    """Nobody asks any more."""


class _Work:
    """A process's end of the pipe.

    Args:
        pipe: To whoever asks.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self.asked_s = 0.0

    def done(self, epoch: Epoch) -> None:
        """Tell an epoch, and wait until the next is wanted."""
        try:
            self._pipe.send(epoch)
            cores = self._pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise _EndError from error
        for task in os.listdir("/proc/self/task"):  # noqa: PTH208 - numbers, not files
            os.sched_setaffinity(int(task), cores)
        self.asked_s = time.perf_counter()


def _motoric(work: _Work, recipe: Recipe, num_clips: int, rank: int, num: int, store: str) -> None:
    import torch
    from torch import distributed
    from trainings.data import examples_of

    from motoric.training.loop import fit
    from motoric.training.progress import EpochReport
    from motoric.training.run import Worker

    torch.set_num_threads(1)
    data = examples_of(recipe, num_clips)
    if num > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=num,
            timeout=datetime.timedelta(seconds=_WAIT_S),
        )
    num_steps = -(-len(data.train) // recipe.train.batch_size)

    def tell(report: EpochReport, _: Any) -> None:
        whole_s = time.perf_counter() - work.asked_s
        work.done(
            Epoch(
                step_s=len(data.train) / report.windows_per_s / num_steps,
                whole_s=whole_s / num_steps,
                windows_per_s=report.windows_per_s,
                waiting_share=report.waiting_share,
            )
        )

    try:
        fit(recipe, data, worker=Worker(rank=rank, world_size=num), on_epoch=tell)
    except _EndError:
        # Of a group that is left in the middle of nothing there is nothing to clean up.
        os._exit(0)


def _plain(work: _Work, recipe: Recipe, num_clips: int) -> None:
    import torch
    from trainings.data import examples_of
    from trainings.plain import epochs

    torch.set_num_threads(1)
    data = examples_of(recipe, num_clips)
    num_steps = -(-len(data.train) // recipe.train.batch_size)
    try:
        for num in epochs(recipe, data):
            whole_s = time.perf_counter() - work.asked_s
            work.done(
                Epoch(
                    step_s=whole_s / num_steps,
                    whole_s=whole_s / num_steps,
                    windows_per_s=num / whole_s,
                    waiting_share=0.0,
                )
            )
    except _EndError:
        return
