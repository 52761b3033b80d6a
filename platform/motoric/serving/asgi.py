"""The little of HTTP that the endpoints need, on raw ASGI: bodies, responses, problem documents.

A web framework costs more than the model on the predict path; here a request is a few dictionary
look-ups.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from motoric.core.errors import (
    AccessError,
    MalformedBodyError,
    MotoricError,
    PlatformError,
    SlowBodyError,
    TooLargeError,
    UserError,
)
from motoric.serving.media_types import JSON_TYPE, PROBLEM_TYPE

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

RETRY_AFTER_S = 2


class MethodError(UserError):
    """The path exists, but not for this method."""

    status = 405
    title = "Method not allowed"
    kind = "method"

    def __init__(self, method: str, path: str, allowed: str) -> None:
        super().__init__(f"{path} does not take {method}; it takes {allowed}")
        self.allowed = allowed


class ClientGoneError(Exception):
    """The client closed the connection before its body had come; nobody is left to answer."""


def header(scope: Scope, name: bytes) -> bytes | None:
    """The first header called `name` (lower case)."""
    for key, value in scope["headers"]:
        if key == name:
            return bytes(value)
    return None


async def read_body(
    scope: Scope, receive: Receive, max_bytes: int, max_s: float | None = None
) -> bytes:
    """Read a request body.

    Args:
        scope: Of the request.
        receive: Of the request.
        max_bytes: Longest body.
        max_s: Longest time until its last byte; None waits for ever.

    Raises:
        TooLargeError: It is over `max_bytes`; by its Content-Length where it has one, so nothing
            is read.
        MalformedBodyError: The Content-Length is no number.
        SlowBodyError: It takes longer than `max_s`.
        ClientGoneError: The client left.
    """
    if _has_come(receive):  # as nearly all have, and a timer costs more than reading them
        return await _read_body(scope, receive, max_bytes)
    try:
        async with asyncio.timeout(max_s):
            return await _read_body(scope, receive, max_bytes)
    except TimeoutError as error:
        raise slow_body(max_s or 0.0) from error


def _has_come(receive: Receive) -> bool:
    """Whether uvicorn has read the whole body already; False for any other server."""
    return getattr(getattr(receive, "__self__", None), "more_body", True) is False


async def _read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    length = header(scope, b"content-length")
    if length is not None and (not length.isdigit() or int(length) > max_bytes):
        if not length.isdigit():
            raise MalformedBodyError("the Content-Length header is not a number")
        raise too_large(max_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > max_bytes:
            raise too_large(max_bytes)
        return body
    parts = [body]
    num_bytes = len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


def slow_body(max_s: float) -> SlowBodyError:
    """The refusal of a body that takes longer than a limit."""
    return SlowBodyError(
        f"the body did not come to its end within {max_s:g} s: send it faster, or less of it"
    )


def too_large(max_bytes: int) -> TooLargeError:
    """The refusal of a body that is over a limit."""
    return TooLargeError(
        f"the body is over the limit of {max_bytes / 2**20:g} MiB: send fewer windows a request"
    )


async def respond(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    content_type: bytes = JSON_TYPE,
    extra: Iterable[Header] = (),
) -> None:
    """Send a whole response."""
    headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *extra]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def respond_problem(send: Send, error: MotoricError, path: str) -> None:
    """Send an error as an RFC 9457 problem document with the headers its status asks for."""
    body = orjson.dumps(error.problem(path))
    await respond(
        send, body, status=error.status, content_type=PROBLEM_TYPE, extra=error_headers(error)
    )


def error_headers(error: MotoricError) -> list[Header]:
    """The headers that the status of an error asks for."""
    if isinstance(error, AccessError):
        return [(b"www-authenticate", b'Bearer realm="motoric"')]
    if isinstance(error, PlatformError):
        return [(b"retry-after", b"%d" % RETRY_AFTER_S)]
    if isinstance(error, MethodError):
        return [(b"allow", error.allowed.encode())]
    if isinstance(error, (TooLargeError, SlowBodyError)):
        return [(b"connection", b"close")]  # the rest of the body is not worth reading
    return []


async def refuse_websocket(scope: Scope, send: Send, error: MotoricError) -> None:
    """Answer a WebSocket that was not accepted with a problem document (ASGI's extension)."""
    if "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close", "code": 1008})
        return

    async def send_response(message: Message) -> None:
        await send({**message, "type": f"websocket.{message['type']}"})

    await respond_problem(send_response, error, scope["path"])


def internal_error(error: Exception, path: str) -> MotoricError:
    """Log an unexpected exception and return what may be said of it outside."""
    logger.error("%s failed", path, exc_info=error)
    return MotoricError("an unexpected error happened on the server; its log says more")
