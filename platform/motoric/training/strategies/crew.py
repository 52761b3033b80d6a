"""Ray actors that work at their own pace; one that dies is replaced while the others go on.

In: what an actor is made from, and how often the lost are replaced. Out: one `Event` at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from motoric.core.errors import MotoricError, PlatformError

logger = logging.getLogger(__name__)

# Where one actor is beside the others matters less than that all are not lost with one node.
SPREAD = "SPREAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What became of an actor's work.

    Attributes:
        seat: Of the actor, from 0.
        result: What its method returned; None where it has just started, or is lost.
        is_lost: It died; another takes its seat, as long as that is allowed.
    """

    seat: int
    result: Any = None
    is_lost: bool = False


class Crew:
    """Actors of one class, by seat.

    Args:
        kind: Their class, with a method `ready` beside those that are called.
        arguments: What one is made from.
        resources: What each asks for, by Ray's names; memory in bytes.
        num: How many.
        max_replaced: So many of them, in all, are replaced.
    """

    def __init__(
        self,
        kind: type,
        arguments: tuple[Any, ...],
        *,
        resources: Mapping[str, float],
        num: int,
        max_replaced: int,
    ) -> None:
        self._make: Any = ray.remote(kind).options(
            scheduling_strategy=SPREAD, **_options(resources)
        )
        self._arguments = arguments
        self._num, self._left = num, max_replaced
        self._actors: dict[int, Any] = {}
        self._pending: dict[Any, tuple[int, bool]] = {}
        self.idle: list[int] = []
        for seat in range(num):
            self._start(seat)

    @property
    def num_alive(self) -> int:
        """Actors that have started."""
        starting = [seat for seat, is_start in self._pending.values() if is_start]
        return len(self._actors) - len(starting)

    def call(self, seat: int, method: str, *arguments: Any) -> None:
        """Have an idle actor do something; an event follows."""
        self.idle.remove(seat)
        reference = getattr(self._actors[seat], method).remote(*arguments)
        self._pending[reference] = seat, False

    def wait(self, timeout_s: float) -> Event | None:
        """The next event; None where nothing happened in time.

        Raises:
            MotoricError: As an actor raised it.
            PlatformError: An actor failed otherwise, or all are dead.
        """
        ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=timeout_s)
        if not ready:
            return None
        seat, is_start = self._pending.pop(ready[0])
        try:
            result = ray.get(ready[0])
        except RayTaskError as error:  # before RayActorError: its cause may be another's death
            raise _user_error(error) from error
        except RayActorError as error:
            self._replace(seat, error)
            return Event(seat=seat, is_lost=True)
        self.idle.append(seat)
        return Event(seat=seat, result=None if is_start else result)

    def close(self) -> None:
        """End all actors."""
        for actor in self._actors.values():
            ray.kill(actor)
        self._actors.clear()
        self._pending.clear()
        self.idle.clear()

    def _start(self, seat: int) -> None:
        actor = self._make.remote(*self._arguments)
        self._actors[seat] = actor
        self._pending[actor.ready.remote()] = seat, True

    def _replace(self, seat: int, error: RayActorError) -> None:
        ray.kill(self._actors.pop(seat))  # one that cannot be reached may still live
        if self._left > 0:
            self._left -= 1
            logger.warning(
                "worker %d of %d died, another is started: %s", seat, self._num, _first_line(error)
            )
            self._start(seat)
        elif self._actors:
            logger.warning(
                "worker %d of %d died, none is started: %s", seat, self._num, _first_line(error)
            )
        else:
            raise PlatformError(
                f"all {self._num} workers died, the last one with: {_first_line(error)} Go on from"
                " the last checkpoint (`motoric train --resume`), or raise resources.max_restarts"
            ) from error


def _options(resources: Mapping[str, float]) -> dict[str, Any]:
    named = {"CPU": "num_cpus", "GPU": "num_gpus", "memory": "memory"}
    options: dict[str, Any] = {
        named[key]: int(value) if key == "memory" else value
        for key, value in resources.items()
        if key in named
    }
    options["resources"] = {key: value for key, value in resources.items() if key not in named}
    return options


def _user_error(error: RayTaskError) -> MotoricError:
    cause = error.cause
    if isinstance(cause, MotoricError):
        return cause
    if isinstance(cause, RayActorError):
        return server_died(cause)
    return PlatformError(f"training failed: {error}")


class ServerLostError(PlatformError):
    """An actor which holds parameters is gone."""


def server_died(error: RayActorError) -> ServerLostError:
    """What it means that an actor which holds parameters is gone."""
    return ServerLostError(
        "a parameter server died, and with it the parameters since the last epoch:"
        f" {_first_line(error)} Go on from the last checkpoint (`motoric train --resume`)"
    )


def _first_line(error: RayActorError) -> str:
    """Without Ray's account of the process."""
    return str(error).splitlines()[0]
