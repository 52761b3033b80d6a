"""The heads of requests that a replica has parsed before.

Clients send the same head again and again, but for its Content-Length. A head is kept only where
the way it is cut into lines leaves no doubt: CR LF throughout, one Content-Length, nothing about
the connection or transfer codings.
"""

from __future__ import annotations

from motoric.serving.asgi import Header, Scope
from motoric.serving.ingress.replica import Replica
from motoric.serving.ingress.shortcut import MAX_SHORT_BYTES, is_short
from motoric.serving.predict import PredictHead

_LENGTH = b"\r\ncontent-length: "
_MAX_HEADS = 256
_MAX_HEAD_BYTES = 4096
# Headers with a meaning for the connection, or of one request alone.
_NOT_KEPT = {
    b"connection",
    b"expect",
    b"keep-alive",
    b"transfer-encoding",
    b"upgrade",
    b"x-request-id",
}


class Heads:
    """What the parser made of the heads of short requests of predict, by their bytes.

    Args:
        replica: Whose predict is asked.
    """

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self._known: dict[bytes, PredictHead] = {}
        self._max_body_bytes = min(MAX_SHORT_BYTES, replica.server.max_body_bytes)
        self._defaults: tuple[list[Header], bytes] = ([], b"")

    def find(self, head: bytes) -> tuple[PredictHead, int] | None:
        """What a head without its empty line says, and the length of the body.

        Returns:
            None for a head that was not seen before, and for a body that is not short.
        """
        parts = _without_length(head)
        if parts is None or not is_short(parts[1]):
            return None
        found, length = self._known.get(parts[0]), int(parts[1])
        return None if found is None or length > self._max_body_bytes else (found, length)

    def keep(self, head: bytes, scope: Scope) -> None:
        """Keep what the parser made of a head, if it may be kept."""
        names = [name for name, _ in scope["headers"]]
        first, *others = head.split(b"\r\n")
        parts = _without_length(head)
        unbroken = b"".join((first, *others))
        if (
            parts is None
            or len(head) > _MAX_HEAD_BYTES
            or scope["path"] != self.replica.path
            or first != b"POST %b HTTP/1.1" % _target(scope)
            or len(others) != len(names)
            or b"\n" in unbroken
            or b"\r" in unbroken
            or names.count(b"content-length") != 1
            or not _NOT_KEPT.isdisjoint(names)
        ):
            return
        kept = PredictHead.of(scope)
        if self.replica.server.takes_at_once(kept):
            if len(self._known) >= _MAX_HEADS:
                self._known.clear()
            self._known[parts[0]] = kept

    def defaults(self, headers: list[Header]) -> bytes:
        """The lines of headers that all answers have; they change once a second."""
        known, lines = self._defaults
        if known is not headers:
            lines = b"".join(b"%b: %b\r\n" % header for header in headers)
            self._defaults = (headers, lines)
        return lines


def _without_length(head: bytes) -> tuple[bytes, bytes] | None:
    """A head without the value of its Content-Length, and that value."""
    start = head.find(_LENGTH)
    if start < 0:
        return None
    start += len(_LENGTH)
    stop = head.find(b"\r\n", start)
    if stop < 0:
        return head[:start], head[start:]
    return head[:start] + head[stop:], head[start:stop]


def _target(scope: Scope) -> bytes:
    """What stood in the first line of a request."""
    query: bytes = scope["query_string"]
    path: bytes = scope["raw_path"]
    return path + b"?" + query if query else path
