"""Dynamic batching in one replica.

In: rows of many requests: of each input of the model an array of B examples. Out: to each request,
what the model gives (B, K) for its own rows.

Requests of one moment of the event loop run as one batch, and so do those that arrive while a
batch runs in the worker thread: under load batches grow by themselves, and an idle replica adds no
wait. A small model runs on the loop itself, since handing a batch to a thread and back costs about
as much as the batch; a larger one runs in one thread, so that health checks keep answering and
other requests are read meanwhile. `ServedModel` decides which by measuring.
"""

from __future__ import annotations

import asyncio
import functools
import math
import queue
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DeadlineError

# One array an input of the model, each of shape (B, ...).
Rows = tuple[NDArray[Any], ...]
Outputs = NDArray[np.float32]
Run = Callable[[Rows], Outputs]
_Done = Callable[[Outputs | Exception], None]
_Job = tuple[Rows, asyncio.AbstractEventLoop, _Done]


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

    __slots__ = ("answer", "deadline_s", "done", "num", "rows")

    def __init__(self, rows: Rows, answer: asyncio.Future[Outputs], deadline_s: float) -> None:
        self.rows = rows
        self.num = len(rows[0])
        self.answer = answer
        self.deadline_s = deadline_s
        self.done: list[Outputs] = []  # of a cut request, what has run


class Batcher:
    """Runs what many requests submit in batches; belongs to one event loop.

    Args:
        run: The model; called with 1 to `max_windows` examples.
        max_windows: Most examples of a batch.
        max_wait_ms: How long the first request may wait for others; 0 waits for nothing but a
            running batch.
        inline: Run on the event loop instead of in a thread.

    Attributes:
        max_windows: As given.
        num_batches: Run so far.
        num_windows: Run so far.
    """

    def __init__(
        self, run: Run, *, max_windows: int, max_wait_ms: float = 0.0, inline: bool = True
    ) -> None:
        if max_windows < 1:
            raise ValueError(f"max_windows must be at least 1, not {max_windows}")
        self._run = run
        self.max_windows = max_windows
        self._max_wait_s = max_wait_ms / 1e3
        self._thread: _Thread | None = None if inline else _Thread(run)
        self._waiting: deque[_Waiting] = deque()
        self._num_waiting = 0  # examples
        self._earliest_s = math.inf  # no deadline of what waits is before it
        self._timer: asyncio.Handle | None = None
        self._is_running = False  # in the thread
        self.num_batches = 0
        self.num_windows = 0

    def submit(self, rows: Rows, deadline_s: float = math.inf) -> asyncio.Future[Outputs]:
        """Queue examples; the future gets what the model gives for them, shape (B, K).

        Args:
            rows: Of B examples, at least 1.
            deadline_s: By the clock of the event loop. What has not begun to run by then never
                does, and the future gets a `DeadlineError`.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Outputs] = loop.create_future()
        item = _Waiting(rows, answer, deadline_s)
        self._waiting.append(item)
        self._num_waiting += item.num
        self._earliest_s = min(self._earliest_s, deadline_s)
        if self._is_running:
            return answer  # taken up when the running batch ends
        if self._timer is None:
            if self._max_wait_s > 0 and self._num_waiting < self.max_windows:
                self._timer = loop.call_later(self._max_wait_s, self._start)
            else:
                self._timer = loop.call_soon(self._start)
        elif self._max_wait_s > 0 and self._num_waiting >= self.max_windows:
            self._timer.cancel()
            self._timer = loop.call_soon(self._start)
        return answer

    def _start(self) -> None:
        self._timer = None
        batch = self._take()
        if batch is None:
            return
        taken, rows = batch
        if self._thread is not None:
            self._is_running = True
            loop = asyncio.get_running_loop()
            self._thread.run(rows, loop, functools.partial(self._ran, taken))
            return
        try:
            outputs_BK = self._run(rows)
        except Exception as error:  # noqa: BLE001 - each request of the batch raises it
            _fail(taken, error)
        else:
            self._give(taken, outputs_BK)
        if self._waiting and self._timer is None:
            # One batch at a time, so that other work of the loop gets its turn in between.
            self._timer = asyncio.get_running_loop().call_soon(self._start)

    def _ran(self, taken: list[tuple[_Waiting, int]], outcome: Outputs | Exception) -> None:
        """A batch has run in the thread."""
        self._is_running = False
        if isinstance(outcome, Exception):
            _fail(taken, outcome)
        else:
            # Before the next batch is taken, which may hold the rest of a cut request.
            self._give(taken, outcome)
        self._start()

    def _take(self) -> tuple[list[tuple[_Waiting, int]], Rows] | None:
        """Remove the next batch from the queue; a cut request stays first in it with the rest.

        Requests that were cancelled (the client left), are past their deadline or have failed in
        part are dropped here.
        """
        if self._earliest_s < math.inf:
            self._drop_expired(asyncio.get_running_loop().time())
        while self._waiting and self._waiting[0].answer.done():
            self._num_waiting -= self._waiting.popleft().num
        if not self._waiting:
            return None
        pieces = plan_batch((item.num for item in self._waiting), self.max_windows)
        taken: list[tuple[_Waiting, int]] = []
        parts: list[Rows] = []
        for piece in pieces:
            item, size = self._waiting[0], piece.stop
            if size == item.num:
                self._waiting.popleft()
                parts.append(item.rows)
            else:
                parts.append(tuple(values[:size] for values in item.rows))
                item.rows = tuple(values[size:] for values in item.rows)
            item.num -= size
            taken.append((item, size))
        num = sum(size for _, size in taken)
        self._num_waiting -= num
        self.num_batches += 1
        self.num_windows += num
        if len(parts) == 1:
            return taken, parts[0]
        return taken, tuple(np.concatenate(values) for values in zip(*parts, strict=True))

    def _drop_expired(self, now_s: float) -> None:
        if now_s < self._earliest_s:
            return
        kept: deque[_Waiting] = deque()
        for item in self._waiting:
            if item.answer.done() or now_s < item.deadline_s:
                kept.append(item)
                continue
            self._num_waiting -= item.num
            late_s = now_s - item.deadline_s
            item.answer.set_exception(
                DeadlineError(
                    f"the deadline passed {late_s * 1e3:.0f} ms before the model was free: send"
                    " less at a time, wait longer, or run more replicas"
                )
            )
        self._waiting = kept
        self._earliest_s = min((item.deadline_s for item in kept), default=math.inf)

    def _give(self, taken: list[tuple[_Waiting, int]], outputs_BK: Outputs) -> None:
        start = 0
        for item, size in taken:
            rows_BK = outputs_BK[start : start + size]
            start += size
            if item.done or item.num:
                item.done.append(rows_BK)
                if item.num:
                    continue
                rows_BK = np.concatenate(item.done)
            if not item.answer.done():
                item.answer.set_result(rows_BK)


class _Thread:
    """Runs one batch at a time; lighter than an executor, whose futures cost more than a window.

    It ends with the last reference to it.
    """

    def __init__(self, run: Run) -> None:
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        threading.Thread(target=_work, args=(run, self._jobs), name="batch", daemon=True).start()
        weakref.finalize(self, self._jobs.put, None)

    def run(self, rows: Rows, loop: asyncio.AbstractEventLoop, done: _Done) -> None:
        """Run a batch; `done` gets what it gives, or the error, on the loop."""
        self._jobs.put((rows, loop, done))


def _work(run: Run, jobs: queue.SimpleQueue[_Job | None]) -> None:
    while (job := jobs.get()) is not None:
        rows, loop, done = job
        outcome: Outputs | Exception
        try:
            outcome = run(rows)
        except Exception as error:  # noqa: BLE001 - each request of the batch raises it
            outcome = error
        try:
            loop.call_soon_threadsafe(done, outcome)
        except RuntimeError:  # the loop was closed meanwhile
            return
        # Nothing of a batch is kept while waiting for the next.
        del job, rows, loop, done, outcome


def _fail(taken: list[tuple[_Waiting, int]], error: Exception) -> None:
    for item, _ in taken:
        if not item.answer.done():
            item.answer.set_exception(error)
