"""Augmentation of sensor windows, seeded by the generator it is given. Training only.

In: raw windows before the preprocessing (`augment_raw`) and prepared ones after it
(`augment_prepared`). Out: as many windows of the same shape; what is off changes nothing and draws
nothing. Clips have a file of their own, `clip_augmentation`. Where a recipe has both, the two are
drawn apart: a window that is shifted, cropped or warped no longer matches its clip to the sample.

Axes: B windows, T samples (a raw window's begin with its context), C channels, G groups of
channels, P placements on the body, K knots.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from motoric.core.errors import RecipeError
from motoric.training.sensor_frame import check_mirror, mirror_signs, rotate, triples

_VECTOR = re.compile(r"(?P<base>\w+)_[xyz]")
# Of the smooth curves of time and magnitude warps, their ends included.
_NUM_KNOTS = 6
_SMALLEST_SCALE = 0.1


class SensorAugmentation(BaseModel):
    """`augmentation:` of a recipe; 0 (of `crop` 1) turns a part off.

    Rotation, scaling, jitter, magnitude and time warps follow Um et al. 2017 (arXiv 1706.00527),
    the time mask Park et al. 2019 (arXiv 1904.08779).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    rotation_deg: float = Field(
        default=0.0, ge=0, le=180, description="sensor frame turned about a random axis, std"
    )
    mirror: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="probability that a window becomes that of the other side of the body; only"
        " where no label tells left from right",
    )
    mirror_axis: Literal["x", "y", "z"] = Field(
        default="x",
        description="of the sensor frame, across the mirror's plane: as the device was worn",
    )
    scale_std: float = Field(
        default=0.0, ge=0, lt=1, description="one factor a window, 1 + N(0, std), at least 0.1"
    )
    jitter_std: float = Field(
        default=0.0, ge=0, description="noise of each sample in normalised units, std"
    )
    time_warp_std: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="speed that changes smoothly in a window: std of its logarithm; 0.2 is about"
        " 20 % faster or slower; first and last sample stay",
    )
    shift_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="window moved by up to so many seconds either way; edge samples are repeated",
    )
    crop: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="smallest share of a window that is kept and stretched to the full length",
    )
    magnitude_warp_std: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="each channel times a smooth curve about 1, std of its knots",
    )
    channel_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="probability that a group of channels (acc_x, acc_y, acc_z are one) is zeroed"
        " after normalising; one group always stays",
    )
    time_mask: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="one span of up to this share of a window is zeroed after normalising",
    )


def check_augmentation(
    config: SensorAugmentation, channels: Sequence[str], *, rate_hz: float, num_samples: int
) -> None:
    """Check that the parts before the preprocessing fit the raw windows.

    Args:
        config: From the recipe.
        channels: Names of the raw windows' channels.
        rate_hz: Rate of the raw windows.
        num_samples: Samples of a raw window, its context included.

    Raises:
        RecipeError: Rotation or mirror without whole (x, y, z) triples, a mirror of several devices
            or of a magnetometer, or a shift of less than a sample or of the whole window.
    """
    if config.rotation_deg > 0:
        triples(channels, "rotation_deg")
    if config.mirror > 0:
        check_mirror(channels)
    if config.shift_s > 0 and not 1 <= _shift_samples(config, rate_hz) < num_samples:
        raise RecipeError(
            f"augmentation.shift_s is {config.shift_s:g} s: make it 0 (off), or at least one sample"
            f" ({1 / rate_hz:g} s) and less than the window with its context"
            f" ({num_samples / rate_hz:g} s)"
        )


def augment_raw(
    windows_BTC: Tensor,
    config: SensorAugmentation,
    channels: Sequence[str],
    rate_hz: float,
    generator: torch.Generator,
) -> Tensor:
    """What comes before the preprocessing: mirror, rotation, time warp, shift and crop.

    Time operations act on the whole raw window, its context included, and resample once, linearly.
    They do not rescale values: a gyroscope that is played faster keeps its rates.

    Args:
        windows_BTC: Raw windows, shape (B, T, C), floating point; never changed in place.
        config: From the recipe.
        channels: Names of the C channels. Triples `acc_x, acc_y, acc_z` and so of `gyr`, `mag` and
            `gravity` turn with one rotation a window, and one a placement where the names hold one
            (`acc_left_x`), since each device sits differently. All else is left alone.
        rate_hz: Rate of the windows.
        generator: Source of all randomness, on any device.

    Returns:
        Shape (B, T, C), same type and device; the very input where every such part is off.

    Raises:
        RecipeError: As `check_augmentation`.
    """
    check_augmentation(config, channels, rate_hz=rate_hz, num_samples=windows_BTC.shape[1])
    if config.mirror > 0:
        signs_C = mirror_signs(channels, config.mirror_axis).to(windows_BTC)
        is_mirrored_B11 = uniform((len(windows_BTC), 1, 1), windows_BTC, generator) < config.mirror
        windows_BTC = torch.where(is_mirrored_B11, windows_BTC * signs_C, windows_BTC)
    if config.rotation_deg > 0:
        windows_BTC = rotate(windows_BTC, config.rotation_deg, channels, generator)
    if config.time_warp_std > 0 or config.shift_s > 0 or config.crop < 1:
        num, samples, _ = windows_BTC.shape
        shift_samples = _shift_samples(config, rate_hz)
        positions_BT = time_positions(config, num, samples, shift_samples, generator)
        windows_BTC = sample_at(windows_BTC, positions_BT)
    return windows_BTC


def augment_prepared(
    windows_BTC: Tensor,
    config: SensorAugmentation,
    generator: torch.Generator,
    *,
    channels: Sequence[str] | None = None,
) -> Tensor:
    """What comes after the normaliser: scale, magnitude warp, jitter, time mask, channel dropout.

    Args:
        windows_BTC: Prepared windows, shape (B, T, C), floating point; never changed in place.
        config: From the recipe.
        generator: Source of all randomness, on any device.
        channels: Names of the C prepared channels, by which `channel_dropout` groups them: what
            differs in a last `_x`, `_y` or `_z` alone is one group. Without names each channel is.

    Returns:
        Shape (B, T, C), same type and device; the very input where every such part is off.

    Raises:
        RecipeError: `channel_dropout` where all channels are one group.
    """
    num, samples, num_channels = windows_BTC.shape
    if config.scale_std > 0:
        factor_B11 = 1 + config.scale_std * normal((num, 1, 1), windows_BTC, generator)
        windows_BTC = windows_BTC * factor_B11.clamp_(min=_SMALLEST_SCALE)
    if config.magnitude_warp_std > 0:
        knots_BCK = normal((num, num_channels, _NUM_KNOTS), windows_BTC, generator)
        curve_BCT = 1 + config.magnitude_warp_std * _between_knots(knots_BCK, samples)
        windows_BTC = windows_BTC * curve_BCT.transpose(1, 2)
    if config.jitter_std > 0:
        noise_BTC = normal(windows_BTC.shape, windows_BTC, generator)
        windows_BTC = torch.add(windows_BTC, noise_BTC, alpha=config.jitter_std)
    if config.time_mask > 0:
        windows_BTC = windows_BTC * _kept_times(config.time_mask, windows_BTC, generator)
    if config.channel_dropout > 0:
        names = [str(index) for index in range(num_channels)] if channels is None else channels
        kept_B1C = _kept_channels(config.channel_dropout, names, windows_BTC, generator)
        windows_BTC = windows_BTC * kept_B1C
    return windows_BTC


def time_positions(
    config: SensorAugmentation,
    num: int,
    samples: int,
    shift_samples: int,
    generator: torch.Generator,
) -> Tensor:
    """Where in a window each new sample is read, in samples; never falls, and stays inside.

    Args:
        config: Its time warp, crop and whether there is a shift.
        num: Windows (B).
        samples: Of a window (T).
        shift_samples: Largest shift either way; whole samples, so that a shift alone blurs nothing.
        generator: Source of all randomness.

    Returns:
        Shape (B, T), float32, on the generator's device.
    """
    device = generator.device
    like = torch.empty(0, device=device)
    last = samples - 1
    positions_BT = torch.arange(samples, device=device, dtype=torch.float32).expand(num, samples)
    if config.time_warp_std > 0 and last > 0:
        knots_BK = config.time_warp_std * normal((num, _NUM_KNOTS), like, generator)
        speed_BT = _between_knots(knots_BK[:, None], last)[:, 0].exp()
        passed_BT = torch.nn.functional.pad(speed_BT.cumsum(dim=1), (1, 0))
        positions_BT = passed_BT / passed_BT[:, -1:] * last
    if config.crop < 1:
        kept_B1 = config.crop + (1 - config.crop) * uniform((num, 1), like, generator)
        start_B1 = uniform((num, 1), like, generator) * (1 - kept_B1) * last
        positions_BT = start_B1 + kept_B1 * positions_BT
    if config.shift_s > 0:
        shift_B1 = torch.randint(
            -shift_samples, shift_samples + 1, (num, 1), generator=generator, device=device
        )
        positions_BT = positions_BT - shift_B1
    return positions_BT.clamp(0, last)


def sample_at(windows_BTC: Tensor, positions_BT: Tensor) -> Tensor:
    """Read windows at fractional positions by linear interpolation.

    Args:
        windows_BTC: Shape (B, T, C).
        positions_BT: Shape (B, T'), from 0 to T - 1.

    Returns:
        Shape (B, T', C).
    """
    last = windows_BTC.shape[1] - 1
    positions_BT = positions_BT.to(windows_BTC.device)
    low_BT = positions_BT.long()
    weight_BT1 = (positions_BT - low_BT)[:, :, None].to(windows_BTC.dtype)
    rows_B1 = torch.arange(len(windows_BTC), device=windows_BTC.device)[:, None]
    low_BTC = windows_BTC[rows_B1, low_BT]
    return low_BTC.lerp_(windows_BTC[rows_B1, (low_BT + 1).clamp_(max=last)], weight_BT1)


def normal(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """N(0, 1), drawn on the generator's device, with the type and on the device of `like`."""
    drawn = torch.randn(tuple(shape), generator=generator, device=generator.device)
    return drawn.to(like)


def uniform(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """U[0, 1), drawn on the generator's device, with the type and on the device of `like`."""
    drawn = torch.rand(tuple(shape), generator=generator, device=generator.device)
    return drawn.to(like)


def _shift_samples(config: SensorAugmentation, rate_hz: float) -> int:
    return round(config.shift_s * rate_hz)


def _between_knots(knots_BCK: Tensor, samples: int) -> Tensor:
    """Straight lines between evenly spaced knots, shape (B, C, samples)."""
    return torch.nn.functional.interpolate(knots_BCK, samples, mode="linear", align_corners=True)


def _kept_times(share: float, windows_BTC: Tensor, generator: torch.Generator) -> Tensor:
    """1 where a sample stays, shape (B, T, 1)."""
    num, samples, _ = windows_BTC.shape
    length_B1 = (uniform((num, 1), windows_BTC, generator) * (share * samples + 1)).floor_()
    length_B1.clamp_(max=int(share * samples))
    start_B1 = uniform((num, 1), windows_BTC, generator) * (samples - length_B1 + 1)
    start_B1.floor_()
    time_T = torch.arange(samples, device=windows_BTC.device)
    is_masked_BT = (time_T >= start_B1) & (time_T < start_B1 + length_B1)
    return (~is_masked_BT)[:, :, None].to(windows_BTC.dtype)


def _kept_channels(
    probability: float, channels: Sequence[str], windows_BTC: Tensor, generator: torch.Generator
) -> Tensor:
    """1 where a channel stays, shape (B, 1, C)."""
    matches = [_VECTOR.fullmatch(name) for name in channels]
    bases = [
        name if match is None else match["base"]
        for name, match in zip(channels, matches, strict=True)
    ]
    groups = list(dict.fromkeys(bases))
    if len(groups) == 1:
        raise RecipeError(
            f"augmentation.channel_dropout is {probability:g}, but the channels"
            f" ({', '.join(channels)}) are one group, and one always stays: set it to 0"
        )
    chance_BG = uniform((len(windows_BTC), len(groups)), windows_BTC, generator)
    is_kept_BG = (chance_BG >= probability) | (chance_BG == chance_BG.amax(dim=1, keepdim=True))
    is_kept_BC = is_kept_BG[:, [groups.index(base) for base in bases]]
    return is_kept_BC[:, None].to(windows_BTC.dtype)
