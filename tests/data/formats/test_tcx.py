from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import NoSamplesError, UnreadableError
from reading import read_file

START_S = 1_714_557_600  # 2024-05-01T10:00:00Z
OPEN = (
    '<TrainingCenterDatabase xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"'
    ' xmlns:x="http://www.garmin.com/xmlschemas/ActivityExtension/v2">'
)


def point(second: int, *, time: str | None = None, heart_rate: str | None = None) -> str:
    time = f"2024-05-01T10:00:{second:02d}.500Z" if time is None else time
    return (
        f"<Trackpoint><Time>{time}</Time><Position><LatitudeDegrees>48.1</LatitudeDegrees>"
        "<LongitudeDegrees>11.5</LongitudeDegrees></Position>"
        f"<AltitudeMeters>500</AltitudeMeters><DistanceMeters>{3 * second}</DistanceMeters>"
        f"<HeartRateBpm><Value>{heart_rate or 100 + second}</Value></HeartRateBpm>"
        "<Extensions><x:TPX><x:Speed>3.0</x:Speed><x:RunCadence>85</x:RunCadence>"
        "<x:Watts>250</x:Watts></x:TPX></Extensions></Trackpoint>\n"
    )


def activity(points: str) -> str:
    return (
        f'{OPEN}<Activities><Activity Sport="Running"><Id>x</Id><Lap><DistanceMeters>99'
        f"</DistanceMeters><Track>{points}</Track></Lap></Activity></Activities>"
        "</TrainingCenterDatabase>"
    )


def written(tmp_path: Path, content: str | bytes, name: str = "a.tcx") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_points_become_position_and_workout(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, activity("".join(map(point, range(10))))))
    assert read.is_unix_time
    assert read.times("position").tolist() == [START_S + second + 0.5 for second in range(10)]
    assert read.channels("position") == {"latitude": "deg", "longitude": "deg", "altitude": "m"}
    assert read.values("workout", "heart_rate").tolist() == list(range(100, 110))
    assert read.values("workout", "distance")[-1] == 27
    assert read.values("workout", "speed")[0] == 3
    assert read.values("workout", "cadence")[0] == 170  # of both legs, in a run
    assert read.values("workout", "power")[0] == 250
    assert read.notes.metadata["sport"] == "Running"
    assert read.notes.flags == []


def test_points_without_a_readable_time_are_dropped_and_noted(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, activity(point(1) + point(2, time="noon") + point(3))))
    assert len(read.times("workout")) == 2
    assert read.repairs() == {"no_time"}
    with pytest.raises(UnreadableError, match="2 points but no readable times"):
        read_file(written(tmp_path, activity(point(1, time="noon") * 2)))


def test_a_value_that_is_no_number_is_missing_and_noted(tmp_path: Path) -> None:
    points = point(1) + point(2, heart_rate="--") + point(3)
    read = read_file(written(tmp_path, activity(points)))
    assert read.repairs() == {"not_numeric"}
    assert len(read.times("workout")) == 3


WHOLE = activity("".join(map(point, range(40))))


@given(cut=st.integers(0, len(WHOLE) - 1))
@settings(max_examples=15, deadline=None)
def test_a_file_cut_anywhere_keeps_its_whole_points(tmp_path_factory, cut: int) -> None:
    path = written(tmp_path_factory.mktemp("cut"), WHOLE[:cut])
    num_whole = WHOLE[:cut].count("</Trackpoint>")
    try:
        read = read_file(path)
    except UnreadableError:
        assert num_whole == 0
        return
    assert read.repairs() == {"truncated"}
    assert read.values("workout", "heart_rate").tolist() == list(range(100, 100 + num_whole))


def test_a_course_holds_no_samples(tmp_path: Path) -> None:
    course = f"{OPEN}<Courses><Course><Track>{point(1)}</Track></Course></Courses>"
    with pytest.raises(NoSamplesError, match="course or workout plan"):
        read_file(written(tmp_path, f"{course}</TrainingCenterDatabase>"))


@pytest.mark.parametrize(
    "document_type",
    [
        '<!DOCTYPE t [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE t [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
    ],
)
def test_entities_are_refused(tmp_path: Path, document_type: str) -> None:
    with pytest.raises(UnreadableError, match="refused"):
        read_file(written(tmp_path, document_type + activity(point(1, heart_rate="&a;"))))


@pytest.mark.parametrize("content", [b"", b"not xml", b"<gpx></gpx>"])
def test_what_is_no_tcx_is_unreadable(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_file(written(tmp_path, content))


def test_gzipped_files_are_read(tmp_path: Path) -> None:
    content = gzip.compress(activity(point(1)).encode())
    assert len(read_file(written(tmp_path, content, "a.tcx.gz")).times("workout")) == 1
