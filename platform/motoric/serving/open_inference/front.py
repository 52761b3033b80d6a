"""The Open Inference Protocol at `/v2/...` of the platform: for clients that take no base path.

The platform's application has no model of its own: it answers for the server, and passes what asks
of a model on to the application of that model. It checks the key before it reads a body; the model
checks it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from motoric.core.access import KeyGrant
from motoric.core.errors import MotoricError
from motoric.core.releases import MODEL_NAME
from motoric.serving.asgi import ClientGoneError, Receive, Scope, Send, read_body
from motoric.serving.open_inference.endpoint import (
    OPEN_PATHS,
    HttpCall,
    HttpReply,
    call_of,
    check_method,
    is_protocol_path,
    json_reply,
    ready_reply,
    refusal,
    respond_reply,
)
from motoric.serving.open_inference.metadata import live_document, parse_route, server_metadata

# Passes a call on to the model of that name; None where no application of it runs.
Forward = Callable[[str, HttpCall], Awaitable[HttpReply | None]]
Explain = Callable[[str], MotoricError]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MAX_BODY_S = 30.0


class OpenInferenceFront:
    """Takes the protocol's paths out of an application's requests (ASGI middleware).

    Args:
        app: Gets all other requests.
        check: Gives the grant of an `Authorization` header.
        is_ready: Whether keys can be checked now.
        forward: Passes a call on.
        explain: Why no application of a name runs (blocking).
        max_bytes: Longest body that is passed on.
    """

    def __init__(
        self,
        app: App,
        *,
        check: Callable[[str | None], KeyGrant],
        is_ready: Callable[[], bool],
        forward: Forward,
        explain: Explain,
        max_bytes: int,
    ) -> None:
        self._app = app
        self._check = check
        self._is_ready = is_ready
        self._forward = forward
        self._explain = explain
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http" or not is_protocol_path(scope["path"]):
            await self._app(scope, receive, send)
            return
        call = call_of(scope, scope["path"])
        try:
            reply = await self._answer(call, scope, receive)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - answered, and logged there
            reply = refusal(error, call.path)
        await respond_reply(send, reply)

    async def _answer(self, call: HttpCall, scope: Scope, receive: Receive) -> HttpReply:
        if call.path not in OPEN_PATHS:
            self._check(call.authorization)
        route = parse_route(call.path)
        check_method(route, call)
        if route.kind == "server":
            return json_reply(server_metadata())
        if route.kind == "live":
            return json_reply(live_document())
        if route.kind == "ready":
            return ready_reply(self._is_ready())
        if route.kind == "infer":
            body = await read_body(scope, receive, self._max_bytes, MAX_BODY_S)
            call = replace(call, body=body)
        reply = await self._forward(route.model, call) if is_model_name(route.model) else None
        if reply is None:
            raise await asyncio.to_thread(self._explain, route.model)
        return reply


def is_model_name(name: str) -> bool:
    """Whether an application of a model can have this name."""
    return MODEL_NAME.fullmatch(name) is not None
