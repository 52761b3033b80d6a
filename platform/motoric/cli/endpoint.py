"""The client of the platform that the settings name."""

from __future__ import annotations

import math

from motoric.client import Backoff, Client
from motoric.cluster.credentials import read_key
from motoric.core.errors import AccessError
from motoric.core.settings import Settings

TIMEOUT_S = 180.0
# Who waits at a terminal is told at once that nothing answers.
ONCE = Backoff(first_s=math.inf, most_s=math.inf, draw=lambda: 1.0)


def open_client(settings: Settings, *, backoff: Backoff = ONCE) -> Client:
    """Open a client; the key is that of the settings, or the user's own for this address.

    Args:
        settings: Where the platform is.
        backoff: How long to wait between tries; by default there is one.

    Raises:
        AccessError: There is no key.
    """
    key = read_key(settings)
    if key is None:
        raise AccessError(
            f"no API key for {settings.base_url}: set MOTORIC_API_KEY, or run `motoric up` here"
        )
    return Client(settings.base_url, key, timeout_s=TIMEOUT_S, backoff=backoff)
