"""The text of a CSV file as clean UTF-8 lines, in blocks that Arrow reads one by one.

In: bytes of any encoding, any of the delimiters `,` `;` tab, with comment lines and a last line
that may be cut. Out: the header's names, and blocks of UTF-8 rows.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from typing import BinaryIO

from motoric.core.errors import UnreadableError
from motoric.data.formats.source_file import bom_encoding
from motoric.data.ingest.samples import Notes
from motoric.data.ingest.settings import SensorSettings

_BLOCK_BYTES = 2**20
_FIRST_BYTES = 2**16
_MAX_LINE_BYTES = 4 * 2**20
_DELIMITERS = (",", ";", "\t")
_COMMENT = re.compile(rb"^[ \t]*#[^\n]*\n", re.MULTILINE)
_NUMBER = re.compile(r"[+-]?(\d+[.,]?\d*|[.,]\d+)([eE][+-]?\d+)?")
_SEPARATOR_LINE = re.compile(r"(?i)sep=(.)$")
BLANK = "\0blank "


class CsvLines:
    """The rows of a CSV file after its header.

    Args:
        source: The file.
        settings: May name the encoding and the delimiter.
        notes: What is noticed goes here.

    Attributes:
        delimiter: Between cells.
        header: Names of the columns; those without one begin with `BLANK`.

    Raises:
        UnreadableError: No text, no header, or no rows.
    """

    def __init__(self, source: BinaryIO, settings: SensorSettings, notes: Notes) -> None:
        self._notes = notes
        self._num_columns = 0
        self._lines = self._clean(_utf8_blocks(source, settings.encoding, notes))
        self._ready = next(self._lines, b"")
        first = self._pop_line()
        separator = _SEPARATOR_LINE.match(first)
        if separator is not None:
            first = self._pop_line()
        if not first:
            raise UnreadableError("holds no table: there is no line with names of columns")
        self.delimiter = settings.delimiter or (separator[1] if separator else _sniffed(first))
        names = [name.strip() for name in self._cells(first)]
        if all(_NUMBER.fullmatch(name) for name in names if name) and any(names):
            raise UnreadableError(
                "has no header: its first line is numbers. Put the names of the columns before it"
            )
        second = self._cells(self._peek_line())
        if not any(second):
            raise UnreadableError("has a header but no rows")
        if len(second) > len(names) and not any(second[len(names) :]):
            names += [""] * (len(second) - len(names))
        unnamed = [index for index, name in enumerate(names) if not name]
        if any(index < len(second) and second[index].strip() for index in unnamed):
            notes.add("unnamed_column", "columns without a name were left out", count=len(unnamed))
        self.header = [name or f"{BLANK}{index}" for index, name in enumerate(names)]
        self._num_columns = len(names)

    def blocks(self) -> Iterator[bytes]:
        """The rows after the header, whole lines in blocks of about a mebibyte; a small one first.

        The first block is what tells columns of text from columns of numbers.
        """
        end = self._ready.rfind(b"\n", 0, _FIRST_BYTES) + 1
        for block in (self._ready[:end], self._ready[end:]):
            if block:
                yield block
        yield from self._lines

    def _cells(self, line: str) -> list[str]:
        # `csv` takes a stray carriage return for the end of the row, and fails.
        try:
            return next(csv.reader([line.replace("\r", " ")], delimiter=self.delimiter), [])
        except csv.Error as error:
            raise UnreadableError(f"has a line that is no row of a table: {error}") from error

    def _pop_line(self) -> str:
        """The next line that is not blank, without its end."""
        while self._ready:
            line, _, self._ready = self._ready.partition(b"\n")
            if not self._ready:
                self._ready = next(self._lines, b"")
            text = line.decode("utf-8", errors="replace").strip("\r\n")
            if text.strip():
                return text
        return ""

    def _peek_line(self) -> str:
        for line in self._ready.split(b"\n", 5)[:5]:
            text = line.decode("utf-8", errors="replace").strip("\r\n")
            if text.strip():
                return text
        return ""

    def _clean(self, blocks: Iterator[bytes]) -> Iterator[bytes]:
        """Whole lines without comments; a last line that is cut is left out."""
        rest = b""
        for block in blocks:
            rest += block
            end = rest.rfind(b"\n") + 1
            if not end and len(rest) > _MAX_LINE_BYTES:
                raise UnreadableError(f"has a line of more than {_MAX_LINE_BYTES} bytes: no table")
            lines, rest = rest[:end], rest[end:]
            zero = lines.find(b"\0")
            if zero >= 0:
                rest = lines[:zero]
                lines = rest[: rest.rfind(b"\n") + 1]
                rest = rest[len(lines) :] + b"\0"
            if cleaned := _without_comments(lines):
                yield cleaned
            if zero >= 0:
                break
        if last := _without_comments(self._last_line(rest)):
            yield last

    def _last_line(self, line: bytes) -> bytes:
        text = line.decode("utf-8", errors="replace")
        if not text.strip():
            return b""
        is_cut = "\0" in text or (
            self._num_columns > 0 and len(self._cells(text)) < self._num_columns
        )
        if not is_cut or text.lstrip().startswith("#"):
            return line + b"\n"
        self._notes.add(
            "truncated", "the table breaks off in the middle of its last row", is_repair=True
        )
        return b""


def _without_comments(lines: bytes) -> bytes:
    return _COMMENT.sub(b"", lines) if b"#" in lines else lines


def _sniffed(header: str) -> str:
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    return max(_DELIMITERS, key=outside_quotes.count)


def _utf8_blocks(source: BinaryIO, encoding: str | None, notes: Notes) -> Iterator[bytes]:
    """The file as UTF-8 with line feeds, block by block."""
    block = source.read(_BLOCK_BYTES)
    if encoding is None:
        encoding = bom_encoding(block) or _guessed(block, notes)
    try:
        decoder = codecs.getincrementaldecoder(encoding)(errors="replace")
    except LookupError as error:
        raise UnreadableError(
            f"cannot be decoded: Python knows no encoding {encoding!r}"
            " (sensors.encoding in the ingest settings)"
        ) from error
    is_utf8 = codecs.lookup(encoding).name == "utf-8"
    is_old_mac: bool | None = None
    while block:
        # Text that may be broken UTF-8 in later blocks goes on as it is: only numbers matter.
        made = block if is_utf8 else decoder.decode(block).encode()
        if is_old_mac is None:
            # `\r` alone ends lines of old Mac programs; with `\n` after it Arrow drops it.
            is_old_mac = b"\r" in made and b"\n" not in made
        yield made.replace(b"\r", b"\n") if is_old_mac else made
        block = source.read(_BLOCK_BYTES)
    if not is_utf8 and (rest := decoder.decode(b"", final=True)):
        yield rest.encode()


def _guessed(head: bytes, notes: Notes) -> str:
    # At the start only: a file cut by a power loss often ends in zeros.
    if head[:16].count(0) >= 4:
        raise UnreadableError(
            "is not text (zero bytes): if it is UTF-16 without a byte order mark, set"
            " sensors.encoding to utf-16-le in the ingest settings"
        )
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        notes.add("encoding", "the text is not UTF-8: read as cp1252 (sensors.encoding)")
        return "cp1252"
    return "utf-8"
