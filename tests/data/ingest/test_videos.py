"""Recordings with video through the ingest: probing, copying, and the clock of the sensors."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from motoric.data.dataset import Dataset, open_dataset
from motoric.data.ingest.settings import IngestSettings
from motoric.data.recording import Video
from motoric.data.sources.manifest_source import ManifestSource
from motoric.data.synthetic.exercises import make_subject
from motoric.data.synthetic.kinematics import inertial, joint_positions
from motoric.data.synthetic.rendering import encode_video, render_frames
from motoric.data.video.clips import ClipSpec, clip_spans, decode_clips
from recordings import build_here

OFFSET_S = 1.36
RATE_HZ = 50.0


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A figure that squats in sets: 24 s of its wrist, and a video that begins `OFFSET_S` later."""
    folder = tmp_path_factory.mktemp("squat")
    subject = replace(make_subject(2), pause_depth=0.95)
    time_s = np.arange(round(24 * RATE_HZ)) / RATE_HZ
    values_TC = inertial("squat", subject, time_s)
    np.savetxt(
        folder / "a.csv",
        np.column_stack([time_s, values_TC]),
        delimiter=",",
        fmt="%.5f",
        comments="",
        header="time_s,acc_x_m_s2,acc_y_m_s2,acc_z_m_s2,gyr_x_rad_s,gyr_y_rad_s,gyr_z_rad_s",
    )
    video_s = np.arange(20 * 15) / 15
    positions_TJ3 = joint_positions("squat", subject, video_s + OFFSET_S)
    encode_video(folder / "a.mp4", render_frames(positions_TJ3, (90, 120)), 15.0)
    return folder


def ingest(
    files: Path, folder: Path, row: dict[str, object], **settings: object
) -> tuple[Dataset, Video]:
    shutil.copytree(files, folder, dirs_exist_ok=True)
    row = {"recording_id": "a", "label": "squat", "sensors": "a.csv", "video": "a.mp4", **row}
    lines = [",".join(row), ",".join(map(str, row.values()))]
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n")
    source = ManifestSource(str(folder), IngestSettings.model_validate(settings))
    build_here(source, str(folder / "dataset"))
    dataset = open_dataset(str(folder / "dataset"))
    assert dataset.quarantine_table().num_rows == 0
    video = dataset.recording("a").video
    assert video is not None
    return dataset, video


def test_the_offset_is_found_by_correlation(files: Path, tmp_path: Path) -> None:
    _, video = ingest(files, tmp_path, {}, alignment={"method": "correlation", "max_offset_s": 5})
    assert video.offset_method == "correlation"
    assert video.offset_s == pytest.approx(OFFSET_S, abs=0.12)
    assert 0.5 <= video.offset_confidence <= 1


def test_a_weak_estimate_is_flagged_and_not_used(files: Path, tmp_path: Path) -> None:
    settings = {"method": "correlation", "min_confidence": 0.999}
    dataset, video = ingest(files, tmp_path, {}, alignment=settings)
    assert (video.offset_method, video.offset_s) == ("none", 0.0)
    assert video.offset_confidence < 0.999
    assert [flag.kind for flag in dataset.recording("a").flags] == ["not_aligned"]


def test_the_manifest_may_say_the_offset_or_both_start_times(files: Path, tmp_path: Path) -> None:
    _, video = ingest(files, tmp_path / "a", {"video_offset_s": 1.25})
    assert (video.offset_s, video.offset_method) == (1.25, "explicit")
    times = {
        "start_time": "2026-05-01T17:30:00Z",
        "video_start_time": "2026-05-01T19:30:01.500+02:00",
    }
    dataset, video = ingest(files, tmp_path / "b", times)
    assert (video.offset_s, video.offset_method) == (1.5, "start_time")
    assert dataset.recording("a").start_time_s == 1777656600
    _, video = ingest(files, tmp_path / "c", times, alignment={"method": "none"})
    assert (video.offset_s, video.offset_method) == (0, "none")


def test_a_copied_video_moves_with_the_dataset(files: Path, tmp_path: Path) -> None:
    dataset, video = ingest(files, tmp_path / "a", {"video_offset_s": OFFSET_S}, video="copy")
    assert video.uri == f"video/{video.sha256}.mp4"
    shutil.move(tmp_path / "a" / "dataset", tmp_path / "moved")
    shutil.rmtree(tmp_path / "a")
    moved = open_dataset(str(tmp_path / "moved"))
    (outline,) = moved.outlines()
    spec = ClipSpec(num_frames=4, height=24, width=32, length_s=5.0)
    spans = clip_spans(video.duration_s, outline.annotations, spec, video.offset_s)
    clips = list(decode_clips(moved.video_uri(video), spans, spec, video.offset_s))
    assert [span.label for span in spans] == ["squat"] * len(clips)
    assert len(clips) == 3
    assert dataset.card == moved.card


def test_a_referenced_video_is_found_by_its_place_and_digest(files: Path, tmp_path: Path) -> None:
    dataset, video = ingest(files, tmp_path, {})
    assert video.uri == str(tmp_path / "a.mp4") == dataset.video_uri(video)
    assert (video.width, video.height, video.num_frames) == (120, 90, 300)
    assert video.rate_hz == pytest.approx(15)
    assert not (tmp_path / "dataset" / "video").exists()
