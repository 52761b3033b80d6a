"""Arrow IPC streams to the values of columns, read by their layout.

In: a body that nobody has checked. Out: of each column the values of its rows, and which rows have
one. A column holds tensors (`arrow.fixed_shape_tensor`), or lists of all values of a row, or lists
of lists down to single values; lists may be of fixed size or not.

The stream is read here and not by pyarrow, which hands a stranger's metadata to whatever extension
types the process has registered (Ray brings some), and unpacks compressed buffers before anybody
can ask how large they become. Layout: Arrow Columnar Format 1.5, "IPC Streaming Format". pyarrow
is loaded for compressed buffers alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.core.errors import InputError, MalformedBodyError, TooLargeError
from motoric.serving.bodies.flatbuffer import Table, unpacked

_END = 0xFFFFFFFF  # stands before each message since Arrow 0.15
_MAX_METADATA = 65_536
_SCHEMA, _RECORD_BATCH = 1, 3
_INT, _FLOATING, _FIXED_LIST = 2, 3, 16
_LISTS: dict[int, np.dtype[Any]] = {
    12: np.dtype("<i4"),
    21: np.dtype("<i8"),
}  # the type of their offsets
_FLOATS = ("<f2", "<f4", "<f8")
_TYPE_NAMES = {_INT: "int", 4: "binary", 5: "utf8", 6: "bool", 13: "struct", _FLOATING: "float"}
_CODECS = ("lz4", "zstd")
_TENSOR = "arrow.fixed_shape_tensor"
_PADDING = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column that may be read.

    Attributes:
        name: Of the column.
        shape: Of one row's value.
        axes: Of the shape, in words.
        holds: Floats of any width, or bytes (uint8).
        may_be_null: Rows may lack a value.
    """

    name: str
    shape: tuple[int, ...]
    axes: str
    holds: str
    may_be_null: bool = False

    @property
    def hint(self) -> str:
        """What to send."""
        types = "uint8" if self.holds == "bytes" else "float16, float32 or float64"
        return f"send the column {self.name!r} as arrow.fixed_shape_tensor, or as lists, of {types}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnValues:
    """What was read of a column.

    Attributes:
        flat_V: Values of the rows that have one, one after the other.
        is_there_B: Which rows have one.
    """

    flat_V: NDArray[Any]
    is_there_B: NDArray[np.bool_]


class ArrowReader:
    """Reads one Arrow IPC stream, without trusting any number in it.

    Args:
        columns: What the stream may hold; it holds one of them at least.
        check_count: Raises where there are too many rows.
        max_bytes: Most bytes that compressed buffers may unpack to.
    """

    def __init__(
        self, columns: Sequence[Column], check_count: Callable[[int], None], max_bytes: int
    ) -> None:
        self._wanted = {column.name: column for column in columns}
        self._check_count = check_count
        self._bytes_left = max_bytes
        self._columns: list[_ColumnReader] = []
        self._num_rows = 0

    def read(self, body: bytes) -> dict[str, ColumnValues]:
        """The columns that are there, by name."""
        if body[:6] == b"ARROW1":
            raise MalformedBodyError(
                "Arrow: this is a file: send a stream (pyarrow.ipc.new_stream)"
            )
        place, num_messages = 0, 0
        while place < len(body):
            mark, size = unpacked("<II", body, place)
            place += 8
            if mark != _END or size > _MAX_METADATA or place + size > len(body):
                raise MalformedBodyError(
                    f"Arrow: no message stands at byte {place - 8}: the body is cut off, older"
                    " than Arrow 0.15, or not a stream"
                )
            if size == 0:
                break
            metadata = body[place : place + size]
            message = Table(metadata, unpacked("<I", metadata, 0)[0])
            start = place + size
            place = start + message.number(3, "<q")
            if not start <= place <= len(body):
                raise MalformedBodyError(f"Arrow: the message at byte {start - size} is cut off")
            num_messages += 1
            # Empty batches are cheap to send and would keep the server busy.
            self._check_count(num_messages - 2)
            kind, header = message.number(1, "<B"), message.table(2)
            if header is not None and kind == _SCHEMA and not self._columns:
                self._read_schema(header)
            elif header is not None and kind == _RECORD_BATCH and self._columns:
                self._read_batch(header, memoryview(body)[start:place])
            else:
                raise MalformedBodyError(
                    "Arrow: a stream is one schema and then record batches, without dictionaries"
                )
        if not self._columns:
            raise MalformedBodyError("Arrow: the body holds no schema: it is empty or cut off")
        return {column.wanted.name: column.values() for column in self._columns}

    def _read_schema(self, schema: Table) -> None:
        fields = schema.tables(1)
        names = [field.text(0) for field in fields]
        if schema.number(0, "<h"):
            raise InputError("Arrow: the stream is big-endian: send little-endian")
        if not names or not set(names) <= set(self._wanted) or len(set(names)) < len(names):
            hints = "; ".join(column.hint for column in self._wanted.values())
            raise InputError(f"Arrow: the columns are {names!r:.200}: {hints}")
        self._columns = [
            _ColumnReader(self._wanted[name], field)
            for name, field in zip(names, fields, strict=True)
        ]

    def _read_batch(self, header: Table, body: memoryview) -> None:
        count = header.number(0, "<q")
        nodes, buffers = header.pairs(1), header.pairs(2)
        fits = len(nodes) == sum(column.num_nodes for column in self._columns)
        if not fits or len(buffers) != sum(column.num_buffers for column in self._columns):
            raise MalformedBodyError("Arrow: a record batch does not fit the schema")
        if count < 0:
            raise MalformedBodyError(f"Arrow: a record batch has {count} rows")
        self._num_rows += count
        self._check_count(self._num_rows)
        packing = header.table(3)
        codec = None if packing is None else _CODECS[packing.number(0, "<B") != 0]

        def take(span: tuple[int, int], num_bytes: int) -> bytes | memoryview:
            return self._buffer(body, span, num_bytes, codec)

        for column in self._columns:
            own_nodes, nodes = nodes[: column.num_nodes], nodes[column.num_nodes :]
            own, buffers = buffers[: column.num_buffers], buffers[column.num_buffers :]
            column.read_batch(count, own_nodes, own, take)

    def _buffer(
        self, body: memoryview, span: tuple[int, int], num_bytes: int, codec: str | None
    ) -> bytes | memoryview:
        """The first `num_bytes` of a buffer of a record batch."""
        start, length = span
        if num_bytes == 0:
            return b""
        if start < 0 or length < 0 or start + length > len(body):
            raise MalformedBodyError("Arrow: a buffer lies outside of its record batch")
        content = body[start : start + length]
        if codec is not None:
            # Each buffer starts with its length when unpacked; -1 is one that is not packed.
            (size,) = unpacked("<q", content, 0)
            content = content[8:]
            if size != -1:
                if not num_bytes <= size <= num_bytes + _PADDING:
                    raise MalformedBodyError(
                        f"Arrow: a buffer unpacks to {size} bytes, its rows need {num_bytes}"
                    )
                self._bytes_left -= size
                if self._bytes_left < 0:
                    raise TooLargeError("Arrow: the body unpacks to too much: send fewer rows")
                content = memoryview(_unpack(content, size, codec))
        if len(content) < num_bytes:
            raise MalformedBodyError(f"Arrow: a buffer has {len(content)} bytes of {num_bytes}")
        return content[:num_bytes]


_Take = Callable[[tuple[int, int], int], bytes | memoryview]


class _ColumnReader:
    """One column: what the schema says of it, and its values so far."""

    def __init__(self, wanted: Column, field: Table) -> None:
        self.wanted = wanted
        # Of each level of lists: the type of its offsets, None where all are as long.
        self._offsets: list[np.dtype[Any] | None] = []
        said = {item.text(0): item.text(1) for item in field.tables(6)}
        extension = said.get("ARROW:extension:name", _TENSOR)
        if extension != _TENSOR:
            raise InputError(
                f"Arrow: {wanted.name!r} is of the type {extension!r:.80}: {wanted.hint}"
            )
        sizes = list[int | None]()
        kind = field.number(2, "<B")
        while (kind == _FIXED_LIST or kind in _LISTS) and len(sizes) < len(wanted.shape):
            about, children = field.table(3), field.tables(5)
            if about is None or len(children) != 1 or field.table(4) is not None:
                raise MalformedBodyError(f"Arrow: a list of the schema is broken: {wanted.hint}")
            sizes.append(about.number(0, "<i") if kind == _FIXED_LIST else None)
            self._offsets.append(_LISTS.get(kind))
            field = children[0]
            kind = field.number(2, "<B")
        dtype = _dtype_of(kind, field.table(3), wanted)
        if dtype is None or len(sizes) not in (1, len(wanted.shape)) or field.table(4) is not None:
            name = _TYPE_NAMES.get(kind, f"type {kind}")
            raise InputError(
                f"Arrow: {wanted.name!r} holds {name} in {len(sizes)} levels of lists:"
                f" {wanted.hint}"
            )
        self._check_shape(sizes, said.get("ARROW:extension:metadata"))
        self._dtype = dtype
        self.num_nodes = 1 + len(self._offsets)
        self.num_buffers = 2 + sum(1 if item is None else 2 for item in self._offsets)
        self._parts: list[NDArray[Any]] = []
        self._there: list[NDArray[np.bool_]] = []

    def _check_shape(self, sizes: list[int | None], tensor: str | None) -> None:
        shape, axes = list(self.wanted.shape), self.wanted.axes
        self._lengths = tuple(shape) if len(sizes) == len(shape) else (math.prod(shape),)
        order = list(range(len(shape)))
        try:
            about = {} if tensor is None else orjson.loads(tensor)
            said = about.get("shape", shape)
            permutation = about.get("permutation") or order
        except (orjson.JSONDecodeError, AttributeError) as error:
            raise MalformedBodyError("Arrow: the shape of the tensors is not read") from error
        fits = all(size in (None, want) for size, want in zip(sizes, self._lengths, strict=True))
        if not fits or said != shape or permutation != order:
            raise InputError(
                f"Arrow: {self.wanted.name!r} holds lists of {sizes} and tensors of {said!r:.40},"
                f" permuted {permutation!r:.20}: a {self.wanted.name.removesuffix('s')} has"
                f" {shape}, {axes}"
            )

    def values(self) -> ColumnValues:
        """All that was read."""
        parts = self._parts or [np.empty(0, self._dtype)]
        there = self._there or [np.empty(0, np.bool_)]
        flat_V = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return ColumnValues(flat_V=flat_V, is_there_B=np.concatenate(there))

    def read_batch(
        self,
        count: int,
        nodes: list[tuple[int, int]],
        buffers: list[tuple[int, int]],
        take: _Take,
    ) -> None:
        """Take the rows of one record batch: its nodes and buffers, and how to read a buffer."""
        if nodes[0][0] != count:
            raise MalformedBodyError(f"Arrow: a record batch of {count} rows has {nodes[0][0]}")
        num_null = nodes[0][1]
        if num_null and not self.wanted.may_be_null:
            raise self._nulls()
        there_B = _is_there(count, num_null, buffers[0], take)
        is_kept_N: NDArray[np.bool_] | None = there_B if num_null else None
        place, num_items = 1, count
        for level, (offsets, length) in enumerate(zip(self._offsets, self._lengths, strict=True)):
            if offsets is None:
                num_items *= length
            else:
                ends = self._ends(num_items, buffers[place], offsets, take)
                place += 1
                if level == 0 and num_null:
                    is_kept_N = self._kept(ends, there_B, length)
                    num_items = int(ends[-1])
                else:
                    self._check_even(ends, length)
                    num_items *= length
            num_there, num_missing = nodes[level + 1]
            if num_there != num_items:
                raise MalformedBodyError(f"Arrow: {num_there} values are there for {num_items}")
            if num_missing:
                # A row that is null may hold nulls, a row that is there may not.
                if is_kept_N is None:
                    raise self._nulls()
                inside_N = _is_there(num_items, num_missing, buffers[place], take)
                if not inside_N.reshape(len(is_kept_N), -1)[is_kept_N].all():
                    raise self._nulls()
            place += 1
        content = take(buffers[place], num_items * self._dtype.itemsize)
        flat_V: NDArray[Any] = np.frombuffer(content, self._dtype)
        if is_kept_N is not None:
            flat_V = flat_V.reshape(-1, math.prod(self.wanted.shape))[is_kept_N].ravel()
        self._parts.append(flat_V)
        self._there.append(there_B)

    def _ends(
        self, count: int, span: tuple[int, int], dtype: np.dtype[Any], take: _Take
    ) -> NDArray[np.int64]:
        if count == 0:
            return np.zeros(1, np.int64)
        content = take(span, dtype.itemsize * (count + 1))
        return np.frombuffer(content, dtype).astype(np.int64)

    def _check_even(self, ends: NDArray[np.int64], length: int) -> None:
        if not np.array_equal(ends, np.arange(len(ends), dtype=np.int64) * length):
            raise self._ragged(length)

    def _kept(
        self, ends: NDArray[np.int64], there_B: NDArray[np.bool_], length: int
    ) -> NDArray[np.bool_]:
        """Which of the lists that are stored belong to rows that are there: nulls may have one."""
        sizes_B = np.diff(ends)
        is_stored_B = sizes_B == length
        if ends[0] != 0 or not (is_stored_B | ((sizes_B == 0) & ~there_B)).all():
            raise self._ragged(length)
        return np.asarray(there_B[is_stored_B], dtype=np.bool_)

    def _nulls(self) -> InputError:
        return InputError(
            f"Arrow: {self.wanted.name!r} has nulls: fill or drop such samples before sending"
        )

    def _ragged(self, length: int) -> InputError:
        return InputError(
            f"Arrow: {self.wanted.name!r} is ragged: each list must have {length} items"
        )


def _dtype_of(kind: int, about: Table | None, wanted: Column) -> np.dtype[Any] | None:
    """The type of the values, or None where it is none that is taken."""
    if about is None:
        return None
    if wanted.holds == "bytes":
        is_byte = kind == _INT and about.number(0, "<i") == 8 and not about.number(1, "<B")
        return np.dtype(np.uint8) if is_byte else None
    precision = about.number(0, "<h") if kind == _FLOATING else -1
    return np.dtype(_FLOATS[precision]) if 0 <= precision < len(_FLOATS) else None


def _is_there(count: int, num_null: int, span: tuple[int, int], take: _Take) -> NDArray[np.bool_]:
    if not num_null:
        return np.ones(count, dtype=np.bool_)
    bits = np.frombuffer(take(span, (count + 7) // 8), np.uint8)
    there_B = np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)
    if count - int(there_B.sum()) != num_null:
        raise MalformedBodyError(
            f"Arrow: {num_null} rows are said to be null, and {count - int(there_B.sum())} are"
        )
    return there_B


def _unpack(content: memoryview, num_bytes: int, codec: str) -> bytes:
    import pyarrow as pa

    try:
        if codec == "zstd":
            found: bytes = pa.Codec(codec).decompress(content, num_bytes, asbytes=True)
        else:
            # `Codec` leaves what LZ4 does not fill as it was in memory, which is nobody's to see.
            with pa.CompressedInputStream(pa.BufferReader(content), codec) as stream:
                found = stream.read(num_bytes + 1)
    except (OSError, ValueError) as error:
        raise MalformedBodyError(f"Arrow: a compressed buffer is broken: {error}") from error
    if len(found) != num_bytes:
        raise MalformedBodyError(
            f"Arrow: a buffer does not unpack to the {num_bytes} bytes it says"
        )
    return found
