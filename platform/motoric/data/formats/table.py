"""Sensor tables: CSV, Parquet and NumPy, of any length, read in blocks.

In: one file with a column a channel, and a time column or a rate. Out: `Samples`; see `channels`
for what the names of columns mean. Files are never held in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from typing import BinaryIO

import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq

from motoric.core.errors import UnreadableError
from motoric.data.formats.source_file import open_source
from motoric.data.formats.table_columns import TableReading, check_header
from motoric.data.formats.table_csv import BLANK, CsvLines
from motoric.data.formats.table_numbers import MISSING, is_number, is_text
from motoric.data.formats.table_numpy import npy_batches, npz_batches
from motoric.data.ingest.samples import BATCH_ROWS, Notes, Samples
from motoric.data.ingest.settings import SensorSettings


@dataclass(slots=True)
class _Malformed:
    """Rows of a CSV file with too few or too many cells."""

    num_rows: int = 0
    first: str = ""

    def skip(self, row: pcsv.InvalidRow) -> str:
        if not self.num_rows:
            self.first = row.text
        self.num_rows += 1
        return "skip"


def read_csv(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read a CSV table; see `SensorReader`."""
    with open_source(uri, notes) as source:
        lines = CsvLines(source, settings, notes)
        check_header(lines.header)
        names = [name for name in lines.header if not name.startswith(BLANK)]
        reading = TableReading(
            pa.schema([(name, pa.string()) for name in names]),
            settings,
            notes,
            decimal_comma=lines.delimiter != ",",
        )
        malformed = _Malformed()
        try:
            yield from reading.samples(_guarded(_csv_batches(lines, names, malformed), notes))
        except UnreadableError:
            if reading.num_rows == 0 and malformed.num_rows:
                raise UnreadableError(
                    f"has {len(lines.header)} columns in its header, but none of its"
                    f" {malformed.num_rows} rows has as many cells; the first is"
                    f" {malformed.first[:80]!r}"
                ) from None
            raise
        if malformed.num_rows:
            detail = f"{malformed.num_rows} rows have more or fewer cells than the header: left out"
            notes.add("malformed_row", detail, count=malformed.num_rows, is_repair=True)


def read_parquet(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read a Parquet table; see `SensorReader`."""
    with open_source(uri, notes) as source:
        try:
            file = pq.ParquetFile(source, pre_buffer=False)
        except (pa.ArrowInvalid, OSError) as error:
            raise UnreadableError(f"is not a Parquet file that can be read: {error}") from error
        check_header(file.schema_arrow.names)
        ignored = {name for name, column in settings.columns.items() if column.ignore}
        wanted = [name for name in file.schema_arrow.names if name not in ignored]
        _refuse_nested(file.schema_arrow, wanted)
        if file.metadata.num_rows == 0:
            raise UnreadableError("has a header but no rows")
        schema = pa.schema([file.schema_arrow.field(name) for name in wanted])
        reading = TableReading(schema, settings, notes)
        batches = file.iter_batches(batch_size=BATCH_ROWS, columns=wanted)
        yield from reading.samples(_guarded(batches, notes))


def read_npy(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read a NumPy array; see `SensorReader`."""
    yield from _read_numpy(uri, settings, notes, npy_batches)


def read_npz(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read NumPy arrays of one length; see `SensorReader`."""
    yield from _read_numpy(uri, settings, notes, npz_batches)


def _read_numpy(
    uri: str,
    settings: SensorSettings,
    notes: Notes,
    batches_of: Callable[[BinaryIO, Notes], Iterator[pa.RecordBatch]],
) -> Iterator[Samples]:
    with open_source(uri, notes) as source:
        batches = batches_of(source, notes)
        first = next(batches, None)
        if first is None:
            raise UnreadableError("has no rows")
        reading = TableReading(first.schema, settings, notes)
        yield from reading.samples(chain([first], batches))


def _csv_batches(
    lines: CsvLines, names: list[str], malformed: _Malformed
) -> Iterator[pa.RecordBatch]:
    """Rows, block by block, as text or, which is faster, as the numbers that all of a block are.

    What is text in the first block stays text, so that no block has types of its own choice; a
    block in which some cell is no number is read as text again.

    Args:
        lines: The rows.
        names: Columns to read.
        malformed: Counts rows with too few or too many cells.
    """
    numeric: list[str] | None = None
    for block in lines.blocks():
        table = None
        if numeric:
            before = replace(malformed)
            try:
                table = _parse_block(lines, block, names, numeric, malformed)
            except pa.ArrowInvalid:
                malformed.num_rows, malformed.first = before.num_rows, before.first
        if table is None:
            table = _parse_block(lines, block, names, [], malformed)
        if numeric is None and table.num_rows:
            numeric = [name for name in names if _is_all_numbers(table[name])]
        yield from table.combine_chunks().to_batches()


def _parse_block(
    lines: CsvLines, block: bytes, names: list[str], numeric: list[str], malformed: _Malformed
) -> pa.Table:
    types = dict.fromkeys(lines.header, pa.string()) | dict.fromkeys(numeric, pa.float64())
    return pcsv.read_csv(
        pa.BufferReader(block),
        read_options=pcsv.ReadOptions(
            column_names=lines.header, block_size=len(block) + 1, use_threads=False
        ),
        parse_options=pcsv.ParseOptions(
            delimiter=lines.delimiter, invalid_row_handler=malformed.skip
        ),
        convert_options=pcsv.ConvertOptions(
            include_columns=names,
            column_types=types,
            check_utf8=False,
            strings_can_be_null=True,
            null_values=list(MISSING),
        ),
    )


def _is_all_numbers(column: pa.ChunkedArray) -> bool:
    try:
        column.cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _guarded(batches: Iterator[pa.RecordBatch], notes: Notes) -> Iterator[pa.RecordBatch]:
    """Blocks up to where the file cannot be read any more."""
    num_rows = 0
    while True:
        try:
            batch = next(batches, None)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
            if not num_rows:
                raise UnreadableError(f"is not a table that can be read: {error}") from error
            notes.add("truncated", f"readable for {num_rows} rows: {error}", is_repair=True)
            return
        if batch is None:
            return
        num_rows += batch.num_rows
        yield batch


def _refuse_nested(schema: pa.Schema, wanted: list[str]) -> None:
    for name in wanted:
        kind = schema.field(name).type
        if not (is_number(kind) or is_text(kind) or pa.types.is_temporal(kind)):
            raise UnreadableError(
                f"column {name!r} holds {kind}, not one number a row: write one column a number, or"
                f" set sensors.columns.{name}.ignore in the ingest settings"
            )
