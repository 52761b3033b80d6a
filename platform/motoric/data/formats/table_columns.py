"""From the blocks of any table to samples: what its columns are, and their streams.

In: Arrow record batches in the order of the file, of one schema. Out: `Samples`. Axes: T rows, C
columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.formats.channels import ColumnMeaning, column_meaning
from motoric.data.formats.streams import StreamPlan, check_distinct, plan_streams, stream_samples
from motoric.data.formats.table_numbers import is_number, is_text, numbers
from motoric.data.formats.table_time import TableClock
from motoric.data.ingest.samples import BATCH_ROWS, Notes, Samples
from motoric.data.ingest.settings import SensorSettings


def check_header(names: Sequence[str]) -> None:
    """Check the names of a table's columns.

    Raises:
        UnreadableError: None, or some twice.
    """
    if not names:
        raise UnreadableError("has no columns")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UnreadableError(
            f"has more than one column named {', '.join(map(repr, twice))}: name them apart"
        )


class TableReading:
    """Turns the blocks of one table into samples.

    Args:
        schema: Names and types of the columns.
        settings: What the user says of them.
        notes: What is noticed goes here.
        decimal_comma: Text may have a comma where others have a point.
    """

    def __init__(
        self,
        schema: pa.Schema,
        settings: SensorSettings,
        notes: Notes,
        *,
        decimal_comma: bool = False,
    ) -> None:
        check_header(schema.names)
        self._settings = settings
        self._notes = notes
        self._decimal_comma = decimal_comma
        self._clock = TableClock(
            {field.name: field.type for field in schema},
            settings.time,
            decimal_comma=decimal_comma,
        )
        self._kinds = {field.name: field.type for field in schema}
        self._meanings: list[ColumnMeaning] = []
        self._plans: list[StreamPlan] = []
        self._num_bad: dict[str, int] = {}
        self.num_rows = 0

    def samples(self, blocks: Iterable[pa.RecordBatch]) -> Iterator[Samples]:
        """All rows of all blocks.

        Raises:
            UnreadableError: No row, no channel, or a column that cannot be understood.
        """
        for block in blocks:
            for start in range(0, block.num_rows, BATCH_ROWS):
                yield from self._block(block.slice(start, BATCH_ROWS))
        if self.num_rows == 0:
            raise UnreadableError("has a header but no rows")
        self._finish()

    def _block(self, block: pa.RecordBatch) -> Iterator[Samples]:
        is_first = self.num_rows == 0
        time_array = None if self._clock.column is None else block.column(self._clock.column)
        if is_first:
            self._start(block, time_array)
        self.num_rows += block.num_rows
        values_TC = self._values(block)
        if is_first:
            self._plans = plan_streams(self._meanings, values_TC)
        yield from stream_samples(
            self._plans,
            self._meanings,
            self._clock.times(time_array, block.num_rows),
            values_TC,
            is_unix_time=self._clock.is_unix_time,
            rate_hz=self._clock.rate_hz,
        )

    def _start(self, block: pa.RecordBatch, time_array: pa.Array | None) -> None:
        self._clock.start(time_array, self._notes)
        times = {self._clock.column, *self._clock.others}
        for column in self._clock.others:
            detail = f"times are read from {self._clock.column!r}; {column!r} is left out"
            self._notes.add("extra_time_column", detail, channel=column)
        for name, chosen in self._settings.columns.items():
            if name not in self._kinds and not chosen.ignore:
                detail = f"the ingest settings name a column {name!r}, which the file lacks"
                self._notes.add("unused_setting", detail, channel=name)
        for column in self._kinds:
            if column not in times:
                self._add_column(column, block.column(column))
        if not self._meanings:
            raise UnreadableError("has no column of numbers beside its time")
        check_distinct(self._meanings)

    def _add_column(self, column: str, first: pa.Array) -> None:
        chosen = self._settings.columns.get(column)
        if chosen is not None and chosen.ignore:
            return
        kind = self._kinds[column]
        if not is_number(kind) and not is_text(kind):
            raise UnreadableError(
                f"column {column!r} holds {kind}, not one number a row: write one column a number,"
                f" or set sensors.columns.{column}.ignore in the ingest settings"
            )
        if is_text(kind):
            values_T, num_bad = numbers(first, decimal_comma=self._decimal_comma)
            if num_bad > len(values_T) - np.isnan(values_T).sum():
                detail = f"column {column!r} holds text: left out"
                self._notes.add("text_column", detail, channel=column)
                return
        meaning = column_meaning(column, self._settings)
        if meaning is None:
            return
        if not meaning.is_known:
            detail = f"column {column!r} is no channel Motoric knows: kept as it is"
            self._notes.add("unknown_column", detail, channel=meaning.channel.name)
        self._meanings.append(meaning)

    def _values(self, block: pa.RecordBatch) -> NDArray[np.float64]:
        values_TC = np.empty((block.num_rows, len(self._meanings)))
        for index, meaning in enumerate(self._meanings):
            values_TC[:, index], num_bad = numbers(
                block.column(meaning.column), decimal_comma=self._decimal_comma
            )
            if num_bad:
                name = meaning.channel.name
                self._num_bad[name] = self._num_bad.get(name, 0) + num_bad
        return values_TC

    def _finish(self) -> None:
        for name, count in self._num_bad.items():
            detail = f"{count} cells of {name} hold no number: read as missing"
            self._notes.add("not_numeric", detail, channel=name, count=count, is_repair=True)
        if self._clock.num_unreadable:
            self._notes.add(
                "time_not_readable",
                f"{self._clock.num_unreadable} times of {self._clock.column!r} cannot be read",
                count=self._clock.num_unreadable,
                is_repair=True,
            )
