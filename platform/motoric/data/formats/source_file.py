"""Opening a sensor file, gzipped or not, with a bound on what it may unpack to.

In: a URI. Out: a binary file, and its text where a format needs all of it.
"""

from __future__ import annotations

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, cast

from motoric.core.errors import UnreadableError
from motoric.core.storage import open_input
from motoric.data.ingest.samples import Notes

# A day of a watch at 100 Hz is some 500 MB of CSV; what unpacks to more was made to do harm.
MAX_UNPACKED_BYTES = 2 * 2**30
# Formats that are parsed as one piece. A day of GPX at 1 Hz is some 20 MB.
MAX_WHOLE_BYTES = 256 * 2**20
_BUFFER_BYTES = 2**20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_XML_DECLARATION = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([\w.:-]+)["']""")


class _Unpacked(io.RawIOBase):
    """What a gzip file unpacks to, up to its end or the place where it breaks."""

    def __init__(self, source: BinaryIO, notes: Notes, limit_bytes: int) -> None:
        self._file = gzip.GzipFile(fileobj=source, mode="rb")
        self._notes = notes
        self._limit_bytes = limit_bytes
        self._num_bytes = 0
        self._is_broken = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        if self._is_broken:
            return 0
        try:
            block = self._file.read1(len(buffer))
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            if not self._num_bytes:
                raise UnreadableError(f"is not a sound gzip file: {error}") from error
            self._is_broken = True
            self._notes.add("truncated", f"the gzip file is cut off: {error}", is_repair=True)
            return 0
        self._num_bytes += len(block)
        if self._num_bytes > self._limit_bytes:
            raise UnreadableError(f"unpacks to more than {self._limit_bytes} bytes")
        buffer[: len(block)] = block
        return len(block)


@contextmanager
def open_source(uri: str, notes: Notes) -> Iterator[BinaryIO]:
    """Open a file; one that ends in `.gz` is unpacked as it is read, and cannot be sought in.

    Raises:
        NotFoundError: There is none.
        UnreadableError: It is empty; while it is read, it is no gzip file or unpacks to too much.
    """
    with open_input(uri) as source:
        if source.size() == 0:
            raise UnreadableError("is empty (0 bytes)")
        raw = cast(io.RawIOBase, source)
        if uri.lower().endswith(".gz"):
            packed = io.BufferedReader(raw, _BUFFER_BYTES)
            raw = _Unpacked(cast(BinaryIO, packed), notes, MAX_UNPACKED_BYTES)
        with io.BufferedReader(raw, _BUFFER_BYTES) as buffered:
            yield cast(BinaryIO, buffered)


def read_whole(uri: str, notes: Notes, *, limit_bytes: int = MAX_WHOLE_BYTES) -> bytes:
    """Read a file of a format that is parsed as one piece.

    Raises:
        NotFoundError: There is none.
        UnreadableError: It is empty, larger than the limit, or no gzip file where it says so.
    """
    with open_source(uri, notes) as source:
        content = source.read(limit_bytes + 1)
    if len(content) > limit_bytes:
        raise UnreadableError(f"is larger than {limit_bytes} bytes, the most for its format")
    if not content:
        raise UnreadableError("is empty (0 bytes unpacked)")
    return content


def bom_encoding(head: bytes) -> str | None:
    """The encoding that a byte order mark says, if there is one."""
    return next((name for bom, name in _BOMS if head.startswith(bom)), None)


def decode_xml(content: bytes, notes: Notes) -> str:
    """Text of an XML file without its declaration: by its mark, its declaration, else UTF-8.

    Text that is not what it declares is read as Windows-1252, which is noted.

    Raises:
        UnreadableError: It declares entities, which harmful files do to swell or to read others.
    """
    encoding = bom_encoding(content)
    if encoding is None:
        declared = _XML_DECLARATION.match(content[:400])
        encoding = declared[1].decode("ascii") if declared else "utf-8"
    try:
        text = content.decode(encoding)
    except (UnicodeDecodeError, LookupError) as error:
        notes.add("encoding", f"is not {encoding} ({error}); read as cp1252", is_repair=True)
        text = content.decode("cp1252", errors="replace")
    text = re.sub(r"^\s*<\?xml.*?\?>", "", text, count=1, flags=re.DOTALL)
    refuse_entities(text)
    return text


def refuse_entities(text: str) -> None:
    """Refuse a document type with entities.

    Raises:
        UnreadableError: There is one.
    """
    if "<!ENTITY" in text or re.search(r"<!DOCTYPE[^>\[]*\b(SYSTEM|PUBLIC)\b", text):
        raise UnreadableError("declares XML entities or an outside document type: refused")
