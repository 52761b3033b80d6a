"""What stands between the HTTP server of a Serve replica and Serve: a way around, and a brake.

`Shortcut` answers short requests of predict without Serve's own handling of a request, which costs
more than the rest of such a request: two tasks, a request context, log records and a queue that is
hardly ever used. What Serve decides by is kept: the slots of `max_ongoing_requests`, the counts
that autoscaling and draining look at, its metrics, and HAProxy's `X-Request-Id`. A request that is
long or would have to wait goes Serve's way.

`ReadWhenAsked` lets a replica read a live stream only as fast as it can answer. By default Serve
reads ahead of the application, into a queue without a limit, to see when a client leaves: a client
that sends faster than the model answers fills its memory. Sockets see themselves when a client
leaves.

The environment of a head names `middlewares` as `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH`. Both
lean on what Ray 2.60 does inside; where it does otherwise, requests go Serve's way.
"""

from __future__ import annotations

import time
from typing import Any

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_PREDICT = "/predict"
_MAX_SHORT_BYTES = 256 * 2**10
_MAX_DIGITS = len(str(_MAX_SHORT_BYTES))
_NO_READING_AHEAD = (b"x-request-disconnect-disabled", b"?1")
_REQUEST_ID = b"x-request-id"


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
    """Answers short requests of predict by the replica's own application (ASGI)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._direct = _direct(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass one request on."""
        direct = self._direct
        request_id = None if direct is None else direct.admit(scope)
        if direct is None or request_id is None:
            await self._app(scope, receive, send)
        else:
            await direct.answer(scope, receive, send, request_id)


class _Direct:
    """A replica of Serve, as far as it is needed here.

    Args:
        replica: Serve's own object, which lives as long as the process.
    """

    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self._server = replica._user_callable_asgi_app
        self._metrics = replica._metrics_manager
        self._slots = replica._semaphore
        self._prefix: str = replica._route_prefix
        self._path = self._prefix + _PREDICT
        # Made once: nothing in it is of one request.
        self._metadata, self._protocol = _metadata(replica, self._prefix)

    def admit(self, scope: Scope) -> bytes | None:
        """The id of a request that can be answered here and now, empty if it has none."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            return None
        length = request_id = b""
        for key, value in scope["headers"]:
            if key == b"content-length":
                length = value
            elif key == _REQUEST_ID:
                request_id = value
        is_short = (
            len(length) <= _MAX_DIGITS and length.isdigit() and int(length) <= _MAX_SHORT_BYTES
        )
        if (
            not is_short
            or self._slots.locked()
            or not self._replica._can_accept_request(self._metadata)
        ):
            return None
        return request_id

    async def answer(self, scope: Scope, receive: Receive, send: Send, request_id: bytes) -> None:
        """Answer a request, counted as Serve counts."""
        scope["root_path"] = self._prefix
        status = 0

        async def watched(message: Message) -> None:
            nonlocal status
            if not status:
                status = message["status"]
                if request_id:
                    message["headers"] = [*message["headers"], (_REQUEST_ID, request_id)]
            await send(message)

        started_s = time.perf_counter()
        await self._slots.acquire()  # one is free
        self._metrics.inc_num_ongoing_requests(self._metadata)
        self._server.num_short_requests += 1
        try:
            await self._server(scope, receive, watched)
        finally:
            self._metrics.dec_num_ongoing_requests(self._metadata)
            self._slots.release()
        latency_ms = (time.perf_counter() - started_s) * 1e3
        self._metrics.record_request_metrics(
            route=self._prefix, latency_ms=latency_ms, is_error=False
        )
        if status:
            self._metrics.record_ingress_request_metrics(
                protocol=self._protocol,
                method="POST",
                route=self._prefix,
                app_name=self._metadata.app_name,
                deployment_name=self._replica._deployment_id.name,
                latency_ms=latency_ms,
                is_error=status >= 400,
                status_code=str(status),
            )


def _direct(app: Any) -> _Direct | None:
    """The replica behind an application, unless it is another's or Ray does otherwise."""
    for _ in range(8):
        if (replica := getattr(app, "__self__", None)) is not None:
            break
        app = getattr(app, "_app", None) or getattr(app, "app", None)
    else:
        return None
    try:
        # By name: the process of a proxy has no need of what a replica imports.
        if type(replica._user_callable_asgi_app).__name__ != "ModelServer":
            return None
        if replica._user_callable_wrapper._run_user_code_in_separate_thread:
            return None
        return _Direct(replica)
    except (AttributeError, ImportError, TypeError):
        return None


def _metadata(replica: Any, route: str) -> tuple[Any, Any]:
    from ray.serve._private.common import RequestMetadata, RequestProtocol

    metadata = RequestMetadata(
        request_id="",
        internal_request_id="",
        route=route,
        app_name=replica._deployment_id.app_name,
        is_streaming=True,
        _request_protocol=RequestProtocol.HTTP,
        _http_method="POST",
        is_direct_ingress=True,
    )
    return metadata, RequestProtocol.HTTP


def middlewares() -> list[Middleware]:
    """What Serve puts around every replica and proxy; the last one is outermost."""
    return [Middleware(ReadWhenAsked), Middleware(Shortcut)]
