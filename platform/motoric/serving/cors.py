"""Cross-origin requests of browsers (Fetch standard, CORS protocol): none but those allowed.

In: the origins that the settings allow. Out: the answer to a preflight, headers for the others, and
whether a WebSocket, to which browsers do not apply CORS, may be opened. A program that is no
browser sends no Origin and is never asked.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

from motoric.core.errors import UserError
from motoric.serving.asgi import Header, Message, Receive, Scope, Send, header, respond

App = Callable[[Scope, Receive, Send], Awaitable[None]]

ANY = "*"
_ORIGIN = re.compile(r"https?://[a-z0-9.\-\[\]:]+")
_PREFLIGHT_HEADERS = (
    (b"access-control-allow-methods", b"GET, HEAD, POST"),
    (b"access-control-allow-headers", b"Authorization, Content-Type, Accept, X-Timeout-Ms"),
    (b"access-control-max-age", b"600"),
)
_EXPOSED = (b"access-control-expose-headers", b"Retry-After, X-Request-Id")


class OriginError(UserError):
    """A page of another origin asks, and the settings do not allow it."""

    status = 403
    title = "Origin not allowed"
    kind = "origin"


def check_origin_setting(origin: str) -> str:
    """An origin as browsers write it, or `*`.

    Raises:
        ValueError: It is neither.
    """
    if origin != ANY and not _ORIGIN.fullmatch(origin):
        raise ValueError(
            f"{origin!r} is no origin: write it as https://host or https://host:port, in lower"
            " case and without a path"
        )
    return origin


class Origins:
    """The origins that are allowed.

    Args:
        allowed: As browsers write them; `*` is any.
    """

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        self._allowed = frozenset(origin.encode() for origin in allowed)
        self.is_any_allowed = bool(allowed)

    def allows(self, origin: bytes) -> bool:
        """Whether pages of an origin may ask."""
        return origin in self._allowed or ANY.encode() in self._allowed

    def check_handshake(self, scope: Scope) -> None:
        """Check the origin of a WebSocket; pages of this very server may open one.

        Raises:
            OriginError: It is not allowed.
        """
        origin = header(scope, b"origin")
        if origin is None or self.allows(origin):
            return
        host = header(scope, b"host")
        if host is not None and origin.partition(b"://")[2] == host:
            return
        raise OriginError(
            f"pages of {origin[:80].decode('latin-1')!r} may not open a stream here: add it to"
            " cors_origins"
        )

    async def preflight(self, scope: Scope, send: Send) -> bool:
        """Answer a preflight; False if the request is none."""
        origin = header(scope, b"origin")
        wanted = header(scope, b"access-control-request-method")
        if scope["method"] != "OPTIONS" or origin is None or wanted is None:
            return False
        if not self.allows(origin):
            await respond(send, b"", status=403, extra=((b"vary", b"Origin"),))
            return True
        headers = (*_allow(origin), *_PREFLIGHT_HEADERS)
        await respond(send, b"", status=204, extra=headers)
        return True

    def wrap(self, scope: Scope, send: Send) -> Send:
        """A `send` that adds the headers of an allowed origin."""
        origin = header(scope, b"origin")
        if origin is None or not self.allows(origin):
            return send
        added = (*_allow(origin), _EXPOSED)

        async def send_allowed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        return send_allowed


class CorsMiddleware:
    """The same for an application that knows nothing of it (ASGI)."""

    def __init__(self, app: App, origins: Origins) -> None:
        self._app = app
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "http":
            if await self._origins.preflight(scope, send):
                return
            send = self._origins.wrap(scope, send)
        await self._app(scope, receive, send)


def _allow(origin: bytes) -> tuple[Header, Header]:
    return (b"access-control-allow-origin", origin), (b"vary", b"Origin")
