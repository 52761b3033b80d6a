from __future__ import annotations

import gzip
import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest

from bad_files import START_S, records
from fit_writer import SETTINGS, file_id, fit_file, message, record
from motoric.artefact.predictor import Predictor
from motoric.artefact.timeline import smooth
from motoric.data.dataset import open_dataset
from motoric.data.ingest.settings import IngestSettings
from motoric.data.sources.manifest_source import ManifestSource
from motoric.data.windows import cut_windows
from recordings import build_here
from whole_files import FileServer, heart_model, write

FIT, GPX, TCX = (
    "application/vnd.ant.fit",
    "application/gpx+xml",
    "application/vnd.garmin.tcx+xml",
)
EASY_S, HARD_S = 300, 200
# A slow drift within each part, a pause, and a second that the watch lost.
BPM = [*(95 + i % 9 for i in range(EASY_S)), *(160 + i % 7 for i in range(HARD_S))]
RIDE = fit_file(
    file_id(),
    *(
        record(START_S + i + (120 if i > 400 else 0), heart_rate=bpm)
        for i, bpm in enumerate(BPM)
        if i != 77
    ),
)


def offline(predictor: Predictor, file: Path, folder: Path) -> list[dict[str, Any]]:
    """Segments by the way of training: a dataset, its windows, the predictor, the timeline."""
    folder.mkdir()
    (folder / file.name).write_bytes(file.read_bytes())
    (folder / "manifest.csv").write_text(f"recording_id,sensors\na,{file.name}\n")
    build_here(ManifestSource(str(folder), IngestSettings()), str(folder / "dataset"))
    sensors = predictor.signature.sensors
    windows = cut_windows(
        open_dataset(str(folder / "dataset")).recordings(),
        stream_name=sensors.name,
        rate_hz=sensors.rate_hz,
        length_s=sensors.length_s,
        hop_s=sensors.hop_s,
        classes=None,
        context_s=sensors.context_s,
        max_gap_s=predictor.signature.preprocessing.max_gap_s,
        channels=[channel.name for channel in sensors.channels],
        resample=True,
    )
    timeline = smooth(
        windows.start_s_B,
        predictor.predict(windows.windows_BTC),
        length_s=sensors.length_s,
        hop_s=sensors.hop_s,
        classes=predictor.signature.classes,
        settings=predictor.signature.timeline,
    )
    return [
        {
            "start_s": pytest.approx(segment.start_s, abs=1e-6),
            "end_s": pytest.approx(segment.end_s, abs=1e-6),
            "label": segment.label,
            "probability": pytest.approx(segment.probability, abs=1e-5),
        }
        for segment in timeline
    ]


def gpx(bpm_T: list[int]) -> bytes:
    points = "".join(
        f'<trkpt lat="48.1" lon="11.5"><time>2024-05-01T10:{i // 60:02d}:{i % 60:02d}Z</time>'
        "<extensions><t:TrackPointExtension><t:hr>"
        f"{bpm}</t:hr></t:TrackPointExtension></extensions></trkpt>"
        for i, bpm in enumerate(bpm_T)
    )
    spaces = (
        'xmlns="http://www.topografix.com/GPX/1/1"'
        ' xmlns:t="http://www.garmin.com/xmlschemas/TrackPointExtension/v1"'
    )
    head = f'<gpx version="1.1" creator="tests" {spaces}>'
    return f"{head}<trk><trkseg>{points}</trkseg></trk></gpx>".encode()


def tcx(bpm_T: list[int]) -> bytes:
    points = "".join(
        f"<Trackpoint><Time>2024-05-01T10:{i // 60:02d}:{i % 60:02d}Z</Time>"
        f"<HeartRateBpm><Value>{bpm}</Value></HeartRateBpm></Trackpoint>"
        for i, bpm in enumerate(bpm_T)
    )
    space = 'xmlns="http://www.garmin.com/xmlschemas/TrainingCenterDatabase/v2"'
    return (
        f'<TrainingCenterDatabase {space}><Activities><Activity Sport="Biking"><Id>x</Id><Lap>'
        f"<Track>{points}</Track></Lap></Activity></Activities></TrainingCenterDatabase>"
    ).encode()


@pytest.mark.parametrize(
    ("name", "content_type", "content"),
    [("a.fit", FIT, RIDE), ("a.gpx", GPX, gpx(BPM)), ("a.tcx", TCX, tcx(BPM))],
)
def test_a_workout_gives_what_training_would_have_seen_of_it(
    served: FileServer, tmp_path: Path, name: str, content_type: str, content: bytes
) -> None:
    predictor = served.release(**heart_model())
    file = write(tmp_path / name, content)
    answer = served.answer(content, content_type)
    assert answer["segments"] == offline(predictor, file, tmp_path / "ingested")
    labels = [item["label"] for item in answer["segments"]]
    assert (labels[0], labels[-1]) == ("easy", "hard")
    form = {"file": (name, content)}
    assert served.answer(files=form) == answer


def test_a_model_at_another_rate_than_the_watch(served: FileServer, tmp_path: Path) -> None:
    predictor = served.release(**heart_model(rate_hz=2.0, length_s=5.0, hop_s=2.5))
    answer = served.answer(RIDE, FIT)
    assert answer["num_windows"] > 150
    file = write(tmp_path / "a.fit", RIDE)
    assert answer["segments"] == offline(predictor, file, tmp_path / "ingested")


def zipped() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("ride.fit", RIDE)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content_type", "content", "status", "says"),
    [
        (FIT, zipped(), 400, "is not a FIT file: its header is none"),
        (FIT, b"squats on Monday\n" * 9, 400, "is not a FIT file"),
        (FIT, RIDE[:9], 400, "too short for a FIT file (9 bytes)"),
        (FIT, fit_file(file_id(SETTINGS), message(SETTINGS, [])), 422, "holds no samples"),
        (FIT, fit_file(file_id()), 400, "without a single record"),
        (FIT, fit_file(file_id(), *records(9)), 422, "needs 10 samples"),
        (GPX, gpx([]), 422, "without track points"),
        (GPX, b"<html><body>Please log in<br></body></html>", 400, "GPX"),
        (GPX, b'<!DOCTYPE gpx [<!ENTITY a "aa">]>' + gpx(BPM[:20]), 400, "XML entities"),
        (TCX, gpx(BPM[:20]), 400, "the file"),
    ],
)
def test_a_workout_that_cannot_be_used_says_why(
    served: FileServer, content_type: str, content: bytes, status: int, says: str
) -> None:
    served.release(**heart_model())
    assert says in served.problem(status, content, content_type)


def test_a_fit_file_that_breaks_off_is_answered_up_to_there_and_said(served: FileServer) -> None:
    served.release(**heart_model())
    answer = served.answer(RIDE[: len(RIDE) // 2], FIT)
    assert answer["duration_s"] < EASY_S
    assert any("ends too early" in line for line in answer["repairs"])


def test_the_streams_of_a_file_that_lacks_a_channel_are_named(served: FileServer) -> None:
    channels = ({"name": "power", "unit": "W"},)
    served.release(**heart_model(channels=channels))
    detail = served.problem(422, RIDE, FIT)
    assert "lacks the channel(s) power; it has workout: heart_rate" in detail


def test_a_gzip_bomb_is_refused(served: FileServer) -> None:
    """Three hundred mebibytes of zeros, in 300 KB."""
    served.release(**heart_model())
    bomb = gzip.compress(b"\0" * (300 * 2**20), compresslevel=1)
    detail = served.problem(400, files={"file": ("a.fit.gz", bomb)})
    assert "larger than" in detail


@pytest.mark.skipif("MOTORIC_TEST_DATA" not in os.environ, reason="no real recordings are named")
@pytest.mark.parametrize(
    "name",
    [
        "activity-small-fenix2-run.fit",
        "sample-activity-indoor-trainer.fit",
        "sample-activity.fit",
    ],
)
def test_real_workouts_give_what_training_would_have_seen_of_them(
    served: FileServer, tmp_path: Path, name: str
) -> None:
    file = Path(os.environ["MOTORIC_TEST_DATA"]) / "workouts" / "fit" / name
    predictor = served.release(**heart_model())
    answer = served.answer(file.read_bytes(), FIT)
    assert answer["segments"] == offline(predictor, file, tmp_path / "ingested")


@pytest.mark.skipif("MOTORIC_TEST_DATA" not in os.environ, reason="no real recordings are named")
def test_real_broken_workouts_are_answered_or_refused_never_a_failure_of_the_server(
    served: FileServer,
) -> None:
    served.release(**heart_model())
    folder = Path(os.environ["MOTORIC_TEST_DATA"]) / "workouts" / "fit" / "invalid"
    files = sorted(folder.glob("*.fit"))
    assert files
    for file in files:
        assert served.post(file.read_bytes(), FIT).status_code in (200, 400, 422), file.name
