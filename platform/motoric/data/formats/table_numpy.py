"""NumPy files as blocks of columns: `.npy` and `.npz`, without ever loading a pickle.

In: an array of shape (T,), (T, C) or (T,) of records; in `.npz` one array a column, or `values` of
shape (T, C) with `time_s` and optionally `channels` (C names). Out: Arrow record batches. Format:
https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html. Axes: T rows, C columns.
"""

from __future__ import annotations

import math
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import IO, Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.formats.source_file import MAX_UNPACKED_BYTES, MAX_WHOLE_BYTES
from motoric.data.ingest.samples import BATCH_ROWS, Notes

_MAX_ROW_BYTES = 2**16
_VALUES, _CHANNELS = "values", "channels"
# What zipfile raises where bytes are wrong; the last two where they seem to say that it is
# encrypted, or packed by a later version.
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


class _ArrayFile:
    """One `.npy` file, read forward in blocks of rows."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self.name = name
        try:
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise UnreadableError(f"is a .npy file of version {version}: save it anew")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            self.shape, self._is_fortran, self.dtype = read(file)
        except (ValueError, EOFError, SyntaxError) as error:
            raise UnreadableError(f"is not a NumPy file: {error}") from error
        self._check()
        self._whole: NDArray[Any] | None = None
        self._num_read = 0

    def _check(self) -> None:
        if self.dtype.hasobject:
            raise UnreadableError("holds Python objects (a pickle), which are never loaded")
        if len(self.shape) > 2 or (self.dtype.names and len(self.shape) != 1):
            raise UnreadableError(
                f"array {self.name!r} has the shape {self.shape}: (T,), (T, C) or (T,) of records"
                " is needed"
            )
        if len(self.shape) and self._row_bytes() > _MAX_ROW_BYTES:
            raise UnreadableError(
                f"array {self.name!r} has {self.shape[1:]} columns: rows come first, columns second"
            )

    def _row_bytes(self) -> int:
        return int(self.dtype.itemsize * math.prod(self.shape[1:]))

    def rows(self, num_rows: int) -> NDArray[Any]:
        """The next rows, fewer at the end and where the file is cut; shape (T,) or (T, C)."""
        num_rows = min(num_rows, self.shape[0] - self._num_read)
        if self._is_fortran and len(self.shape) == 2:
            rows = self._fortran()[self._num_read : self._num_read + num_rows]
        else:
            content = self._file.read(num_rows * self._row_bytes()) if num_rows else b""
            whole = len(content) // self._row_bytes() if self._row_bytes() else 0
            rows = np.frombuffer(content[: whole * self._row_bytes()], dtype=self.dtype)
            rows = rows.reshape(whole, *self.shape[1:])
        self._num_read += len(rows)
        return rows

    def _fortran(self) -> NDArray[Any]:
        """Column after column in the file: the last row needs all of it."""
        if self._whole is None:
            num_bytes = self.shape[0] * self._row_bytes()
            if num_bytes > MAX_WHOLE_BYTES:
                raise UnreadableError(
                    f"array {self.name!r} is in Fortran order and larger than {MAX_WHOLE_BYTES}"
                    " bytes: save numpy.ascontiguousarray of it"
                )
            content = self._file.read(num_bytes)
            if len(content) < num_bytes:
                raise UnreadableError(f"array {self.name!r} is cut off, in Fortran order")
            self._whole = np.frombuffer(content, dtype=self.dtype).reshape(self.shape, order="F")
        return self._whole


def npy_batches(file: BinaryIO, notes: Notes) -> Iterator[pa.RecordBatch]:
    """Blocks of a `.npy` file; columns are named by its fields, else `column_0`, `column_1`, ...

    Raises:
        UnreadableError: Not NumPy, Python objects, or no table.
    """
    array = _ArrayFile(file, "array")
    if array.dtype.names:
        names = list(array.dtype.names)
    elif len(array.shape):
        names = [f"column_{index}" for index in range(math.prod(array.shape[1:]))]
    else:
        raise UnreadableError("is one number, not a table")
    yield from _batches([array], names, notes)


def npz_batches(file: BinaryIO, notes: Notes) -> Iterator[pa.RecordBatch]:
    """Blocks of a `.npz` file; see the module for what its arrays are.

    Raises:
        UnreadableError: Not such a file, too large, Python objects, or arrays of unequal length.
    """
    with ExitStack() as stack:
        try:
            archive = stack.enter_context(zipfile.ZipFile(file))
        except (*_DAMAGE, ValueError, OSError) as error:
            # A seek before the start of a short file is a ValueError of Arrow.
            raise UnreadableError(f"is not a .npz file: {error}") from error
        members = [one for one in archive.infolist() if one.filename.endswith(".npy")]
        declared_bytes = sum(one.file_size for one in members)
        if declared_bytes > MAX_UNPACKED_BYTES:
            raise UnreadableError(
                f"unpacks to {declared_bytes} bytes, more than {MAX_UNPACKED_BYTES}"
            )
        try:
            arrays = [
                _ArrayFile(
                    stack.enter_context(archive.open(one)), one.filename.removesuffix(".npy")
                )
                for one in members
            ]
            channels = _channels(arrays)
        except _DAMAGE as error:
            raise UnreadableError(f"is a damaged .npz file: {error}") from error
        tables = [one for one in arrays if len(one.shape) and one.name != _CHANNELS]
        for array in arrays:
            if not array.shape:
                notes.add("not_read", f"array {array.name!r} is one value, not a column")
        lengths = {array.name: array.shape[0] for array in tables}
        if len(set(lengths.values())) != 1:
            raise UnreadableError(f"needs arrays of one length; it has {lengths or 'none'}")
        names = [name for array in tables for name in _names(array, channels)]
        yield from _batches(tables, names, notes)


def _channels(arrays: Sequence[_ArrayFile]) -> list[str]:
    found = next((one for one in arrays if one.name == _CHANNELS and one.dtype.kind == "U"), None)
    return [] if found is None else [str(name) for name in found.rows(found.shape[0])]


def _names(array: _ArrayFile, channels: list[str]) -> list[str]:
    if array.dtype.names:
        return list(array.dtype.names)
    if len(array.shape) == 1:
        return [array.name]
    num_columns = array.shape[1]
    if array.name == _VALUES:
        if channels and len(channels) != num_columns:
            raise UnreadableError(
                f"names {len(channels)} channels for values of {num_columns} columns"
            )
        return channels or [f"column_{index}" for index in range(num_columns)]
    return [f"{array.name}_{index}" for index in range(num_columns)]


def _batches(
    arrays: Sequence[_ArrayFile], names: list[str], notes: Notes
) -> Iterator[pa.RecordBatch]:
    num_declared = arrays[0].shape[0]
    num_read = 0
    while num_read < num_declared:
        try:
            blocks = [array.rows(BATCH_ROWS) for array in arrays]
        except _DAMAGE as error:
            blocks = []
            failure = str(error)
        else:
            failure = "the file ends too early"
        num_rows = min((len(block) for block in blocks), default=0)
        if num_rows:
            columns = [_arrow(one, n) for block in blocks for one, n in _split(block[:num_rows])]
            yield pa.RecordBatch.from_arrays(columns, names=names)
        num_read += num_rows
        if num_rows < min(BATCH_ROWS, num_declared - num_read + num_rows):
            if not num_read:
                raise UnreadableError(f"holds no whole row: {failure}")
            notes.add(
                "truncated",
                f"{num_read} of {num_declared} rows could be read: {failure}",
                is_repair=True,
            )
            return


def _split(block: NDArray[Any]) -> list[tuple[NDArray[Any], str]]:
    if block.dtype.names:
        return [(block[name], name) for name in block.dtype.names]
    if block.ndim == 1:
        return [(block, "")]
    return [(block[:, index], f"column {index}") for index in range(block.shape[1])]


def _arrow(column_T: NDArray[Any], name: str) -> pa.Array:
    """One column; text and dates stay what they are."""
    if column_T.ndim > 1 or column_T.dtype.kind not in "biufUM":
        raise UnreadableError(
            f"{name or 'an array'} holds {column_T.dtype} of shape {column_T.shape[1:]}, not one"
            " number a row"
        )
    if column_T.dtype.kind == "f":
        return pa.array(column_T.astype(np.float64), from_pandas=False)
    if column_T.dtype.kind == "M" and np.datetime_data(column_T.dtype)[0] not in "s ms us ns":
        column_T = column_T.astype("datetime64[s]")
    return pa.array(column_T.astype(column_T.dtype.newbyteorder("=")))
