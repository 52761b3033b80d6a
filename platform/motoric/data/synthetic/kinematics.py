"""An articulated figure that exercises: joint positions and what a sensor on a limb would measure.

SYNTHETIC: no person was recorded. It exists so that tests and the demo have video and sensor
recordings of one and the same motion whose truth (pose, repetitions, offset of the clocks) is known
exactly; a model trained on it says nothing about people.

All are pure functions of time, smooth in it, and follow from seeds alone. World frame: x to the
subject's right, y forward, z up; metres, seconds, radians. Another recording of the same subject is
another span of time: repetitions never repeat exactly.

Segment lengths are fractions of body height by Drillis and Contini (Body Segment Parameters, 1966),
as printed in Winter, Biomechanics and Motor Control of Human Movement, figure 4.1.

Axes: T times, J joints, S sides (right, left), C sensor channels, 3 the world's x, y, z, or rows
and columns of a rotation matrix that turns a segment's axes into the world's. A segment's own frame
has x right, y forward and z up when the subject stands with hanging arms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from motoric.core.errors import NotFoundError
from motoric.data.recording import STANDARD_GRAVITY_M_S2
from motoric.data.synthetic.exercises import (
    EXERCISES,
    HALF_HIPS,
    SHANK,
    SIDES_S,
    THIGH,
    Exercise,
    Floats,
    Subject,
    Targets,
    targets_at,
)

Place = Literal["right_wrist", "right_thigh", "lower_back"]

_LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle", "toe")
JOINTS: tuple[str, ...] = (
    "pelvis",
    "neck",
    "head",
    *(f"{side}_{limb}" for side in ("right", "left") for limb in _LIMBS),
)
INERTIAL_CHANNELS = ("acc_x", "acc_y", "acc_z", "gyr_x", "gyr_y", "gyr_z")

PLACES: tuple[Place, ...] = ("right_wrist", "right_thigh", "lower_back")

# Fractions of body height.
_TRUNK = 0.818 - 0.530
_UPPER_ARM = 0.186
_FOREARM = 0.146
_HALF_SHOULDERS = 0.129
_HEAD = (0.0, 0.012, 0.118)
_FOOT = 0.115
_SOLE = 0.028

_STEP_S = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorNoise:
    """Errors of the sensor: white noise of each sample, and a bias that is drawn once.

    Attributes:
        acc_m_s2: Standard deviation of the noise of each acceleration axis.
        gyr_rad_s: Standard deviation of the noise of each angular rate axis.
        acc_bias_m_s2: Standard deviation from which each acceleration bias is drawn.
        gyr_bias_rad_s: Standard deviation from which each angular rate bias is drawn.

    The defaults are the order of consumer MEMS parts at 50 Hz (150 ug and 0.01 deg/s per root Hz).
    """

    acc_m_s2: float = 0.02
    gyr_rad_s: float = 0.002
    acc_bias_m_s2: float = 0.05
    gyr_bias_rad_s: float = 0.01


NO_NOISE = SensorNoise(acc_m_s2=0, gyr_rad_s=0, acc_bias_m_s2=0, gyr_bias_rad_s=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pose:
    positions_TJ3: Floats
    trunk_T33: Floats
    forearm_T33: Floats
    thigh_T33: Floats


def joint_positions(exercise: Exercise, subject: Subject, time_s: Floats) -> Floats:
    """Positions of `JOINTS` in metres, shape (T, J, 3), the floor at z = 0.

    Args:
        exercise: One of `EXERCISES`.
        subject: Who does it.
        time_s: Shape (T,), in any order.

    Raises:
        NotFoundError: Unknown exercise.
        UserError: The subject's amplitude or stance is out of the leg's reach.
    """
    return _pose(exercise, subject, time_s).positions_TJ3


def sensor_pose(
    exercise: Exercise, subject: Subject, time_s: Floats, place: Place
) -> tuple[Floats, Floats]:
    """Where a worn sensor is: position (T, 3) in metres, and rotation (T, 3, 3).

    The rotation turns vectors of the sensor's frame into the world's.

    Raises:
        NotFoundError: Unknown exercise or place.
        UserError: As `joint_positions`.
    """
    pose = _pose(exercise, subject, time_s)
    if place == "right_wrist":
        anchor_T3 = pose.positions_TJ3[:, JOINTS.index("right_wrist")]
        segment_T33, offset = pose.forearm_T33, (0.018, 0.0, 0.012)
    elif place == "right_thigh":
        anchor_T3 = pose.positions_TJ3[:, JOINTS.index("right_hip")]
        segment_T33, offset = pose.thigh_T33, (0.04, 0.02, -0.5 * THIGH)
    elif place == "lower_back":
        anchor_T3 = pose.positions_TJ3[:, JOINTS.index("pelvis")]
        segment_T33, offset = pose.trunk_T33, (0.0, -0.06, 0.06)
    else:
        raise NotFoundError(f"no sensor place {place!r} (there are: {', '.join(PLACES)})")
    offset_3 = subject.height_m * np.array(offset)
    turn_x, turn_y, turn_z = (_turn(axis, np.array(subject.mount_rad[axis])) for axis in range(3))
    return anchor_T3 + segment_T33 @ offset_3, segment_T33 @ (turn_z @ turn_y @ turn_x)


def inertial(
    exercise: Exercise,
    subject: Subject,
    time_s: Floats,
    place: Place = "right_wrist",
    *,
    noise: SensorNoise | None = None,
    seed: int = 0,
) -> Floats:
    """What an inertial sensor at `place` measures, shape (T, C) for `INERTIAL_CHANNELS`.

    Acceleration is specific force in the sensor's frame, m/s^2: at rest it points up and is
    9.80665. Angular rate is in the sensor's frame, rad/s. Both follow from the motion of
    `sensor_pose` by central differences over 1 ms.

    Args:
        exercise: One of `EXERCISES`.
        subject: Who does it.
        time_s: Shape (T,).
        place: One of `PLACES`.
        noise: Of the sensor; None is the default `SensorNoise()`.
        seed: Of the noise, beside the subject's.

    Raises:
        NotFoundError: Unknown exercise or place.
        UserError: As `joint_positions`.
    """
    around_s = np.concatenate([time_s - _STEP_S, time_s, time_s + _STEP_S])
    position_T3, rotation_T33 = sensor_pose(exercise, subject, around_s, place)
    before_T3, now_T3, after_T3 = np.split(position_T3, 3)
    force_T3 = (before_T3 - 2 * now_T3 + after_T3) / _STEP_S**2
    force_T3 = force_T3 + np.array([0.0, 0.0, STANDARD_GRAVITY_M_S2])
    before_T33, now_T33, after_T33 = np.split(rotation_T33, 3)
    to_sensor_T33 = np.swapaxes(now_T33, 1, 2)
    spin_T33 = to_sensor_T33 @ (after_T33 - before_T33) / (2 * _STEP_S)
    spin_T33 = (spin_T33 - np.swapaxes(spin_T33, 1, 2)) / 2
    acc_T3 = (to_sensor_T33 @ force_T3[:, :, None])[:, :, 0]
    gyr_T3 = np.stack([spin_T33[:, 2, 1], spin_T33[:, 0, 2], spin_T33[:, 1, 0]], axis=1)

    noise = noise if noise is not None else SensorNoise()
    key = [subject.seed, 3, EXERCISES.index(exercise), PLACES.index(place), seed]
    rng = np.random.default_rng(key)
    acc_T3 = acc_T3 + rng.normal(0, noise.acc_bias_m_s2, 3)
    gyr_T3 = gyr_T3 + rng.normal(0, noise.gyr_bias_rad_s, 3)
    acc_T3 = acc_T3 + rng.normal(0, noise.acc_m_s2, acc_T3.shape)
    gyr_T3 = gyr_T3 + rng.normal(0, noise.gyr_rad_s, gyr_T3.shape)
    return np.concatenate([acc_T3, gyr_T3], axis=1)


def _turn(axis: int, angle: Floats) -> Floats:
    """Rotation about one axis by each angle: shape (..., 3, 3)."""
    cos, sin = np.cos(angle), np.sin(angle)
    after, before = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((*angle.shape, 3, 3))
    matrix[..., axis, axis] = 1
    matrix[..., after, after] = matrix[..., before, before] = cos
    matrix[..., before, after] = sin
    matrix[..., after, before] = -sin
    return matrix


def _pose(exercise: Exercise, subject: Subject, time_s: Floats) -> _Pose:
    targets = targets_at(exercise, subject, time_s)
    trunk_T33 = _turn(2, targets.yaw_T) @ _turn(0, -targets.lean_T)
    neck_T3 = targets.pelvis_T3 + trunk_T33 @ np.array([0, 0, _TRUNK])
    head_T3 = neck_T3 + trunk_T33 @ np.array(_HEAD)
    joints_JT3 = [targets.pelvis_T3, neck_T3, head_T3]
    forearm_ST33, thigh_ST33 = [], []
    for side, sign in enumerate(SIDES_S):
        arm_JT3, forearm_T33 = _arm(targets, side, sign, neck_T3, trunk_T33)
        leg_JT3, thigh_T33 = _leg(targets, side, sign)
        joints_JT3 += [*arm_JT3, *leg_JT3]
        forearm_ST33.append(forearm_T33)
        thigh_ST33.append(thigh_T33)
    return _Pose(
        positions_TJ3=subject.height_m * np.stack(joints_JT3, axis=1),
        trunk_T33=trunk_T33,
        forearm_T33=forearm_ST33[0],
        thigh_T33=thigh_ST33[0],
    )


def _arm(
    targets: Targets, side: int, sign: float, neck_T3: Floats, trunk_T33: Floats
) -> tuple[list[Floats], Floats]:
    """Shoulder, elbow and wrist by forward kinematics, and the forearm's rotation."""
    upper_T33 = (
        trunk_T33
        @ _turn(1, -sign * targets.abduction_ST[side])
        @ _turn(0, targets.flexion_ST[side])
    )
    forearm_T33 = upper_T33 @ _turn(0, targets.elbow_ST[side])
    shoulder_T3 = neck_T3 + trunk_T33 @ np.array([sign * _HALF_SHOULDERS, 0, -0.01])
    elbow_T3 = shoulder_T3 - _UPPER_ARM * upper_T33[:, :, 2]
    wrist_T3 = elbow_T3 - _FOREARM * forearm_T33[:, :, 2]
    return [shoulder_T3, elbow_T3, wrist_T3], forearm_T33


def _leg(targets: Targets, side: int, sign: float) -> tuple[list[Floats], Floats]:
    """Hip, knee, ankle and toe by inverse kinematics of two links, and the thigh's rotation.

    The knee bends forward, in the plane of hip, ankle and the world's y axis.
    """
    hip_T3 = targets.pelvis_T3 + np.array([sign * HALF_HIPS, 0, 0])
    ankle_T3 = targets.ankles_ST3[side]
    reach_T = np.linalg.norm(ankle_T3 - hip_T3, axis=1)
    down_T3 = (ankle_T3 - hip_T3) / reach_T[:, None]
    right_T3 = np.cross(down_T3, np.array([0.0, 1.0, 0.0]))
    right_T3 /= np.linalg.norm(right_T3, axis=1, keepdims=True)
    forward_T3 = np.cross(right_T3, down_T3)
    cos_T = (THIGH**2 + reach_T**2 - SHANK**2) / (2 * THIGH * reach_T)
    sin_T = np.sqrt(1 - cos_T**2)
    thigh_T3 = cos_T[:, None] * down_T3 + sin_T[:, None] * forward_T3
    knee_T3 = hip_T3 + THIGH * thigh_T3
    thigh_T33 = np.stack([right_T3, np.cross(-thigh_T3, right_T3), -thigh_T3], axis=2)
    pitch_T = targets.toes_down_ST[side]
    aside_T = np.full_like(pitch_T, sign * 0.02)
    foot_T3 = np.stack([aside_T, _FOOT * np.cos(pitch_T), -_SOLE - _FOOT * np.sin(pitch_T)], axis=1)
    toe_T3 = ankle_T3 + foot_T3
    return [hip_T3, knee_T3, ankle_T3, toe_T3], thigh_T33
