"""What live sessions may take of a replica."""

from __future__ import annotations

from dataclasses import dataclass

from motoric.serving.streams.closing import CloseCode, StreamError


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """What one session may take.

    Attributes:
        max_chunk: Most samples of one chunk.
        max_chunk_s: Most seconds that one chunk may cover, gaps that are not filled left out.
        max_frame_bytes: Longest frame.
        max_waiting: Windows that may wait for the model before reading stops.
        idle_timeout_s: Longest time between two frames of a client.
    """

    max_chunk: int = 4096
    max_chunk_s: float = 60.0
    max_frame_bytes: int = 4 * 2**20
    max_waiting: int = 64
    idle_timeout_s: float = 60.0


class SessionCount:
    """Live sessions of a replica.

    Args:
        max_sessions: Most at a time.
    """

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self.num_sessions = 0

    def enter(self) -> None:
        """Count a new session; `leave` must follow.

        Raises:
            StreamError: There are too many.
        """
        if self.num_sessions >= self._max_sessions:
            raise StreamError(
                f"this replica has {self.num_sessions} live sessions, its limit: connect again"
                " later",
                CloseCode.TOO_MANY,
            )
        self.num_sessions += 1

    def leave(self) -> None:
        """A session is over."""
        assert self.num_sessions > 0, "leave without enter"
        self.num_sessions -= 1
