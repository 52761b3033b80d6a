"""What all endpoints of one model share: who may ask, what answers, and within which limits."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass

from motoric.core.access import KeyGrant
from motoric.core.errors import QueryError
from motoric.serving.asgi import Scope, header
from motoric.serving.config import Limits
from motoric.serving.served import ServedModel

TIMEOUT_HEADER = b"x-timeout-ms"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingContext:
    """One model of a replica, as its endpoints see it.

    Attributes:
        model: Its name.
        storage_uri: Where control documents lie.
        limits: What the replica takes on.
        check: Gives the grant of an `Authorization` header; raises AccessError or PlatformError.
        grant: Gives the grant of a key by its id, as long as it is valid; raises the same.
        served: The version that answers now; raises PlatformError while there is none. A request
            asks once, and stays with what it got.
    """

    model: str
    storage_uri: str
    limits: Limits
    check: Callable[[str | None], KeyGrant]
    grant: Callable[[str], KeyGrant]
    served: Callable[[], ServedModel]

    def check_key(self, scope: Scope) -> KeyGrant:
        """Check the key of a request.

        Raises:
            AccessError: There is none, or it is unknown.
            PlatformError: Keys cannot be checked now.
        """
        value = header(scope, b"authorization")
        return self.check(None if value is None else value.decode("latin-1"))

    def deadline_s(self, wanted_s: float | None = None) -> float:
        """When a request that comes now is no longer worth answering, by the event loop's clock.

        Args:
            wanted_s: How long the client waits, if it says so; never longer than the limit.
        """
        wait_s = self.limits.max_wait_s
        if wanted_s is not None:
            wait_s = min(wait_s, wanted_s)
        return asyncio.get_running_loop().time() + wait_s


def parse_timeout(value: bytes) -> float:
    """Seconds that a client waits, from the header X-Timeout-Ms.

    Raises:
        QueryError: It is no number above 0.
    """
    try:
        timeout_ms = float(value)
    except ValueError:
        timeout_ms = math.nan
    if not 0 < timeout_ms < math.inf:
        raise QueryError(
            f"the header X-Timeout-Ms is {value[:40].decode('latin-1')!r}: send milliseconds, a"
            " number above 0"
        )
    return timeout_ms / 1e3
