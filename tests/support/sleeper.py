"""An actor whose work takes as long as it is told."""

from __future__ import annotations

import os
import time

from motoric.core.errors import RecipeError


class Sleeper:
    """Of a crew.

    Args:
        note: Begins what it says is wrong.
    """

    def __init__(self, note: str) -> None:
        self._note = note

    def ready(self) -> None:
        pass

    def work(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def fail(self, message: str) -> None:
        raise RecipeError(f"{self._note}: {message}")
