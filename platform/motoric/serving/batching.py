"""Dynamic batching in one replica.

In: windows (B, T, C) of many requests. Out: to each request, the probabilities (B, K) of its own
windows.

Requests of one moment of the event loop run as one batch, and so do those that arrive while a
batch runs in the worker thread: under load batches grow by themselves, and an idle replica adds no
wait. A small model runs on the loop itself, since handing a batch to a thread and back costs about
as much as the batch; a larger one runs in one thread, so that health checks keep answering.
`ServedModel` decides which by measuring.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from motoric.artefact.predictor import Probabilities
from motoric.artefact.preprocessing import Windows

Run = Callable[[Windows], Probabilities]


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Rows `start:stop` of one waiting request."""

    request: int
    start: int
    stop: int


def plan_batch(sizes: Iterable[int], max_windows: int) -> list[Piece]:
    """Decide what the next batch holds.

    Whole requests in their order while they fit; only a request that no batch could hold is cut,
    and only when it is first in line.

    Args:
        sizes: Windows still to run of each waiting request, in order of arrival, each at least 1.
        max_windows: Most windows of a batch.

    Returns:
        The pieces of the batch; at least one where anything waits.
    """
    pieces: list[Piece] = []
    room = max_windows
    for request, size in enumerate(sizes):
        if size > room:
            if not pieces:
                pieces.append(Piece(request=request, start=0, stop=room))
            break
        pieces.append(Piece(request=request, start=0, stop=size))
        room -= size
        if room == 0:
            break
    return pieces


class _Waiting:
    """One request that waits for its rows."""

    __slots__ = ("answer", "done", "windows_BTC")

    def __init__(self, windows_BTC: Windows, answer: asyncio.Future[Probabilities]) -> None:
        self.windows_BTC = windows_BTC
        self.answer = answer
        self.done: list[Probabilities] = []  # rows of a cut request that have run


class Batcher:
    """Runs what many requests submit in batches; belongs to one event loop.

    Args:
        run: The model; called with 1 to `max_windows` windows.
        max_windows: Most windows of a batch.
        max_wait_ms: How long the first request may wait for others; 0 waits for nothing but a
            running batch.
        inline: Run on the event loop instead of in a thread.
    """

    def __init__(
        self, run: Run, *, max_windows: int, max_wait_ms: float = 0.0, inline: bool = True
    ) -> None:
        if max_windows < 1:
            raise ValueError(f"max_windows must be at least 1, not {max_windows}")
        self._run = run
        self._max_windows = max_windows
        self._max_wait_s = max_wait_ms / 1e3
        self._executor: Executor | None = None if inline else ThreadPoolExecutor(1, "batch")
        self._waiting: deque[_Waiting] = deque()
        self._num_waiting = 0  # windows
        self._timer: asyncio.Handle | None = None
        self._running: asyncio.Task[None] | None = None
        self.num_batches = 0
        self.num_windows = 0

    def submit(self, windows_BTC: Windows) -> asyncio.Future[Probabilities]:
        """Queue windows (B, T, C), B at least 1; the future gets their (B, K) probabilities."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Probabilities] = loop.create_future()
        self._waiting.append(_Waiting(windows_BTC, answer))
        self._num_waiting += len(windows_BTC)
        if self._running is not None:
            return answer  # taken up when the running batch ends
        if self._timer is None:
            if self._max_wait_s > 0 and self._num_waiting < self._max_windows:
                self._timer = loop.call_later(self._max_wait_s, self._start)
            else:
                self._timer = loop.call_soon(self._start)
        elif self._max_wait_s > 0 and self._num_waiting >= self._max_windows:
            self._timer.cancel()
            self._timer = loop.call_soon(self._start)
        return answer

    def _start(self) -> None:
        self._timer = None
        if self._executor is not None:
            self._running = asyncio.get_running_loop().create_task(self._run_in_thread())
            return
        self._run_one()
        if self._waiting and self._timer is None:
            # One batch at a time, so that other work of the loop gets its turn in between.
            self._timer = asyncio.get_running_loop().call_soon(self._start)

    def _run_one(self) -> None:
        batch = self._take()
        if batch is None:
            return
        taken, windows_BTC = batch
        try:
            probabilities_BK = self._run(windows_BTC)
        except Exception as error:  # noqa: BLE001 - each request of the batch raises it
            _fail(taken, error)
        else:
            self._give(taken, probabilities_BK)

    async def _run_in_thread(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while (batch := self._take()) is not None:
                taken, windows_BTC = batch
                try:
                    probabilities_BK = await loop.run_in_executor(
                        self._executor, self._run, windows_BTC
                    )
                except Exception as error:  # noqa: BLE001 - each request of the batch raises it
                    _fail(taken, error)
                else:
                    self._give(taken, probabilities_BK)
        finally:
            self._running = None

    def _take(self) -> tuple[list[tuple[_Waiting, int]], Windows] | None:
        """Remove the next batch from the queue; a cut request stays first in it with the rest.

        Requests that were cancelled (the client left) or have failed in part are dropped here.
        """
        while self._waiting and self._waiting[0].answer.done():
            self._num_waiting -= len(self._waiting.popleft().windows_BTC)
        if not self._waiting:
            return None
        sizes = (len(item.windows_BTC) for item in self._waiting)
        pieces = plan_batch(sizes, self._max_windows)
        taken: list[tuple[_Waiting, int]] = []
        parts: list[Windows] = []
        for piece in pieces:
            item = self._waiting[0]
            parts.append(item.windows_BTC[: piece.stop])
            if piece.stop == len(item.windows_BTC):
                self._waiting.popleft()
            item.windows_BTC = item.windows_BTC[piece.stop :]
            taken.append((item, piece.stop))
        windows_BTC = parts[0] if len(parts) == 1 else np.concatenate(parts)
        self._num_waiting -= len(windows_BTC)
        self.num_batches += 1
        self.num_windows += len(windows_BTC)
        return taken, windows_BTC

    def _give(self, taken: list[tuple[_Waiting, int]], probabilities_BK: Probabilities) -> None:
        start = 0
        for item, size in taken:
            rows_BK = probabilities_BK[start : start + size]
            start += size
            if item.done or len(item.windows_BTC):
                item.done.append(rows_BK)
                if len(item.windows_BTC):
                    continue
                rows_BK = np.concatenate(item.done)
            if not item.answer.done():
                item.answer.set_result(rows_BK)


def _fail(taken: list[tuple[_Waiting, int]], error: Exception) -> None:
    for item, _ in taken:
        if not item.answer.done():
            item.answer.set_exception(error)
