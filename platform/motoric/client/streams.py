"""Live streams: samples in, predictions out, over as many connections as it takes.

After a dropped connection the stream connects anew, to whatever replica answers, and sends again
what may be needed (`replay.ReplayBuffer`), so that no prediction is missing or doubled. It gives up
where the server says that going on is of no use, or when none was found for `max_offline_s`.

Axes: T samples, C channels.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from motoric.client.exchange import Backoff, error_of, retry_after_s
from motoric.client.replay import ReplayBuffer
from motoric.core.errors import AccessError, InputError, MotoricError, PlatformError
from motoric.serving.streams.closing import RESUMABLE, CloseCode, StreamError
from motoric.serving.streams.messages import End
from motoric.serving.streams.replies import (
    Acknowledged,
    Ended,
    Failure,
    Moved,
    Opened,
    Prediction,
    parse_reply,
)

PROTOCOL = Subprotocol("motoric.stream.v1")
# A connection that is silently gone is noticed within twice this long.
_PING_S = 10.0
_OPEN_TIMEOUT_S = 10.0
_MAX_REPLY_BYTES = 2**20
# A connection that stood this long was a good one, even if nothing was to be predicted.
_GOOD_S = 10.0
_RETRIED = (429, 500, 502, 503, 504)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """One stream.

    Attributes:
        url: Of the endpoint, ws or wss.
        authorization: The header of this name.
        channels: What the columns of the samples are.
        rate_hz: Nominal rate of the samples.
        units: Of the columns; None are the model's own.
        timed: Whether samples come with times.
        max_offline_s: How long no server may be found before the stream gives up.
        backoff: How long to wait between connections.
        max_samples: Most samples that are held because they may be needed again.
        max_predictions: Most predictions that wait to be taken before no more are read.
    """

    url: str
    authorization: str
    channels: tuple[str, ...]
    rate_hz: float
    units: tuple[str, ...] | None = None
    timed: bool = False
    max_offline_s: float = 60.0
    backoff: Backoff = field(default_factory=Backoff)
    max_samples: int = 2**20
    max_predictions: int = 2**16


class _DroppedError(Exception):
    """A connection ended, and another may go on."""

    def __init__(self, reason: str, *, wait_s: float = 0.0, is_idle: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait_s = wait_s
        self.is_idle = is_idle


class AsyncStream:
    """A live stream, in an `async with`; made by `AsyncClient.stream`.

    `send` samples as they come, from one task, and iterate over the predictions from the same or
    another; `end` when there are no more samples, and the iteration ends with the last prediction.

    Args:
        options: What to stream, and where to.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._buffer = ReplayBuffer(
            rate_hz=options.rate_hz,
            channels=options.channels,
            units=options.units,
            timed=options.timed,
            max_samples=options.max_samples,
        )
        self._predictions: deque[Prediction] = deque()
        # Set whenever something has changed that somebody may wait for.
        self._changed = asyncio.Condition()
        self._is_ended = False
        self._is_complete = False
        self._error: BaseException | None = None
        self._runner: asyncio.Task[None] | None = None
        self._offline_since_s: float | None = None
        self._last_failure: Failure | None = None
        self.opened: Opened | None = None
        self.version: int | None = None
        self.num_connections = 0

    async def __aenter__(self) -> Self:
        self._runner = asyncio.create_task(self._run())
        try:
            await self._until(lambda: self.opened is not None)
        except BaseException:
            await self.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Leave; predictions that have not come are lost."""
        if self._runner is not None:
            self._runner.cancel()
            await asyncio.gather(self._runner, return_exceptions=True)

    async def send(self, values: ArrayLike, time_s: ArrayLike | None = None) -> None:
        """Give the next samples; waits where too many were not acknowledged yet.

        Args:
            values: Shape (T, C), or (C,) for one sample; NaN is a missing value.
            time_s: Shape (T,), increasing, if the stream is timed.

        Raises:
            InputError: The shapes do not fit, or the times do not increase.
            MotoricError: The stream is over.
        """
        if self._is_ended:
            raise InputError("the stream was ended: no samples may follow")
        values_TC = np.atleast_2d(np.asarray(values, dtype=np.float32))
        time_s_T = None if time_s is None else np.atleast_1d(np.asarray(time_s, dtype=np.float64))
        first, most = 0, self._options.max_samples
        while True:
            await self._until(lambda: self._buffer.num_held < most)
            stop = first + most - self._buffer.num_held
            times = None if time_s_T is None else time_s_T[first:stop]
            self._buffer.append(values_TC[first:stop], times)
            await self._notify()
            first = stop
            if first >= len(values_TC):
                return

    async def end(self) -> None:
        """There are no more samples; what is left to predict comes."""
        self._is_ended = True
        await self._notify()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Prediction:
        await self._until(lambda: bool(self._predictions) or self._is_complete)
        if not self._predictions:
            raise StopAsyncIteration
        prediction = self._predictions.popleft()
        await self._notify()
        return prediction

    async def received(self, *, wait: bool = False) -> list[Prediction]:
        """The predictions that have come and were not taken yet.

        Args:
            wait: Until there is one, or the stream is complete.

        Raises:
            MotoricError: The stream is over.
        """
        if wait or self._error is not None:
            await self._until(lambda: bool(self._predictions) or self._is_complete)
        taken = list(self._predictions)
        self._predictions.clear()
        if taken:
            await self._notify()
        return taken

    async def _until(self, holds: Any) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: holds() or self._error is not None)
        # What has come is given before what went wrong.
        if not holds() and self._error is not None:
            raise self._error

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    async def _run(self) -> None:
        try:
            await self._connect_until_complete()
            self._is_complete = True
        except (Exception, asyncio.CancelledError) as error:
            cancelled = isinstance(error, asyncio.CancelledError)
            self._error = PlatformError("the stream was closed") if cancelled else error
            if cancelled:
                raise
        finally:
            await self._notify()

    async def _connect_until_complete(self) -> None:
        waits = self._options.backoff.waits()
        while True:
            started_s = time.monotonic()
            try:
                await self._connection()
                return
            except _DroppedError as drop:
                now_s = time.monotonic()
                if now_s - started_s > _GOOD_S or self._offline_since_s is None:
                    self._offline_since_s = now_s
                    waits = self._options.backoff.waits()
                if now_s - self._offline_since_s > self._options.max_offline_s:
                    raise PlatformError(
                        f"no server went on with the stream for {self._options.max_offline_s:g} s:"
                        f" {drop.reason}"
                    ) from drop
                if drop.is_idle and not self._is_ended:
                    await self._until(lambda: self._buffer.num_unsent or self._is_ended)
                await asyncio.sleep(max(drop.wait_s, next(waits)))

    async def _connection(self) -> None:
        """One connection, until the stream is complete.

        Raises:
            _DroppedError: It ended before, and another may go on.
            MotoricError: It ended for good.
        """
        options, self._last_failure = self._options, None
        try:
            connection = await connect(
                options.url,
                additional_headers={"Authorization": options.authorization},
                subprotocols=[PROTOCOL],
                compression=None,
                open_timeout=_OPEN_TIMEOUT_S,
                ping_interval=_PING_S,
                ping_timeout=_PING_S,
                close_timeout=1.0,
                max_size=_MAX_REPLY_BYTES,
                proxy=None,
            )
        except InvalidStatus as error:
            raise self._refused(error) from error
        except (OSError, TimeoutError, InvalidMessage, EOFError) as error:
            raise _DroppedError(f"{options.url} does not answer ({error!r})") from error
        except InvalidHandshake as error:
            raise PlatformError(f"{options.url} is no live stream ({error!r})") from error
        self.num_connections += 1
        sender: asyncio.Task[None] | None = None
        try:
            await connection.send(self._buffer.open_message().encode())
            async for frame in connection:
                reply = parse_reply(frame)
                if isinstance(reply, Opened):
                    self._buffer.opened(reply)
                    self.opened, self.version = reply, reply.version
                    sender = asyncio.create_task(self._send_all(connection))
                    await self._notify()
                elif isinstance(reply, Ended):
                    self._buffer.ended(reply)
                    return
                else:
                    await self._take(reply)
            raise self._over(CloseCode.ABNORMAL, "")  # closed as if all were said
        except ConnectionClosed as closed:
            if sender is not None and sender.done() and sender.exception() is not None:
                raise self._over(CloseCode.ABNORMAL, "") from sender.exception()
            received = closed.rcvd
            code = CloseCode.ABNORMAL if received is None else received.code
            raise self._over(code, "" if received is None else received.reason) from closed
        finally:
            if sender is not None:
                sender.cancel()
                await asyncio.gather(sender, return_exceptions=True)
            await connection.close()

    async def _take(self, reply: Prediction | Acknowledged | Moved | Failure) -> None:
        if isinstance(reply, Failure):
            self._last_failure = reply
            return
        if isinstance(reply, Moved):
            self.version = reply.version
            return
        self._offline_since_s = None
        if isinstance(reply, Acknowledged):
            self._buffer.acknowledged(reply)
        else:
            most = self._options.max_predictions
            if len(self._predictions) >= most:
                await self._until(lambda: len(self._predictions) < most)
            self._buffer.predicted(reply)
            self._predictions.append(reply)
        await self._notify()

    async def _send_all(self, connection: ClientConnection) -> None:
        buffer = self._buffer
        try:
            while True:
                while (chunk := buffer.next_chunk()) is not None:
                    await connection.send(chunk.encode())
                if self._is_ended:
                    await connection.send(End().encode())
                    return
                await self._until(lambda: buffer.num_unsent or self._is_ended)
        except ConnectionClosed:
            return  # the reader sees it too, after what came before

    def _refused(self, error: InvalidStatus) -> Exception:
        """What an answer to the handshake that is no WebSocket means."""
        response = error.response
        failure = error_of(response.status_code, bytes(response.body or b""))
        # While a replica is replaced its path may be nobody's.
        is_known = self.opened is not None and response.status_code == 404
        if response.status_code in _RETRIED or is_known:
            wait_s = retry_after_s(response.headers.get("Retry-After"))
            return _DroppedError(failure.message, wait_s=wait_s)
        return failure

    def _over(self, code: int, reason: str) -> Exception:
        """What the end of a connection means."""
        failure = self._last_failure
        said = failure.detail if failure is not None else reason or f"closed with code {code}"
        if code in RESUMABLE or code in (CloseCode.NORMAL, 1005):
            return _DroppedError(said, is_idle=code == CloseCode.IDLE)
        if code == CloseCode.NO_KEY:
            return AccessError(said)
        try:
            return StreamError(said, CloseCode(code))
        except ValueError:
            return MotoricError(f"the server closed the stream with code {code}: {said}")
