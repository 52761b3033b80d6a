"""Vectors of a sensor's own frame among the channels: which they are, their rotation and mirror.

Axes: B windows, T samples, C channels, G triples (x, y, z), P placements on the body.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from motoric.core.errors import RecipeError

_INERTIAL = re.compile(r"(?P<kind>acc|gyr|mag|gravity)(?P<placement>_\w+)?_(?P<axis>[xyz])")


def is_vector(channel: str) -> bool:
    """Whether a channel is one axis of a vector that turns with the sensor."""
    return _INERTIAL.fullmatch(channel) is not None


def triples(channels: Sequence[str], key: str) -> tuple[list[int], list[int]]:
    """Columns of whole triples as x, y, z, x, ..., and the placement of each triple.

    Raises:
        RecipeError: There is none, or one lacks an axis: turning the rest would be no rotation of
            the device.
    """
    columns_of: dict[tuple[str, str], dict[str, int]] = {}
    for column, name in enumerate(channels):
        match = _INERTIAL.fullmatch(name)
        if match is not None:
            vector = (match["kind"], match["placement"] or "")
            columns_of.setdefault(vector, {})[match["axis"]] = column
    if not columns_of:
        raise RecipeError(
            f"augmentation.{key} needs (x, y, z) triples of acc, gyr, mag or gravity, but the"
            f" channels are: {', '.join(channels)}; set it to 0"
        )
    for (kind, placement), column_of in columns_of.items():
        missing = [f"{kind}{placement}_{axis}" for axis in "xyz" if axis not in column_of]
        if missing:
            raise RecipeError(
                f"augmentation.{key} turns whole (x, y, z) triples, but there is no"
                f" {', '.join(missing)} among the channels ({', '.join(channels)}): add what is"
                f" missing, leave out the rest of the triple, or set {key} to 0"
            )
    placements = list(dict.fromkeys(placement for _, placement in columns_of))
    columns = [column_of[axis] for column_of in columns_of.values() for axis in "xyz"]
    return columns, [placements.index(placement) for _, placement in columns_of]


def check_mirror(channels: Sequence[str]) -> None:
    """Check that windows of these channels can be mirrored.

    Raises:
        RecipeError: No whole triples; or a magnetometer, or devices at several placements.
    """
    _, placement_G = triples(channels, "mirror")
    if max(placement_G) > 0:
        raise RecipeError(
            "augmentation.mirror is for one device, since those of the left side would change"
            f" places with those of the right, but the channels are: {', '.join(channels)}; set it"
            " to 0"
        )
    if any(name.startswith("mag_") for name in channels):
        raise RecipeError(
            "augmentation.mirror cannot mirror the Earth's field: leave the magnetometer out of"
            " window.channels, or set it to 0"
        )


def mirror_signs(channels: Sequence[str], axis: str) -> Tensor:
    """What a reflection across `axis` multiplies each channel by, shape (C,).

    Accelerations turn their sign along the axis. Rates of turn are axial vectors: they keep it
    along the axis and turn it along the two others. All else stays.
    """
    matches = [_INERTIAL.fullmatch(name) for name in channels]
    return torch.tensor(
        [
            1.0 if match is None or (match["axis"] == axis) == (match["kind"] == "gyr") else -1.0
            for match in matches
        ]
    )


def rotation_matrices(rotation_deg: float, num: int, generator: torch.Generator) -> Tensor:
    """Random rotations by Rodrigues' formula, shape (num, 3, 3): angle N(0, rotation_deg)."""
    device = generator.device
    axis_B3 = torch.randn(num, 3, generator=generator, device=device)
    axis_B3 = torch.nn.functional.normalize(axis_B3, dim=-1)
    angle_B11 = torch.randn(num, 1, 1, generator=generator, device=device)
    angle_B11 = torch.deg2rad(angle_B11 * rotation_deg)
    x, y, z = axis_B3.unbind(-1)
    zero = torch.zeros_like(x)
    cross_B33 = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(num, 3, 3)
    identity = torch.eye(3, device=device).expand(num, 3, 3)
    return (
        identity
        + torch.sin(angle_B11) * cross_B33
        + (1 - torch.cos(angle_B11)) * (cross_B33 @ cross_B33)
    )


def rotate(
    windows_BTC: Tensor, rotation_deg: float, channels: Sequence[str], generator: torch.Generator
) -> Tensor:
    """Turn each window of shape (B, T, C) at random, see `augmentation.augment_raw`."""
    columns, placement_G = triples(channels, "rotation_deg")
    num, _, num_channels = windows_BTC.shape
    num_placements = max(placement_G) + 1
    turn = rotation_matrices(rotation_deg, num * num_placements, generator).to(windows_BTC)
    turn_BG33 = turn.reshape(num, num_placements, 3, 3)[:, placement_G]
    # One product with 1 on the diagonal for what is left alone is faster than cutting triples out.
    all_BCC = torch.eye(num_channels).to(windows_BTC).repeat(num, 1, 1)
    columns_G3 = torch.tensor(columns, device=windows_BTC.device).reshape(-1, 3)
    all_BCC[:, columns_G3[:, :, None], columns_G3[:, None, :]] = turn_BG33
    return windows_BTC @ all_BCC.transpose(1, 2)
