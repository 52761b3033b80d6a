"""A live stream for programs that do not use asyncio: `AsyncStream` on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Self, TypeVar

from numpy.typing import ArrayLike

from motoric.client.streams import AsyncStream, StreamOptions
from motoric.serving.streams.replies import Prediction

Result = TypeVar("Result")


class Stream:
    """A live stream, in a `with`; made by `Client.stream`.

    It lives on a thread of its own, so predictions come while samples are sent.

    Args:
        options: What to stream, and where to.
    """

    def __init__(self, options: StreamOptions) -> None:
        self._options = options
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._stream: AsyncStream | None = None
        self._taken: deque[Prediction] = deque()

    def __enter__(self) -> Self:
        self._thread.start()
        self._stream = AsyncStream(self._options)
        try:
            self._call(self._stream.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._call(self._opened_stream.close())
        self._stop()

    @property
    def version(self) -> int | None:
        """Of the model, as of the latest prediction that has come."""
        return self._opened_stream.version

    @property
    def num_connections(self) -> int:
        """Connections so far, this one included."""
        return self._opened_stream.num_connections

    def send(self, values: ArrayLike, time_s: ArrayLike | None = None) -> None:
        """Give the next samples; as `AsyncStream.send`."""
        self._call(self._opened_stream.send(values, time_s))

    def end(self) -> None:
        """There are no more samples; what is left to predict comes."""
        self._call(self._opened_stream.end())

    def received(self) -> list[Prediction]:
        """The predictions that have come and were not taken yet, without waiting."""
        taken = [*self._taken, *self._call(self._opened_stream.received())]
        self._taken.clear()
        return taken

    def __iter__(self) -> Iterator[Prediction]:
        return self

    def __next__(self) -> Prediction:
        if not self._taken:
            self._taken.extend(self._call(self._opened_stream.received(wait=True)))
        if not self._taken:
            raise StopIteration
        return self._taken.popleft()

    @property
    def _opened_stream(self) -> AsyncStream:
        if self._stream is None:
            raise ValueError("a stream is used in a `with`")
        return self._stream

    def _call(self, work: Coroutine[Any, Any, Result]) -> Result:
        future: Future[Result] = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
