"""FIT activities: records, and the arrays of inertial sensors.

In: one or more FIT files in one (Garmin FIT protocol, "chained files"), decoded by fitdecode. Out:
the streams `position`, `workout`, `other` from the record messages, `imu` from accelerometer,
gyroscope and magnetometer messages. Times are Unix time where the device knew it. Cadence is as the
device counts it: revolutions of a crank, strides (one leg) of a runner. Serial numbers, names and
user profiles are not kept.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from typing import Any

import fitdecode
from fitdecode.exceptions import FitEOFError, FitError

from motoric.core.errors import NoSamplesError, UnreadableError
from motoric.data.formats.cadence import count_steps
from motoric.data.formats.fit_messages import InertialMessages, RecordMessages
from motoric.data.formats.source_file import read_whole
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import SensorSettings

# What fitdecode lets through where the bytes make no sense, beside its own errors.
_BROKEN = (
    *(FitError, struct.error, AssertionError, LookupError, ValueError, TypeError),
    *(OverflowError, ArithmeticError, AttributeError),
)
_MAGIC = b".FIT"
_HEADER_BYTES = (12, 14)
_CRC_BYTES = 2
# Files of samples; every other kind is settings, plans, totals or daily monitoring.
_SAMPLE_TYPES = {"activity", None}
_INERTIAL = {"accelerometer_data", "gyroscope_data", "magnetometer_data"}
_NOT_READ = {
    "hr": "heart rate of a strap that was stored during a swim",
    "hrv": "times between heart beats",
    "barometer_data": "raw pressure",
    "one_d_sensor_calibration": "calibration of raw sensor values",
    "three_d_sensor_calibration": "calibration of raw sensor values",
}


class _Reading:
    """What has been found so far, over all FIT files in the file."""

    def __init__(self, settings: SensorSettings, notes: Notes) -> None:
        self.records = RecordMessages(settings, notes)
        self.inertial = InertialMessages(settings, notes)
        self.notes = notes
        self.file_types: list[str | None] = []
        self._not_read: dict[str, int] = {}
        self.sports: list[str] = []
        self._num_laps = 0

    def frame(self, frame: Any) -> None:
        """Take one frame of fitdecode."""
        if isinstance(frame, fitdecode.FitHeader) and frame.crc_matched is False:
            self.notes.add("wrong_crc", "the checksum of the header is wrong", is_repair=True)
        elif isinstance(frame, fitdecode.FitCRC) and not frame.matched:
            self.notes.add("wrong_crc", "the checksum of the file is wrong", is_repair=True)
        elif isinstance(frame, fitdecode.FitDataMessage):
            self._message(frame)

    def _message(self, message: Any) -> None:
        name = message.name
        if name == "file_id":
            self._file_id(message)
        elif name == "record":
            self.records.add(message)
        elif name in _INERTIAL:
            self.inertial.add(message)
        elif name in ("session", "sport"):
            self._sport(message)
        elif name == "lap":
            self._num_laps += 1
        elif name in _NOT_READ:
            self._not_read[name] = self._not_read.get(name, 0) + 1

    def _file_id(self, message: Any) -> None:
        kind = message.get_value("type", fallback=None)
        self.file_types.append(None if kind is None else str(kind))
        for key, fields in (("manufacturer", ("manufacturer",)), ("product", _PRODUCTS)):
            value = next(
                (found for field in fields if (found := _value(message, field)) is not None), None
            )
            if value is not None:
                self.notes.metadata.setdefault(key, str(value))

    def _sport(self, message: Any) -> None:
        for key in ("sport", "sub_sport"):
            value = _value(message, key)
            if value is not None:
                self.notes.metadata.setdefault(key, str(value))
        sport = _value(message, "sport")
        if message.name == "session" and sport is not None:
            self.sports.append(str(sport))

    def finish(self) -> None:
        """Note what was left aside."""
        for name, count in self._not_read.items():
            self.notes.add(
                "not_read", f"{name} messages ({_NOT_READ[name]}) are not read", count=count
            )
        if len(self.sports) > 1:
            self.notes.metadata["sessions"] = ",".join(self.sports)
        if self._num_laps:
            self.notes.metadata["num_laps"] = str(self._num_laps)


_PRODUCTS = ("garmin_product", "product_name", "product")


def _value(message: Any, field: str) -> Any:
    return message.get_value(field, fallback=None)


def read_fit(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read the samples of a FIT file; see `SensorReader`."""
    content = _with_sound_header(read_whole(uri, notes), notes)
    reading = _Reading(settings, notes)
    failure = _read(content, reading)
    num_samples = len(reading.records) + len(reading.inertial)
    if failure is not None:
        if not num_samples:
            raise UnreadableError(f"is not a FIT file that can be read: {failure}") from failure
        what = "ends too early" if isinstance(failure, FitEOFError) else "breaks off"
        notes.add("truncated", f"the file {what}: {failure}", is_repair=True)
    kinds = [kind for kind in reading.file_types if kind not in _SAMPLE_TYPES]
    if kinds and len(kinds) == len(reading.file_types):
        raise NoSamplesError(f"is a FIT {kinds[0]} file and holds no samples")
    if not num_samples and not reading.records.num_untimed:
        raise UnreadableError("is a FIT activity without a single record")
    reading.finish()
    sports = reading.sports or [notes.metadata.get("sport", "")]
    yield from count_steps(reading.records.samples(), sports, notes)
    yield from reading.inertial.samples()


def _read(content: bytes, reading: _Reading) -> Exception | None:
    """Read all frames; the error that stopped it, if one did."""
    with fitdecode.FitReader(
        io.BytesIO(content),
        processor=None,
        check_crc=fitdecode.CrcCheck.READONLY,
        error_handling=fitdecode.ErrorHandling.IGNORE,
    ) as frames:
        iterator = iter(frames)
        while True:
            try:
                frame = next(iterator)
            except StopIteration:
                return None
            except _BROKEN as error:
                return error
            reading.frame(frame)


def _with_sound_header(content: bytes, notes: Notes) -> bytes:
    """The file with a header that can be read: some devices that lose power leave it unwritten.

    Raises:
        UnreadableError: It is too short, or it is another format.
    """
    if len(content) < min(_HEADER_BYTES) + _CRC_BYTES:
        raise UnreadableError(f"is too short for a FIT file ({len(content)} bytes)")
    size, protocol, profile, body_bytes, magic = struct.unpack_from("<2BHI4s", content)
    is_sound = size in _HEADER_BYTES and magic == _MAGIC and body_bytes > 0
    if is_sound:
        return content
    if size not in _HEADER_BYTES or not (magic == _MAGIC or _starts_with_definition(content, size)):
        raise UnreadableError("is not a FIT file: its header is none")
    body_bytes = len(content) - size - _CRC_BYTES
    header = struct.pack("<2BHI4s", 14, protocol, profile, body_bytes, _MAGIC) + b"\0\0"
    notes.add("corrupt_header", "the header was put right by the file's length", is_repair=True)
    return header + content[size:]


def _starts_with_definition(content: bytes, offset: int) -> bool:
    """Whether a definition of the `file_id` message (number 0) stands there, as FIT demands."""
    start = content[offset : offset + 6]
    return (
        len(start) == 6 and start[0] & 0xF0 == 0x40 and start[2] in (0, 1) and not any(start[3:5])
    )
