"""Metadata of Arrow IPC messages: tables of flatbuffers, without trusting an offset in them."""

from __future__ import annotations

import struct
from typing import Any

from motoric.core.errors import MalformedBodyError

_MAX_ITEMS = 64  # of a list in metadata


class Table:
    """A table of a flatbuffer, of which every offset is checked (flatbuffers.dev, "Internals").

    Fields are called by their numbers in Arrow's Message.fbs and Schema.fbs.
    """

    def __init__(self, data: bytes, place: int) -> None:
        self._data, self._place = data, place
        self._vtable = place - unpacked("<i", data, place)[0]
        self._size = unpacked("<H", data, self._vtable)[0]

    def _field(self, number: int) -> int | None:
        at = 4 + 2 * number
        offset = unpacked("<H", self._data, self._vtable + at)[0] if at < self._size else 0
        return self._place + offset if offset else None

    def number(self, number: int, code: str) -> int:
        """A number, 0 where it is not set."""
        place = self._field(number)
        return 0 if place is None else int(unpacked(code, self._data, place)[0])

    def _target(self, place: int) -> int:
        return place + int(unpacked("<I", self._data, place)[0])

    def table(self, number: int) -> Table | None:
        """A table, None where it is not set."""
        place = self._field(number)
        return None if place is None else Table(self._data, self._target(place))

    def _vector(self, number: int, item_bytes: int) -> range:
        """Where its items lie."""
        place = self._field(number)
        if place is None:
            return range(0)
        start = self._target(place)
        end = start + 4 + item_bytes * int(unpacked("<I", self._data, start)[0])
        if end > len(self._data):
            raise broken()
        return range(start + 4, end, item_bytes)

    def tables(self, number: int) -> list[Table]:
        """A vector of tables."""
        vector = self._vector(number, 4)[:_MAX_ITEMS]
        return [Table(self._data, self._target(at)) for at in vector]

    def pairs(self, number: int) -> list[tuple[int, int]]:
        """A vector of structs of two 64-bit numbers."""
        return [unpacked("<qq", self._data, at) for at in self._vector(number, 16)[:_MAX_ITEMS]]

    def text(self, number: int) -> str:
        """A string, empty where it is not set."""
        span = self._vector(number, 1)
        return self._data[span.start : span.stop].decode("utf-8", "replace")


def unpacked(code: str, data: bytes | memoryview, place: int) -> Any:
    """As `struct.unpack_from`.

    Raises:
        MalformedBodyError: There is nothing at that place.
    """
    if place < 0:
        raise broken()
    try:
        return struct.unpack_from(code, data, place)
    except struct.error as error:
        raise broken() from error


def broken() -> MalformedBodyError:
    """What is said of metadata that leads nowhere."""
    return MalformedBodyError("Arrow: the stream is cut off, or its metadata is broken")
