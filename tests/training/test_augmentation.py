from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from motoric.core.errors import RecipeError
from motoric.training.augmentation import (
    SensorAugmentation,
    augment_prepared,
    augment_raw,
    check_augmentation,
    sample_at,
    time_positions,
)

RATE_HZ = 50.0
IMU = ("acc_x", "acc_y", "acc_z", "heart_rate", "gyr_z", "gyr_y", "gyr_x")
EVERYTHING = SensorAugmentation(
    rotation_deg=20,
    mirror=0.5,
    scale_std=0.1,
    jitter_std=0.1,
    time_warp_std=0.2,
    shift_s=0.2,
    crop=0.8,
    magnitude_warp_std=0.1,
    channel_dropout=0.3,
    time_mask=0.2,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(num: int = 16, samples: int = 60, channels: int = len(IMU)) -> Tensor:
    return torch.randn(num, samples, channels, generator=seeded(99))


def ramp(num: int, samples: int) -> Tensor:
    return torch.arange(samples, dtype=torch.float32).expand(num, samples)[:, :, None]


def raw(windows_BTC: Tensor, names: tuple[str, ...] = IMU, seed: int = 0, **parts: Any) -> Tensor:
    config = SensorAugmentation(**parts)
    return augment_raw(windows_BTC, config, names, RATE_HZ, seeded(seed))


def prepared(windows_BTC: Tensor, seed: int = 0, **parts: float) -> Tensor:
    return augment_prepared(windows_BTC, SensorAugmentation(**parts), seeded(seed))


def both(windows_BTC: Tensor, config: SensorAugmentation, seed: int) -> Tensor:
    generator = seeded(seed)
    turned_BTC = augment_raw(windows_BTC, config, IMU, RATE_HZ, generator)
    return augment_prepared(turned_BTC, config, generator, channels=IMU)


def test_what_is_off_returns_the_very_input_and_draws_nothing() -> None:
    windows_BTC, generator = noise(), seeded()
    before = generator.get_state()
    assert augment_raw(windows_BTC, SensorAugmentation(), IMU, RATE_HZ, generator) is windows_BTC
    assert augment_prepared(windows_BTC, SensorAugmentation(), generator) is windows_BTC
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_seed_gives_the_same_windows_and_the_input_stays(dtype: torch.dtype) -> None:
    windows_BTC = noise().to(dtype)
    copy_BTC = windows_BTC.clone()
    first = both(windows_BTC, EVERYTHING, 1)
    assert torch.equal(first, both(windows_BTC, EVERYTHING, 1))
    assert not torch.equal(first, both(windows_BTC, EVERYTHING, 2))
    assert torch.equal(windows_BTC, copy_BTC)
    assert (first.shape, first.dtype) == (windows_BTC.shape, dtype)


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    before = torch.get_rng_state()
    both(noise(), EVERYTHING, 1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("part", sorted(set(SensorAugmentation.model_fields) - {"mirror_axis"}))
def test_every_part_alone_changes_the_windows(part: str) -> None:
    config = SensorAugmentation(**{part: getattr(EVERYTHING, part)})
    assert not torch.equal(both(noise(), config, 0), noise())


def test_rotation_keeps_norms_and_leaves_other_channels_alone() -> None:
    windows_BTC = noise()
    turned_BTC = raw(windows_BTC, rotation_deg=40)
    for columns in ([0, 1, 2], [4, 5, 6]):
        before, after = windows_BTC[..., columns], turned_BTC[..., columns]
        torch.testing.assert_close(after.norm(dim=-1), before.norm(dim=-1))
        assert not torch.allclose(after, before, atol=1e-2)
    assert torch.equal(turned_BTC[..., 3], windows_BTC[..., 3])


def test_all_triples_of_a_window_turn_alike_by_name_whatever_their_order() -> None:
    vector_BT3 = noise(channels=3)
    heart_BT1 = torch.full((16, 60, 1), 120.0)
    windows_BTC = torch.cat([vector_BT3, heart_BT1, vector_BT3.flip(-1)], dim=-1)
    turned_BTC = raw(windows_BTC, rotation_deg=40)
    torch.testing.assert_close(turned_BTC[..., 4:].flip(-1), turned_BTC[..., :3])
    turn_B33 = torch.linalg.lstsq(vector_BT3, turned_BTC[..., :3]).solution
    assert not torch.allclose(turn_B33[0], turn_B33[1], atol=1e-2)


def test_each_placement_has_a_rotation_of_its_own() -> None:
    names = tuple(
        f"{kind}_{axis}" for kind in ("acc_left", "acc_right", "gyr_left") for axis in "xyz"
    )
    turned_BTC = raw(noise(channels=3).repeat(1, 1, 3), names, rotation_deg=40)
    torch.testing.assert_close(turned_BTC[..., :3], turned_BTC[..., 6:])
    assert not torch.allclose(turned_BTC[..., :3], turned_BTC[..., 3:6], atol=1e-2)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("heart_rate", "left_knee_x"), "channels are: heart_rate, left_knee_x"),
        (("acc_x", "acc_y", "acc_z", "gyr_x"), "there is no gyr_y, gyr_z"),
    ],
)
def test_rotation_without_whole_triples_names_the_channels(
    names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        raw(noise(channels=len(names)), names, rotation_deg=5)
    assert torch.isfinite(raw(noise(channels=len(names)), names, time_warp_std=0.1)).all()


@pytest.mark.parametrize("axis", ["x", "y", "z"])
def test_a_mirror_of_probability_1_takes_all_windows_and_undoes_itself(axis: str) -> None:
    windows_BTC = noise()
    mirrored_BTC = raw(windows_BTC, mirror=1, mirror_axis=axis)
    assert torch.equal(mirrored_BTC.abs(), windows_BTC.abs())
    turned_BC = (mirrored_BTC != windows_BTC).any(dim=1)
    expected = [name.startswith("acc") == name.endswith(f"_{axis}") for name in IMU]
    expected[IMU.index("heart_rate")] = False
    assert turned_BC.tolist() == [expected] * len(windows_BTC)
    assert torch.equal(raw(mirrored_BTC, mirror=1, mirror_axis=axis), windows_BTC)


def test_a_mirror_takes_whole_windows_as_often_as_asked_and_the_same_for_a_seed() -> None:
    windows_BTC = noise(num=3000, samples=4)
    mirrored_BTC = raw(windows_BTC, seed=1, mirror=0.3)
    every_BTC = raw(windows_BTC, mirror=1)
    is_mirrored_B = (mirrored_BTC == every_BTC).flatten(1).all(dim=1)
    is_kept_B = (mirrored_BTC == windows_BTC).flatten(1).all(dim=1)
    assert (is_mirrored_B ^ is_kept_B).all()
    assert is_mirrored_B.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert torch.equal(mirrored_BTC, raw(windows_BTC, seed=1, mirror=0.3))
    assert not torch.equal(mirrored_BTC, raw(windows_BTC, seed=2, mirror=0.3))


def test_channels_that_cannot_be_mirrored_are_refused_only_where_there_is_a_mirror() -> None:
    names = ("acc_x", "acc_y", "heart_rate")
    with pytest.raises(RecipeError, match=r"augmentation\.mirror .* there is no acc_z"):
        raw(noise(channels=3), names, mirror=0.1)
    windows_BTC = noise(channels=3)
    assert raw(windows_BTC, names, mirror=0, mirror_axis="z") is windows_BTC


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 80),
    warp_std=st.floats(0, 1),
    crop=st.floats(0.05, 1),
    shift=st.integers(0, 30),
    seed=st.integers(0, 2**32),
)
def test_time_never_runs_backwards_nor_leaves_the_window(
    samples: int, warp_std: float, crop: float, shift: int, seed: int
) -> None:
    config = SensorAugmentation(time_warp_std=warp_std, crop=crop, shift_s=shift / RATE_HZ)
    positions_BT = time_positions(config, 4, samples, shift, seeded(seed))
    assert positions_BT.shape == (4, samples)
    assert (positions_BT.diff(dim=1) >= 0).all()
    assert positions_BT.min() >= 0
    assert positions_BT.max() <= samples - 1
    windows_BTC = sample_at(ramp(4, samples), positions_BT)
    torch.testing.assert_close(windows_BTC[..., 0], positions_BT, rtol=1e-4, atol=1e-3)


def test_a_time_warp_keeps_the_ends_and_always_moves_forward() -> None:
    windows_BTC = noise()
    warped_BTC = raw(windows_BTC, time_warp_std=0.5)
    assert torch.equal(warped_BTC[:, [0, -1]], windows_BTC[:, [0, -1]])
    positions_BT1 = raw(ramp(32, 100), ("power",), time_warp_std=0.5)
    assert (positions_BT1.diff(dim=1) > 0).all()
    assert (positions_BT1 - ramp(32, 100)).abs().amax() > 2


def test_a_shift_moves_whole_samples_and_repeats_the_edge() -> None:
    shifted_BT = raw(ramp(64, 50), ("power",), shift_s=0.1)[..., 0]
    moved_B = shifted_BT[:, 25] - 25
    expected_BT = (ramp(64, 50)[..., 0] + moved_B[:, None]).clamp(0, 49)
    assert torch.equal(shifted_BT, expected_BT)
    assert set(moved_B.tolist()) == set(range(-5, 6))


@pytest.mark.parametrize("shift_s", [0.005, 1.2, 30.0])
def test_a_shift_under_a_sample_or_over_the_window_is_refused(shift_s: float) -> None:
    config = SensorAugmentation(shift_s=shift_s)
    with pytest.raises(RecipeError, match=r"shift_s is .* at least one sample \(0.02 s\)"):
        check_augmentation(config, IMU, rate_hz=RATE_HZ, num_samples=60)


def test_a_crop_keeps_at_least_its_share_and_stretches_it_evenly() -> None:
    cropped_BT = raw(ramp(200, 101), ("power",), crop=0.6)[..., 0]
    span_B = cropped_BT[:, -1] - cropped_BT[:, 0]
    assert span_B.min() >= 60 - 1e-3
    assert span_B.min() < 65
    assert span_B.max() <= 100
    steps_BT = cropped_BT.diff(dim=1)
    torch.testing.assert_close(steps_BT, steps_BT[:, :1].expand_as(steps_BT), rtol=0, atol=1e-3)


def test_scale_is_one_factor_a_window_with_the_asked_std() -> None:
    factor_BTC = prepared(torch.ones(4000, 3, 2), scale_std=0.1)
    assert torch.equal(factor_BTC, factor_BTC[:, :1, :1].expand_as(factor_BTC))
    assert factor_BTC[:, 0, 0].mean().item() == pytest.approx(1.0, abs=0.01)
    assert factor_BTC[:, 0, 0].std().item() == pytest.approx(0.1, rel=0.06)


def test_scale_never_turns_a_window_round() -> None:
    assert prepared(torch.ones(4000, 1, 1), scale_std=0.9).min().item() == pytest.approx(0.1)


def test_jitter_has_the_asked_std_and_no_mean() -> None:
    noise_BTC = prepared(torch.zeros(50, 100, 6), jitter_std=0.3)
    assert noise_BTC.std().item() == pytest.approx(0.3, rel=0.03)
    assert noise_BTC.mean().item() == pytest.approx(0.0, abs=0.01)


def test_a_magnitude_warp_is_smooth_and_each_channels_own() -> None:
    curve_BTC = prepared(torch.ones(500, 101, 2), magnitude_warp_std=0.2)
    assert curve_BTC[:, 0].std().item() == pytest.approx(0.2, rel=0.1)
    # Five spans of 20 samples: a step is a twentieth of a knot's change.
    assert curve_BTC.diff(dim=1).abs().max() < 2 * 4 * 0.2 / 20
    assert curve_BTC.diff(dim=1).diff(dim=1).abs().gt(1e-4).sum(dim=1).max() <= 4
    assert not torch.allclose(curve_BTC[..., 0], curve_BTC[..., 1], atol=1e-2)


def test_a_time_mask_zeroes_one_span_of_up_to_its_share() -> None:
    masked_BT = prepared(torch.ones(500, 40, 2), time_mask=0.25)[..., 0]
    lengths_B = (masked_BT == 0).sum(dim=1)
    assert set(lengths_B.tolist()) == set(range(11))
    padded_BT = torch.nn.functional.pad(masked_BT, (1, 1), value=1.0)
    assert (padded_BT.diff(dim=1) < 0).sum(dim=1).max() == 1
    assert (masked_BT == 0).any(dim=0).all()


def test_dropout_takes_triples_as_one_and_leaves_a_group_alive() -> None:
    config = SensorAugmentation(channel_dropout=0.9)
    kept_BC = augment_prepared(torch.ones(3000, 4, 7), config, seeded(), channels=IMU)[:, 0]
    for columns in ([0, 1, 2], [4, 5, 6]):
        triple_B3 = kept_BC[:, columns]
        assert torch.equal(triple_B3, triple_B3[:, :1].expand(-1, 3))
    assert kept_BC.any(dim=1).all()
    alone_BC = prepared(torch.ones(3000, 4, 7), channel_dropout=0.2)[:, 0]
    assert (alone_BC == 0).float().mean().item() == pytest.approx(0.2, abs=0.02)


def test_dropout_of_the_only_group_is_refused() -> None:
    config = SensorAugmentation(channel_dropout=0.1)
    with pytest.raises(RecipeError, match="acc_x, acc_y, acc_z\\) are one group"):
        augment_prepared(noise(channels=3), config, seeded(), channels=IMU[:3])


@pytest.mark.parametrize(
    "wrong",
    [
        {"crop": 0},
        {"time_mask": 1},
        {"jitter_std": float("inf")},
        {"mirror": 1.5},
        {"mirror_axis": "w"},
        {"flip": 0.5},
    ],
)
def test_values_that_make_no_sense_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SensorAugmentation.model_validate(wrong)
