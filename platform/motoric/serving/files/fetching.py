"""Allowed places to files of this machine, up to a size.

A local path is opened first and judged by what was opened, so that neither a symbolic link nor a
folder that is swapped meanwhile leads out of the prefix. Blocking: called in a thread.
"""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
from pyarrow import fs as pafs

from motoric.core import storage
from motoric.core.errors import ForbiddenError, NotFoundError, PlatformError, TooLargeError
from motoric.serving.files.places import Place

logger = logging.getLogger(__name__)

_BLOCK_BYTES = 2**20


def fetch(place: Place, prefix: Place, target: BinaryIO, max_bytes: int) -> None:
    """Copy a file.

    Args:
        place: From `allowed_place`.
        prefix: The prefix that allows it.
        target: Where to write.
        max_bytes: Longest file; its size is looked at before it is read.

    Raises:
        NotFoundError: There is no file.
        ForbiddenError: A local path leads out of the prefix.
        TooLargeError: It is over `max_bytes`.
        PlatformError: The storage fails.
    """
    try:
        if place.scheme == "file":
            _fetch_local(place, prefix, target, max_bytes)
        else:
            _fetch_remote(place, target, max_bytes)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"no file lies at {place.uri}") from error
    except PermissionError as error:
        raise ForbiddenError(f"the platform may not read {place.uri}") from error
    except (OSError, pa.ArrowException) as error:
        logger.warning("the storage of %s fails: %s", place.uri, error)
        raise PlatformError(f"the storage of {place.uri} fails now") from error


def _fetch_local(place: Place, prefix: Place, target: BinaryIO, max_bytes: int) -> None:
    # Not blocking, since a pipe would wait for its other end.
    descriptor = os.open(place.uri, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(descriptor)
        real = Path(f"/proc/self/fd/{descriptor}").readlink()
        if not real.is_relative_to(Path(prefix.uri).resolve()):
            raise ForbiddenError(
                f"the URI {place.uri!r} is not allowed: it leads out of {prefix.uri}"
            )
        if not stat.S_ISREG(status.st_mode):
            raise NotFoundError(f"what lies at {place.uri} is no file")
        _check_size(place, status.st_size, max_bytes)
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as source:
            _copy(place, source, target, max_bytes)
    finally:
        os.close(descriptor)


def _fetch_remote(place: Place, target: BinaryIO, max_bytes: int) -> None:
    system, path = storage.filesystem(place.uri)
    info = system.get_file_info(path)
    if info.type != pafs.FileType.File:
        raise NotFoundError(f"no file lies at {place.uri}")
    _check_size(place, info.size or 0, max_bytes)
    with system.open_input_stream(path) as source:
        _copy(place, source, target, max_bytes)


def _copy(place: Place, source: BinaryIO | pa.NativeFile, target: BinaryIO, max_bytes: int) -> None:
    num_bytes = 0
    while block := source.read(_BLOCK_BYTES):
        num_bytes += len(block)
        _check_size(place, num_bytes, max_bytes)  # it may grow while it is read
        target.write(block)


def _check_size(place: Place, num_bytes: int, max_bytes: int) -> None:
    if num_bytes > max_bytes:
        raise TooLargeError(
            f"{place.uri} has {num_bytes / 2**20:.1f} MiB, and a file may have"
            f" {max_bytes / 2**20:g} MiB"
        )
