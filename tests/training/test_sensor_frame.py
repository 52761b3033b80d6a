from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from motoric.core.errors import RecipeError
from motoric.training.augmentation import SensorAugmentation, augment_raw
from motoric.training.sensor_frame import check_mirror, mirror_signs, rotation_matrices, triples

RATE_HZ = 1000.0
GRAVITY_3 = np.array([0.0, 0.0, -9.81])
AXES = "xyz"
IMU = tuple(f"{kind}_{axis}" for kind in ("acc", "gyr", "gravity") for axis in AXES)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_rotations_are_orthogonal_and_proper() -> None:
    turn_B33 = rotation_matrices(60.0, 50, seeded())
    torch.testing.assert_close(turn_B33 @ turn_B33.transpose(1, 2), torch.eye(3).expand(50, 3, 3))
    torch.testing.assert_close(torch.linalg.det(turn_B33), torch.ones(50))


def test_the_rotation_angle_has_the_asked_std() -> None:
    turn_B33 = rotation_matrices(10.0, 20_000, seeded())
    cosine_B = (turn_B33.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2
    angle_B = torch.rad2deg(torch.arccos(cosine_B.clamp(-1, 1)))
    assert angle_B.square().mean().sqrt().item() == pytest.approx(10.0, rel=0.03)


def test_triples_come_as_x_y_z_with_the_placement_of_each() -> None:
    names = ("gyr_left_z", "gyr_left_x", "load", "acc_x", "acc_y", "acc_z", "gyr_left_y")
    assert triples(names, "mirror") == ([1, 6, 0, 3, 4, 5], [0, 1])


def about(axis: int, angle_T: np.ndarray) -> np.ndarray:
    """Rotations about one axis of the world, shape (T, 3, 3)."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    turn_T33 = np.tile(np.eye(3), (len(angle_T), 1, 1))
    turn_T33[:, first, first] = turn_T33[:, second, second] = np.cos(angle_T)
    turn_T33[:, second, first] = np.sin(angle_T)
    turn_T33[:, first, second] = -np.sin(angle_T)
    return turn_T33


def measured(place_T3: np.ndarray, axes_T33: np.ndarray) -> Tensor:
    """What a device feels, shape (1, T - 2, 9), as `IMU`, by differences in time.

    Args:
        place_T3: Where it is in the world, m.
        axes_T33: Its axes in the world, one a column, right-handed.
    """
    np.testing.assert_allclose(np.linalg.det(axes_T33), 1.0)
    to_device_T33 = axes_T33[1:-1].transpose(0, 2, 1)
    force_T3 = np.diff(place_T3, n=2, axis=0) * RATE_HZ**2 - GRAVITY_3
    change_T33 = to_device_T33 @ (axes_T33[2:] - axes_T33[:-2]) * RATE_HZ / 2
    acc_T3 = np.einsum("tij,tj->ti", to_device_T33, force_T3)
    # Each axis turns about the other two: d(axes)/dt = axes @ cross(rates).
    gyr_T3 = np.stack([change_T33[:, 2, 1], change_T33[:, 0, 2], change_T33[:, 1, 0]], axis=1)
    gravity_T3 = -to_device_T33 @ GRAVITY_3
    return torch.from_numpy(np.concatenate([acc_T3, gyr_T3, gravity_T3], axis=1))[None]


def test_a_device_that_turns_about_its_own_axis_measures_that_turn() -> None:
    angle_T = 2.0 * np.arange(50) / RATE_HZ
    found_BTC = measured(np.zeros((50, 3)), about(2, angle_T))
    expected = torch.tensor([0, 0, 9.81, 0, 0, 2, 0, 0, 9.81], dtype=torch.float64)
    torch.testing.assert_close(found_BTC, expected.expand(1, 48, 9), rtol=0, atol=1e-4)


@pytest.mark.parametrize("axis", AXES)
def test_a_mirrored_window_is_what_the_device_of_the_mirrored_person_measures(axis: str) -> None:
    time_T = np.arange(400) / RATE_HZ
    place_T3 = np.stack(
        [0.3 * np.sin(7 * time_T), 0.2 * np.cos(5 * time_T), 0.1 * np.sin(9 * time_T)], axis=1
    )
    axes_T33 = about(2, np.sin(6 * time_T)) @ about(0, 0.4 + time_T) @ about(1, np.cos(8 * time_T))
    # A mirror that stands upright somewhere in the room, so that down stays down.
    normal_3 = np.array([np.cos(0.7), np.sin(0.7), 0.0])
    mirror_33 = np.eye(3) - 2 * np.outer(normal_3, normal_3)
    # Each arrow painted on the device is seen in the mirror; one is read backwards, as a real
    # device on the other side is no mirror image but right-handed again.
    mirrored_axes_T33 = mirror_33 @ axes_T33
    mirrored_axes_T33[:, :, AXES.index(axis)] *= -1
    config = SensorAugmentation(mirror=1, mirror_axis=axis)
    found_BTC = augment_raw(measured(place_T3, axes_T33), config, IMU, RATE_HZ, seeded())
    expected_BTC = measured(place_T3 @ mirror_33.T, mirrored_axes_T33)
    assert expected_BTC[..., :6].std(dim=1).min() > 0.1
    torch.testing.assert_close(found_BTC, expected_BTC, rtol=0, atol=1e-6)


def test_a_mirror_leaves_what_is_no_vector_of_the_device_alone() -> None:
    names = ("heart_rate", "acc_wrist_x", "acc_wrist_y", "acc_wrist_z", "left_knee_x", "accuracy_x")
    assert mirror_signs(names, "x").tolist() == [1, -1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("heart_rate", "left_knee_x"), r"augmentation\.mirror needs .* channels are: heart_rate"),
        (("acc_x", "acc_y", "acc_z", "gyr_x"), "mirror turns whole .* there is no gyr_y, gyr_z"),
        ((*IMU, "mag_x", "mag_y", "mag_z"), "leave the magnetometer out"),
        (("mag_arm_x", "mag_arm_y", "mag_arm_z"), "leave the magnetometer out"),
        (
            tuple(f"acc_{side}_{axis}" for side in ("left", "right") for axis in AXES),
            r"is for one device.* channels are: acc_left_x, .*acc_right_z",
        ),
    ],
)
def test_what_has_no_mirror_image_is_refused_and_named(
    names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        check_mirror(names)


def test_one_device_can_be_mirrored_wherever_it_is_worn() -> None:
    check_mirror(IMU)
    check_mirror([f"{kind}_wrist_{axis}" for kind in ("acc", "gyr") for axis in AXES])
