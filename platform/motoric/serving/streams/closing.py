"""Why a live session ends: close codes of WebSocket and the errors that carry them.

Codes 4400 to 4499 are for applications (RFC 6455, 7.4.2) and follow the HTTP status of the same
meaning; 1000 to 1015 are the protocol's own.
"""

from __future__ import annotations

import enum

from motoric.core.errors import UserError


class CloseCode(enum.IntEnum):
    """What the last frame of a connection says."""

    NORMAL = 1000
    GOING_AWAY = 1001
    ABNORMAL = 1006
    INTERNAL = 1011
    RESTART = 1012
    TRY_LATER = 1013
    MALFORMED = 4400
    NO_KEY = 4401
    IDLE = 4408
    WRONG_NUMBER = 4409
    CHANGED = 4412
    TOO_LARGE = 4413
    UNFIT = 4422
    TOO_MANY = 4429


# After these a client connects anew, anywhere, and resumes.
RESUMABLE = frozenset(
    {
        CloseCode.GOING_AWAY,
        CloseCode.ABNORMAL,
        CloseCode.INTERNAL,
        CloseCode.RESTART,
        CloseCode.TRY_LATER,
        CloseCode.IDLE,
        CloseCode.TOO_MANY,
    }
)


class StreamError(UserError):
    """A live session cannot go on; it is closed with `code` after a message that says why.

    Args:
        message: What is wrong, where, and how to mend it.
        code: Close code.
    """

    title = "Stream closed"
    kind = "stream"

    def __init__(self, message: str, code: CloseCode = CloseCode.MALFORMED) -> None:
        super().__init__(message)
        self.code = code
