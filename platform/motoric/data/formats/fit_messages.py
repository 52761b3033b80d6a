"""What Motoric takes from the messages of a FIT file.

In: data messages as fitdecode gives them without a processor: numbers scaled, times in seconds of
FIT. Out: `Samples`. Units are those of the FIT profile; a developer field has the unit it declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from fitdecode.processors import FIT_DATETIME_MIN, FIT_UTC_REFERENCE

from motoric.core.errors import UnreadableError
from motoric.data.formats.channels import ColumnMeaning, clean_name, column_meaning
from motoric.data.formats.streams import PointTable
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import SensorSettings

_ENHANCED = {"enhanced_speed": "speed", "enhanced_altitude": "altitude"}
_NATIVE = {"position_lat": "latitude", "position_long": "longitude"} | _ENHANCED
# Not measured: the clock, and what fitdecode has already unpacked into fields of their own.
_LEFT_OUT = {"timestamp", "compressed_speed_distance", "time_from_course"}
# Units the profile leaves out.
_MISSING_UNITS = {"cadence": "rpm", "heart_rate": "bpm"}
_DEVELOPER = "_dev"
# Message, column of the axes, unit of calibrated values in the FIT profile.
_INERTIAL = {
    "accelerometer_data": ("acc", "accel", "g"),
    "gyroscope_data": ("gyr", "gyro", "deg/s"),
    "magnetometer_data": ("mag", "mag", "gauss"),
}


def message_time_s(message: Any) -> tuple[float, bool] | None:
    """Seconds, and whether they are Unix time; None where the message has no time.

    A device that does not know the date counts from when it was switched on (FIT `date_time`).
    """
    value = message.get_raw_value("timestamp", fallback=None)
    if not isinstance(value, int | float):
        return None
    if value < FIT_DATETIME_MIN:
        return float(value), False
    return float(FIT_UTC_REFERENCE + value), True


class _Clocked:
    """Rows of which either all or none have Unix time; the others are left out."""

    def __init__(self) -> None:
        self._tables = {True: PointTable(), False: PointTable()}

    def __len__(self) -> int:
        return max(len(table) for table in self._tables.values())

    def add(self, time: tuple[float, bool], values: dict[str, float]) -> None:
        self._tables[time[1]].add(time[0], values)

    def chosen(self, notes: Notes) -> tuple[PointTable, bool]:
        is_unix = len(self._tables[True]) >= len(self._tables[False])
        left_out = len(self._tables[not is_unix])
        if left_out:
            notes.add(
                "two_clocks",
                f"{left_out} rows count from when the device was switched on and were left out"
                if is_unix
                else f"{left_out} rows have a date, the others not, and were left out",
                count=left_out,
                is_repair=True,
            )
        return self._tables[is_unix], is_unix


class RecordMessages:
    """The `record` messages: position, speed, heart rate and the rest, about once a second."""

    def __init__(self, settings: SensorSettings, notes: Notes) -> None:
        self._settings = settings
        self._notes = notes
        self._rows = _Clocked()
        self._units: dict[str, str] = {}
        self._unknown: dict[str, int] = {}
        self._not_numeric: dict[str, int] = {}
        self.num_untimed = 0

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, message: Any) -> None:
        """Take one message."""
        time = message_time_s(message)
        if time is None:
            self.num_untimed += 1
            return
        values: dict[str, float] = {}
        for field in message.fields:
            self._add_field(field, values)
        self._rows.add(time, values)

    def _add_field(self, field: Any, values: dict[str, float]) -> None:
        name, value = field.name, field.value
        if name in _LEFT_OUT or value is None:
            return
        if name is None or name.startswith("unknown_"):
            key = name or "unnamed"
            self._unknown[key] = self._unknown.get(key, 0) + 1
            return
        is_developer = field.field_def is not None and field.field_def.is_dev
        if name in _ENHANCED and isinstance(value, tuple):
            value = value[-1]
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._not_numeric[name] = self._not_numeric.get(name, 0) + 1
            return
        column = _NATIVE.get(name, name)
        if is_developer:
            column = clean_name(name) + _DEVELOPER
        elif name not in _ENHANCED and column in _ENHANCED.values() and column in values:
            return  # the enhanced field stands before it in the message
        if column == "fractional_cadence":
            column, value = "cadence", values.get("cadence", float("nan")) + value
        values[column] = float(value)
        self._units.setdefault(column, field.units or _MISSING_UNITS.get(column, ""))

    def samples(self) -> Iterator[Samples]:
        """All rows.

        Raises:
            UnreadableError: There are records, but none has a time.
        """
        if self.num_untimed and not len(self):
            raise UnreadableError(f"has {self.num_untimed} records but no times")
        self._note_what_was_left_out()
        table, is_unix_time = self._rows.chosen(self._notes)
        meanings: dict[str, ColumnMeaning] = {}
        for column in table.names:
            name = column.removesuffix(_DEVELOPER)
            # A developer field stands in for the device's own where that is empty.
            meaning = self._meaning(name if name not in table.names else column, column)
            if meaning is not None:
                meanings[column] = meaning
        yield from table.samples(meanings, is_unix_time=is_unix_time)

    def _meaning(self, name: str, column: str) -> ColumnMeaning | None:
        return column_meaning(name, self._settings, declared_unit=self._units[column])

    def _note_what_was_left_out(self) -> None:
        if self.num_untimed:
            self._notes.add(
                "no_time",
                f"{self.num_untimed} records have no time and were left out",
                count=self.num_untimed,
                is_repair=True,
            )
        for name, count in self._unknown.items():
            detail = f"the FIT profile does not know field {name}: left out"
            self._notes.add("unknown_column", detail, channel=name, count=count)
        for name, count in self._not_numeric.items():
            detail = f"field {name} holds no single number: left out"
            self._notes.add("text_column", detail, channel=name, count=count)


class InertialMessages:
    """Accelerometer, gyroscope and magnetometer messages: arrays of some samples each."""

    def __init__(self, settings: SensorSettings, notes: Notes) -> None:
        self._settings = settings
        self._notes = notes
        # By time and how often a kind has said it: kinds that share their times share their rows.
        self._rows: dict[tuple[float, bool, int], dict[str, float]] = {}
        self._num_raw: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, message: Any) -> None:
        """Take one message."""
        prefix, word, _ = _INERTIAL[message.name]
        time = message_time_s(message)
        offsets_ms = _numbers(message, "sample_time_offset")
        axes = {axis: _numbers(message, f"calibrated_{word}_{axis}") for axis in "xyz"}
        if time is None or not any(axes.values()):
            self._num_raw[message.name] = self._num_raw.get(message.name, 0) + 1
            return
        start_s = time[0] + (_numbers(message, "timestamp_ms") or [0.0])[0] / 1000
        for index, offset_ms in enumerate(offsets_ms):
            values = {
                f"{prefix}_{axis}": numbers[index]
                for axis, numbers in axes.items()
                if index < len(numbers)
            }
            self._add_row(start_s + offset_ms / 1000, time[1], values)

    def _add_row(self, time_s: float, is_unix: bool, values: dict[str, float]) -> None:
        repeat = 0
        while values.keys() & self._rows.get((time_s, is_unix, repeat), {}).keys():
            repeat += 1
        self._rows.setdefault((time_s, is_unix, repeat), {}).update(values)

    def samples(self) -> Iterator[Samples]:
        """All rows; kinds that do not share their times are streams of their own."""
        for name, count in self._num_raw.items():
            detail = f"{name} messages without calibrated values or times are not read"
            self._notes.add("not_read", detail, count=count)
        if not self._rows:
            return
        rows = _Clocked()
        for (time_s, is_unix, _), values in self._rows.items():
            rows.add((time_s, is_unix), values)
        table, is_unix_time = rows.chosen(self._notes)
        units = {prefix: unit for prefix, _, unit in _INERTIAL.values()}
        meanings: dict[str, ColumnMeaning] = {}
        for column in table.names:
            unit = units[column.partition("_")[0]]
            meaning = column_meaning(column, self._settings, declared_unit=unit)
            if meaning is not None:
                meanings[column] = meaning
        yield from table.samples(meanings, is_unix_time=is_unix_time, have_own_clocks=True)


def _numbers(message: Any, field: str) -> list[float]:
    value = message.get_value(field, fallback=None)
    if value is None:
        return []
    values = value if isinstance(value, tuple) else (value,)
    return [np.nan if one is None else float(one) for one in values]
