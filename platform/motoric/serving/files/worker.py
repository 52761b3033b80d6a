"""The process that reads one file and ends: `python -m motoric.serving.files.worker`.

In: a `Job` on its input. Out: examples on its output (`jobs`). Once its libraries are loaded it
limits its own memory and time, and can write no file.
"""

from __future__ import annotations

import contextlib
import math
import os
import resource
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from motoric.core.errors import MotoricError, NoSamplesError, TooLargeError, UnreadableError
from motoric.serving.files.cutting import Recording
from motoric.serving.files.jobs import DONE, FAILURE, Failure, Job, write_chunk, write_text
from motoric.serving.files.kinds import EXTRA_MODULES, reader_of

_MAX_OPEN_FILES = 64
_MAX_TRACE = 4000


def main() -> None:
    """Do one job."""
    job = Job.model_validate_json(sys.stdin.buffer.read())
    # What libraries print must not mix with the messages.
    pipe = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with pipe, contextlib.suppress(BrokenPipeError):  # nobody waits for it any more
        try:
            _load(job)
            _limit(job)
            _cut(job, pipe)
        except Exception as error:  # noqa: BLE001 - told to the other end
            write_text(pipe, FAILURE, _failure(job, error))


def _load(job: Job) -> None:
    """Load the libraries that the job needs, before memory is limited."""
    if job.sensors is not None:
        reader_of(job.sensors.suffix)
    if job.video is not None:
        import motoric.serving.files.video_file  # noqa: F401


def _limit(job: Job) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + job.max_memory_mib * 2**20
    seconds = math.ceil(job.max_cpu_s)
    for what, most in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, _MAX_OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _cut(job: Job, pipe: BinaryIO) -> None:
    recording = Recording(job)
    for chunk in recording.chunks():
        write_chunk(pipe, chunk)
    write_text(pipe, DONE, recording.done())


def _failure(job: Job, error: Exception) -> Failure:
    """An error in the words of the endpoint."""
    for cause in _chain(error):
        if isinstance(cause, MemoryError):
            return Failure(
                kind=TooLargeError.kind,
                message=f"reading it takes more than {job.max_memory_mib} MiB of memory: send less"
                " at a time",
            )
        missing = getattr(cause, "name", None) or ""
        if isinstance(cause, ImportError) and missing.partition(".")[0] in EXTRA_MODULES:
            suffixes = ", ".join(item.suffix for item in (job.sensors, job.video) if item)
            return Failure(
                kind="content-type",
                message=f"this replica cannot read {suffixes} files: it lacks the extra `ingest`"
                " (pip install 'motoric[ingest]'); windows and clips are answered all the same",
            )
    if isinstance(error, NoSamplesError):
        return Failure(kind="input", message=f"the file {error.message}")
    if isinstance(error, UnreadableError):
        return Failure(kind="malformed-body", message=f"the file {error.message}")
    if isinstance(error, MotoricError):
        return Failure(kind=error.kind, message=error.message)
    # Parsers fail on broken files in ways of their own.
    return Failure(
        kind="malformed-body",
        message=f"the file cannot be read: {type(error).__name__}: {str(error)[:200]}",
        trace="".join(traceback.format_exception(error))[-_MAX_TRACE:],
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main()
