"""One live connection: moves bytes between a WebSocket, a `Session` and the model's batcher.

Two tasks: one reads, one writes. Windows go into the batcher that requests use too, so that those
of many sessions run as one batch; its answers wake the writer. Reading stops while as many windows
or frames wait as the limits say, so a client that sends faster than the model answers, or does not
read, holds itself up and nobody else.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections import deque
from collections.abc import Callable

import numpy as np

from motoric.core.errors import AccessError, MotoricError, PlatformError
from motoric.serving.asgi import Message, Receive, Send
from motoric.serving.batching import Outputs
from motoric.serving.served import ServedModel
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.limits import StreamLimits
from motoric.serving.streams.replies import failure_frame
from motoric.serving.streams.session import Received, Session, StreamModel

logger = logging.getLogger(__name__)

# How long the last frames of a connection may take.
_CLOSING_S = 5.0
# What Serve may have read ahead: its own proxy, which answers while HAProxy knows no replica, puts
# all that comes into a queue without a limit.
_MAX_AHEAD_BYTES = 16 * 2**20
_AHEAD_PERIOD_S = 0.05


def stream_model(served: ServedModel) -> StreamModel:
    """A loaded version as a session sees it."""
    return StreamModel(
        model=served.model,
        version=served.version,
        digest=served.digest,
        signature=served.signature,
    )


class LiveConnection:
    """One accepted WebSocket.

    Args:
        served: The version that answers now; a session moves on when another one does.
        check_key: Raises what ends the session when its key is no longer valid.
        limits: What it may take.
        receive: ASGI.
        send: ASGI.

    Raises:
        StreamError: The model cannot be asked live.
        PlatformError: No version is loaded.
    """

    def __init__(
        self,
        *,
        served: Callable[[], ServedModel],
        check_key: Callable[[], object],
        limits: StreamLimits,
        receive: Receive,
        send: Send,
    ) -> None:
        self._clock = asyncio.get_running_loop().time
        self._find_served = served
        self._check_key = check_key
        self._limits = limits
        self._receive = receive
        self._send = send
        self._served = served()
        self._session = Session(stream_model(self._served), now_s=self._clock(), limits=limits)
        self._outbox: deque[str] = deque()
        self._ahead: deque[Message] = deque()
        self._num_ahead_bytes = 0
        self._answers: set[asyncio.Future[Outputs]] = set()
        self._failure: tuple[str, CloseCode] | None = None
        self._writer: asyncio.Task[None] | None = None
        self._reader_waits: asyncio.Future[None] | None = None
        self._writer_waits: asyncio.Future[None] | None = None
        self._stuck_since_s: float | None = None
        self._stuck_at: object = None

    async def run(self) -> None:
        """Serve until either side ends it."""
        reader = asyncio.create_task(self._read())
        writer = self._writer = asyncio.create_task(self._write())
        try:
            await asyncio.wait((reader, writer), return_when=asyncio.FIRST_COMPLETED)
            if self._failure is not None:
                await asyncio.wait((writer,))
        finally:
            reader.cancel()
            writer.cancel()
            for answer in tuple(self._answers):
                answer.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)

    def check(self, now_s: float) -> None:
        """What is looked at every second or so: the key, idle time, a client that never reads."""
        try:
            self._check_key()
            if self._is_full or self._session.num_waiting:
                self._session.touch(now_s)
            self._session.check_idle(now_s)
            self._check_stuck(now_s)
            self._check_ahead()
        except AccessError as error:
            self.fail(error, CloseCode.NO_KEY)
        except PlatformError as error:
            self.fail(error, CloseCode.TRY_LATER)
        except MotoricError as error:
            self.fail(error)

    def fail(self, error: Exception, code: CloseCode | None = None) -> None:
        """Say why and close; what was answered is sent before."""
        if self._failure is not None:
            return
        if not isinstance(error, MotoricError):
            logger.error("a live stream failed", exc_info=error)
            error = MotoricError("an unexpected error happened on the server; its log says more")
        self._failure = failure_frame(error, code)
        _wake(self._writer_waits)
        if self._writer is not None:  # it may hang on a client that does not read
            asyncio.get_running_loop().call_later(_CLOSING_S, self._writer.cancel)

    @property
    def _is_full(self) -> bool:
        return self._session.is_full or len(self._outbox) >= self._limits.max_waiting

    def _check_stuck(self, now_s: float) -> None:
        """A frame that the client has not taken for long is not taken any more."""
        first = self._outbox[0] if self._outbox else None
        if first is None or first is not self._stuck_at:
            self._stuck_at, self._stuck_since_s = first, now_s
        elif now_s - (self._stuck_since_s or now_s) > self._limits.idle_timeout_s:
            raise StreamError(
                f"no prediction was taken for {self._limits.idle_timeout_s:g} s: read them, or"
                " resume when you can",
                CloseCode.IDLE,
            )

    def _check_ahead(self) -> None:
        queue = getattr(self._receive, "queue", None)
        if not isinstance(queue, asyncio.Queue):
            return
        while not queue.empty():
            message = queue.get_nowait()
            self._ahead.append(message)
            self._num_ahead_bytes += _num_bytes(message)
        if self._num_ahead_bytes > _MAX_AHEAD_BYTES:
            self._ahead.clear()
            raise StreamError(
                f"over {_MAX_AHEAD_BYTES / 2**20:g} MiB wait to be read: send no faster than"
                " predictions come, and resume",
                CloseCode.TRY_LATER,
            )

    async def _next_message(self) -> Message:
        if not self._ahead:
            return await self._receive()
        message = self._ahead.popleft()
        self._num_ahead_bytes -= _num_bytes(message)
        return message

    async def _read(self) -> None:
        try:
            while True:
                if self._is_full:
                    await self._room()
                message = await self._next_message()
                if message["type"] == "websocket.disconnect":
                    return
                if self._find_served() is not self._served:
                    await self._move()
                self._take(message)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged if unexpected
            self.fail(error)

    def _take(self, message: Message) -> None:
        frame = message.get("bytes")
        if frame is None:
            frame = message["text"]
        received = self._session.receive(frame, self._clock())
        if received.windows:
            self._submit(received)
        if received.frames:
            self._put(received.frames)

    def _submit(self, received: Received) -> None:
        windows = received.windows
        if len(windows) == 1:
            values_BTC = windows[0].values_TC[None]
        else:
            values_BTC = np.stack([window.values_TC for window in windows])
        answer = self._served.batcher.submit((values_BTC,))
        self._answers.add(answer)
        answer.add_done_callback(functools.partial(self._answered, windows[0].number))

    def _answered(self, number: int, answer: asyncio.Future[Outputs]) -> None:
        self._answers.discard(answer)
        if answer.cancelled():
            return
        error = answer.exception()
        if error is not None:
            assert isinstance(error, Exception)
            self.fail(error)
            return
        try:
            for values_K in answer.result():
                self._put(self._session.answered(number, values_K))
                number += 1
        except MotoricError as failure:
            self.fail(failure)

    def _put(self, frames: tuple[str, ...]) -> None:
        self._outbox.extend(frames)
        _wake(self._writer_waits)

    async def _write(self) -> None:
        send, outbox, session = self._send, self._outbox, self._session
        loop = asyncio.get_running_loop()
        try:
            while True:
                while outbox:
                    # It leaves when it was taken, so that `_check_stuck` sees what was not.
                    await send({"type": "websocket.send", "text": outbox[0]})
                    outbox.popleft()
                if self._failure is not None:
                    frame, code = self._failure
                    await send({"type": "websocket.send", "text": frame})
                    await send({"type": "websocket.close", "code": int(code)})
                    return
                if session.is_done:
                    await send({"type": "websocket.close", "code": int(CloseCode.NORMAL)})
                    return
                _wake(self._reader_waits)
                self._writer_waits = loop.create_future()
                await self._writer_waits
        except OSError:  # the client is gone; uvicorn says it so
            return

    async def _room(self) -> None:
        """Wait until little enough waits; time in which the server did not read is not idle."""
        is_read_ahead = isinstance(getattr(self._receive, "queue", None), asyncio.Queue)
        while self._is_full:
            self._reader_waits = asyncio.get_running_loop().create_future()
            if not is_read_ahead:
                await self._reader_waits
                continue
            await asyncio.wait((self._reader_waits,), timeout=_AHEAD_PERIOD_S)
            self._check_ahead()
        self._session.touch(self._clock())

    async def _move(self) -> None:
        while self._session.num_waiting:
            self._reader_waits = asyncio.get_running_loop().create_future()
            await self._reader_waits
        served = self._find_served()
        self._put(self._session.move(stream_model(served)))
        self._served = served


def _num_bytes(message: Message) -> int:
    return len(message.get("bytes") or message.get("text") or b"")


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
