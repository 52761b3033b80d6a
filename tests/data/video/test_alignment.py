from __future__ import annotations

import csv
import functools
import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.data.synthetic.exercises import EXERCISES, Exercise, make_subject
from motoric.data.synthetic.kinematics import inertial, joint_positions
from motoric.data.synthetic.rendering import render_frames
from motoric.data.video.alignment import (
    UNKNOWN_OFFSET,
    OffsetEstimate,
    acceleration_energy,
    estimate_offset,
    motion_energy,
)

LENGTH_S = 24.0
BEGIN_S = 5.0


@functools.cache
def filmed(exercise: Exercise, rate_hz: float = 15.0) -> tuple[np.ndarray, np.ndarray]:
    subject = replace(make_subject(2), pause_depth=0.95)
    time_s = np.arange(0, LENGTH_S, 1 / rate_hz)
    frames = render_frames(joint_positions(exercise, subject, BEGIN_S + time_s), (60, 80))
    return time_s, motion_energy(frames)


def worn(exercise: Exercise, offset_s: float, rate_hz: float) -> tuple[np.ndarray, np.ndarray]:
    subject = replace(make_subject(2), pause_depth=0.95)
    time_s = np.arange(0, LENGTH_S, 1 / rate_hz)
    return time_s, inertial(exercise, subject, BEGIN_S + time_s - offset_s)


@pytest.mark.parametrize(
    ("offset_s", "rate_hz"), [(-3.0, 50.0), (-0.77, 104.0), (0.0, 50.0), (1.31, 25.0), (3.0, 100.0)]
)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_known_offset_is_found_from_the_acceleration(
    exercise: Exercise, offset_s: float, rate_hz: float
) -> None:
    time_s, values_TC = worn(exercise, offset_s, rate_hz)
    energy = acceleration_energy(values_TC[:, :3], time_s)
    found = estimate_offset(*filmed(exercise), time_s, energy, 10.0)
    assert found.offset_s == pytest.approx(offset_s, abs=0.1)
    assert found.confidence > 0.3


def test_a_known_offset_is_found_from_the_angular_rate() -> None:
    time_s, values_TC = worn("biceps_curl", 2.37, 50.0)
    turning = np.linalg.norm(values_TC[:, 3:], axis=1)
    turning[100:110] = np.nan
    found = estimate_offset(*filmed("biceps_curl"), time_s, turning, 10.0)
    assert found.offset_s == pytest.approx(2.37, abs=0.03)
    assert found.confidence > 0.8


def test_both_clocks_may_begin_anywhere() -> None:
    video_time_s, video_energy = filmed("squat")
    time_s, values_TC = worn("squat", 1.5, 50.0)
    energy = acceleration_energy(values_TC[:, :3], time_s)
    found = estimate_offset(video_time_s + 2, video_energy, time_s + 7, energy, 10.0)
    assert found.offset_s == pytest.approx(1.5 + 7 - 2, abs=0.1)


def test_a_short_video_is_found_in_a_long_recording() -> None:
    video_time_s, video_energy = filmed("jumping_jack")
    inside = (video_time_s >= 6) & (video_time_s < 18)
    time_s, values_TC = worn("jumping_jack", 0.0, 50.0)
    energy = acceleration_energy(values_TC[:, :3], time_s)
    found = estimate_offset(
        video_time_s[inside] - video_time_s[inside][0], video_energy[inside], time_s, energy, 10.0
    )
    assert found.offset_s == pytest.approx(6.0, abs=0.1)
    assert found.confidence > 0.3


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("length_s", [6.0, 20.0, 60.0])
def test_noise_matches_nothing(seed: int, length_s: float) -> None:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (round(length_s * 30), 12, 16), dtype=np.uint8)
    time_s = np.arange(0, length_s, 0.02)
    energy = acceleration_energy(rng.normal(size=(len(time_s), 3)), time_s)
    found = estimate_offset(np.arange(len(frames)) / 30, motion_energy(frames), time_s, energy, 10)
    assert found.confidence < 0.3


def test_evenly_repeated_motion_is_not_trusted() -> None:
    time_s = np.arange(0, 20, 0.02)
    energy = 1 + np.sin(2 * np.pi * time_s)
    found = estimate_offset(time_s, energy, time_s, np.roll(energy, 13), 10.0)
    assert found.confidence < 0.1


def test_without_motion_the_offset_is_unknown() -> None:
    video_time_s, video_energy = filmed("squat")
    time_s = np.arange(0, 20, 0.02)
    still_TC = np.tile([0.0, 0.0, 9.81], (len(time_s), 1))
    energy = acceleration_energy(still_TC, time_s)
    assert estimate_offset(video_time_s, video_energy, time_s, energy, 10.0) == UNKNOWN_OFFSET
    frames = [np.full((60, 80, 3), 90, dtype=np.uint8)] * len(video_time_s)
    moving = np.abs(np.sin(time_s**1.3))
    flat = motion_energy(frames)
    assert estimate_offset(video_time_s, flat, time_s, moving, 10.0) == UNKNOWN_OFFSET
    missing = np.full(len(time_s), np.nan)
    assert estimate_offset(video_time_s, video_energy, time_s, missing, 10.0) == UNKNOWN_OFFSET


@pytest.mark.parametrize(("num_frames", "away_s"), [(0, 0.0), (1, 0.0), (20, 0.0), (300, 60.0)])
def test_without_enough_overlap_the_offset_is_unknown(num_frames: int, away_s: float) -> None:
    video_time_s, video_energy = filmed("squat")
    time_s, values_TC = worn("squat", 0.0, 50.0)
    energy = acceleration_energy(values_TC[:, :3], time_s)
    found = estimate_offset(
        video_time_s[:num_frames] + away_s, video_energy[:num_frames], time_s, energy, 10.0
    )
    assert found == OffsetEstimate(offset_s=0.0, confidence=0.0)


@settings(max_examples=30, deadline=None)
@given(
    num_frames=st.integers(0, 300),
    num_samples=st.integers(0, 600),
    max_offset_s=st.floats(0.01, 20),
    seed=st.integers(0, 1000),
)
def test_any_signals_give_an_estimate_within_its_bounds(
    num_frames: int, num_samples: int, max_offset_s: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    found = estimate_offset(
        np.arange(num_frames) / 30,
        rng.exponential(size=num_frames),
        np.cumsum(rng.uniform(0.005, 0.04, num_samples)),
        rng.exponential(size=num_samples),
        max_offset_s,
    )
    assert abs(found.offset_s) <= max_offset_s
    assert 0 <= found.confidence <= 1


def test_motion_energy_belongs_to_the_time_of_the_frame() -> None:
    frames = np.zeros((9, 16, 16), dtype=np.uint8)
    frames[4] = 100
    assert motion_energy(frames).tolist() == [0, 0, 0, 50, 100, 50, 0, 0, 0]
    assert motion_energy([frames[4]]).tolist() == [0]
    assert motion_energy([]).tolist() == []


def test_motion_energy_averages_the_noise_of_pixels_away() -> None:
    rng = np.random.default_rng(0)
    noisy = rng.integers(100, 140, (4, 480, 640), dtype=np.uint8)
    assert motion_energy(noisy).max() < 3


def test_acceleration_energy_bridges_missing_samples() -> None:
    time_s, values_TC = worn("squat", 0.0, 50.0)
    whole = acceleration_energy(values_TC[:, :3], time_s)
    holed_TC = values_TC[:, :3].copy()
    holed_TC[::7, 1] = np.nan
    holed = acceleration_energy(holed_TC, time_s)
    assert np.corrcoef(whole, holed)[0, 1] > 0.99
    assert not acceleration_energy(np.full((50, 3), np.nan), time_s[:50]).any()


def test_real_recordings_that_began_together_are_found_so() -> None:
    root = os.environ.get("MOTORIC_TEST_DATA")
    if root is None:
        pytest.skip("MOTORIC_TEST_DATA is not set: no real recordings")
    folder = Path(root) / "utd_mhad"
    with (folder / "manifest.csv").open() as file:
        rows = list(csv.DictReader(file))[::66]
    offsets_s = []
    for row in rows:
        table = np.loadtxt(folder / row["sensors"], delimiter=",", skiprows=1)
        with av.open(str(folder / row["video"])) as container:
            frames = [frame.to_ndarray(format="gray") for frame in container.decode(video=0)]
        # Its nominal 30 Hz and 50 Hz disagree by a third; both began and ended together.
        video_time_s = np.linspace(0, table[-1, 0], len(frames))
        energy = acceleration_energy(table[:, 1:4], table[:, 0])
        found = estimate_offset(video_time_s, motion_energy(frames), table[:, 0], energy, 2.0)
        if found.confidence > 0.3:
            offsets_s.append(found.offset_s)
    assert len(offsets_s) >= 3
    assert np.median(np.abs(offsets_s)) < 0.3
