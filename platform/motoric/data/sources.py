"""Sources that `motoric datasets build NAME` knows.

A source lists its recordings, tells the digest of what it reads, and loads recordings by index on
any node.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from motoric.core.errors import NotFoundError
from motoric.data.card import StreamCard
from motoric.data.recording import Recording
from motoric.data.watch_exercises import WatchExercises


class Source(Protocol):
    """Where recordings come from; instances travel to Ray workers, so they hold no open files."""

    name: str
    description: str
    origin: str
    streams: tuple[StreamCard, ...]

    def digests(self) -> dict[str, str]:
        """SHA-256 by name of each source file."""
        ...

    def recording_ids(self) -> list[str]:
        """Ids of all recordings, in a fixed order."""
        ...

    def load(self, indices: Sequence[int]) -> list[Recording]:
        """Load recordings by their index in `recording_ids`."""
        ...


SOURCES: dict[str, Callable[[], Source]] = {WatchExercises.name: WatchExercises}


def make_source(name: str) -> Source:
    """A source by its name.

    Raises:
        NotFoundError: Unknown; the message names the known ones.
    """
    if name not in SOURCES:
        raise NotFoundError(f"no dataset source {name!r} (there are: {', '.join(sorted(SOURCES))})")
    return SOURCES[name]()
