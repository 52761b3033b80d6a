"""The live endpoint of one model: who may open a stream, and what goes on while streams live.

    WS   stream           a live session; `messages` and `replies` say what is sent
    POST stream/tokens    a short-lived token for a browser, which cannot send an API key

A browser sends its token as a subprotocol, `motoric.token.<token>` beside `motoric.stream.v1`, and
never in the address: proxies and servers write addresses into their logs. What is refused before
the session stands is answered as HTTP, as a problem document.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from motoric.core.access import KeyGrant
from motoric.core.errors import AccessError, InputError, MalformedBodyError, PlatformError
from motoric.core.settings import describe
from motoric.serving.asgi import Receive, Scope, Send, header, read_body, respond
from motoric.serving.context import ServingContext
from motoric.serving.cors import Origins
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.connection import LiveConnection
from motoric.serving.streams.limits import SessionCount, StreamLimits
from motoric.serving.streams.tokens import MAX_LIFETIME_S, key_id_of, tokens_of

PROTOCOL = "motoric.stream.v1"
TOKEN_PREFIX = "motoric.token."
_CHECK_PERIOD_S = 1.0
_DEFAULT_LIFETIME_S = 60.0
_MAX_BODY_BYTES = 1024
_NO_STORE = (b"cache-control", b"no-store")


class TokenRequest(BaseModel):
    """The body of a request for a token; it may be empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lifetime_s: float = Field(default=_DEFAULT_LIFETIME_S, gt=0, le=MAX_LIFETIME_S, strict=True)


class StreamEndpoint:
    """Live sessions of one model on one replica.

    Args:
        context: The model, its keys and its limits.
        origins: Which pages may open a stream.
        wall_clock: Seconds since the epoch.
    """

    def __init__(
        self,
        context: ServingContext,
        origins: Origins,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._context = context
        self._origins = origins
        self._wall_clock = wall_clock
        self._limits = StreamLimits(idle_timeout_s=context.limits.idle_timeout_s)
        self._count = SessionCount(context.limits.max_sessions)
        self._connections: set[LiveConnection] = set()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def num_sessions(self) -> int:
        """Live sessions now."""
        return self._count.num_sessions

    async def connect(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one WebSocket (ASGI).

        Raises:
            MotoricError: It is refused; nothing was sent yet.
        """
        await receive()  # websocket.connect
        self._origins.check_handshake(scope)
        key_id = self._grant(scope).key_id
        try:
            connection = LiveConnection(
                served=self._context.served,
                check_key=lambda: self._context.grant(key_id),
                limits=self._limits,
                receive=receive,
                send=send,
            )
            self._count.enter()
        except StreamError as error:
            is_full = error.code is CloseCode.TOO_MANY
            raise (PlatformError if is_full else InputError)(error.message) from error
        try:
            subprotocol = PROTOCOL if PROTOCOL in scope["subprotocols"] else None
            await send({"type": "websocket.accept", "subprotocol": subprotocol})
            self._connections.add(connection)
            if self._watcher is None:
                self._watcher = asyncio.create_task(self._watch())
            await connection.run()
        finally:
            self._connections.discard(connection)
            self._count.leave()

    async def issue_token(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer `POST stream/tokens`.

        Raises:
            AccessError: The key is missing or wrong.
            MalformedBodyError: The body is not what `TokenRequest` says.
        """
        context = self._context
        grant = context.check_key(scope)
        body = await read_body(scope, receive, _MAX_BODY_BYTES, context.limits.max_body_s)
        try:
            wanted = TokenRequest.model_validate_json(body or b"{}")
        except ValidationError as error:
            raise MalformedBodyError(f"the body is wrong: {describe(error)}") from error
        now_s = self._wall_clock()
        token = tokens_of(grant).issue(
            key_id=grant.key_id, model=context.model, now_s=now_s, lifetime_s=wanted.lifetime_s
        )
        until = datetime.fromtimestamp(int(now_s + wanted.lifetime_s), UTC)
        answer = {
            "token": token,
            "model": context.model,
            "expires_at": until.isoformat(),
            "protocols": [PROTOCOL, TOKEN_PREFIX + token],
        }
        await respond(send, orjson.dumps(answer), status=201, extra=(_NO_STORE,))

    async def close(self) -> None:
        """End all sessions, so that their clients connect elsewhere; returns at once."""
        restart = StreamError("this replica stops: connect again", CloseCode.RESTART)
        for connection in tuple(self._connections):
            connection.fail(restart)
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    def _grant(self, scope: Scope) -> KeyGrant:
        """Whose session it is: by the header, else by a token.

        Raises:
            AccessError: There is neither, or it is wrong.
            PlatformError: Keys cannot be checked now.
        """
        context = self._context
        subprotocols: list[str] = scope["subprotocols"]
        tokens = [item for item in subprotocols if item.startswith(TOKEN_PREFIX)]
        if header(scope, b"authorization") is not None or not tokens:
            return context.check_key(scope)
        if len(tokens) > 1:
            raise AccessError(f"{len(tokens)} stream tokens were sent: send one")
        token = tokens[0].removeprefix(TOKEN_PREFIX)
        grant = context.grant(key_id_of(token))
        tokens_of(grant).verify(token, model=context.model, now_s=self._wall_clock())
        return grant

    async def _watch(self) -> None:
        """Look after the sessions while there are any."""
        loop = asyncio.get_running_loop()
        while self._connections:
            for connection in tuple(self._connections):
                connection.check(loop.time())
            await asyncio.sleep(_CHECK_PERIOD_S)
        self._watcher = None
