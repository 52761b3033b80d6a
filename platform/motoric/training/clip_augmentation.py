"""Augmentation of clips, seeded by the generator it is given. Training only.

In: uint8 clips and their labels. Out: uint8 clips of the same shape, since that is what the
normaliser takes of clips that are not augmented too, and labels, which a flip may swap. What is
off changes nothing and draws nothing.

Parameters are drawn for the whole batch; pixels are then worked on one clip at a time, as planes
of floating point where needed, which stays in the cache and takes the memory of one clip.

In a recipe with sensors too, a flip turns the clip alone: the windows of the example stay as they
are, so a flip may not swap labels there (`check_clip_augmentation`). Tempo and temporal shift move
a clip against its windows. Clips that stand in for missing ones must be zeroed after this, not
before.

Axes: B clips, T frames, H rows, W columns, C colours (3, RGB, or 1, grey).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from motoric.core.errors import RecipeError
from motoric.training.augmentation import normal, uniform

_WHITE = 255.0
# ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)
_POOL_PLANES = 8


class ClipAugmentation(BaseModel):
    """`clip_augmentation:` of a recipe; 0 turns a part off.

    Flip, shift, zoom and colour changes are the same for all frames of a clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    shift: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="picture moved by up to this share of its height and width, in whole pixels;"
        " edge pixels are repeated",
    )
    zoom_std: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="std of the logarithm of the zoom about the middle; 0.1 is about 10 %",
    )
    flip: float = Field(default=0.0, ge=0, le=1, description="probability that left becomes right")
    flip_keeps: tuple[str, ...] = Field(
        default=(), description="labels for which left and right matter: these are never flipped"
    )
    flip_swaps: dict[str, str] = Field(
        default_factory=dict,
        description="labels that a flip turns into each other, such as swipe_left: swipe_right;"
        " each pair is given once",
    )
    brightness_std: float = Field(
        default=0.0, ge=0, le=1, description="added to a clip, std as share of black to white"
    )
    contrast_std: float = Field(
        default=0.0, ge=0, le=1, description="one factor a clip about its mean, 1 + N(0, std)"
    )
    saturation_std: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="one factor a clip about each pixel's grey, 1 + N(0, std); grey clips stay",
    )
    tempo_std: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="std of the logarithm of the playing speed about the middle frame; a clip that"
        " is too short repeats its first and last frame",
    )
    temporal_shift: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="clip moved in time by up to this share of its frames, edge frames repeated",
    )
    noise_std: float = Field(
        default=0.0, ge=0, le=1, description="noise of each pixel, std as share of black to white"
    )
    erase: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="probability that a box of frames, rows and columns gets the clip's mean",
    )
    erase_share: float = Field(
        default=0.1, gt=0, le=0.5, description="largest share of the clip that is erased"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draws:
    """The parameters of a batch; None where a part is off.

    Attributes:
        is_flipped: B booleans.
        frames_BT: Index of the frame to show.
        rows_BHH: Weights of the old rows in each new one; `columns_BWW` likewise, transposed.
        factors_B: Of contrast; `offsets_B` of brightness, in grey levels; `saturations_B`.
        noise: Pool of planes of noise in grey levels, and which each plane takes, (B, C, T).
        boxes: Of each clip, first and last + 1 of frames, rows and columns.
    """

    is_flipped: tuple[bool, ...] | None
    frames_BT: Tensor | None
    rows_BHH: Tensor | None
    columns_BWW: Tensor | None
    factors_B: Tensor | None
    offsets_B: Tensor | None
    saturations_B: Tensor | None
    noise: tuple[Tensor, Tensor] | None
    boxes: tuple[tuple[int, ...], ...] | None

    @property
    def is_float(self) -> bool:
        """Pixels get new values, not only new places."""
        parts = (self.rows_BHH, self.factors_B, self.offsets_B, self.saturations_B, self.noise)
        return any(part is not None for part in parts)


def check_clip_augmentation(
    config: ClipAugmentation, classes: Sequence[str], *, has_sensors: bool = False
) -> None:
    """Check the labels that a flip keeps or swaps.

    Args:
        config: From the recipe.
        classes: Names of the classes; empty where the model does not classify.
        has_sensors: The recipe has sensor windows beside the clips.

    Raises:
        RecipeError: A label is unknown, named twice, or its own counterpart; or labels are swapped
            beside sensor windows, which a flip leaves as they are.
    """
    _check_known("flip_keeps", config.flip_keeps, classes)
    swapped = [label for pair in config.flip_swaps.items() for label in pair]
    _check_known("flip_swaps", swapped, classes)
    named = [*config.flip_keeps, *swapped]
    twice = [label for label in dict.fromkeys(named) if named.count(label) > 1]
    if twice:
        raise RecipeError(
            f"clip_augmentation: flip_keeps and flip_swaps name {_quoted(twice)} more than once: a"
            " label is kept, or swapped with one other label, and each pair is given once"
        )
    if has_sensors and config.flip > 0 and swapped:
        raise RecipeError(
            f"clip_augmentation.flip_swaps names {_quoted(swapped)}, but a flip of the clip leaves"
            " the sensor windows of the same example as they are, which would contradict the"
            " swapped label: put these labels under flip_keeps"
        )


def augment_clips(
    clips_BTHWC: Tensor,
    labels_B: Tensor,
    config: ClipAugmentation,
    classes: Sequence[str],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Vary a batch of clips.

    In this order: tempo and temporal shift, flip, shift and zoom (bilinear), saturation, contrast,
    brightness, noise, erasing (Zhong et al. 2017, arXiv 1708.04896, here a box in time too).

    Args:
        clips_BTHWC: uint8, shape (B, T, H, W, C); never changed in place.
        labels_B: Index into `classes`; of any type and shape (B, ...) where no label is kept or
            swapped.
        config: From the recipe.
        classes: Names of the classes.
        generator: Source of all randomness, on any device.

    Returns:
        The clips, uint8, same shape and device, and the labels; the very inputs where all is off.

    Raises:
        RecipeError: As `check_clip_augmentation`.
        ValueError: The clips are not uint8 of five axes.
    """
    if clips_BTHWC.dtype != torch.uint8 or clips_BTHWC.ndim != 5:
        raise ValueError(
            f"clips must be uint8 (B, T, H, W, C), got {clips_BTHWC.dtype} of shape"
            f" {tuple(clips_BTHWC.shape)}"
        )
    check_clip_augmentation(config, classes)
    is_flipped_B, labels_B = _flips(labels_B, config, classes, generator)
    draws = _draw(clips_BTHWC, config, is_flipped_B, generator)
    is_moved = draws.is_flipped is not None or draws.frames_BT is not None
    if not (is_moved or draws.is_float or draws.boxes):
        return clips_BTHWC, labels_B
    result_BTHWC = torch.empty_like(clips_BTHWC, memory_format=torch.contiguous_format)
    for index, clip_THWC in enumerate(clips_BTHWC):
        moved_THWC = _moved(clip_THWC, draws, index)
        result_THWC = result_BTHWC[index]
        result_THWC.copy_(_painted(moved_THWC, draws, index) if draws.is_float else moved_THWC)
        if draws.boxes:
            _erase(result_THWC, draws.boxes[index])
    return result_BTHWC, labels_B


def frame_indices(
    config: ClipAugmentation, num: int, num_frames: int, generator: torch.Generator
) -> Tensor:
    """Which frame stands at each place after tempo and temporal shift; never falls.

    Args:
        config: Its `tempo_std` and `temporal_shift`.
        num: Clips (B).
        num_frames: Of a clip (T).
        generator: Source of all randomness.

    Returns:
        Shape (B, T), int64, from 0 to T - 1, on the generator's device.
    """
    like = torch.empty(0, device=generator.device)
    middle = (num_frames - 1) / 2
    places_BT = (torch.arange(num_frames, device=generator.device) - middle).expand(num, -1)
    if config.tempo_std > 0:
        places_BT = places_BT * (config.tempo_std * normal((num, 1), like, generator)).exp()
    if config.temporal_shift > 0:
        share_B1 = uniform((num, 1), like, generator) * 2 - 1
        places_BT = places_BT + share_B1 * (config.temporal_shift * num_frames)
    return (places_BT + middle).round().clamp(0, num_frames - 1).long()


def _quoted(labels: Sequence[str]) -> str:
    return ", ".join(repr(label) for label in dict.fromkeys(labels))


def _check_known(field: str, labels: Sequence[str], classes: Sequence[str]) -> None:
    unknown = [label for label in labels if label not in classes]
    if unknown:
        raise RecipeError(
            f"clip_augmentation.{field} names {_quoted(unknown)}, which no clip is labelled with"
            f" (labels: {', '.join(classes) or 'none, since the task has no classes'})"
        )


def _flips(
    labels_B: Tensor, config: ClipAugmentation, classes: Sequence[str], generator: torch.Generator
) -> tuple[Tensor | None, Tensor]:
    """Which clips are flipped, and the labels after that."""
    if config.flip == 0:
        return None, labels_B
    is_flipped_B = uniform((len(labels_B),), torch.empty(0), generator) < config.flip
    is_flipped_B = is_flipped_B.to(labels_B.device)
    if config.flip_keeps:
        kept_K = torch.tensor([name in config.flip_keeps for name in classes])
        is_flipped_B = is_flipped_B & ~kept_K.to(labels_B.device)[labels_B]
    if config.flip_swaps:
        partners = config.flip_swaps | {right: left for left, right in config.flip_swaps.items()}
        partner_K = torch.tensor([classes.index(partners.get(name, name)) for name in classes])
        partner_B = partner_K.to(labels_B)[labels_B]
        labels_B = torch.where(is_flipped_B, partner_B, labels_B)
    return is_flipped_B, labels_B


def _draw(
    clips_BTHWC: Tensor,
    config: ClipAugmentation,
    is_flipped_B: Tensor | None,
    generator: torch.Generator,
) -> _Draws:
    """All parameters of a batch; those of the flip, which need the labels, are given."""
    num, num_frames, height, width, num_colours = clips_BTHWC.shape
    like = torch.empty(0, device=clips_BTHWC.device)
    frames_BT = rows_BHH = columns_BWW = noise = None
    if config.tempo_std > 0 or config.temporal_shift > 0:
        frames_BT = frame_indices(config, num, num_frames, generator).to(like.device)
    if config.zoom_std > 0 or config.shift > 0:
        zoom_B = (config.zoom_std * normal((num,), like, generator)).exp()
        moved_2B = config.shift * (uniform((2, num), like, generator) * 2 - 1)
        rows_BHH = _resampling(height, zoom_B, moved_2B[0])
        columns_BWW = _resampling(width, zoom_B, moved_2B[1]).transpose(1, 2).contiguous()
    factors_B = _factors(config.contrast_std, num, like, generator)
    saturation_std = config.saturation_std if num_colours == len(_LUMA) else 0.0
    saturations_B = _factors(saturation_std, num, like, generator)
    offsets_B = None
    if config.brightness_std > 0:
        offsets_B = _WHITE * config.brightness_std * normal((num,), like, generator)
    if config.noise_std > 0:
        noise = _noise(clips_BTHWC, _WHITE * config.noise_std, like, generator)
    return _Draws(
        is_flipped=None if is_flipped_B is None else tuple(is_flipped_B.tolist()),
        frames_BT=frames_BT,
        rows_BHH=rows_BHH,
        columns_BWW=columns_BWW,
        factors_B=factors_B,
        offsets_B=offsets_B,
        saturations_B=saturations_B,
        noise=noise,
        boxes=_boxes(clips_BTHWC, config, generator) if config.erase > 0 else None,
    )


def _factors(std: float, num: int, like: Tensor, generator: torch.Generator) -> Tensor | None:
    if std == 0:
        return None
    return (1 + std * normal((num,), like, generator)).clamp_(min=0)


def _resampling(size: int, zoom_B: Tensor, moved_B: Tensor) -> Tensor:
    """Weights of the old pixels in each new one, along one axis, shape (B, size, size).

    Bilinear sampling is one product with such a matrix for each axis; at the sizes of clips that
    is faster than gathering, also on a CPU.
    """
    pixel_S = torch.arange(size, device=zoom_B.device, dtype=zoom_B.dtype)
    middle = (size - 1) / 2
    offset_B = (moved_B * size).round()
    place_BS = (pixel_S - middle - offset_B[:, None]) / zoom_B[:, None] + middle
    place_BS = place_BS.clamp(0, size - 1)
    return (1 - (place_BS[:, :, None] - pixel_S).abs()).clamp_(min=0)


def _noise(
    clips_BTHWC: Tensor, std: float, like: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A pool of planes of noise, and which of them each plane of the clips takes.

    A fresh number for each pixel would take longer than all else; planes that begin at random
    places of one long row of numbers look as independent.
    """
    num, num_frames, height, width, num_colours = clips_BTHWC.shape
    size = height * width
    pool = std * normal((_POOL_PLANES * size,), like, generator)
    plane_BCT = torch.randint(
        (_POOL_PLANES - 1) * size + 1,
        (num, num_colours, num_frames),
        generator=generator,
        device=generator.device,
    )
    return pool.unfold(0, size, 1), plane_BCT.to(like.device)


def _boxes(
    clips_BTHWC: Tensor, config: ClipAugmentation, generator: torch.Generator
) -> tuple[tuple[int, ...], ...]:
    """A box for each clip: its share of each axis between half and all of the cube root."""
    num = len(clips_BTHWC)
    sizes_3 = torch.tensor(clips_BTHWC.shape[1:4], dtype=torch.float32)
    is_erased_B1 = uniform((num, 1), sizes_3, generator) < config.erase
    shares_B3 = 0.5 + 0.5 * uniform((num, 3), sizes_3, generator)
    length_B3 = (config.erase_share ** (1 / 3) * shares_B3 * sizes_3).floor() * is_erased_B1
    first_B3 = (uniform((num, 3), sizes_3, generator) * (sizes_3 - length_B3 + 1)).floor()
    edges_B32 = torch.stack([first_B3, first_B3 + length_B3], dim=-1).long()
    return tuple(tuple(edges) for edges in edges_B32.reshape(num, 6).tolist())


def _moved(clip_THWC: Tensor, draws: _Draws, index: int) -> Tensor:
    """Tempo, temporal shift and flip, uint8."""
    if draws.frames_BT is not None:
        clip_THWC = clip_THWC.index_select(0, draws.frames_BT[index])
    if draws.is_flipped is not None and draws.is_flipped[index]:
        clip_THWC = clip_THWC.flip(2)
    return clip_THWC


def _painted(clip_THWC: Tensor, draws: _Draws, index: int) -> Tensor:
    """Shift, zoom, colour changes and noise, uint8."""
    clip_CTHW = clip_THWC.permute(3, 0, 1, 2).contiguous().float()
    if draws.rows_BHH is not None and draws.columns_BWW is not None:
        clip_CTHW = draws.rows_BHH[index] @ clip_CTHW @ draws.columns_BWW[index]
    if draws.saturations_B is not None:
        luma_C = torch.tensor(_LUMA, device=clip_CTHW.device)
        grey_THW = torch.einsum("c,cthw->thw", luma_C, clip_CTHW)
        clip_CTHW = torch.lerp(grey_THW, clip_CTHW, draws.saturations_B[index])
    if draws.factors_B is not None:
        mean = clip_CTHW.mean()
        clip_CTHW.sub_(mean).mul_(draws.factors_B[index]).add_(mean)
    if draws.offsets_B is not None:
        clip_CTHW.add_(draws.offsets_B[index])
    if draws.noise is not None:
        pool, plane_BCT = draws.noise
        clip_CTHW.add_(pool[plane_BCT[index]].view(clip_CTHW.shape))
    return clip_CTHW.clamp_(0, _WHITE).round_().to(torch.uint8).permute(1, 2, 3, 0)


def _erase(clip_THWC: Tensor, box: tuple[int, ...]) -> None:
    first_t, end_t, first_y, end_y, first_x, end_x = box
    if min(end_t - first_t, end_y - first_y, end_x - first_x) > 0:
        mean = clip_THWC.float().mean().round_().to(torch.uint8)
        clip_THWC[first_t:end_t, first_y:end_y, first_x:end_x] = mean
