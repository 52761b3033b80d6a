"""Made-up people and six exercises they do: where their feet, trunk and arms go.

SYNTHETIC: no person was recorded; `kinematics` makes poses of this and says why it exists. All are
pure functions of time, smooth in it, and follow from seeds alone. Another recording of the same
subject is another span of time: repetitions never repeat exactly.

Lengths are fractions of body height, angles radians. The world's x is to the subject's right, y
forward, z up.

Axes: T times, K sines, S sides (right, left), 3 the world's x, y, z.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import NotFoundError, UserError

Exercise = Literal["squat", "jumping_jack", "lunge", "biceps_curl", "arm_raise", "march"]
Floats = NDArray[np.float64]

# Drillis and Contini 1966, as printed in Winter, figure 4.1.
ANKLE_Z = 0.039
SHANK = 0.285 - 0.039
THIGH = 0.530 - 0.285
# The hip joints lie closer than the 0.191 of the table, which is the width of the pelvis.
HALF_HIPS = 0.055
# How far hip and ankle are apart in a relaxed stance, with the knee just off its end stop.
_STANCE_REACH = 0.985 * (THIGH + SHANK)
# Farther, and some exercise takes a foot out of the leg's reach.
_MAX_AMPLITUDE = 1.2
_MAX_STANCE = 0.2

SIDES_S = np.array([1.0, -1.0])
_SIDES_S1 = SIDES_S[:, None]
_REPETITIONS_HZ: dict[Exercise, float] = {
    "squat": 0.42,
    "jumping_jack": 0.8,
    "lunge": 0.36,
    "biceps_curl": 0.45,
    "arm_raise": 0.4,
    "march": 0.85,
}
EXERCISES: tuple[Exercise, ...] = tuple(_REPETITIONS_HZ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A made-up person's body and style.

    Attributes:
        seed: What the slow variations of tempo and amplitude follow from.
        height_m: Body height.
        tempo: Factor on the usual repetitions a second.
        amplitude: Factor on the usual range of motion; 0 stands still.
        asymmetry: The left side moves by `1 - asymmetry` of the right.
        skew_rad: Going down or up slower than coming back, at most 0.5.
        phase: Where in a repetition time 0 lies, 0 to 1.
        phase_noise: How far repetitions run ahead or behind an even tempo, in repetitions.
        amplitude_noise: How much repetitions differ in range, as a fraction.
        lean_rad: Trunk forward in stance.
        stance: Half the distance between the feet, as a fraction of height.
        elbow_rad: Bend of resting elbows.
        abduction_rad: Resting arms away from the body.
        mount_rad: How the sensor is turned on its segment: about x, y, z.
        pause_depth: How far the range of motion falls in the pauses between sets, which last some
            seconds each; 0 exercises without pause.
    """

    seed: int
    height_m: float
    tempo: float
    amplitude: float
    asymmetry: float
    skew_rad: float
    phase: float
    phase_noise: float
    amplitude_noise: float
    lean_rad: float
    stance: float
    elbow_rad: float
    abduction_rad: float
    mount_rad: tuple[float, float, float]
    pause_depth: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What an exercise prescribes: lengths as fractions of body height, angles in radians."""

    pelvis_T3: Floats
    ankles_ST3: Floats
    toes_down_ST: Floats
    lean_T: Floats
    yaw_T: Floats
    flexion_ST: Floats
    abduction_ST: Floats
    elbow_ST: Floats


def make_subject(seed: int) -> Subject:
    """Draw a subject; the same seed gives the same one."""
    rng = np.random.default_rng([seed, 0])
    mount = rng.uniform(-0.2, 0.2, size=3)
    return Subject(
        seed=seed,
        height_m=float(np.clip(rng.normal(1.72, 0.09), 1.5, 1.98)),
        tempo=float(rng.uniform(0.8, 1.25)),
        amplitude=float(rng.uniform(0.75, 1.05)),
        asymmetry=float(rng.uniform(0.0, 0.12)),
        skew_rad=float(rng.uniform(-0.4, 0.4)),
        phase=float(rng.uniform()),
        phase_noise=float(rng.uniform(0.12, 0.25)),
        amplitude_noise=float(rng.uniform(0.05, 0.15)),
        lean_rad=float(rng.uniform(0.0, 0.08)),
        stance=float(rng.uniform(0.055, 0.1)),
        elbow_rad=float(rng.uniform(0.15, 0.4)),
        abduction_rad=float(rng.uniform(0.14, 0.26)),
        mount_rad=(float(mount[0]), float(mount[1]), float(mount[2])),
    )


def repetitions(exercise: Exercise, subject: Subject, time_s: Floats) -> Floats:
    """Repetitions since some repetition's start, shape (T,), increasing with time.

    A repetition starts at each whole number: upright, arms down (a march: mid-step).

    Raises:
        NotFoundError: Unknown exercise.
    """
    if exercise not in _REPETITIONS_HZ:
        raise NotFoundError(f"no exercise {exercise!r} (there are: {', '.join(EXERCISES)})")
    rate_hz = _REPETITIONS_HZ[exercise] * subject.tempo
    wander_T = _wander([subject.seed, 1, EXERCISES.index(exercise)], time_s)
    return np.asarray(rate_hz * time_s + subject.phase + subject.phase_noise * wander_T)


def targets_at(exercise: Exercise, subject: Subject, time_s: Floats) -> Targets:
    """What the exercise prescribes at each time.

    Raises:
        NotFoundError: Unknown exercise.
        UserError: The subject's amplitude or stance is out of the leg's reach.
    """
    if not (0 <= subject.amplitude <= _MAX_AMPLITUDE and 0 < subject.stance <= _MAX_STANCE):
        raise UserError(
            f"no leg reaches as far as amplitude {subject.amplitude:g} at stance"
            f" {subject.stance:g}: keep within {_MAX_AMPLITUDE} and {_MAX_STANCE}"
        )
    angle_T = 2 * np.pi * repetitions(exercise, subject, time_s)
    angle_T = angle_T + subject.skew_rad * np.sin(angle_T)
    wander_T = _wander([subject.seed, 2, EXERCISES.index(exercise)], time_s)
    range_T = subject.amplitude * (1 + subject.amplitude_noise * wander_T)
    pause_T = _wander([subject.seed, 4, EXERCISES.index(exercise)], 2 * time_s)
    range_T = range_T * (1 - subject.pause_depth / (1 + np.exp(-16 * (pause_T - 0.2))))
    range_ST = np.stack([range_T, (1 - subject.asymmetry) * range_T])
    return _SCRIPTS[exercise](_stance(subject, len(time_s)), angle_T, range_ST)


def _wander(key: list[int], time_s: Floats) -> Floats:
    """A slow, smooth, random function within -1 and 1: a few sines of 0.02 to 0.12 Hz."""
    rng = np.random.default_rng(key)
    rate_hz_K = rng.uniform(0.02, 0.12, 4)
    phase_rad_K = rng.uniform(0, 2 * np.pi, 4)
    weight_K = rng.uniform(0.5, 1.0, 4)
    sines_TK = np.sin(2 * np.pi * rate_hz_K * time_s[:, None] + phase_rad_K)
    return np.asarray(sines_TK @ (weight_K / weight_K.sum()))


def _stance(subject: Subject, num_times: int) -> Targets:
    zero_T, zero_ST = np.zeros(num_times), np.zeros((2, num_times))
    pelvis_T3 = np.zeros((num_times, 3))
    pelvis_T3[:, 2] = ANKLE_Z + np.sqrt(_STANCE_REACH**2 - (subject.stance - HALF_HIPS) ** 2)
    ankles_ST3 = np.zeros((2, num_times, 3))
    ankles_ST3[:, :, 0] = subject.stance * _SIDES_S1
    ankles_ST3[:, :, 2] = ANKLE_Z
    return Targets(
        pelvis_T3=pelvis_T3,
        ankles_ST3=ankles_ST3,
        toes_down_ST=zero_ST,
        lean_T=zero_T + subject.lean_rad,
        yaw_T=zero_T,
        flexion_ST=zero_ST + 0.05,
        abduction_ST=zero_ST + subject.abduction_rad,
        elbow_ST=zero_ST + subject.elbow_rad,
    )


def _move(base_T3: Floats, *, x: Floats | float, y: Floats | float, z: Floats | float) -> Floats:
    moved = np.broadcast_arrays(x, y, z, base_T3[..., 0])[:3]
    return np.asarray(base_T3 + np.stack(moved, axis=-1))


# Each exercise: the stance, the angle of the repetition (T,), the range of motion of the right and
# the left side (S, T), to targets. Only polynomials of sines, so that all derivatives exist.


def _squat(base: Targets, angle_T: Floats, range_ST: Floats) -> Targets:
    depth_T = _bump(angle_T) * range_ST[0]
    return replace(
        base,
        pelvis_T3=_move(base.pelvis_T3, x=0, y=-0.11 * depth_T, z=-0.2 * depth_T),
        lean_T=base.lean_T + 0.65 * depth_T,
        flexion_ST=base.flexion_ST + 2.0 * _bump(angle_T) * range_ST,
    )


def _jumping_jack(base: Targets, angle_T: Floats, range_ST: Floats) -> Targets:
    open_ST = _bump(angle_T) * range_ST
    hop_T = np.sin(angle_T) ** 2 * range_ST[0]
    ankles_ST3 = _move(base.ankles_ST3, x=0.15 * open_ST * _SIDES_S1, y=0.0, z=0.03 * hop_T)
    aside_T = np.abs(ankles_ST3[0, :, 0]) - HALF_HIPS
    pelvis_T3 = base.pelvis_T3.copy()
    # Knees give at each landing.
    pelvis_T3[:, 2] = ANKLE_Z + 0.035 * hop_T + np.sqrt(_STANCE_REACH**2 - aside_T**2)
    pelvis_T3[:, 2] -= 0.02 * range_ST[0]
    return replace(
        base,
        pelvis_T3=pelvis_T3,
        ankles_ST3=ankles_ST3,
        toes_down_ST=0.4 * hop_T + np.zeros_like(open_ST),
        abduction_ST=base.abduction_ST + 2.5 * open_ST,
    )


def _lunge(base: Targets, angle_T: Floats, range_ST: Floats) -> Targets:
    bump_T = _bump(angle_T)
    # The right foot travels first, then the body sinks.
    travel_T, sink_T = 1 - (1 - bump_T) ** 3, bump_T**2 * range_ST[0]
    stride_T = 0.4 * travel_T * range_ST[0]
    ankles_ST3 = base.ankles_ST3.copy()
    ankles_ST3[0, :, 1] += stride_T
    ankles_ST3[0, :, 2] += 0.16 * travel_T * (1 - travel_T) * range_ST[0]
    ankles_ST3[1, :, 2] += 0.06 * sink_T
    pelvis_T3 = _move(base.pelvis_T3, x=0, y=stride_T / 2, z=-0.17 * sink_T)
    aside = np.abs(base.ankles_ST3[0, 0, 0]) - HALF_HIPS
    pelvis_T3[:, 2] += np.sqrt(_STANCE_REACH**2 - aside**2 - stride_T**2 / 4)
    pelvis_T3[:, 2] -= np.sqrt(_STANCE_REACH**2 - aside**2)
    return replace(
        base,
        pelvis_T3=pelvis_T3,
        ankles_ST3=ankles_ST3,
        toes_down_ST=np.stack([0 * sink_T, 0.5 * sink_T]),
        lean_T=base.lean_T + 0.12 * sink_T,
        flexion_ST=base.flexion_ST + np.stack([-0.2 * sink_T, 0.25 * sink_T]),
        elbow_ST=base.elbow_ST + 0.4 * sink_T,
    )


def _biceps_curl(base: Targets, angle_T: Floats, range_ST: Floats) -> Targets:
    curl_T = _bump(angle_T) * range_ST[0]
    return replace(
        base,
        lean_T=base.lean_T - 0.05 * curl_T,
        flexion_ST=base.flexion_ST + np.stack([0.2 * curl_T, 0.02 * curl_T]),
        elbow_ST=base.elbow_ST + np.stack([2.0 * curl_T, 0.05 * curl_T]),
    )


def _arm_raise(base: Targets, angle_T: Floats, range_ST: Floats) -> Targets:
    raise_ST = _bump(angle_T) * range_ST
    return replace(
        base,
        lean_T=base.lean_T - 0.03 * raise_ST[0],
        abduction_ST=base.abduction_ST + 1.4 * raise_ST,
    )


def _march(base: Targets, angle_T: Floats, range_ST: Floats) -> Targets:
    side_ST = np.sin(angle_T) * _SIDES_S1
    lift_ST = ((1 + side_ST) / 2) ** 3 * range_ST
    sway_T = np.sin(angle_T) * range_ST[0]
    bob_T = np.cos(2 * angle_T) * range_ST[0]
    return replace(
        base,
        pelvis_T3=_move(base.pelvis_T3, x=-0.012 * sway_T, y=0, z=-0.006 * bob_T - 0.01),
        ankles_ST3=_move(base.ankles_ST3, x=0, y=0.12 * lift_ST, z=0.15 * lift_ST),
        toes_down_ST=0.4 * lift_ST,
        yaw_T=0.08 * sway_T,
        flexion_ST=base.flexion_ST - 0.5 * side_ST * range_ST,
        elbow_ST=base.elbow_ST + 0.5 * range_ST,
    )


_SCRIPTS: dict[Exercise, Callable[[Targets, Floats, Floats], Targets]] = {
    "squat": _squat,
    "jumping_jack": _jumping_jack,
    "lunge": _lunge,
    "biceps_curl": _biceps_curl,
    "arm_raise": _arm_raise,
    "march": _march,
}


def _bump(angle_T: Floats) -> Floats:
    """0 at the start of a repetition, 1 halfway."""
    return np.asarray((1 - np.cos(angle_T)) / 2)
