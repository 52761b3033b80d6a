"""How a request is tried: deadlines, retries, and errors as what they are, without a network.

In: a request, and how each try ended. Out: what to do next: send, wait, or give the answer. All
requests of the client are safe to repeat, so one that found no server, or a busy one, is tried
again, later and later with some chance in it (exponential backoff with full jitter, Brooker 2015),
never before the server's Retry-After and never past the deadline.
"""

from __future__ import annotations

import email.utils
import math
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import httpx
import orjson
from pydantic import ValidationError

from motoric.client.requests import Request
from motoric.core.errors import (
    AccessError,
    DeadlineError,
    MotoricError,
    NotFoundError,
    PlatformError,
    UserError,
)
from motoric.core.settings import describe

_RETRIED = (429, 502, 503)
_MAX_SAID = 2000
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between tries.

    Attributes:
        first_s: Most that is waited after the first.
        most_s: Most that is ever waited.
        draw: Random numbers of 0 to 1.
    """

    first_s: float = 0.1
    most_s: float = 5.0
    draw: Callable[[], float] = field(default=random.random)

    def waits(self) -> Iterator[float]:
        """Seconds to wait, one after another."""
        most_s = self.first_s
        while True:
            yield self.draw() * most_s
            most_s = min(2 * most_s, self.most_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send the request now.

    Attributes:
        left_s: Until the deadline.
        headers: All of them.
    """

    left_s: float
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Do nothing for a time."""

    wait_s: float


Step = Send | Wait
Outcome = httpx.Response | httpx.HTTPError | None


def exchange(
    request: Request[Answer],
    *,
    url: str,
    timeout_s: float,
    backoff: Backoff,
    clock: Callable[[], float] = time.monotonic,
) -> Generator[Step, Outcome, Answer]:
    """Steps of one request; send in how each `Send` ended, and None after a `Wait`.

    Args:
        request: What to ask.
        url: Of the platform, to be named where it does not answer.
        timeout_s: How long it may take in all, waits included.
        backoff: How long to wait between tries.
        clock: Seconds that only rise.

    Raises:
        DeadlineError: The time is up.
        PlatformError: No server was found, or all were busy, until the next try would be too late.
        MotoricError: What the server's problem document says.
    """
    if not 0 < timeout_s < math.inf:
        raise UserError(f"timeout_s is {timeout_s!r}: give seconds, above 0")
    deadline_s = clock() + timeout_s
    for pause_s in backoff.waits():
        wait_s, left_s = pause_s, deadline_s - clock()
        if left_s <= 0:
            raise _late(timeout_s)
        headers = {**request.headers, "X-Timeout-Ms": str(max(1, math.ceil(left_s * 1e3)))}
        outcome = yield Send(left_s=left_s, headers=headers)
        if isinstance(outcome, httpx.TimeoutException) and clock() >= deadline_s:
            raise _late(timeout_s) from outcome
        if isinstance(outcome, httpx.Response):
            if outcome.status_code in request.good:
                return _read(request, outcome)
            failure = error_of(outcome.status_code, outcome.content)
            if outcome.status_code not in _RETRIED:
                raise failure
            wait_s = max(wait_s, retry_after_s(outcome.headers.get("Retry-After")))
        else:
            failure = PlatformError(
                f"{url} does not answer ({outcome!r}): is the platform up? is the address right?"
            )
        if clock() + wait_s >= deadline_s:
            raise failure
        yield Wait(wait_s=wait_s)
    raise AssertionError("waits have no end")


def error_of(status: int, content: bytes) -> MotoricError:
    """The error that a problem document stands for, with the server's own words."""
    try:
        problem = orjson.loads(content)
        said = str(problem["detail"])
        kind = str(problem.get("type", "")).rpartition(":")[2]
    except (ValueError, TypeError, KeyError, AttributeError):
        said, kind = content[:_MAX_SAID].decode("utf-8", "replace").strip(), ""
        said = f"the server answered {status}" + (f": {said}" if said else "")
    found = _KINDS.get(kind) or _BY_STATUS.get(status)
    if found is None:
        found = PlatformError if status >= 500 else UserError
    # Some errors take more than a message; they are only shown here.
    error = found.__new__(found)
    MotoricError.__init__(error, said[:_MAX_SAID])
    return error


def retry_after_s(value: str | None) -> float:
    """Seconds to wait, from a Retry-After header (RFC 9110, 10.2.3); 0 without a readable one."""
    if value is None:
        return 0.0
    try:
        return max(0.0, float(value)) if float(value) < math.inf else 0.0
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _read(request: Request[Answer], response: httpx.Response) -> Answer:
    try:
        return request.read(orjson.loads(response.content))
    except ValidationError as error:
        reason = describe(error)
    except (ValueError, KeyError, TypeError, IndexError) as error:
        reason = repr(error)
    raise PlatformError(
        f"the server's answer to {request.method} {request.path} is not understood ({reason}): does"
        " MOTORIC_URL name a Motoric platform of this version?"
    )


def _late(timeout_s: float) -> DeadlineError:
    return DeadlineError(f"no answer came within {timeout_s:.3g} s: allow more time, or send less")


def _all_kinds(base: type[MotoricError]) -> dict[str, type[MotoricError]]:
    found = {base.kind: base}
    for child in base.__subclasses__():
        found.update(_all_kinds(child))
    return found


_KINDS = _all_kinds(MotoricError)
_BY_STATUS: dict[int, type[MotoricError]] = {401: AccessError, 404: NotFoundError}
