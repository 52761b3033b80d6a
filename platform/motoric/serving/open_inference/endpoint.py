"""The endpoint of the Open Inference Protocol over HTTP: calls in, replies out.

    GET  v2                         name, version and extensions of the server
    GET  v2/health/live, ready      open
    GET  v2/models/NAME             the tensors that the model takes and gives; `.../ready`
    POST v2/models/NAME/infer       tensors in, tensors out

`/versions/NUMBER` may follow the name. A call comes straight from the client, or through the
platform's application, which has no model of its own; its key is checked here in either case.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from motoric.core.errors import MotoricError, PlatformError
from motoric.serving.asgi import (
    ClientGoneError,
    Header,
    MethodError,
    Receive,
    Scope,
    Send,
    error_headers,
    internal_error,
    read_body,
    too_large,
)
from motoric.serving.context import ServingContext
from motoric.serving.media_types import JSON_TYPE
from motoric.serving.open_inference.compression import decompress, is_compressed
from motoric.serving.open_inference.http import (
    HEADER_LENGTH,
    error_body,
    error_status,
    read_request,
    write_answer,
)
from motoric.serving.open_inference.inference import infer
from motoric.serving.open_inference.metadata import (
    Route,
    check_model,
    live_document,
    model_metadata,
    model_ready_document,
    parse_route,
    ready_document,
    server_metadata,
)

BASE = "/v2"
OPEN_PATHS = ("/v2/health/live", "/v2/health/ready")
# The headers of a request that say something here.
_HEADERS = (b"authorization", b"content-encoding", HEADER_LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A request; `path` from `/v2` on, with its escapes decoded."""

    method: str
    path: str
    headers: dict[bytes, bytes]
    body: bytes = b""

    @property
    def authorization(self) -> str | None:
        """The header that bears the key."""
        value = self.headers.get(b"authorization")
        return None if value is None else value.decode("latin-1")


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpReply:
    """A response."""

    status: int
    headers: tuple[Header, ...]
    body: bytes


class OpenInferenceEndpoint:
    """Answers for one model.

    Args:
        context: Of its replica.
        is_ready: Whether requests can be answered now.
    """

    def __init__(self, context: ServingContext, is_ready: Callable[[], bool]) -> None:
        self._context = context
        self._is_ready = is_ready
        self._max_bytes = int(context.limits.max_body_mib * 2**20)

    async def __call__(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer a request of a client (ASGI); `path` is from `/v2` on."""
        call = call_of(scope, path)
        try:
            route = self._admit(call)
            if route.kind == "infer":
                body = await read_body(
                    scope, receive, self._max_bytes, self._context.limits.max_body_s
                )
                reply = await self._infer(route, call, body)
            else:
                reply = self._describe(route)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - answered, and logged there
            reply = refusal(error, path)
        await respond_reply(send, reply)

    async def answer(self, call: HttpCall) -> HttpReply:
        """Answer a call that came through the platform's application."""
        try:
            route = self._admit(call)
            if route.kind == "infer":
                if len(call.body) > self._max_bytes:
                    raise too_large(self._max_bytes)
                return await self._infer(route, call, call.body)
            return self._describe(route)
        except Exception as error:  # noqa: BLE001 - answered, and logged there
            return refusal(error, call.path)

    def _admit(self, call: HttpCall) -> Route:
        if call.path not in OPEN_PATHS:
            self._context.check(call.authorization)
        route = parse_route(call.path)
        check_method(route, call)
        return route

    def _describe(self, route: Route) -> HttpReply:
        if route.kind == "server":
            return json_reply(server_metadata())
        if route.kind == "live":
            return json_reply(live_document())
        if route.kind == "ready":
            return ready_reply(self._is_ready())
        try:
            spec = self._context.served().spec
        except PlatformError:
            if route.kind == "model_ready":
                return json_reply(model_ready_document(self._context.model, False), 503)
            raise
        check_model(spec, route.model, route.version)
        if route.kind == "model_ready":
            return json_reply(model_ready_document(spec.model, True))
        return json_reply(model_metadata(spec))

    async def _infer(self, route: Route, call: HttpCall, body: bytes) -> HttpReply:
        served = self._context.served()
        check_model(served.spec, route.model, route.version)
        if is_compressed(call.headers.get(b"content-encoding")):
            # Unpacking lets go of the interpreter's lock.
            body = await asyncio.to_thread(decompress, body, self._max_bytes)
        request = read_request(body, call.headers.get(HEADER_LENGTH), served.spec)
        answer = write_answer(await infer(self._context, served, request))
        return HttpReply(status=200, headers=answer.headers, body=answer.body)


def call_of(scope: Scope, path: str, body: bytes = b"") -> HttpCall:
    """The call behind a request; of a header that was sent twice, the first."""
    headers: dict[bytes, bytes] = {}
    for key, value in scope["headers"]:
        if key in _HEADERS:
            headers.setdefault(key, value)
    return HttpCall(method=scope["method"], path=path, headers=headers, body=body)


def is_protocol_path(path: str) -> bool:
    """Whether a path belongs to the protocol."""
    return path == BASE or path.startswith(f"{BASE}/")


def check_method(route: Route, call: HttpCall) -> None:
    """Check that a path takes a method.

    Raises:
        MethodError: It does not.
    """
    allowed = ("POST",) if route.kind == "infer" else ("GET", "HEAD")
    if call.method not in allowed:
        raise MethodError(call.method, call.path, ", ".join(allowed))


def json_reply(document: object, status: int = 200) -> HttpReply:
    """A document as a reply."""
    return HttpReply(
        status=status, headers=((b"content-type", JSON_TYPE),), body=orjson.dumps(document)
    )


def ready_reply(is_ready: bool) -> HttpReply:
    """The reply of `v2/health/ready`."""
    return json_reply(ready_document(is_ready), 200 if is_ready else 503)


def refusal(error: Exception, path: str) -> HttpReply:
    """An error as a reply; one that nobody meant to raise is logged and tells nothing."""
    known = error if isinstance(error, MotoricError) else internal_error(error, path)
    return HttpReply(
        status=error_status(known),
        headers=((b"content-type", JSON_TYPE), *error_headers(known)),
        body=error_body(known),
    )


async def respond_reply(send: Send, reply: HttpReply) -> None:
    """Send a reply (ASGI)."""
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
