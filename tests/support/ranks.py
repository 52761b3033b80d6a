"""A few processes of torch.distributed over gloo, without Ray, that a test calls functions in.

    with Ranks(2) as ranks:
        first, second = ranks.call(function, argument)

A function is called in each process at once as `function(rank, num_ranks, *arguments)`; it must
stand in a module that a new process can import, such as one of tests/support. What it returns comes
back in the order of the ranks.
"""

from __future__ import annotations

import datetime
import tempfile
import time
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_START_S, _CALL_S = 60.0, 60.0


class RankError(Exception):
    """A process failed, or did not answer."""


class Ranks:
    """Processes that share one process group; after a failure the next call starts new ones.

    Args:
        num: How many.
    """

    def __init__(self, num: int) -> None:
        self._num = num
        self._start()

    def _start(self) -> None:
        num = self._num
        context = get_context("spawn")
        self._folder = tempfile.TemporaryDirectory()
        store = str(Path(self._folder.name) / "store")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(num):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, num, store, theirs), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        self._answers(_START_S)

    def call(
        self, function: Callable[..., Any], *arguments: Any, timeout_s: float = _CALL_S
    ) -> list[Any]:
        """Call a function in each process.

        Raises:
            RankError: It raised in one, or one did not answer in time; all are ended.
        """
        if not self._processes:
            self._start()
        for pipe in self._pipes:
            pipe.send((function, arguments))
        return self._answers(timeout_s)

    def _answers(self, timeout_s: float) -> list[Any]:
        found: dict[int, Any] = {}
        failures = []
        waiting: dict[Any, int] = {pipe: rank for rank, pipe in enumerate(self._pipes)}
        deadline_s = time.monotonic() + timeout_s
        while waiting:
            # After a failure the others may wait for it in an exchange.
            left_s = min(deadline_s - time.monotonic(), 2.0 if failures else timeout_s)
            ready = wait(list(waiting), max(0.0, left_s))
            if not ready:
                failures += [f"rank {rank} gave no answer" for rank in waiting.values()]
                break
            for pipe in ready:
                rank = waiting.pop(pipe)
                try:
                    is_result, content = pipe.recv()  # type: ignore[union-attr]
                except (EOFError, ConnectionError):
                    failures.append(f"rank {rank} ended")
                    continue
                if is_result:
                    found[rank] = content
                else:
                    failures.append(f"rank {rank}: {content}")
        if failures:
            self.close()
            raise RankError("\n".join(failures))
        return [found[rank] for rank in range(self._num)]

    def close(self) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(2.0)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes = []
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _serve(rank: int, num: int, store: str, pipe: Connection) -> None:
    import torch
    from torch import distributed

    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=num,
        timeout=datetime.timedelta(seconds=_CALL_S),
    )
    pipe.send((True, None))
    while True:
        try:
            function, arguments = pipe.recv()
        except (EOFError, ConnectionError):
            break
        try:
            answer = True, function(rank, num, *arguments)
        except Exception:  # noqa: BLE001 - it is raised again in the test's process
            answer = False, traceback.format_exc()
        pipe.send(answer)
