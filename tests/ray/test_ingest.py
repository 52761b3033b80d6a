"""Ingest as its user runs it: on the platform, as a job, and what is read of the dataset."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ray

import motoric.data
from motoric.cli.main import main
from motoric.cluster import local
from motoric.cluster.session import ray_session
from motoric.cluster.state import PlatformState
from motoric.core.errors import DatasetError
from motoric.core.settings import Settings
from motoric.data.ingest.build import build_dataset
from motoric.data.ingest.settings import IngestSettings
from motoric.data.sources.manifest_source import ManifestSource
from motoric.data.sources.synthetic_motion import SyntheticMotion
from motoric.data.video.clips import ClipSpec, clip_spans, decode_clips
from motoric.data.windows import Windower
from recordings import build_here

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

ROOT = Path(__file__).parents[2]
NUM_FILES = 40


@pytest.fixture(scope="module", autouse=True)
def _platform(platform_state: PlatformState) -> None:
    """All of this runs on the shared platform."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sensor tables of 5 people, one of them broken."""
    folder = tmp_path_factory.mktemp("files")
    for number in range(NUM_FILES):
        rng = np.random.default_rng(number)
        rows = np.cumsum(rng.standard_normal((200, 3)), axis=0) * 0.01
        lines = [f"{i / 20:.2f},{x:.4f},{y:.4f},{z:.4f}" for i, (x, y, z) in enumerate(rows)]
        place = folder / f"p{number % 5}" / ("walk" if number % 2 else "run")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.csv").write_text(
            "\n".join(["time_s,acc_x_g,acc_y_g,acc_z_g", *lines]) + "\n"
        )
    (folder / "p0" / "run" / "empty.csv").write_bytes(b"")
    (folder / "ingest.yaml").write_text("path_pattern: '(?P<subject>p\\d)/(?P<label>\\w+)/'\n")
    return folder


@pytest.fixture(scope="module")
def synthetic(
    tmp_path_factory: pytest.TempPathFactory, platform_settings: Settings
) -> Iterator[str]:
    """A small dataset with video, built on Ray; this process stays connected."""
    uri = str(tmp_path_factory.mktemp("synthetic") / "dataset")
    with ray_session(platform_settings):
        build_dataset(SyntheticMotion(num_subjects=1, duration_s=3.0), uri)
        yield uri


def settings_of(folder: Path) -> list[str]:
    return ["--settings", str(folder / "ingest.yaml")]


def test_ingest_says_what_came_in_and_again_adds_only_what_is_new(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dataset"
    command = ["ingest", str(folder), "--out", str(out), *settings_of(folder)]
    assert main(command) == 0
    shown = capfd.readouterr().out
    assert f"{NUM_FILES} added" in shown
    assert "run 20, walk 20" in shown
    assert "empty.csv" in shown
    assert "0 bytes" in shown
    assert (out / "report" / "report.html").stat().st_size > 10_000
    first = motoric.data.open(str(out)).card

    # The same on one worker of no Ray at all.
    source = ManifestSource(
        str(folder), IngestSettings(path_pattern=r"(?P<subject>p\d)/(?P<label>\w+)/")
    )
    here = build_here(source, str(tmp_path / "here")).card
    assert here.content_digest == first.content_digest

    assert main(command) == 0
    assert "nothing changed" in capfd.readouterr().out
    added = folder / "p4" / "run" / "new.csv"
    added.write_text((folder / "p4" / "run" / "4.csv").read_text())
    try:
        assert main(command) == 0
    finally:
        added.unlink()
    assert "1 added" in capfd.readouterr().out
    assert motoric.data.open(str(out)).card.num_recordings == NUM_FILES + 1


def test_strict_is_one_error_and_commits_nothing(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dataset"
    command = ["ingest", str(folder), "--out", str(out), *settings_of(folder), "--strict"]
    assert main(command) == 2
    shown = " ".join(capfd.readouterr().err.split())
    assert "1 inputs are broken" in shown
    assert "empty.csv" in shown
    with pytest.raises(DatasetError):
        motoric.data.open(str(out))


def test_a_place_that_cannot_be_written_is_one_error_and_no_quarantine(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    out = tmp_path / "file" / "dataset"
    assert main(["ingest", str(folder), "--out", str(out), *settings_of(folder)]) == 1
    shown = " ".join(capfd.readouterr().err.split())
    assert "the ingest stopped" in shown
    assert "Not a directory" in shown


def test_a_job_ingests_and_logs_its_progress(
    folder: Path, tmp_path: Path, platform_state: PlatformState
) -> None:
    out = tmp_path / "dataset"
    environment = os.environ | local.client_environment(platform_state) | {"NO_COLOR": "1"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", "."),
            *("--", "python", "jobs/ingest.py", str(folder), "--out", str(out)),
            *(*settings_of(folder), "--no-report"),
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        cwd=ROOT,
        env=environment,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"of {NUM_FILES + 1} recordings" in done.stdout
    assert f"{NUM_FILES} added" in done.stdout
    assert motoric.data.open(str(out)).card.num_recordings == NUM_FILES


def test_windows_read_by_ray_are_those_of_the_recordings(synthetic: str) -> None:
    dataset = motoric.data.open(synthetic)
    found = motoric.data.read_windows(
        synthetic, length_s=1.0, hop_s=0.5, rate_hz=25.0, channels=["gyr_z", "acc_x"]
    )
    rows = {(row["recording_id"], round(row["start_s"], 3)): row for row in found.take_all()}
    count = 0
    for recording in dataset.recordings():
        stream = recording.stream("imu")
        windower = Windower(native_rate_hz=50.0, rate_hz=25.0, length_s=1.0, hop_s=0.5)
        values_TC = stream.values_TC[:, [5, 0]]
        for window in windower.push(stream.time_s, values_TC) + windower.finish():
            row = rows[recording.recording_id, round(window.start_s, 3)]
            np.testing.assert_allclose(row["window"], window.values_TC, atol=1e-5)
            assert row["label"] == recording.annotations[0].label
            assert row["subject"] == recording.subject
            count += 1
    assert count == len(rows) > 20


def test_clips_read_by_ray_are_those_of_the_videos(synthetic: str) -> None:
    dataset = motoric.data.open(synthetic)
    found = motoric.data.read_clips(synthetic, num_frames=4, height=32, width=40, length_s=1.0)
    rows = {(row["recording_id"], round(row["start_s"], 3)): row for row in found.take_all()}
    spec = ClipSpec(num_frames=4, height=32, width=40, length_s=1.0)
    outlines = dataset.outlines()
    for outline in outlines:
        video = outline.video
        assert video is not None
        spans = clip_spans(video.duration_s, outline.annotations, spec, video.offset_s)
        clips = decode_clips(dataset.video_uri(video), spans, spec, video.offset_s)
        for span, clip in zip(spans, clips, strict=True):
            row = rows.pop((outline.recording_id, round(span.start_s, 3)))
            np.testing.assert_array_equal(row["clip"], clip)
            assert row["clip"].dtype == np.uint8
    assert rows == {}
    assert len(outlines) == 6


def test_reading_what_is_not_there_is_one_clear_error(synthetic: str) -> None:
    with pytest.raises(DatasetError, match=r"has no stream 'emg' \(it has: imu\)"):
        motoric.data.read_windows(synthetic, stream="emg", length_s=1.0)
    with pytest.raises(DatasetError, match="has no channel mag_x"):
        motoric.data.read_windows(synthetic, length_s=1.0, channels=["mag_x"])
    with pytest.raises(DatasetError, match="no video of these subjects"):
        motoric.data.read_clips(synthetic, num_frames=4, subjects=["nobody"])
    assert ray.is_initialized()
