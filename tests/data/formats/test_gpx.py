from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import NoSamplesError, UnreadableError
from reading import read_file

START_S = 1_714_557_600  # 2024-05-01T10:00:00Z
OPEN = (
    '<gpx version="1.1" creator="tests" xmlns="http://www.topografix.com/GPX/1/1"'
    ' xmlns:gpxtpx="http://www.garmin.com/xmlschemas/TrackPointExtension/v1">'
)


def point(second: int, *, time: bool = True, more: str = "") -> str:
    stamp = f"<time>2024-05-01T10:00:{second:02d}Z</time>" if time else ""
    return (
        f'<trkpt lat="48.{second:02d}" lon="11.5"><ele>{500 + second}</ele>{stamp}'
        f"<extensions><gpxtpx:TrackPointExtension><gpxtpx:hr>{100 + second}</gpxtpx:hr>"
        f"<gpxtpx:cad>80</gpxtpx:cad><gpxtpx:atemp>21.5</gpxtpx:atemp>"
        f"</gpxtpx:TrackPointExtension><power>{200 + second}</power></extensions>{more}</trkpt>\n"
    )


def track(*segments: str) -> str:
    inner = "".join(f"<trkseg>\n{one}</trkseg>" for one in segments)
    return f"{OPEN}<trk><name>From my home</name><type>run</type>{inner}</trk></gpx>"


def written(tmp_path: Path, content: str | bytes, name: str = "a.gpx") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_points_become_position_and_workout(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, track("".join(map(point, range(10))))))
    assert read.channels("position") == {"latitude": "deg", "longitude": "deg", "altitude": "m"}
    assert read.is_unix_time
    assert read.times("position").tolist() == [START_S + second for second in range(10)]
    assert read.values("position", "altitude")[3] == 503
    assert read.values("workout", "heart_rate").tolist() == list(range(100, 110))
    assert read.values("workout", "power")[-1] == 209
    assert read.values("workout", "temperature")[0] == 21.5
    assert read.notes.metadata["sport"] == "run"


def test_segments_are_read_one_after_another_and_empty_ones_noted(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, track(point(1), "", point(5))))
    assert read.times("position").tolist() == [START_S + 1, START_S + 5]
    assert read.remarks() == {"empty_segment"}


def test_points_without_time_are_dropped_and_noted(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, track(point(1) + point(2, time=False) + point(3))))
    assert len(read.times("position")) == 2
    (flag,) = read.notes.flags
    assert (flag.kind, flag.count, flag.is_repair) == ("no_time", 1, True)


def test_a_track_without_any_time_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="has 2 points but no times"):
        read_file(written(tmp_path, track(point(1, time=False) * 2)))


def test_a_route_holds_no_samples(tmp_path: Path) -> None:
    content = f'{OPEN}<rte><rtept lat="1" lon="2"/></rte></gpx>'
    with pytest.raises(NoSamplesError, match="routes or waypoints"):
        read_file(written(tmp_path, content))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
def test_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    declared = "" if encoding == "utf-8-sig" else f' encoding="{encoding}"'
    text = f'<?xml version="1.0"{declared}?>\n' + track(point(1, more="<name>Ködö</name>"))
    if encoding == "utf-16-le":
        text = "\ufeff" + text
    assert len(read_file(written(tmp_path, text.encode(encoding))).times("position")) == 1


def test_text_that_is_not_what_it_declares_is_read_and_noted(tmp_path: Path) -> None:
    text = '<?xml version="1.0" encoding="utf-8"?>' + track(point(1, more="<name>Ködö</name>"))
    read = read_file(written(tmp_path, text.encode("cp1252")))
    assert read.repairs() == {"encoding"}


@pytest.mark.parametrize(
    "document_type",
    [
        '<!DOCTYPE gpx [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;&a;">]>',
        '<!DOCTYPE gpx [<!ENTITY x SYSTEM "file:///etc/passwd">]>',
        '<!DOCTYPE gpx SYSTEM "http://127.0.0.1:9/x.dtd">',
    ],
)
def test_entities_are_refused(tmp_path: Path, document_type: str) -> None:
    with pytest.raises(UnreadableError, match="refused"):
        read_file(written(tmp_path, document_type + track(point(1))))


@pytest.mark.parametrize("content", [b"", b"not xml at all", b"{}", b"<html></html>", b"<gpx>"])
def test_what_is_no_gpx_gives_an_error_for_people(tmp_path: Path, content: bytes) -> None:
    with pytest.raises((UnreadableError, NoSamplesError)):
        read_file(written(tmp_path, content))


WHOLE = track("".join(map(point, range(30))))


@given(cut=st.integers(0, len(WHOLE) - 1))
@settings(max_examples=15, deadline=None)
def test_a_track_cut_anywhere_keeps_its_whole_points(tmp_path_factory, cut: int) -> None:
    path = written(tmp_path_factory.mktemp("cut"), WHOLE[:cut])
    num_whole = WHOLE[:cut].count("</trkpt>")
    try:
        read = read_file(path)
    except (UnreadableError, NoSamplesError):
        assert num_whole == 0
        return
    assert read.repairs() == {"truncated"}
    assert read.values("workout", "heart_rate").tolist() == list(range(100, 100 + num_whole))


def test_gzipped_tracks_are_read(tmp_path: Path) -> None:
    content = gzip.compress(track(point(1)).encode())
    assert len(read_file(written(tmp_path, content, "a.gpx.gz")).times("position")) == 1


REAL: dict[str, int | str] = {
    "Mojstrovka.gpx": 184,
    "around-visnjan-with-car.gpx": 104,
    "cerknicko-jezero-no-creator.gpx": 296,
    "cerknicko-jezero-with-elevations-zero.gpx": 296,
    "cerknicko-jezero-without-elevations.gpx": 295,
    "cerknicko-jezero.gpx": 296,
    "cerknicko-without-times.gpx": 5,
    "custom_schema_locations.gpx": "without track points",
    "default_schema_locations.gpx": "without track points",
    "first_and_last_elevation.gpx": 10,
    "gpx-with-node-with-comments.gpx": 1,
    "gpx1.0_with_all_fields.gpx": 1,
    "gpx1.1_with_all_fields.gpx": 1,
    "gpx1.1_with_extensions.gpx": "routes or waypoints",
    "gpx1.1_with_extensions_without_namespaces.gpx": "routes or waypoints",
    "gpx_with_garmin_extension.gpx": "routes or waypoints",
    "korita-zbevnica.gpx": 513,
    "route.gpx": "routes or waypoints",
    "track-with-empty-segment.gpx": 9,
    "track-with-extremes.gpx": "25 points but no times",
    "track-with-less-sec-time.gpx": 2,
    "track-with-small-floats.gpx": "3 points but no times",
    "track_with_dilution_errors.gpx": "1 points but no times",
    "unicode.gpx": "routes or waypoints",
    "unicode_with_bom.gpx": "routes or waypoints",
    "unicode_with_bom_noencoding.gpx": "routes or waypoints",
}


def real_folder() -> Path:
    folder = os.environ.get("MOTORIC_TEST_DATA")
    if folder is None:
        pytest.skip("MOTORIC_TEST_DATA names no folder of real recordings")
    return Path(folder) / "workouts" / "gpx"


def test_every_real_file_is_expected() -> None:
    assert {path.name for path in real_folder().glob("*.gpx")} == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_real_files_give_what_they_hold(name: str) -> None:
    path, expected = real_folder() / name, REAL[name]
    if isinstance(expected, str):
        with pytest.raises((NoSamplesError, UnreadableError), match=expected):
            read_file(path)
        return
    read = read_file(path)
    assert len(read.times("position")) == expected
    assert read.repairs() <= {"no_time"}
    latitude, longitude = (read.values("position", one) for one in ("latitude", "longitude"))
    assert (np.abs(latitude) <= 90).all()
    assert (np.abs(longitude) <= 180).all()
