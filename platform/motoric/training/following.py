"""What workers tell the driver while they train, over a queue that lives beside the driver."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import ray
from ray.util.queue import Empty, Queue
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from motoric.core import errors
from motoric.core.errors import MotoricError, PlatformError
from motoric.training.progress import EpochReport, Tick

_EPOCH, _TICK, _ERROR = "epoch", "tick", "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """Who is told, in the driver's process, by a thread."""

    on_epoch: Callable[[EpochReport], None]
    on_tick: Callable[[Tick], None]


@dataclass(slots=True, kw_only=True)
class Followed:
    """What was heard: the queue for workers, and errors of theirs that people are meant to read."""

    queue: Queue
    errors: list[MotoricError] = field(default_factory=list)


class Teller:
    """A worker's end of the queue.

    Args:
        queue: From the driver.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue

    def epoch(self, report: EpochReport) -> None:
        """An epoch ended."""
        self._queue.put((_EPOCH, asdict(report)))

    def tick(self, tick: Tick) -> None:
        """Training goes on."""
        self._queue.put((_TICK, asdict(tick)))

    def error(self, error: MotoricError) -> None:
        """Training cannot go on."""
        self._queue.put((_ERROR, (type(error).__name__, error.message)))


@contextmanager
def following(listener: Listener) -> Iterator[Followed]:
    """Hand what workers say to a listener, until the block ends and all was heard."""
    # On the driver's node: the loss of another must not take it along.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    queue = Queue(actor_options={"num_cpus": 0, "scheduling_strategy": here})
    followed = Followed(queue=queue)
    done = threading.Event()
    failures: list[Exception] = []

    def watch() -> None:
        try:
            while True:
                try:
                    kind, content = queue.get(timeout=0.2)
                except Empty:
                    if done.is_set():
                        return
                    continue
                _hear(kind, content, listener, followed)
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failures.append(error)

    thread = threading.Thread(target=watch, name="motoric-train-progress", daemon=True)
    thread.start()
    try:
        yield followed
    finally:
        done.set()
        thread.join(timeout=10)
        queue.shutdown(force=True)
    if failures:
        raise failures[0]


def _hear(kind: str, content: Any, listener: Listener, followed: Followed) -> None:
    if kind == _EPOCH:
        listener.on_epoch(EpochReport(**content))
    elif kind == _TICK:
        listener.on_tick(Tick(**content))
    else:
        name, message = content
        followed.errors.append(getattr(errors, name, PlatformError)(message))
