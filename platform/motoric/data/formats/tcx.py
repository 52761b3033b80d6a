"""TCX activities, read as a stream of XML elements.

In: Garmin's Training Center XML v2 with ActivityExtension v2 (TPX). Out: the streams `position`
and `workout`, Unix time. Cadence is as the device counts it: revolutions of a crank, strides (one
leg) of a runner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from lxml import etree

from motoric.core.errors import NoSamplesError, UnreadableError
from motoric.data.formats.cadence import count_steps
from motoric.data.formats.gpx import fixed_meanings, unix_time_s
from motoric.data.formats.source_file import open_source
from motoric.data.formats.streams import PointTable
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import SensorSettings

_UNITS = {
    "latitude": "deg",
    "longitude": "deg",
    "altitude": "m",
    "heart_rate": "bpm",
    "speed": "m/s",
    "cadence": "1/min",
    "power": "W",
    "distance": "m",
}
_ELEMENTS = {
    "LatitudeDegrees": "latitude",
    "LongitudeDegrees": "longitude",
    "AltitudeMeters": "altitude",
    "DistanceMeters": "distance",
    "Value": "heart_rate",
    "Cadence": "cadence",
    "RunCadence": "cadence",
    "Speed": "speed",
    "Watts": "power",
}


class _Reading:
    """What has been found so far."""

    def __init__(self, notes: Notes) -> None:
        self.table = PointTable()
        self.notes = notes
        self.sports: list[str] = []
        self.num_points = 0
        self.num_untimed = 0
        self.num_not_numeric = 0

    def start(self, element: Any, name: str) -> None:
        if element.getparent() is None:
            self._check_root(element, name)
        elif name == "Activity":
            sport = str(element.get("Sport", ""))
            self.sports.append(sport)
            self.notes.metadata.setdefault("sport", sport)

    def _check_root(self, element: Any, name: str) -> None:
        document_type = element.getroottree().docinfo.internalDTD
        if document_type is not None:
            raise UnreadableError("declares a document type (entities are refused)")
        if name != "TrainingCenterDatabase":
            raise UnreadableError(f"is not TCX: its root is <{name}>")

    def point(self, element: Any) -> None:
        self.num_points += 1
        time_s: float | None = None
        values: dict[str, float] = {}
        for part in element.iter():
            name, text = _local_name(part), (part.text or "").strip()
            if not text:
                continue
            if name == "Time":
                time_s = _time_s(text)
            elif name in _ELEMENTS:
                try:
                    values[_ELEMENTS[name]] = float(text)
                except ValueError:
                    self.num_not_numeric += 1
        if time_s is None:
            self.num_untimed += 1
        else:
            self.table.add(time_s, values)

    def finish(self) -> None:
        if not self.num_points:
            raise NoSamplesError("is a TCX file without track points: a course or workout plan")
        if self.num_untimed == self.num_points:
            raise UnreadableError(f"has {self.num_points} points but no readable times")
        if self.num_untimed:
            self.notes.add(
                "no_time",
                f"{self.num_untimed} of {self.num_points} points have no time and were left out",
                count=self.num_untimed,
                is_repair=True,
            )
        if self.num_not_numeric:
            self.notes.add(
                "not_numeric",
                f"{self.num_not_numeric} values are no numbers and were left out",
                count=self.num_not_numeric,
                is_repair=True,
            )


def read_tcx(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read the track points of a TCX file; see `SensorReader`."""
    reading = _Reading(notes)
    with open_source(uri, notes) as source:
        events = etree.iterparse(
            source,
            events=("start", "end"),
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
            huge_tree=False,
        )
        try:
            _read(events, reading)
        except etree.XMLSyntaxError as error:
            if not len(reading.table):
                raise UnreadableError(f"is not XML that can be read: {error}") from error
            notes.add("truncated", f"the XML breaks off: {error}", is_repair=True)
    reading.finish()
    samples = reading.table.samples(fixed_meanings(_UNITS, settings), is_unix_time=True)
    yield from count_steps(samples, reading.sports, notes)


def _read(events: Any, reading: _Reading) -> None:
    is_course = False
    for event, element in events:
        name = _local_name(element)
        if event == "start":
            reading.start(element, name)
            is_course = is_course or name == "Courses"
        elif name == "Courses":
            is_course = False
        elif name == "Trackpoint":
            if not is_course:
                reading.point(element)
            element.clear()
            # lxml keeps the emptied elements, else a long file would fill the memory.
            while element.getprevious() is not None:
                del element.getparent()[0]


def _local_name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _time_s(text: str) -> float | None:
    try:
        time_s = unix_time_s(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        return None
    return time_s if math.isfinite(time_s) else None
