"""The files of a request, written to a folder of their own as they come.

In: the body of a request: one file, or a form with a part a file. Out: `SourceFile`s, which are
gone when the `with` ends. Bodies never lie in memory as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from motoric.core.errors import MalformedBodyError, SlowBodyError, TooLargeError
from motoric.serving.asgi import ClientGoneError, Receive, Scope, header
from motoric.serving.files.jobs import SourceFile
from motoric.serving.files.kinds import SENSOR_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from motoric.serving.media_types import FILE_TYPES, bare_type

_BLOCK_BYTES = 2**20
_MAX_HEADERS, _MAX_HEADER_BYTES = 8, 2048
FILE, SENSORS, VIDEO = "file", "sensors", "video"
_PARTS = {
    FILE: (*SENSOR_SUFFIXES, *VIDEO_SUFFIXES),
    SENSORS: SENSOR_SUFFIXES,
    VIDEO: VIDEO_SUFFIXES,
}


class Spool:
    """A folder for the files of one request; used in a `with`.

    Attributes:
        sensors: The sensor file, once there is one.
        video: The video, once there is one.
    """

    def __init__(self) -> None:
        self.sensors: SourceFile | None = None
        self.video: SourceFile | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="motoric-", ignore_cleanup_errors=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    def create(self, suffix: str) -> BinaryIO:
        """Begin a file; nothing of its name comes from the client but its known ending.

        Raises:
            MalformedBodyError: There is one of its kind already.
        """
        is_video = suffix in VIDEO_SUFFIXES
        name = VIDEO if is_video else SENSORS
        if (self.video if is_video else self.sensors) is not None:
            raise MalformedBodyError(
                f"two files are {'videos' if is_video else 'of sensors'}: send one recording a"
                " request"
            )
        path = Path(self._folder.name) / f"{name}{suffix}"
        source = SourceFile(path=str(path), suffix=suffix)
        if is_video:
            self.video = source
        else:
            self.sensors = source
        return path.open("xb")


async def spool_file(
    scope: Scope, receive: Receive, spool: Spool, suffix: str, *, max_bytes: int, max_s: float
) -> None:
    """Write a body that is one file.

    Raises:
        TooLargeError: It is over `max_bytes`; by its Content-Length where it has one, so that
            nothing is read.
        SlowBodyError: It takes longer than `max_s`.
        ClientGoneError: The client left.
    """
    with spool.create(suffix) as target, _in_time(max_s):
        async with asyncio.timeout(max_s):
            async for block in _blocks(scope, receive, max_bytes):
                await asyncio.to_thread(target.write, block)


async def spool_form(
    scope: Scope, receive: Receive, spool: Spool, *, max_bytes: int, max_s: float
) -> None:
    """Write the files of a form: the part `file`, or the parts `sensors` and `video`.

    Raises:
        MalformedBodyError: The form is broken, cut off, or has other parts.
        ContentTypeError: A part is of a kind that nothing reads.
        TooLargeError: As `spool_file`, over all parts; as the following.
    """
    with _Form(header(scope, b"content-type") or b"", spool) as form, _in_time(max_s):
        async with asyncio.timeout(max_s):
            async for block in _blocks(scope, receive, max_bytes):
                await asyncio.to_thread(form.write, block)
        form.finish()


@contextlib.contextmanager
def _in_time(max_s: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise SlowBodyError(
            f"the file did not come to its end within {max_s:g} s: send it faster, or less of it"
        ) from error


async def _blocks(scope: Scope, receive: Receive, max_bytes: int) -> AsyncIterator[bytes]:
    """The body in blocks of a mebibyte."""
    length = header(scope, b"content-length")
    if length is not None and not length.isdigit():
        raise MalformedBodyError("the Content-Length header is not a number")
    if length is not None and int(length) > max_bytes:
        raise _too_large(max_bytes)
    waiting = bytearray()
    num_bytes = 0
    has_more = True
    while has_more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        has_more = message.get("more_body", False)
        num_bytes += len(part)
        if num_bytes > max_bytes:
            raise _too_large(max_bytes)
        waiting += part
        if len(waiting) >= _BLOCK_BYTES or (waiting and not has_more):
            yield bytes(waiting)
            waiting.clear()
    if not num_bytes:
        raise MalformedBodyError("the file is empty (0 bytes)")


def _too_large(max_bytes: int) -> TooLargeError:
    return TooLargeError(
        f"the file is over the limit of {max_bytes / 2**20:g} MiB: send a shorter recording, or"
        " have an operator raise files.max_mib"
    )


class _Form:
    """A multipart/form-data body, part by part (RFC 7578)."""

    def __init__(self, content_type: bytes, spool: Spool) -> None:
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser, parse_options_header

        self._broken = FormParserError
        self._options_of = parse_options_header
        boundary = parse_options_header(content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedBodyError("the Content-Type of a form must name its boundary")
        self._spool = spool
        self._target: BinaryIO | None = None
        self._field = self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._is_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_header_field": self._header_field,
                    "on_header_value": self._header_value,
                    "on_header_end": self._header_end,
                    "on_headers_finished": self._open,
                    "on_part_data": self._data,
                    "on_part_end": self.close,
                    "on_end": self._end,
                },
                max_header_count=_MAX_HEADERS,
                max_header_size=_MAX_HEADER_BYTES,
            )
        except FormParserError as error:
            raise MalformedBodyError(f"the form cannot be read: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, block: bytes) -> None:
        try:
            self._parser.write(block)
        except self._broken as error:
            raise MalformedBodyError(f"the form cannot be read: {error}") from error

    def finish(self) -> None:
        if not self._is_ended:
            raise MalformedBodyError("the form is cut off: its last boundary is missing")
        if self._spool.sensors is None and self._spool.video is None:
            raise MalformedBodyError("the form has no part: send one called 'file'")

    def close(self) -> None:
        if self._target is not None:
            self._target.close()
            self._target = None

    def _begin(self) -> None:
        self._headers = {}

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self._headers[self._field.lower()] = self._value
        self._field = self._value = b""

    def _open(self) -> None:
        said = self._options_of(self._headers.get(b"content-disposition", b""))[1]
        name = said.get(b"name", b"").decode("utf-8", "replace")
        if name not in _PARTS:
            raise MalformedBodyError(
                f"the form has a part {name[:60]!r}: send one called 'file', or two called"
                " 'sensors' and 'video'"
            )
        file_name = said.get(b"filename", b"").decode("utf-8", "replace")
        kind = bare_type(self._headers.get(b"content-type"))
        is_named = bool(file_name) or kind not in FILE_TYPES
        suffix = suffix_of(file_name) if is_named else FILE_TYPES[kind]
        if suffix not in _PARTS[name]:
            raise MalformedBodyError(
                f"the part {name!r} is a {suffix} file: it must end in one of"
                f" {', '.join(_PARTS[name])}"
            )
        self._target = self._spool.create(suffix)

    def _data(self, data: bytes, start: int, end: int) -> None:
        assert self._target is not None, "a part has headers before its data"
        self._target.write(data[start:end])

    def _end(self) -> None:
        self._is_ended = True
