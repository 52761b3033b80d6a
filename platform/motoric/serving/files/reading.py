"""Files to examples from the replica's side: one process a file, which is ended in time.

Decoders of files that strangers made run outside of the replica: a crash, a leak or an endless loop
ends with the process, which gets neither keys nor credentials in its environment. A process is
started ahead of the next file, since its libraries take a second to load.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import BinaryIO

from pydantic import ValidationError

from motoric.core.errors import (
    ContentTypeError,
    InputError,
    MalformedBodyError,
    MotoricError,
    PlatformError,
    QueryError,
    TooLargeError,
)
from motoric.serving.files.jobs import (
    DONE,
    EXAMPLES,
    FAILURE,
    HEAD,
    MAX_TEXT_BYTES,
    Chunk,
    Done,
    Failure,
    Job,
    example_bytes,
    read_chunk,
)

logger = logging.getLogger(__name__)

_COMMAND = (sys.executable, "-P", "-m", "motoric.serving.files.worker")
# All that the process gets to know of where it runs.
_ENVIRONMENT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Pools that reserve addresses ahead would use up the limit of memory.
    "ARROW_DEFAULT_MEMORY_POOL": "system",
    "MALLOC_ARENA_MAX": "2",
}
_KINDS: dict[str, type[MotoricError]] = {
    kind.kind: kind
    for kind in (ContentTypeError, InputError, MalformedBodyError, QueryError, TooLargeError)
}
_OUT_OF_TIME = (-signal.SIGXCPU, -signal.SIGKILL)


class FileReading:
    """One file that is being read. Blocking: called in a thread, one call at a time.

    Args:
        process: From `start_reader`; it waits for its job.
        job: What to read.
        max_s: The process is ended after it.
    """

    def __init__(self, process: subprocess.Popen[bytes], job: Job, max_s: float) -> None:
        self._process = process
        self._job = job
        self._max_s = max_s
        self._example_bytes = example_bytes(job.signature)
        self._is_late = False
        self._timer = threading.Timer(max_s, self._end_late)
        self._timer.daemon = True
        self._timer.start()
        assert process.stdin is not None
        assert process.stdout is not None
        self._pipe: BinaryIO = process.stdout  # type: ignore[assignment]
        with contextlib.suppress(BrokenPipeError), process.stdin as stdin:
            stdin.write(job.model_dump_json().encode())

    def next(self) -> Chunk | Done:
        """The next examples, or the end.

        Raises:
            MotoricError: The file cannot be read, does not fit the model, or takes too long.
        """
        kind, size = HEAD.unpack(self._take(HEAD.size))
        if kind == EXAMPLES and 0 < size <= self._job.chunk:
            content = self._take(size * self._example_bytes)
            return read_chunk(content, size, self._job.signature)
        if size <= MAX_TEXT_BYTES and kind in (DONE, FAILURE):
            content = self._take(size)
            try:
                if kind == DONE:
                    return Done.model_validate_json(content)
                raise self._error(Failure.model_validate_json(content))
            except ValidationError as error:
                raise PlatformError("the process that reads files said nonsense") from error
        raise PlatformError("the process that reads files said nonsense")

    def close(self) -> None:
        """End the process, whatever it does."""
        self._timer.cancel()
        self._process.kill()

    def forget(self) -> None:
        """Wait for its end; after `close`, and after the last `next` has come back."""
        self._pipe.close()
        self._process.wait()

    def _end_late(self) -> None:
        self._is_late = True
        self._process.kill()

    def _take(self, num_bytes: int) -> bytes:
        content = self._pipe.read(num_bytes)
        if len(content) < num_bytes:
            raise self._ended()
        return content

    def _ended(self) -> MotoricError:
        code = self._process.wait()
        if self._is_late or code in _OUT_OF_TIME:
            return TooLargeError(
                f"reading the file takes more than {self._max_s:g} s: send a shorter one"
            )
        logger.warning("a process that reads files ended with code %d", code)
        return MalformedBodyError(
            f"the file cannot be read: its decoder failed (code {code}); it is broken, or takes"
            " more memory than it may"
        )

    def _error(self, failure: Failure) -> MotoricError:
        if failure.trace:
            logger.warning("a file was not read: %s\n%s", failure.message, failure.trace)
        return _KINDS.get(failure.kind, MalformedBodyError)(failure.message)


class Readers:
    """Starts the processes that read files; keeps one ready between two files."""

    def __init__(self) -> None:
        self._spare: subprocess.Popen[bytes] | None = None
        self._is_closed = False
        self._lock = threading.Lock()

    def open(self, job: Job, max_s: float) -> FileReading:
        """Begin to read (blocking for as long as a process takes to start)."""
        with self._lock:
            process, self._spare, self._is_closed = self._spare, None, False
        if process is None or process.poll() is not None:
            process = _start()
        return FileReading(process, job, max_s)

    def prepare(self) -> None:
        """Have a process ready for the next file."""
        with self._lock:
            if self._spare is None and not self._is_closed:
                self._spare = _start()

    def close(self) -> None:
        """End the process that waits."""
        with self._lock:
            process, self._spare, self._is_closed = self._spare, None, True
        if process is not None:
            process.kill()
            process.communicate()


def _start() -> subprocess.Popen[bytes]:
    environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    places = [place for place in sys.path if Path(place).is_absolute()]
    return subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**environment, **_ONE_THREAD, "PYTHONPATH": os.pathsep.join(places)},
        start_new_session=True,
    )
