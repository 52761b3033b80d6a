"""The little of HTTP that the endpoints need, on raw ASGI: bodies, responses, problem documents.

A web framework costs more than the model on the predict path; here a request is a few dictionary
look-ups.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import orjson

from motoric.core.errors import (
    AccessError,
    MalformedBodyError,
    MotoricError,
    PlatformError,
    TooLargeError,
    UserError,
)

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Header = tuple[bytes, bytes]

JSON_TYPE = b"application/json"
PROBLEM_TYPE = b"application/problem+json"
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


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes:
    """Read a request body.

    Raises:
        TooLargeError: It is over `max_bytes`; by its Content-Length where it has one, so nothing
            is read.
        ClientGoneError: The client left.
    """
    length = header(scope, b"content-length")
    if length is not None and (not length.isdigit() or int(length) > max_bytes):
        if not length.isdigit():
            raise MalformedBodyError("the Content-Length header is not a number")
        raise _too_large(max_bytes)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
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
            raise _too_large(max_bytes)
        parts.append(part)
    return b"".join(parts)


def _too_large(max_bytes: int) -> TooLargeError:
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
    extra: list[Header] = []
    if isinstance(error, AccessError):
        extra.append((b"www-authenticate", b'Bearer realm="motoric"'))
    elif isinstance(error, PlatformError):
        extra.append((b"retry-after", b"%d" % RETRY_AFTER_S))
    elif isinstance(error, MethodError):
        extra.append((b"allow", error.allowed.encode()))
    elif isinstance(error, TooLargeError):
        extra.append((b"connection", b"close"))  # the rest of the body is not worth reading
    body = orjson.dumps(error.problem(path))
    await respond(send, body, status=error.status, content_type=PROBLEM_TYPE, extra=extra)


def internal_error(error: Exception, path: str) -> MotoricError:
    """Log an unexpected exception and return what may be said of it outside."""
    logger.error("%s failed", path, exc_info=error)
    return MotoricError("an unexpected error happened on the server; its log says more")
