"""GPX tracks: position and what sensors added to its points.

In: GPX 1.0 or 1.1 (https://www.topografix.com/GPX/1/1/), with Garmin's TrackPointExtension v1 and
v2, and the plain `power` that many apps write. Out: the streams `position` (latitude, longitude
deg, altitude m) and `workout` (heart_rate bpm, cadence 1/min, power W, speed m/s, temperature
degC), Unix time. All tracks and segments of a file are one recording, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import gpxpy
from gpxpy.gpx import GPX, GPXException, GPXTrackPoint, GPXXMLSyntaxException
from lxml import etree

from motoric.core.errors import NoSamplesError, UnreadableError
from motoric.data.formats.cadence import count_steps
from motoric.data.formats.channels import ColumnMeaning, column_meaning
from motoric.data.formats.source_file import decode_xml, read_whole
from motoric.data.formats.streams import PointTable
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import SensorSettings

# Columns and their units as the schemas fix them.
_UNITS = {
    "latitude": "deg",
    "longitude": "deg",
    "altitude": "m",
    "heart_rate": "bpm",
    "cadence": "1/min",
    "power": "W",
    "speed": "m/s",
    "temperature": "degC",
}
_EXTENSIONS = {
    "hr": "heart_rate",
    "heartrate": "heart_rate",
    "cad": "cadence",
    "cadence": "cadence",
    "atemp": "temperature",
    "temp": "temperature",
    "power": "power",
    "powerinwatts": "power",
    "watts": "power",
    "speed": "speed",
}


def read_gpx(uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
    """Read the track points of a GPX file; see `SensorReader`."""
    gpx = _parse(decode_xml(read_whole(uri, notes), notes), notes)
    table = PointTable()
    num_untimed = num_points = 0
    for track in gpx.tracks:
        if track.type:
            notes.metadata.setdefault("sport", track.type)
        for segment in track.segments:
            if not segment.points:
                notes.add("empty_segment", "a track segment has no points")
            for point in segment.points:
                num_points += 1
                if point.time is None:
                    num_untimed += 1
                else:
                    table.add(unix_time_s(point.time), _values(point, notes))
    _check(gpx, num_points, num_untimed, notes)
    samples = table.samples(fixed_meanings(_UNITS, settings), is_unix_time=True)
    yield from count_steps(samples, [notes.metadata.get("sport", "")], notes)


def unix_time_s(time: datetime) -> float:
    """Seconds since 1970; a time without a zone is UTC, as GPX and TCX say."""
    return (time if time.tzinfo is not None else time.replace(tzinfo=UTC)).timestamp()


def fixed_meanings(columns: dict[str, str], settings: SensorSettings) -> dict[str, ColumnMeaning]:
    """Meanings of columns whose units the format fixes; the settings may leave some out.

    Args:
        columns: Units by the name of the channel.
        settings: For `sensors.columns`.
    """
    found = {name: column_meaning(name, settings, declared_unit=columns[name]) for name in columns}
    return {name: meaning for name, meaning in found.items() if meaning is not None}


def _parse(text: str, notes: Notes) -> GPX:
    try:
        return gpxpy.parse(text)
    except GPXXMLSyntaxException as error:
        mended = _mend(text)
        if mended is None:
            raise UnreadableError(f"is not GPX: {error}") from error
        notes.add("truncated", f"the XML breaks off: {error}", is_repair=True)
        text = mended
    except (GPXException, ValueError) as error:
        raise UnreadableError(f"is not sound GPX: {error}") from error
    try:
        return gpxpy.parse(text)
    except (GPXException, ValueError) as error:
        raise UnreadableError(f"is not sound GPX: {error}") from error


def _mend(text: str) -> str | None:
    """What came before a break, closed again; None where that holds no point."""
    parser = etree.XMLParser(
        recover=True, resolve_entities=False, no_network=True, remove_comments=True
    )
    try:
        root = etree.fromstring(text.encode(), parser)
    except etree.XMLSyntaxError:  # not one element, which no recovery mends
        return None
    if root is None or etree.QName(root).localname != "gpx":
        return None
    points = [one for one in root.iter() if _local_name(one) == "trkpt"]
    if not points:
        return None
    last = points[-1]
    # The point in which the break lies may hold half a number.
    if "</trkpt>" not in text[text.rfind("<trkpt") :]:
        parent = last.getparent()
        if parent is not None:
            parent.remove(last)
    return etree.tostring(root, encoding="unicode")


def _values(point: GPXTrackPoint, notes: Notes) -> dict[str, float]:
    found = {
        "latitude": point.latitude,
        "longitude": point.longitude,
        "altitude": point.elevation,
        "speed": point.speed,
    }
    values = {name: value for name, value in found.items() if value is not None}
    for extension in point.extensions:
        for element in extension.iter():
            name = _EXTENSIONS.get(_local_name(element))
            text = (element.text or "").strip()
            if name is None or not text:
                continue
            try:
                values[name] = float(text)
            except ValueError:
                notes.add("not_numeric", f"{text!r} is no number", channel=name, is_repair=True)
    return values


def _local_name(element: Any) -> str:
    if not isinstance(element.tag, str):
        return ""
    return element.tag.rpartition("}")[2].rpartition(":")[2].lower()


def _check(gpx: GPX, num_points: int, num_untimed: int, notes: Notes) -> None:
    if not num_points:
        if gpx.routes or gpx.waypoints:
            raise NoSamplesError("is a GPX file of routes or waypoints, without track points")
        raise NoSamplesError("is a GPX file without track points")
    if num_untimed == num_points:
        raise UnreadableError(
            f"has {num_points} points but no times: export the track with its times"
        )
    if num_untimed:
        notes.add(
            "no_time",
            f"{num_untimed} of {num_points} points have no time and were left out",
            count=num_untimed,
            is_repair=True,
        )
