"""Storage URIs: local paths, S3 and GCS through `pyarrow.fs`, one code path.

In: a URI (`/data/x`, `file:///data/x`, `s3://bucket/x`, `gs://bucket/x`). Out: bytes, listings. A
relative URI is relative to the platform's storage URI, never to the working directory: `resolve`
says so once. Writing one object is atomic: on a disk by a rename, on an object store by the put
itself.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import posixpath
import uuid
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa
from pyarrow import fs as pafs

from motoric.core.errors import NotFoundError, SettingsError

_BLOCK_BYTES = 4 * 2**20
_FAILURES = frozenset(
    {
        *(errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.ESTALE),
        *(errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.ETIMEDOUT, errno.ECONNREFUSED),
        *(errno.ECONNRESET, errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EPIPE),
    }
)
# As Arrow's file systems say it; their errors carry no number.
_REMOTE_FAILURES = (
    *("AWS Error NETWORK_CONNECTION", "AWS Error SLOW_DOWN", "AWS Error SERVICE_UNAVAILABLE"),
    *("AWS Error INTERNAL_FAILURE", "AWS Error REQUEST_TIMEOUT", "AWS Error THROTTLING"),
    *("Could not resolve host", "Connection timed out", "google::cloud::Status(UNAVAILABLE"),
)


def is_absolute(uri: str) -> bool:
    """Whether `uri` has a scheme or is an absolute local path."""
    return "://" in uri or uri.startswith(("/", "~"))


def resolve(uri: str, base_uri: str) -> str:
    """Make `uri` absolute: relative ones lie under `base_uri`, the platform's storage.

    Raises:
        SettingsError: A relative URI climbs out of the storage with `..`.
    """
    if is_absolute(uri):
        return uri.rstrip("/")
    if ".." in uri.split("/"):
        raise SettingsError(f"{uri!r} leaves the storage: give an absolute path or URI instead")
    return join(base_uri, uri.rstrip("/"))


def join(uri: str, *parts: str) -> str:
    """Append path parts to a URI."""
    return posixpath.join(uri.rstrip("/"), *parts)


def filesystem(uri: str) -> tuple[pafs.FileSystem, str]:
    """The file system of a URI and the path on it.

    Raises:
        SettingsError: The scheme is unknown.
    """
    if "://" not in uri:
        return pafs.LocalFileSystem(), str(Path(uri).expanduser().absolute())
    try:
        found, path = pafs.FileSystem.from_uri(uri)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SettingsError(
            f"{uri!r} is not a storage URI this platform can open: {error}"
        ) from error
    return found, path


def is_failure(error: OSError) -> bool:
    """Whether the storage or the network failed, which says nothing about a file's content."""
    return error.errno in _FAILURES or any(word in str(error) for word in _REMOTE_FAILURES)


def exists(uri: str) -> bool:
    """Whether an object or a folder lies at `uri`."""
    system, path = filesystem(uri)
    return bool(system.get_file_info(path).type != pafs.FileType.NotFound)


def read_bytes(uri: str) -> bytes:
    """Read one object.

    Raises:
        NotFoundError: There is none.
    """
    system, path = filesystem(uri)
    try:
        with system.open_input_stream(path) as stream:
            return bytes(stream.readall())
    except FileNotFoundError as error:
        raise NotFoundError(f"nothing lies at {uri}") from error


def open_input(uri: str) -> pa.NativeFile:
    """Open one object as a seekable binary file; close it, or use it in a `with`.

    Raises:
        NotFoundError: There is none.
    """
    system, path = filesystem(uri)
    try:
        return system.open_input_file(path)
    except FileNotFoundError as error:
        raise NotFoundError(f"nothing lies at {uri}") from error


def size(uri: str) -> int:
    """Bytes of one object.

    Raises:
        NotFoundError: There is none.
    """
    system, path = filesystem(uri)
    info = system.get_file_info(path)
    if info.type != pafs.FileType.File:
        raise NotFoundError(f"nothing lies at {uri}")
    return int(info.size)


def sha256(uri: str) -> str:
    """SHA-256 of one object, read in blocks.

    Raises:
        NotFoundError: There is none.
    """
    digest = hashlib.sha256()
    with open_input(uri) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def blake2b(uri: str) -> str:
    """BLAKE2b-256 of one object, read in blocks: tells quickly whether its content is the same.

    Raises:
        NotFoundError: There is none.
    """
    digest = hashlib.blake2b(digest_size=32)
    with open_input(uri) as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def copy_from(source_uri: str, uri: str) -> None:
    """Copy one object in blocks; at `uri` stands all of it or nothing.

    Raises:
        NotFoundError: The source does not exist.
    """
    system, path = filesystem(uri)
    with open_input(source_uri) as source:
        if isinstance(system, pafs.LocalFileSystem):
            _write_local(Path(path), iter(lambda: source.read(_BLOCK_BYTES), b""))
            return
        with system.open_output_stream(path) as stream:
            while block := source.read(_BLOCK_BYTES):
                stream.write(block)


def remove(uri: str) -> None:
    """Remove one object; nothing there is fine."""
    system, path = filesystem(uri)
    with contextlib.suppress(FileNotFoundError):
        system.delete_file(path)


def remove_folder(uri: str) -> None:
    """Remove everything below a folder or prefix, and the folder; nothing there is fine."""
    system, path = filesystem(uri)
    if system.get_file_info(path).type == pafs.FileType.Directory:
        system.delete_dir(path)


def write_bytes(uri: str, content: bytes, *, is_private: bool = False) -> None:
    """Write one object atomically: a reader sees the old content or the new, never a part.

    Args:
        uri: Where.
        content: All of it.
        is_private: On a local disk, let only its owner read it; elsewhere who may read the bucket.
    """
    system, path = filesystem(uri)
    if isinstance(system, pafs.LocalFileSystem):
        _write_local(Path(path), [content], mode=0o600 if is_private else 0o666)
        return
    with system.open_output_stream(path) as stream:
        stream.write(content)


def _write_local(path: Path, blocks: Iterable[bytes], mode: int = 0o666) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as stream:
            for block in blocks:
                stream.write(block)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def list_names(uri: str) -> list[str]:
    """Names directly under a folder or prefix, sorted; empty where there is none."""
    system, path = filesystem(uri)
    selector = pafs.FileSelector(path, allow_not_found=True)
    names = (posixpath.basename(info.path) for info in system.get_file_info(selector))
    return sorted(name for name in names if not name.startswith("."))


def fingerprint(uri: str) -> tuple[int, int] | None:
    """Size and modification time (ns) of an object, or None: tells cheaply if it changed."""
    system, path = filesystem(uri)
    info = system.get_file_info(path)
    if info.type != pafs.FileType.File:
        return None
    return int(info.size), int(info.mtime_ns or 0)
