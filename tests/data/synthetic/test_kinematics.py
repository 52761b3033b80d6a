from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import NotFoundError, UserError
from motoric.data.synthetic.exercises import EXERCISES, Exercise, Subject, make_subject, repetitions
from motoric.data.synthetic.kinematics import (
    JOINTS,
    NO_NOISE,
    PLACES,
    Place,
    SensorNoise,
    inertial,
    joint_positions,
    sensor_pose,
)

SPAN_S = np.arange(0, 2, 1e-3)
ANY_MOTION = {
    "exercise": st.sampled_from(EXERCISES),
    "place": st.sampled_from(PLACES),
    "seed": st.integers(0, 10_000),
}


def length_m(subject: Subject, exercise: Exercise, start: str, end: str) -> np.ndarray:
    positions_TJ3 = joint_positions(exercise, subject, np.arange(0, 20, 0.05))
    ends = positions_TJ3[:, JOINTS.index(start)] - positions_TJ3[:, JOINTS.index(end)]
    return np.linalg.norm(ends, axis=1)


def turned_by(rotation_3: np.ndarray) -> np.ndarray:
    angle = np.linalg.norm(rotation_3)
    x, y, z = rotation_3 / angle if angle else rotation_3
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("exercise", EXERCISES)
def test_at_rest_the_sensor_measures_gravity_alone(exercise: Exercise, place: Place) -> None:
    subject = replace(make_subject(3), amplitude=0.0)
    values_TC = inertial(exercise, subject, np.arange(0, 2, 0.02), place, noise=NO_NOISE)
    assert np.allclose(np.linalg.norm(values_TC[:, :3], axis=1), 9.80665, rtol=0, atol=1e-6)
    assert np.allclose(values_TC[:, 3:], 0.0, atol=1e-9)


def test_gravity_points_up_in_a_sensor_that_hangs_upright() -> None:
    subject = replace(make_subject(3), amplitude=0.0, lean_rad=0.0, mount_rad=(0.0, 0.0, 0.0))
    acc_T3 = inertial("squat", subject, np.arange(3.0), "lower_back", noise=NO_NOISE)[:, :3]
    assert acc_T3 == pytest.approx(np.tile([0, 0, 9.80665], (3, 1)), abs=1e-6)


@settings(max_examples=6, deadline=None)
@given(**ANY_MOTION)
def test_integrating_the_gyroscope_reproduces_the_orientation(
    exercise: Exercise, place: Place, seed: int
) -> None:
    subject = make_subject(seed)
    middle_s = (SPAN_S[1:] + SPAN_S[:-1]) / 2
    gyr_T3 = inertial(exercise, subject, middle_s, place, noise=NO_NOISE)[:, 3:]
    _, rotation_T33 = sensor_pose(exercise, subject, SPAN_S, place)
    reached = rotation_T33[0]
    for gyr_3 in gyr_T3:
        reached = reached @ turned_by(gyr_3 * 1e-3)
    assert reached == pytest.approx(rotation_T33[-1], abs=2e-4)


@settings(max_examples=10, deadline=None)
@given(**ANY_MOTION)
def test_integrating_the_acceleration_twice_reproduces_the_position(
    exercise: Exercise, place: Place, seed: int
) -> None:
    subject = make_subject(seed)
    acc_T3 = inertial(exercise, subject, SPAN_S, place, noise=NO_NOISE)[:, :3]
    position_T3, rotation_T33 = sensor_pose(exercise, subject, SPAN_S, place)
    world_T3 = (rotation_T33 @ acc_T3[:, :, None])[:, :, 0] - np.array([0, 0, 9.80665])
    start_m_s = (position_T3[1] - position_T3[0]) / 1e-3 - world_T3[0] * 1e-3 / 2
    speed_T3 = start_m_s + np.cumsum(world_T3, axis=0) * 1e-3 - world_T3 * 1e-3 / 2
    speed_T3 -= world_T3[0] * 1e-3 / 2
    steps_T3 = (speed_T3[1:] + speed_T3[:-1]) / 2 * 1e-3
    reached = position_T3[0] + np.cumsum(steps_T3, axis=0)
    assert np.allclose(reached, position_T3[1:], rtol=0, atol=2e-3)


@settings(max_examples=10, deadline=None)
@given(**ANY_MOTION)
def test_sensor_rotations_are_proper_and_never_flip(
    exercise: Exercise, place: Place, seed: int
) -> None:
    _, rotation_T33 = sensor_pose(exercise, make_subject(seed), np.arange(0, 15, 0.01), place)
    assert np.allclose(rotation_T33 @ np.swapaxes(rotation_T33, 1, 2), np.eye(3), atol=1e-9)
    assert np.allclose(np.linalg.det(rotation_T33), 1.0)
    # 0.2 in 10 ms would be 20 rad/s.
    assert np.abs(np.diff(rotation_T33, axis=0)).max() < 0.2


@settings(max_examples=10, deadline=None)
@given(exercise=st.sampled_from(EXERCISES), seed=st.integers(0, 10_000))
def test_bones_keep_their_lengths_and_feet_stay_above_the_floor(
    exercise: Exercise, seed: int
) -> None:
    subject = make_subject(seed)
    for start, end, share in (
        ("right_hip", "right_knee", 0.245),
        ("left_knee", "left_ankle", 0.246),
        ("right_shoulder", "right_elbow", 0.186),
        ("left_elbow", "left_wrist", 0.146),
        ("pelvis", "neck", 0.288),
    ):
        assert length_m(subject, exercise, start, end) == pytest.approx(share * subject.height_m)
    positions_TJ3 = joint_positions(exercise, subject, np.arange(0, 20, 0.05))
    assert positions_TJ3[..., 2].min() > -0.03 * subject.height_m


@settings(max_examples=10, deadline=None)
@given(exercise=st.sampled_from(EXERCISES), seed=st.integers(0, 10_000))
def test_repetitions_count_up_at_a_varying_tempo(exercise: Exercise, seed: int) -> None:
    steps = np.diff(repetitions(exercise, make_subject(seed), np.arange(0, 120, 0.1)))
    assert (steps > 0).all()
    assert steps.max() > 1.02 * steps.min()


def test_the_subject_comes_back_after_each_repetition() -> None:
    subject = replace(make_subject(4), skew_rad=0.0)
    time_s = np.arange(0, 40, 0.01)
    height_m = joint_positions("squat", subject, time_s)[:, JOINTS.index("pelvis"), 2]
    part = repetitions("squat", subject, time_s) % 1
    assert height_m[(part < 0.02) | (part > 0.98)].min() > height_m.max() - 0.01
    assert height_m[np.abs(part - 0.5) < 0.02].max() < height_m.max() - 0.15


def test_in_a_pause_the_subject_hardly_moves() -> None:
    time_s = np.arange(0, 120, 0.02)
    steady, pausing = (
        joint_positions("squat", replace(make_subject(0), pause_depth=depth), time_s)[:, 0, 2]
        for depth in (0.0, 1.0)
    )
    drop_m = steady.max() - steady
    is_low_T = drop_m > 0.1
    share = (pausing.max() - pausing)[is_low_T] / drop_m[is_low_T]
    assert share.min() < 0.1
    assert share.max() > 0.95


def test_the_same_seed_gives_the_same_signals_in_any_order_of_times() -> None:
    time_s = np.arange(0, 3, 0.02)
    first = inertial("march", make_subject(5), time_s)
    assert np.array_equal(first, inertial("march", make_subject(5), time_s))
    forth = joint_positions("march", make_subject(5), time_s)
    assert np.allclose(forth[::-1], joint_positions("march", make_subject(5), time_s[::-1]))


def test_subjects_differ_and_so_do_noise_seeds() -> None:
    time_s = np.arange(0, 3, 0.02)
    one, other = make_subject(1), make_subject(2)
    assert one.height_m != other.height_m
    positions = (joint_positions("lunge", subject, time_s) for subject in (one, other))
    assert np.abs(np.subtract(*positions)).max() > 0.05
    first, second = (inertial("lunge", one, time_s, seed=seed) for seed in (0, 1))
    assert 0.01 < np.abs(first - second).max() < 1.0


def test_noise_has_the_size_it_is_asked_for() -> None:
    noise = SensorNoise(acc_m_s2=0.5, gyr_rad_s=0.2, acc_bias_m_s2=0, gyr_bias_rad_s=0)
    time_s = np.arange(0, 60, 0.02)
    clean, noisy = (
        inertial("squat", make_subject(1), time_s, noise=level) for level in (NO_NOISE, noise)
    )
    spread_C = (noisy - clean).std(axis=0)
    assert spread_C == pytest.approx([0.5] * 3 + [0.2] * 3, rel=0.1)


def test_unknown_names_are_told_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match=r"no exercise 'swim'.*squat"):
        joint_positions("swim", make_subject(0), np.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match=r"no sensor place 'ear'.*right_wrist"):
        inertial("squat", make_subject(0), np.zeros(1), "ear")  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"amplitude": 1.3}, {"stance": 0.3}])
def test_a_motion_that_no_leg_can_follow_is_refused(change: dict[str, float]) -> None:
    with pytest.raises(UserError, match="no leg reaches as far"):
        joint_positions("march", replace(make_subject(0), **change), np.arange(0, 5, 0.1))


@pytest.mark.parametrize("stance", [0.01, 0.2])
@pytest.mark.parametrize("exercise", EXERCISES)
def test_legs_follow_the_largest_motion_that_is_allowed(exercise: Exercise, stance: float) -> None:
    subject = replace(make_subject(0), amplitude=1.2, amplitude_noise=0.15, stance=stance)
    thigh_m = length_m(subject, exercise, "left_hip", "left_knee")
    assert thigh_m == pytest.approx(0.245 * subject.height_m)
