"""Time as a person who watches a run wants it."""

from __future__ import annotations

import time

_TICK_S = 2.0


class Clock:
    """When to tell where a run is, and how long it will still take.

    Args:
        num_epochs: Of the run.
    """

    def __init__(self, num_epochs: int) -> None:
        self._num_epochs = num_epochs
        self.start(0.0)

    def start(self, epochs_done: float) -> None:
        """Training begins here, or goes on."""
        self._first = epochs_done
        self._began_s = self._told_s = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to tell again; asking counts as telling."""
        now_s = time.monotonic()
        if now_s - self._told_s < _TICK_S:
            return False
        self._told_s = now_s
        return True

    def left_s(self, epochs_done: float) -> float | None:
        """Until the last epoch, going by the time that was taken since the start."""
        done = epochs_done - self._first
        if done <= 0:
            return None
        return (time.monotonic() - self._began_s) / done * (self._num_epochs - epochs_done)
