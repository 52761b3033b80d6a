from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from motoric.core.errors import RecipeError
from motoric.training.clip_augmentation import (
    ClipAugmentation,
    augment_clips,
    check_clip_augmentation,
    frame_indices,
)

CLASSES = ("clap", "squat", "swipe_left", "swipe_right")
EVERYTHING: dict[str, Any] = {
    "shift": 0.2,
    "zoom_std": 0.1,
    "flip": 0.5,
    "brightness_std": 0.1,
    "contrast_std": 0.2,
    "saturation_std": 0.3,
    "tempo_std": 0.3,
    "temporal_shift": 0.2,
    "noise_std": 0.05,
    "erase": 0.5,
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise_clips(num: int = 6, colours: int = 3) -> Tensor:
    shape = (num, 5, 12, 10, colours)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded(99))


def flat_clips(num: int, value: int = 100, shape: tuple[int, ...] = (4, 12, 10, 1)) -> Tensor:
    return torch.full((num, *shape), value, dtype=torch.uint8)


def zeros(num: int) -> Tensor:
    return torch.zeros(num, dtype=torch.int64)


def augmented(clips_BTHWC: Tensor, seed: int = 0, **parts: Any) -> Tensor:
    config = ClipAugmentation(**parts)
    return augment_clips(clips_BTHWC, zeros(len(clips_BTHWC)), config, CLASSES, seeded(seed))[0]


def test_what_is_off_returns_the_very_inputs_and_draws_nothing() -> None:
    clips, labels, generator = noise_clips(), zeros(6), seeded()
    before = generator.get_state()
    result = augment_clips(clips, labels, ClipAugmentation(), CLASSES, generator)
    assert result[0] is clips
    assert result[1] is labels
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("colours", [1, 3])
def test_the_same_seed_gives_the_same_clips_and_the_input_stays(colours: int) -> None:
    clips = noise_clips(colours=colours)
    copy, global_state = clips.clone(), torch.get_rng_state()
    first = augmented(clips, 1, **EVERYTHING)
    assert torch.equal(first, augmented(clips, 1, **EVERYTHING))
    assert not torch.equal(first, augmented(clips, 2, **EVERYTHING))
    assert torch.equal(clips, copy)
    assert torch.equal(torch.get_rng_state(), global_state)
    assert (first.shape, first.dtype) == (clips.shape, torch.uint8)


@pytest.mark.parametrize("part", list(EVERYTHING))
def test_every_part_alone_changes_clips_and_an_empty_batch_is_none(part: str) -> None:
    changes = {part: EVERYTHING[part]}
    assert not torch.equal(augmented(noise_clips(), **changes), noise_clips())
    assert len(augmented(noise_clips(0), **changes)) == 0


@pytest.mark.parametrize("part", ["shift", "zoom_std"])
def test_pictures_move_alike_in_all_frames(part: str) -> None:
    still = noise_clips()[:, :1].expand(-1, 5, -1, -1, -1)
    moved = augmented(still, **{part: 0.3})
    assert torch.equal(moved, moved[:, :1].expand_as(moved))
    assert not torch.equal(moved, still)


def test_a_shift_moves_whole_pixels_and_repeats_the_edge() -> None:
    clips = noise_clips(32)
    moved = augmented(clips, shift=0.2)
    seen = set()
    for before, after in zip(clips, moved, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.equal(
                before[:, (torch.arange(12) - down).clamp(0, 11)][
                    :, :, (torch.arange(10) - right).clamp(0, 9)
                ],
                after,
            )
        ]
        assert len(matches) == 1
        seen |= set(matches)
    assert len(seen) > 5


def test_a_zoom_keeps_the_middle_and_scales_what_surrounds_it() -> None:
    ramp_W = torch.arange(41, dtype=torch.uint8) * 5 + 20
    clips = ramp_W[:, None].expand(8, 2, 7, 41, 1)
    zoomed = augmented(clips, zoom_std=0.2).float()
    assert torch.equal(zoomed[:, :, :, 20], torch.full((8, 2, 7, 1), 120.0))
    slope_B = (zoomed[:, 0, 0, 24, 0] - zoomed[:, 0, 0, 16, 0]) / 8
    assert slope_B.min() < 5 < slope_B.max()
    expected = 120 + slope_B[:, None] * (torch.arange(15, 26) - 20)
    assert (zoomed[:, 0, 0, 15:26, 0] - expected).abs().max() <= 2


def test_two_flips_are_none_and_a_flip_is_exact() -> None:
    clips = noise_clips()
    once = augmented(clips, flip=1.0)
    assert torch.equal(once, clips.flip(3))
    assert torch.equal(augmented(once, flip=1.0), clips)


def test_about_the_asked_share_is_flipped() -> None:
    clips = noise_clips(1).expand(400, -1, -1, -1, -1)[:, :1]
    is_flipped_B = (augmented(clips, flip=0.25) != clips).flatten(1).any(dim=1)
    assert is_flipped_B.float().mean().item() == pytest.approx(0.25, abs=0.07)


@settings(max_examples=20, deadline=None)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=12), seed=st.integers(0, 2**32))
def test_a_protected_label_is_never_flipped_and_swapped_ones_change_with_the_flip(
    labels: list[int], seed: int
) -> None:
    config = ClipAugmentation(
        flip=0.6, flip_keeps=("squat",), flip_swaps={"swipe_left": "swipe_right"}
    )
    clips, labels_B = noise_clips(len(labels), colours=1), torch.tensor(labels)
    flipped, new_B = augment_clips(clips, labels_B, config, CLASSES, seeded(seed))
    is_flipped_B = (flipped != clips).flatten(1).any(dim=1)
    assert torch.equal(flipped[is_flipped_B], clips[is_flipped_B].flip(3))
    for label, new, is_flipped in zip(labels, new_B.tolist(), is_flipped_B.tolist(), strict=True):
        assert new == ({2: 3, 3: 2}.get(label, label) if is_flipped else label)
        assert not (is_flipped and label == 1)
    assert new_B.dtype == labels_B.dtype
    assert labels_B.tolist() == labels


def test_targets_that_are_no_classes_come_back_as_they_are() -> None:
    targets_B = torch.tensor([60.5, 80.0, 71.2])
    clips = noise_clips(3)
    flipped, same_B = augment_clips(clips, targets_B, ClipAugmentation(flip=1), (), seeded())
    assert same_B is targets_B
    assert torch.equal(flipped, clips.flip(3))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"flip_keeps": ("hop",)}, "flip_keeps names 'hop'.*labels: clap, squat"),
        ({"flip_swaps": {"clap": "hop"}}, "flip_swaps names 'hop'"),
        ({"flip_swaps": {"clap": "clap"}}, "'clap' more than once"),
        ({"flip_swaps": {"clap": "squat", "squat": "clap"}}, "'clap', 'squat' more than once"),
        ({"flip_keeps": ("clap",), "flip_swaps": {"clap": "squat"}}, "'clap' more than once"),
    ],
)
def test_labels_that_cannot_be_kept_or_swapped_are_named(
    parts: dict[str, Any], message: str
) -> None:
    config = ClipAugmentation(flip=0.5, **parts)
    with pytest.raises(RecipeError, match=message):
        check_clip_augmentation(config, CLASSES)
    with pytest.raises(RecipeError, match=message):
        augment_clips(noise_clips(), zeros(6), config, CLASSES, seeded())


def test_labels_are_not_swapped_beside_sensor_windows() -> None:
    config = ClipAugmentation(flip=0.5, flip_swaps={"swipe_left": "swipe_right"})
    check_clip_augmentation(config, CLASSES)
    with pytest.raises(RecipeError, match="put these labels under flip_keeps"):
        check_clip_augmentation(config, CLASSES, has_sensors=True)
    kept = ClipAugmentation(flip=0.5, flip_keeps=("swipe_left", "swipe_right"))
    check_clip_augmentation(kept, CLASSES, has_sensors=True)


@settings(max_examples=40, deadline=None)
@given(
    num_frames=st.integers(1, 40),
    tempo_std=st.floats(0, 1),
    temporal_shift=st.floats(0, 0.9),
    seed=st.integers(0, 2**32),
)
def test_frames_keep_their_order_and_stay_in_the_clip(
    num_frames: int, tempo_std: float, temporal_shift: float, seed: int
) -> None:
    config = ClipAugmentation(tempo_std=tempo_std, temporal_shift=temporal_shift)
    frames_BT = frame_indices(config, 5, num_frames, seeded(seed))
    assert frames_BT.shape == (5, num_frames)
    assert (frames_BT.diff(dim=1) >= 0).all()
    assert frames_BT.min() >= 0
    assert frames_BT.max() < num_frames


def test_a_temporal_shift_shows_whole_frames_at_their_own_speed() -> None:
    clips = torch.arange(20, dtype=torch.uint8)[:, None, None, None].expand(64, 20, 3, 2, 1)
    shown_BT = augmented(clips, temporal_shift=0.2)[:, :, 0, 0, 0].int()
    moved_B1 = shown_BT[:, 10:11] - 10
    assert torch.equal(shown_BT, (torch.arange(20) + moved_B1).clamp(0, 19).int())
    assert (moved_B1.min().item(), moved_B1.max().item()) == (-4, 4)


def test_tempo_plays_faster_and_slower_about_the_middle() -> None:
    frames_BT = frame_indices(ClipAugmentation(tempo_std=0.3), 64, 41, seeded())
    assert (frames_BT[:, 20] == 20).all()
    spans_B = frames_BT[:, 30] - frames_BT[:, 10]
    assert spans_B.min() < 17
    assert spans_B.max() > 23


def test_brightness_is_one_step_a_clip_with_the_asked_std() -> None:
    changed = augmented(flat_clips(2000, 128, (2, 2, 2, 1)), brightness_std=0.1).float()
    assert torch.equal(changed, changed[:, :1, :1, :1].expand_as(changed))
    assert changed[:, 0, 0, 0, 0].std().item() / 255 == pytest.approx(0.1, rel=0.08)


def test_contrast_keeps_the_mean_and_never_inverts() -> None:
    clips = flat_clips(200, 80)
    clips[:, :, ::2] = 120
    changed = augmented(clips, contrast_std=0.5).float()
    unclipped_B = (changed > 0).flatten(1).all(dim=1) & (changed < 255).flatten(1).all(dim=1)
    assert unclipped_B.float().mean() > 0.5
    assert (changed[unclipped_B].mean(dim=(1, 2, 3, 4)) - 100).abs().max() <= 0.5
    differences_B = changed[:, 0, 0, 0, 0] - changed[:, 0, 1, 0, 0]
    assert differences_B.min() >= 0
    assert differences_B.min() < 30
    assert differences_B.max() > 50


def test_saturation_keeps_greys_and_what_is_grey_by_format() -> None:
    grey = noise_clips(colours=1)
    assert augmented(grey, saturation_std=0.5) is grey
    assert torch.equal(augmented(grey.expand(-1, -1, -1, -1, 3), saturation_std=0.5)[..., :1], grey)
    weights = torch.tensor([0.299, 0.587, 0.114])
    calm = (noise_clips(32) // 8) + 100
    changed = augmented(calm, saturation_std=0.5)
    assert not torch.equal(changed, calm)
    assert (changed.float() @ weights - calm.float() @ weights).abs().max() <= 0.51


def test_noise_has_the_asked_std_and_differs_from_frame_to_frame() -> None:
    noise = augmented(flat_clips(8, 128, (6, 24, 20, 1)), noise_std=0.05).float() - 128
    assert noise.std().item() / 255 == pytest.approx(0.05, rel=0.05)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.6)
    frames = noise.flatten(2).flatten(0, 1)
    correlation = torch.corrcoef(frames) - torch.eye(len(frames))
    assert correlation.abs().max() < 0.4


def test_an_erased_box_gets_the_mean_and_has_at_most_its_share() -> None:
    clips = flat_clips(300, 0, (8, 12, 10, 1))
    clips[:, :, :, ::2] = 200
    changed = augmented(clips, erase=0.5, erase_share=0.25)
    is_erased = changed == 100
    assert torch.equal(changed[~is_erased], clips[~is_erased])
    share_B = is_erased.flatten(1).float().mean(dim=1)
    assert (share_B > 0).float().mean().item() == pytest.approx(0.5, abs=0.1)
    assert 0.1 < share_B.max() <= 0.25
    for clip in is_erased[share_B > 0][:40, ..., 0]:
        sides = [clip.amax(dim=axes) for axes in ((1, 2), (0, 2), (0, 1))]
        assert clip.sum() == sides[0].sum() * sides[1].sum() * sides[2].sum()


def test_clips_that_are_not_uint8_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be uint8 .* got torch.float32"):
        augmented(noise_clips().float(), flip=0.5)


@pytest.mark.parametrize("wrong", [{"flip": 2}, {"erase_share": 0}, {"shift": 1}, {"blur": 0.5}])
def test_values_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        ClipAugmentation.model_validate(wrong)
