"""The HTTP server of a replica, shorter for requests of predict whose head was seen before.

Clients send the same head again and again, but for its Content-Length. What uvicorn's parser once
made of a head is kept; a request that begins with the same bytes needs no parsing, no task and no
ASGI messages: its body goes to the batcher, and what the model gives is written to the socket. Any
request that is otherwise (a new head, a long body, no free slot, an error) is left to uvicorn, and
by it to `shortcut.Shortcut` and Serve, which answer it as if this were not there.

Which heads are kept: `heads`. Nothing is taken for a head that does not stand where the parser
waits for one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from motoric.core.errors import MotoricError
from motoric.serving.asgi import Header, error_headers, internal_error, slow_body
from motoric.serving.batching import Outputs
from motoric.serving.ingress.heads import Heads
from motoric.serving.ingress.replica import Replica
from motoric.serving.ingress.shortcut import Shortcut
from motoric.serving.media_types import PROBLEM_TYPE
from motoric.serving.predict import PredictHead, Waiting

_END = b"\r\n\r\n"


class PredictProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._heads = _heads_of(self.app)
        self._is_between = True  # the parser waits for a request
        self._head: bytes | None = None  # of the request that the parser is given
        self._body: _Body | None = None  # that has not come to its end
        self._waiting: Waiting | None = None  # for the model
        self._started_s = 0.0
        self._early = b""  # came while the model ran
        self._is_last = False  # the server shuts down
        self._idle_timer: asyncio.TimerHandle | None = None
        self._answered_s = 0.0

    # What uvicorn's parser calls

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_between = False
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Its head has been read."""
        super().on_headers_complete()
        if self._head is not None and self._heads is not None and "path" in self.scope:
            self._heads.keep(self._head, dict(self.scope))
        self._head = None

    def on_message_complete(self) -> None:
        """Its body has been read."""
        self._is_between = True
        super().on_message_complete()

    # What the event loop calls

    def data_received(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._waiting is not None:
            self._early += data
            self.flow.pause_reading()
        elif self._body is not None:
            self._body.parts.append(data)
            self._body.missing -= len(data)
            if self._body.missing <= 0:
                self._take_body()
        elif not self._begin(data):
            super().data_received(data)
            self._head = None

    def connection_lost(self, exc: Exception | None) -> None:
        """The client left."""
        if self._waiting is not None:
            self._waiting.outputs.cancel()
        if self._body is not None:
            self._body.timer.cancel()
            self._body = None
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().connection_lost(exc)

    def handle_websocket_upgrade(self) -> None:
        """The connection becomes a WebSocket, which has times of its own."""
        if self._idle_timer is not None:
            self._idle_timer.cancel()
            self._idle_timer = None
        super().handle_websocket_upgrade()

    def shutdown(self) -> None:
        """The server shuts down: what has begun is answered."""
        if self._waiting is None and self._body is None:
            super().shutdown()
        else:
            self._is_last = True

    # The short way

    def _begin(self, data: bytes) -> bool:
        """Begin a request on the short way; False where it has to be parsed."""
        heads = self._heads
        if (
            heads is None
            or not self._is_between
            or (self.cycle is not None and not self.cycle.response_complete)
            or self.flow.write_paused
            or self.transport.is_closing()
            or (end := data.find(_END)) < 0
        ):
            return False
        head = data[:end]
        found = heads.find(head)
        if found is None:
            self._head = head
            return False
        known, length = found
        missing = length - (len(data) - end - len(_END))
        if missing < 0:  # another request follows
            return False
        if self.timeout_keep_alive_task is not None:
            self._unset_keepalive_if_required()
        if missing:
            timer = self.loop.call_later(heads.replica.server.max_body_s, self._give_up_body)
            self._body = _Body(known, end + len(_END), missing, [data], timer)
            return True
        return self._submit(heads.replica, known, data[end + len(_END) :])

    def _take_body(self) -> None:
        body, heads = self._body, self._heads
        assert body is not None
        assert heads is not None
        self._body = None
        body.timer.cancel()
        data = b"".join(body.parts)
        is_whole = body.missing == 0
        if not is_whole or not self._submit(heads.replica, body.head, data[body.start :]):
            super().data_received(data)
            if self._is_last:
                super().shutdown()

    def _give_up_body(self) -> None:
        assert self._heads is not None
        self._body = None
        self._is_last = True
        self._write_problem(self._heads, slow_body(self._heads.replica.server.max_body_s))

    def _submit(self, replica: Replica, head: PredictHead, body: bytes) -> bool:
        """Queue a request; False where it has to go another way, also to be refused."""
        if not replica.is_free():
            return False
        try:
            waiting = replica.server.submit(head, body)
        except Exception:  # noqa: BLE001 - comes up again where it is answered
            return False
        self._waiting = waiting
        self._started_s = replica.begin()
        replica.server.num_known_requests += 1
        waiting.outputs.add_done_callback(self._answer)
        return True

    def _answer(self, outputs: asyncio.Future[Outputs]) -> None:
        waiting, heads = self._waiting, self._heads
        assert waiting is not None
        assert heads is not None
        self._waiting = None
        status = 0
        if not outputs.cancelled() and not self.transport.is_closing():
            try:
                content = waiting.answer(outputs.result())
                self._write(heads, 200, waiting.answer_type, content)
                status = 200
            except Exception as raised:  # noqa: BLE001 - answered as a problem and logged there
                status = self._write_problem(heads, _as_known(raised, heads.replica.path))
        heads.replica.end(self._started_s, status)
        self.server_state.total_requests += 1
        self._rest()

    def _write_problem(self, heads: Heads, error: MotoricError) -> int:
        content = orjson.dumps(error.problem(heads.replica.path))
        self._write(heads, error.status, PROBLEM_TYPE, content, error_headers(error))
        return error.status

    def _write(
        self,
        heads: Heads,
        status: int,
        content_type: bytes,
        content: bytes,
        extra: Sequence[Header] = (),
    ) -> None:
        lines = b"content-type: %b\r\ncontent-length: %d\r\n" % (content_type, len(content))
        for name, value in extra:
            lines += b"%b: %b\r\n" % (name, value)
        if self._is_last:
            lines += b"connection: close\r\n"
        defaults = heads.defaults(self.server_state.default_headers)
        self.transport.write(b"".join((STATUS_LINE[status], defaults, lines, b"\r\n", content)))
        if self._is_last:
            self.transport.close()

    def _rest(self) -> None:
        """Take up what came meanwhile, or wait for the next request."""
        if self.transport.is_closing():
            return
        if self._early:
            early, self._early = self._early, b""
            self.flow.resume_reading()
            self.data_received(early)
            return
        # One timer for many requests: making and cancelling one each costs more.
        self._answered_s = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._close_idle)

    def _close_idle(self) -> None:
        self._idle_timer = None
        is_busy = self._waiting is not None or self._body is not None or not self._is_between
        if is_busy or self.transport.is_closing():
            return  # what is under way sets a timer when it ends
        if self.cycle is not None and not self.cycle.response_complete:
            return
        if self.timeout_keep_alive_task is not None:
            return  # uvicorn's own is later
        left_s = self._answered_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._idle_timer = self.loop.call_later(left_s, self._close_idle)
        else:
            self.transport.close()


class _Body:
    """A body of which a part is missing: `missing` bytes; the request begins in `parts`."""

    __slots__ = ("head", "missing", "parts", "start", "timer")

    def __init__(
        self,
        head: PredictHead,
        start: int,
        missing: int,
        parts: list[bytes],
        timer: asyncio.TimerHandle,
    ) -> None:
        self.head = head
        self.start = start
        self.missing = missing
        self.parts = parts
        self.timer = timer


def _heads_of(app: Any) -> Heads | None:
    """The heads of the replica behind an application; all its connections share them."""
    for _ in range(8):
        if isinstance(app, Shortcut):
            return app.heads
        app = getattr(app, "app", None) or getattr(app, "_app", None)
    return None


def _as_known(raised: Exception, path: str) -> MotoricError:
    return raised if isinstance(raised, MotoricError) else internal_error(raised, path)
