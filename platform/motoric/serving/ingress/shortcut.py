"""A way around Serve for short requests, and a brake for live streams, as ASGI middlewares.

`Shortcut` answers short requests of predict without Serve's own handling of a request, which costs
more than the rest of such a request: two tasks, a request context, log records and a queue that is
hardly ever used. What Serve decides by is kept (`replica`), and HAProxy's `X-Request-Id`. A request
that is long or would have to wait goes Serve's way. `protocol` goes further, for requests whose
head it has seen before.

`ReadWhenAsked` lets a replica read a live stream only as fast as it can answer. By default Serve
reads ahead of the application, into a queue without a limit, to see when a client leaves: a client
that sends faster than the model answers fills its memory. Sockets see themselves when a client
leaves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvicorn.config
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from motoric.serving.ingress.replica import find_replica

MAX_SHORT_BYTES = 256 * 2**10
_MAX_DIGITS = len(str(MAX_SHORT_BYTES))
if TYPE_CHECKING:
    from motoric.serving.ingress.heads import Heads

_NO_READING_AHEAD = (b"x-request-disconnect-disabled", b"?1")
_REQUEST_ID = b"x-request-id"
_PROTOCOL = "motoric.serving.ingress.protocol:PredictProtocol"


class ReadWhenAsked:
    """Marks WebSockets as not to be read ahead (ASGI)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on."""
        if scope["type"] == "websocket":
            # The last one counts, whatever the client sends.
            scope["headers"] = [*scope["headers"], _NO_READING_AHEAD]
        await self._app(scope, receive, send)


class Shortcut:
    """Answers short requests of predict by the replica's own application (ASGI).

    Attributes:
        replica: Of Serve; None where requests go Serve's way.
        heads: That were seen before, for `protocol`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.replica = find_replica(app)
        self.heads: Heads | None = None
        if self.replica is not None:
            # Here, since the process of a proxy has no need of it.
            from motoric.serving.ingress.heads import Heads

            self.heads = Heads(self.replica)
            # Serve's HTTP server takes the default of uvicorn, and has no setting for it.
            uvicorn.config.HTTP_PROTOCOLS["auto"] = _PROTOCOL

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass one request on."""
        replica = self.replica
        request_id = None if replica is None else _short_request_id(scope, replica.path)
        if replica is None or request_id is None or not replica.is_free():
            await self._app(scope, receive, send)
            return
        scope["root_path"] = replica.prefix
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if not status:
                status = message["status"]
                if request_id:
                    message["headers"] = [*message["headers"], (_REQUEST_ID, request_id)]
            await send(message)

        started_s = replica.begin()
        try:
            await replica.server(scope, receive, watched)
        finally:
            replica.end(started_s, status)


def _short_request_id(scope: Scope, path: str) -> bytes | None:
    """The id of a short request of predict, empty if it has none; None for any other request."""
    if scope["type"] != "http" or scope["path"] != path or scope["method"] != "POST":
        return None
    length = request_id = b""
    for key, value in scope["headers"]:
        if key == b"content-length":
            length = value
        elif key == _REQUEST_ID:
            request_id = value
    return request_id if is_short(length) else None


def is_short(length: bytes) -> bool:
    """Whether a Content-Length is one of short requests."""
    return len(length) <= _MAX_DIGITS and length.isdigit() and int(length) <= MAX_SHORT_BYTES
