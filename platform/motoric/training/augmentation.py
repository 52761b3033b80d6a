"""Augmentation of prepared windows, seeded by the generator it is given. Training only.

Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor


class AugmentationConfig(BaseModel):
    """`augmentation:` of a recipe; 0 turns a part off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rotation_deg: float = Field(
        default=0.0, ge=0, le=180, description="sensor frame turned about a random axis, std"
    )
    scale_std: float = Field(
        default=0.0, ge=0, lt=1, description="one factor a window, 1 + N(0, std)"
    )
    jitter_std: float = Field(default=0.0, ge=0, description="noise in normalised units, std")


def rotation_matrices(rotation_deg: float, num: int, generator: torch.Generator) -> Tensor:
    """Random rotations by Rodrigues' formula, shape (num, 3, 3): angle N(0, rotation_deg)."""
    axis_B3 = torch.nn.functional.normalize(torch.randn(num, 3, generator=generator), dim=-1)
    angle_B11 = torch.deg2rad(torch.randn(num, 1, 1, generator=generator) * rotation_deg)
    x, y, z = axis_B3.unbind(-1)
    zero = torch.zeros_like(x)
    cross_B33 = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(num, 3, 3)
    identity = torch.eye(3).expand(num, 3, 3)
    return (
        identity
        + torch.sin(angle_B11) * cross_B33
        + (1 - torch.cos(angle_B11)) * (cross_B33 @ cross_B33)
    )


def rotate_raw(windows_BTC: Tensor, rotation_deg: float, generator: torch.Generator) -> Tensor:
    """Turn the frame of raw windows whose channels are consecutive (x, y, z) triples."""
    num, samples, channels = windows_BTC.shape
    turn_B33 = rotation_matrices(rotation_deg, num, generator)
    triples = windows_BTC.reshape(num, samples * (channels // 3), 3)
    return torch.einsum("bnj,bij->bni", triples, turn_B33).reshape(num, samples, channels)


def perturb(windows_BTC: Tensor, config: AugmentationConfig, generator: torch.Generator) -> Tensor:
    """Scale and jitter prepared windows."""
    if config.scale_std > 0:
        factor = 1 + config.scale_std * torch.randn(len(windows_BTC), 1, 1, generator=generator)
        windows_BTC = windows_BTC * factor
    if config.jitter_std > 0:
        noise = torch.randn(windows_BTC.shape, generator=generator)
        windows_BTC = windows_BTC + config.jitter_std * noise
    return windows_BTC
