"""Axes: B windows, T samples, C channels, N training windows, F features, K outputs."""

import io
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn

from motoric.core.errors import DatasetError, MotoricError, RecipeError
from motoric.models import inception, patch_transformer, random_kernels
from motoric.models.closed_form import (
    ClosedFormNetwork,
    fit_temperature,
    signs,
    solve_ridge,
    standardisation,
)
from motoric.models.inception import InceptionConfig
from motoric.models.patch_transformer import PatchTransformerConfig
from motoric.models.random_kernels import RandomKernels, RandomKernelsConfig
from motoric.models.shapes import InputShapes, SensorShape

KINDS = {
    "inception": (inception.build, InceptionConfig),
    "patch_transformer": (patch_transformer.build, PatchTransformerConfig),
    "random_kernels": (random_kernels.build, RandomKernelsConfig),
}
NUM_OUTPUTS = 4


def make(name: str, num_samples: int, num_channels: int, **settings: Any) -> nn.Module:
    torch.manual_seed(0)
    build, config = KINDS[name]
    sensors = SensorShape(num_samples=num_samples, num_channels=num_channels, rate_hz=50.0)
    return build(config(**settings), InputShapes(sensors=sensors), NUM_OUTPUTS)


def waves(count: int, num_samples: int, num_channels: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Sines whose rhythm tells the class, in noise."""
    generator = torch.Generator().manual_seed(seed)
    classes_B = torch.arange(count) % NUM_OUTPUTS
    time_T = torch.arange(num_samples) / 50.0
    phase_BC = torch.rand(count, num_channels, generator=generator) * 6.28
    rate_B = 1.0 + 1.5 * classes_B
    angle_BTC = 6.28 * rate_B[:, None, None] * time_T[None, :, None] + phase_BC[:, None]
    noise_BTC = torch.randn(count, num_samples, num_channels, generator=generator)
    return angle_BTC.sin() + 0.5 * noise_BTC, classes_B


def fitted_kernels(num_samples: int, num_channels: int, **settings: Any) -> RandomKernels:
    network = make("random_kernels", num_samples, num_channels, **settings)
    assert isinstance(network, RandomKernels)
    windows_BTC, classes_B = waves(120, num_samples, num_channels)
    network.initialise(windows_BTC, torch.Generator().manual_seed(1))
    network.solve(network.features(windows_BTC), classes_B)
    return network


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(["inception", "patch_transformer"]),
    num_samples=st.integers(min_value=16, max_value=90),
    num_channels=st.integers(min_value=1, max_value=12),
    batch=st.integers(min_value=1, max_value=3),
)
def test_any_window_gives_finite_outputs_and_gradients_everywhere(
    name: str, num_samples: int, num_channels: int, batch: int
) -> None:
    network = make(name, num_samples, num_channels, depth=3 if name == "inception" else 1)
    windows_BTC, _ = waves(batch + 1, num_samples, num_channels)
    outputs_BK = network(windows_BTC)
    assert outputs_BK.shape == (batch + 1, NUM_OUTPUTS)
    outputs_BK.square().sum().backward()
    assert all(
        value.grad is not None and bool(value.grad.isfinite().all())
        for value in network.parameters()
    )


@pytest.mark.parametrize("pooling", ["mean", "max"])
def test_each_pooling_of_inception_learns_the_rhythm(pooling: str) -> None:
    network = make(
        "inception", 50, 2, depth=1, filters=8, bottleneck=8, pooling=pooling, dropout=0.0
    )
    assert learned(network) > 0.7


@pytest.mark.parametrize("positions", ["learned", "sinusoidal"])
def test_a_patch_transformer_learns_the_rhythm(positions: str) -> None:
    network = make("patch_transformer", 50, 2, width=32, depth=1, positions=positions, dropout=0.0)
    assert learned(network) > 0.7


def learned(network: nn.Module) -> float:
    windows_BTC, classes_B = waves(96, 50, 2)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(40):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(windows_BTC), classes_B).backward()
        optimiser.step()
    windows_BTC, classes_B = waves(64, 50, 2, seed=9)
    with torch.no_grad():
        return float((network.eval()(windows_BTC).argmax(1) == classes_B).float().mean())


@given(
    st.lists(st.integers(min_value=1, max_value=200), min_size=1, max_size=4),
    st.integers(min_value=8, max_value=400),
    st.integers(min_value=1, max_value=4),
)
def test_kernels_are_odd_and_within_half_a_window(
    wanted: list[int], num_samples: int, stride: int
) -> None:
    for size in inception.fit_kernels(tuple(wanted), num_samples, stride):
        assert size % 2 == 1
        assert size == 3 or size <= num_samples / 2 / stride + 1


def test_kernels_that_fit_keep_their_length() -> None:
    assert inception.fit_kernels((39, 19, 9), 200, 1) == (39, 19, 9)


def test_every_sample_of_a_window_reaches_a_patch() -> None:
    network = make("patch_transformer", 45, 1, stem_channels=0, depth=1).eval()
    windows_BTC = torch.zeros(1, 45, 1, requires_grad=True)
    network(windows_BTC)[0, 0].backward()
    assert windows_BTC.grad is not None
    assert bool((windows_BTC.grad != 0).all())


def test_a_window_shorter_than_a_patch_names_the_setting_and_the_samples() -> None:
    with pytest.raises(RecipeError, match=r"model\.patch_samples is 64.* 33 samples"):
        make("patch_transformer", 33, 1, patch_samples=64)


def test_a_window_shorter_than_a_kernel_is_refused() -> None:
    with pytest.raises(RecipeError, match="at least 9 samples, not 8"):
        make("random_kernels", 8, 1)


@pytest.mark.parametrize(
    "content", [{"width": 30, "num_heads": 4}, {"patch_samples": 4, "stride_samples": 5}]
)
def test_settings_that_cannot_work_together_are_refused(content: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        PatchTransformerConfig(**content)


def test_random_kernels_count_their_features_and_follow_from_the_generator() -> None:
    first = fitted_kernels(60, 3, num_features=1000, max_dilations=4)
    assert first.num_features == 84 * 11
    windows_BTC, _ = waves(5, 60, 3, seed=4)
    features_BF = first.features(windows_BTC)
    assert features_BF.shape == (5, 84 * 11)
    assert 0.0 <= float(features_BF.min()) <= float(features_BF.max()) <= 1.0
    second = fitted_kernels(60, 3, num_features=1000, max_dilations=4)
    assert torch.equal(first(windows_BTC), second(windows_BTC))


def test_random_kernels_agree_with_a_plain_count_of_the_time_above_a_threshold() -> None:
    network = fitted_kernels(40, 2, num_features=168, max_dilations=2, ramp=1e-4)
    windows_BTC, _ = waves(3, 40, 2, seed=5)
    group = network._groups("raw")[0]
    series_BCT = windows_BTC.numpy().transpose(0, 2, 1)
    padded_BCT = np.pad(series_BCT, ((0, 0), (0, 0), (4, 4)))
    weights_KCL = group.weights_KCL.numpy()
    for window, kernel in itertools.product(range(3), (0, 17, 41)):
        outputs_T = [
            (padded_BCT[window, :, t : t + 9] * weights_KCL[kernel]).sum() for t in range(40)
        ]
        threshold = float(group.thresholds_KQ[kernel, 0]) + 0.5
        share = np.mean(np.array(outputs_T) > threshold)
        assert abs(float(network.features(windows_BTC)[window, kernel]) - share) < 0.01


@given(
    st.integers(min_value=9, max_value=2000),
    st.integers(min_value=1, max_value=240),
    st.integers(min_value=1, max_value=64),
)
def test_dilated_kernels_fit_into_a_window_and_share_all_thresholds(
    num_samples: int, per_kernel: int, max_dilations: int
) -> None:
    counts = random_kernels.fit_dilations(num_samples, per_kernel, max_dilations)
    assert sum(counts.values()) == per_kernel
    assert min(counts.values()) >= 1
    assert len(counts) <= max_dilations
    assert 8 * max(counts) + 1 <= num_samples


def test_channels_that_never_move_leave_finite_outputs() -> None:
    network = make("random_kernels", 60, 2, num_features=168)
    assert isinstance(network, RandomKernels)
    windows_BTC, classes_B = waves(80, 60, 2)
    windows_BTC[:, :, 1] = 0.0
    network.initialise(windows_BTC, torch.Generator().manual_seed(0))
    network.solve(network.features(windows_BTC), classes_B)
    shaken_BTC = windows_BTC + 5.0 * torch.randn(windows_BTC.shape)
    assert bool(network(shaken_BTC).isfinite().all())


def test_random_kernels_tell_rhythms_apart_and_know_how_sure_they_are() -> None:
    network = fitted_kernels(60, 3, num_features=840, max_dilations=8)
    windows_BTC, classes_B = waves(100, 60, 3, seed=7)
    with torch.no_grad():
        outputs_BK = network(windows_BTC)
    assert float((outputs_BK.argmax(1) == classes_B).float().mean()) > 0.95
    assert float(nn.functional.cross_entropy(outputs_BK, classes_B)) < 0.3


def test_random_kernels_regress_values_in_their_own_unit() -> None:
    network = make("random_kernels", 60, 2, num_features=840, max_dilations=8)
    assert isinstance(network, RandomKernels)
    windows_BTC, classes_B = waves(200, 60, 2)
    values_BK = torch.stack([150.0 + 40.0 * classes_B, *[-1.0 * classes_B] * 3], dim=1)
    network.initialise(windows_BTC, torch.Generator().manual_seed(0))
    network.solve(network.features(windows_BTC), values_BK)
    windows_BTC, classes_B = waves(80, 60, 2, seed=8)
    with torch.no_grad():
        error_B = network(windows_BTC)[:, 0] - (150.0 + 40.0 * classes_B)
    assert float(error_B.abs().mean()) < 15.0


def test_a_network_that_is_not_fitted_says_so() -> None:
    network = make("random_kernels", 60, 2, num_features=168)
    assert isinstance(network, ClosedFormNetwork)
    windows_BTC, _ = waves(20, 60, 2)
    with pytest.raises(MotoricError, match=r"call initialise\(\) first"):
        network.features(windows_BTC)
    network.initialise(windows_BTC, torch.Generator().manual_seed(0))
    with pytest.raises(MotoricError, match=r"solve\(\) first"):
        network(windows_BTC)


def test_a_loaded_state_is_a_fitted_network() -> None:
    network = fitted_kernels(60, 2, num_features=168)
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    other = make("random_kernels", 60, 2, num_features=168)
    other.load_state_dict(torch.load(file, weights_only=True))
    windows_BTC, _ = waves(4, 60, 2, seed=2)
    assert torch.equal(other(windows_BTC), network(windows_BTC))


def problem(num_windows: int, num_features: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(num_windows)
    features_NF = torch.randn(num_windows, num_features, generator=generator)
    features_NF = features_NF * torch.linspace(0.5, 3.0, num_features) + 2.0
    weights_FK = torch.randn(num_features, 2, generator=generator)
    noise_NK = torch.randn(num_windows, 2, generator=generator)
    return features_NF, (features_NF @ weights_FK + 3.0 * noise_NK).double()


def refit(features_NF: Tensor, targets_NK: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
    """Ridge with an intercept that is not penalised, by its normal equations."""
    ones_N1 = torch.ones(len(features_NF), 1, dtype=torch.float64)
    design = torch.cat([features_NF, ones_N1], dim=1)
    penalties = torch.full((design.shape[1],), penalty, dtype=torch.float64)
    penalties[-1] = 0.0
    solved = torch.linalg.solve(design.T @ design + penalties.diag(), design.T @ targets_NK)
    return solved[:-1], solved[-1]


@pytest.mark.parametrize(("num_windows", "num_features"), [(40, 12), (24, 60)])
@pytest.mark.parametrize("num_groups", [None, 5])
def test_left_out_predictions_are_those_of_fits_without_the_windows(
    num_windows: int, num_features: int, num_groups: int | None
) -> None:
    features_NF, targets_NK = problem(num_windows, num_features)
    mean_F, scale_F = standardisation(features_NF)
    groups_N = None if num_groups is None else torch.arange(num_windows) % num_groups
    solution = solve_ridge(features_NF, targets_NK, mean_F, scale_F, groups_N=groups_N)
    scaled_NF = (features_NF.double() - mean_F) * scale_F

    weights_FK, bias_K = refit(scaled_NF, targets_NK, solution.penalty)
    torch.testing.assert_close(solution.weights_KF, weights_FK.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(solution.bias_K, bias_K, rtol=1e-4, atol=1e-5)

    numbers_N = torch.arange(num_windows) if groups_N is None else groups_N
    for number in numbers_N.unique():
        out_N = numbers_N == number
        weights_FK, bias_K = refit(scaled_NF[~out_N], targets_NK[~out_N], solution.penalty)
        expected = scaled_NF[out_N] @ weights_FK + bias_K
        torch.testing.assert_close(solution.left_out_NK[out_N], expected, rtol=1e-4, atol=1e-4)


def test_windows_of_one_subject_look_surer_than_they_are_when_left_out_one_by_one() -> None:
    generator = torch.Generator().manual_seed(0)
    subjects_N = torch.arange(12).repeat_interleave(10)
    classes_N = torch.randint(2, (12,), generator=generator)[subjects_N]
    habits_NF = torch.randn(12, 80, generator=generator)[subjects_N]
    features_NF = habits_NF + 0.1 * torch.randn(120, 80, generator=generator)
    features_NF[:, 0] += 2.0 * classes_N
    targets_NK = signs(classes_N, 2)
    mean_F, scale_F = standardisation(features_NF)
    alone = solve_ridge(features_NF, targets_NK, mean_F, scale_F)
    together = solve_ridge(features_NF, targets_NK, mean_F, scale_F, groups_N=subjects_N)
    assert float(together.errors_L.min()) > 5.0 * float(alone.errors_L.min())
    unsure = fit_temperature(together.left_out_NK, classes_N)
    assert unsure > 2.0 * fit_temperature(alone.left_out_NK, classes_N)


def test_one_group_cannot_be_left_out() -> None:
    features_NF, targets_NK = problem(10, 3)
    mean_F, scale_F = standardisation(features_NF)
    with pytest.raises(DatasetError, match="at least 2 groups"):
        solve_ridge(
            features_NF, targets_NK, mean_F, scale_F, groups_N=torch.zeros(10, dtype=torch.int64)
        )


def test_the_temperature_undoes_a_scale() -> None:
    generator = torch.Generator().manual_seed(0)
    logits_NK = torch.randn(4000, 3, generator=generator)
    classes_N = torch.multinomial(logits_NK.softmax(1), 1, generator=generator)[:, 0]
    assert fit_temperature(logits_NK * 5.0, classes_N) == pytest.approx(5.0, rel=0.1)
