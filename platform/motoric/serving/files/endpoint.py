"""`POST predict` with whole files: an upload or a URI in, a timeline out.

A file goes to a folder of its own, a process cuts it into windows or clips (`reading`), these go
through the batcher chunk by chunk, so that other requests get their turns in between, and what the
model says becomes segments or a series (`answers`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from motoric.core.errors import (
    DeadlineError,
    MalformedBodyError,
    NotAcceptableError,
    PlatformError,
    TooLargeError,
)
from motoric.serving.asgi import Receive, Scope
from motoric.serving.bodies.encoding import choose_type
from motoric.serving.config import Files
from motoric.serving.context import ServingContext
from motoric.serving.files.answers import (
    PredictedRecording,
    joined,
    without_inputs,
    write_answer,
)
from motoric.serving.files.fetching import fetch
from motoric.serving.files.jobs import Chunk, Done, Job, example_bytes
from motoric.serving.files.kinds import suffix_of
from motoric.serving.files.places import allowed_place
from motoric.serving.files.reading import FileReading, Readers
from motoric.serving.files.requests import FileQuery, file_query
from motoric.serving.files.spooling import Spool, spool_file, spool_form
from motoric.serving.media_types import FILE_TYPES, FORM_TYPE, JSON_TYPE, bare_type
from motoric.serving.served import ServedModel

_T = TypeVar("_T")
# A chunk of clips may be as large as this; of windows it is a batch.
_MAX_CHUNK_BYTES = 8 * 2**20
# What a process has spent on its libraries when its job comes.
_LOADING_S = 2.0
# Requests that may hold a file for each that is read.
_MAX_WAITING = 4


def takes(content_type: bytes) -> bool:
    """Whether a body of this type is a whole file, or a form of files."""
    kind = bare_type(content_type)
    return kind in FILE_TYPES or kind == FORM_TYPE


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRequest:
    """A request for a whole file, without its body.

    Attributes:
        scope: Of the request.
        content_type: The header, if there is one.
        accept: The header, if there is one.
        timeout_s: How long the client waits once the file has come, if it says so.
    """

    scope: Scope
    content_type: bytes | None
    accept: bytes | None
    timeout_s: float | None


class FileEndpoint:
    """Answers for whole files; belongs to one event loop.

    Args:
        context: Of the model.
        files: What may be taken on.
    """

    def __init__(self, context: ServingContext, files: Files) -> None:
        self._context = context
        self._files = files
        self._max_bytes = int(files.max_mib * 2**20)
        self._readers = Readers()
        self._slots = asyncio.Semaphore(files.max_at_once)
        self._num_requests = 0
        self._pool: ThreadPoolExecutor | None = None

    async def predict(self, request: FileRequest, receive: Receive) -> bytes:
        """Answer a request whose body is a file or a form of files, from a caller who may ask.

        Args:
            request: Without its body.
            receive: Gives the body.

        Returns:
            JSON.

        Raises:
            MotoricError: As its status says.
        """
        query = _checked(request)
        scope, kind = request.scope, bare_type(request.content_type)
        max_bytes, max_s = self._max_bytes, self._files.max_s
        with self._counted(), Spool() as spool:
            if kind == FORM_TYPE:
                await spool_form(scope, receive, spool, max_bytes=max_bytes, max_s=max_s)
            else:
                suffix = FILE_TYPES[kind]
                await spool_file(scope, receive, spool, suffix, max_bytes=max_bytes, max_s=max_s)
            return await self._answer(spool, query, request.timeout_s)

    async def predict_uris(self, request: FileRequest, uris: tuple[str, ...]) -> bytes:
        """Answer a request that names files by URI; as `predict`."""
        query = _checked(request)
        allowed = [allowed_place(uri, self._files.uri_prefixes) for uri in uris]
        with self._counted(), Spool() as spool:
            for place, prefix in allowed:
                with spool.create(suffix_of(place.uri)) as target:
                    await self._fetched(fetch, place, prefix, target, self._max_bytes)
            return await self._answer(spool, query, request.timeout_s)

    def close(self) -> None:
        """End what waits for files."""
        if self._pool is not None:
            self._pool.shutdown(wait=False)
        self._readers.close()

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        """Refuse more files at once than the disk should hold."""
        if self._num_requests >= _MAX_WAITING * self._files.max_at_once:
            raise PlatformError(
                f"{self._num_requests} files are being read already: try again in a moment"
            )
        self._num_requests += 1
        try:
            yield
        finally:
            self._num_requests -= 1

    async def _fetched(self, *call: Any) -> None:
        # Not in the threads that files are read in: a storage that hangs would hold them.
        try:
            async with asyncio.timeout(self._files.max_s):
                await asyncio.to_thread(*call)
        except TimeoutError as error:
            raise PlatformError(
                f"the storage does not give the file within {self._files.max_s:g} s"
            ) from error

    async def _answer(self, spool: Spool, query: FileQuery, timeout_s: float | None) -> bytes:
        served = self._context.served()
        max_s = self._files.max_s if timeout_s is None else min(timeout_s, self._files.max_s)
        deadline_s = asyncio.get_running_loop().time() + max_s
        async with self._slot(deadline_s):
            left_s = deadline_s - asyncio.get_running_loop().time()
            job = self._job(served, spool, query, left_s)
            reading = await self._in_thread(self._readers.open, job, left_s)
            try:
                found = await self._predicted(served, reading, deadline_s)
            finally:
                # The process is dead, so the thread that reads from it comes back at once.
                reading.close()
                await asyncio.shield(self._in_thread(reading.forget))
                with contextlib.suppress(RuntimeError):  # the server is being stopped
                    self._executor().submit(self._readers.prepare)
        about = {"model": served.model, "version": served.version, "digest": served.digest}

        def write() -> bytes:
            return write_answer(about, served.signature, found, with_windows=query.with_windows)

        return await self._in_thread(write)

    @contextlib.asynccontextmanager
    async def _slot(self, deadline_s: float) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout_at(deadline_s):
                await self._slots.acquire()
        except TimeoutError as error:
            raise DeadlineError(
                "other files were still read at the deadline: try again, or run more replicas"
            ) from error
        try:
            yield
        finally:
            self._slots.release()

    def _job(self, served: ServedModel, spool: Spool, query: FileQuery, left_s: float) -> Job:
        files = self._files
        chunk = max(1, _MAX_CHUNK_BYTES // example_bytes(served.signature))
        return Job(
            signature=served.signature,
            sensors=spool.sensors,
            video=spool.video,
            given=query.given,
            video_offset_s=query.video_offset_s,
            chunk=min(chunk, served.batcher.max_windows),
            max_examples=files.max_windows,
            max_duration_s=files.max_duration_s,
            max_memory_mib=files.max_memory_mib,
            max_cpu_s=left_s + _LOADING_S,
        )

    async def _predicted(
        self, served: ServedModel, reading: FileReading, deadline_s: float
    ) -> PredictedRecording:
        """Run the chunks of a file, reading the next one while one runs."""
        chunks: list[Chunk] = []
        outputs: list[Any] = []
        num = 0
        following: asyncio.Future[Chunk | Done] | None = self._in_thread(reading.next)
        try:
            while True:
                assert following is not None
                chunk, following = await following, None
                if isinstance(chunk, Done):
                    break
                num += len(chunk.start_s_B)
                if num > self._files.max_windows:  # it was told, and is not trusted
                    raise TooLargeError("the file gives too many windows: cut it")
                following = self._in_thread(reading.next)
                outputs.append(await served.batcher.submit(chunk.rows, deadline_s))
                chunks.append(without_inputs(chunk))
        finally:
            if following is not None:
                reading.close()
                with contextlib.suppress(Exception):
                    await following
        if not chunks:
            raise MalformedBodyError("the file gives no window")
        return joined(chunks, outputs, chunk)

    def _in_thread(self, call: Callable[..., _T], *args: Any) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._executor(), call, *args)

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(2 * self._files.max_at_once + 2, "files")
        return self._pool


def _checked(request: FileRequest) -> FileQuery:
    if choose_type(request.accept) != JSON_TYPE:
        raise NotAcceptableError("what is said of a whole file is application/json: accept that")
    return file_query(request.scope["query_string"])
