"""The time of a sensor table: which column it is, its unit, and what it counts from.

In: Arrow arrays of numbers, text or timestamps. Out: seconds as float64, and whether they are Unix
time. Axes: T rows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.formats.channels import clean_name, split_unit
from motoric.data.formats.table_numbers import is_text, numbers
from motoric.data.ingest.samples import Notes
from motoric.data.ingest.settings import TimeSettings

_UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_UNIT_NAMES = {
    "sec": "s",
    "secs": "s",
    "second": "s",
    "seconds": "s",
    "msec": "ms",
    "millis": "ms",
    "milliseconds": "ms",
    "usec": "us",
    "micros": "us",
    "microseconds": "us",
    "nanos": "ns",
    "nanoseconds": "ns",
}
# In the order of trust where a table has several.
_NAMES = (
    *("time", "t", "timestamp", "ts", "datetime", "date_time", "unix_time", "unix_timestamp"),
    *("unixtime", "epoch", "epoch_time", "elapsed_time", "time_elapsed", "elapsed", "utc"),
    *("utc_time", "time_utc", "timestamp_utc", "date", "sample_time"),
)
# Unix seconds from 1973 on; a recording itself never lasts three years.
_FIRST_UNIX_S = 1e8
_UNSAID_UNITS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (_FIRST_UNIX_S, "s"))
_ZONED = re.compile(r"(Z|z|[+-]\d{2}:?(\d{2})?)$")
_ISO_DATE = re.compile(r"\d{4}-?\d{2}-?\d{2}[T ]\d{2}")


def time_columns(names: Sequence[str]) -> dict[str, str]:
    """Columns whose names say that they hold times, the best first, with their units or ''."""
    found: list[tuple[int, str, str]] = []
    for column in names:
        header, unit = split_unit(column)
        name = clean_name(header)
        words = name.rpartition("_")
        unit = _unit_name(unit)
        if not unit and _unit_name(words[2]) and (words[0] in _NAMES or not words[0]):
            name, unit = words[0] or "time", _unit_name(words[2])
        if name in _NAMES:
            found.append((_NAMES.index(name) + (0 if unit else len(_NAMES)), column, unit))
    return {column: unit for _, column, unit in sorted(found, key=lambda one: one[0])}


def _unit_name(text: str) -> str:
    text = text.strip().lower().replace("µ", "u")
    return text if text in _UNITS else _UNIT_NAMES.get(text, "")


class TableClock:
    """The times of one table, block by block.

    Attributes:
        column: The column that holds them, or None where rows come at a rate.
        others: More columns that hold times; they are left out.
        is_unix_time: Known after the first block.
        rate_hz: Where rows come at a rate.
    """

    def __init__(
        self,
        types: Mapping[str, pa.DataType],
        settings: TimeSettings,
        *,
        decimal_comma: bool = False,
    ) -> None:
        self._settings = settings
        self._decimal_comma = decimal_comma
        self._unit: str = ""
        self._is_text = False
        self._origin_s = 0.0
        self._num_rows = 0
        self.num_unreadable = 0
        self.is_unix_time = False
        self.rate_hz: float | None = None
        named = time_columns(list(types))
        typed = [name for name, kind in types.items() if pa.types.is_timestamp(kind)]
        candidates = list(dict.fromkeys([*named, *typed]))
        self.column = self._chosen(candidates, list(types))
        self._name_unit = named.get(self.column or "", "")
        self.others = [name for name in candidates if name != self.column]

    def _chosen(self, candidates: list[str], names: list[str]) -> str | None:
        wanted = self._settings.column
        if wanted is not None:
            if wanted not in names:
                raise UnreadableError(
                    f"has no column {wanted!r}, which sensors.time.column names; it has:"
                    f" {', '.join(names)}"
                )
            return wanted
        if candidates:
            return candidates[0]
        if self._settings.rate_hz is None:
            raise UnreadableError(
                "has no time column (such as time_s, timestamp_ms or datetime): set"
                " sensors.time.column, or sensors.time.rate_hz for rows at a fixed rate, in the"
                f" ingest settings; its columns: {', '.join(names)}"
            )
        self.rate_hz = self._settings.rate_hz
        return None

    def start(self, first: pa.Array | None, notes: Notes) -> None:
        """Find out what the times are from the first block's.

        Raises:
            UnreadableError: They are no times.
        """
        if first is None:
            return
        if pa.types.is_timestamp(first.type):
            self.is_unix_time = first.type.tz is not None
            self._unit = "timestamp"
            if first.type.tz is None:
                self._without_zone(_timestamps(first), notes)
        elif is_text(first.type):
            self._start_text(first, notes)
        else:
            self._start_numbers(self._numbers(first)[0], notes)

    def _start_text(self, first: pa.Array, notes: Notes) -> None:
        values_T, num_bad = self._numbers(first)
        num_filled = len(first) - int(np.isnan(values_T).sum())
        if self._settings.unit != "iso8601" and num_filled > num_bad:
            self._start_numbers(values_T, notes)
            return
        self._is_text = True
        texts = [text for text in first.to_pylist() if text and _ISO_DATE.match(text.strip())]
        if not texts:
            example = next((text for text in first.to_pylist() if text), "")
            raise UnreadableError(
                f"column {self.column!r} holds no times that can be read, such as {example!r}:"
                " write them in seconds, or by ISO 8601 (2024-05-01T10:00:00Z)"
            )
        self.is_unix_time = _ZONED.search(texts[0].strip()) is not None
        if not self.is_unix_time:
            self._without_zone(_iso_times(first)[0], notes)

    def _start_numbers(self, values_T: NDArray[np.float64], notes: Notes) -> None:
        chosen = self._settings.unit
        if chosen == "iso8601":
            raise UnreadableError(
                f"column {self.column!r} holds numbers, but sensors.time.unit is iso8601"
            )
        finite = np.abs(values_T[np.isfinite(values_T)])
        if not len(finite):
            raise UnreadableError(f"column {self.column!r} holds no times")
        usual = float(np.median(finite))
        unsaid = next((unit for least, unit in _UNSAID_UNITS if usual >= least), "")
        self._unit = chosen or self._name_unit or unsaid
        if not self._unit:
            self._unit = "s"
            notes.add(
                "time_unit_assumed",
                f"column {self.column!r} says no unit of time; read as seconds"
                " (sensors.time.unit says otherwise)",
            )
        self.is_unix_time = usual * _UNITS[self._unit] >= _FIRST_UNIX_S

    def _without_zone(self, time_T: NDArray[np.float64], notes: Notes) -> None:
        """Local times of nobody knows where: they count from the first."""
        finite = time_T[np.isfinite(time_T)]
        self._origin_s = float(finite[0]) if len(finite) else 0.0
        notes.add(
            "time_without_zone",
            f"the times of column {self.column!r} have no time zone: they count from the first",
        )

    def times(self, array: pa.Array | None, num_rows: int) -> NDArray[np.float64]:
        """Seconds of the rows of a block, shape (T,); NaN where they cannot be read."""
        if array is None:
            assert self.rate_hz is not None
            time_T = (self._num_rows + np.arange(num_rows)) / self.rate_hz
            self._num_rows += num_rows
            return time_T
        if self._unit == "timestamp":
            time_T = _timestamps(array)
        elif self._is_text:
            time_T, num_bad = _iso_times(array)
            self.num_unreadable += num_bad
        else:
            values_T, num_bad = self._numbers(array)
            self.num_unreadable += num_bad
            # Divided, not multiplied by 0.001: 1.1 s stays 1.1.
            time_T = values_T / round(1 / _UNITS[self._unit])
        return time_T - self._origin_s

    def _numbers(self, array: pa.Array) -> tuple[NDArray[np.float64], int]:
        return numbers(array, decimal_comma=self._decimal_comma)


def _timestamps(array: pa.Array) -> NDArray[np.float64]:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[array.type.unit]
    counts = array.cast(pa.int64())
    time_T = counts.fill_null(0).to_numpy(zero_copy_only=False) / scale
    return np.where(array.is_null().to_numpy(zero_copy_only=False), np.nan, time_T)


def _iso_times(array: pa.Array) -> tuple[NDArray[np.float64], int]:
    """Unix seconds of ISO 8601 text, those without a zone as if UTC; and how many cannot be read.

    Arrow parses whole blocks; only a block with something else in it is read cell by cell.
    """
    text = pc.utf8_trim_whitespace(array.cast(pa.string()))
    for zone in ("UTC", None):
        try:
            return _timestamps(text.cast(pa.timestamp("ns", tz=zone))), 0
        except pa.ArrowInvalid:
            continue
    read = [_iso_time(one) for one in text.to_pylist()]
    time_T = np.array([np.nan if one is None else one for one in read], dtype=np.float64)
    return time_T, int(np.isnan(time_T).sum())


def _iso_time(text: str | None) -> float | None:
    try:
        time = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()
