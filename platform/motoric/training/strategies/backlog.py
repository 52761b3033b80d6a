"""Which batch a worker may begin, where nobody waits for everybody. Deciding alone, without Ray.

In: who asks, who is done, who is lost. Out: the number of a batch, or nothing for now.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)


class Backlog(Generic[Name]):
    """The batches of one epoch, handed out in order, none begun too far ahead of the slowest.

    Batch `k` may begin once all batches before `k - max_staleness` are done. That is the bounded
    delay of Li et al. 2014 ("Scaling Distributed Machine Learning with the Parameter Server"),
    which is stale synchronous parallel (Ho et al. 2013) with batches handed out in place of fixed
    shares: a fast worker waits for the slowest only where that one still holds an old batch.

    Args:
        num_batches: Of the epoch.
        max_staleness: 0 has the batches worked one after the other.
    """

    def __init__(self, num_batches: int, max_staleness: int) -> None:
        self._num, self._bound = num_batches, max_staleness
        self._next = 0
        self._held: dict[Name, int] = {}
        self._returned: list[int] = []

    @property
    def is_done(self) -> bool:
        """Every batch was worked."""
        return self._oldest == self._num

    @property
    def num_batches(self) -> int:
        """Of the epoch."""
        return self._num

    @property
    def _oldest(self) -> int:
        """The first batch that is not done."""
        return min([self._next, *self._held.values(), *self._returned])

    def take(self, worker: Name) -> int | None:
        """A batch for a worker that holds none; None: not now, or there is none left."""
        assert worker not in self._held
        if self._returned:  # an old one, which others wait for
            batch = self._returned.pop(0)
        elif self._next < self._num and self._next - self._oldest <= self._bound:
            batch = self._next
            self._next += 1
        else:
            return None
        self._held[worker] = batch
        return batch

    def done(self, worker: Name) -> int:
        """A worker's batch is in the parameters; returns its number."""
        return self._held.pop(worker)

    def lost(self, worker: Name) -> None:
        """A worker died: what it held is handed out again."""
        if worker in self._held:
            self._returned.append(self._held.pop(worker))
            self._returned.sort()
