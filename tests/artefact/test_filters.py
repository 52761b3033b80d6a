from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfiltfilt, sosfreqz

from motoric.artefact import filters

RATE_HZ = 50.0


def sine(frequency_hz: float, num_samples: int = 1000) -> np.ndarray:
    return np.sin(2 * np.pi * frequency_hz * np.arange(num_samples) / RATE_HZ)[None, :, None]


def test_a_spike_becomes_the_local_median_and_the_rest_stays() -> None:
    clean = sine(0.5).astype(np.float32)
    spoilt = clean.copy()
    spikes = [0, 100, 101, 500, 999]
    spoilt[0, spikes, 0] = 30.0
    filtered = filters.hampel(spoilt, half_samples=5)
    assert filtered.dtype == np.float32
    assert np.abs(filtered - clean).max() < 0.5
    others = np.setdiff1d(np.arange(1000), spikes)
    assert (filtered[0, others] == clean[0, others]).mean() > 0.9


def hampel_by_hand(values_T: np.ndarray, half: int, num_sigmas: float) -> np.ndarray:
    half = min(half, (len(values_T) - 1) // 2)
    span = 2 * half + 1
    filtered = values_T.copy()
    for index in range(len(values_T)):
        first = min(max(index - half, 0), len(values_T) - span)
        around = values_T[first : first + span]
        median = np.median(around)
        sigma = 1.4826 * np.median(np.abs(around - median))
        if abs(values_T[index] - median) > num_sigmas * sigma:
            filtered[index] = median
    return filtered


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    num_samples=st.integers(1, 30),
    half=st.integers(1, 20),
    num_sigmas=st.sampled_from([0.5, 3.0]),
)
def test_hampel_follows_its_definition(
    seed: int, num_samples: int, half: int, num_sigmas: float
) -> None:
    values_BTC = np.random.default_rng(seed).standard_t(1, size=(2, num_samples, 2))
    filtered = filters.hampel(values_BTC, half_samples=half, num_sigmas=num_sigmas)
    for window in range(2):
        for channel in range(2):
            expected = hampel_by_hand(values_BTC[window, :, channel], half, num_sigmas)
            np.testing.assert_allclose(filtered[window, :, channel], expected)


def test_hampel_gives_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values_BTC = np.random.default_rng(0).standard_t(1, size=(7, 40, 3))
    whole = filters.hampel(values_BTC, half_samples=3)
    monkeypatch.setattr(filters, "_MAX_BLOCK_VALUES", 2 * 40 * 3 * 7)
    np.testing.assert_array_equal(filters.hampel(values_BTC, half_samples=3), whole)


@pytest.mark.parametrize("zero_phase", [False, True])
@pytest.mark.parametrize("value", [9.81, -3.0])
def test_a_constant_passes_the_low_pass_from_the_first_sample(
    zero_phase: bool, value: float
) -> None:
    constant = np.full((2, 60, 3), value)
    filtered = filters.low_pass(constant, rate_hz=RATE_HZ, cutoff_hz=6, zero_phase=zero_phase)
    np.testing.assert_allclose(filtered, constant, rtol=1e-9)


@pytest.mark.parametrize(("zero_phase", "at_cutoff"), [(False, 0.7071), (True, 0.5)])
def test_the_low_pass_keeps_slow_motion_and_removes_fast(
    zero_phase: bool, at_cutoff: float
) -> None:
    def gain(frequency_hz: float) -> float:
        filtered = filters.low_pass(
            sine(frequency_hz), rate_hz=RATE_HZ, cutoff_hz=5, order=4, zero_phase=zero_phase
        )
        return float(filtered[0, 300:700].std() * np.sqrt(2))

    assert gain(0.5) == pytest.approx(1, abs=0.01)
    assert gain(5) == pytest.approx(at_cutoff, abs=0.01)
    assert gain(20) < 0.01


def test_zero_phase_does_not_delay() -> None:
    slow = sine(1.0)
    filtered = filters.low_pass(slow, rate_hz=RATE_HZ, cutoff_hz=10, order=4, zero_phase=True)
    np.testing.assert_allclose(filtered[0, 50:-50], slow[0, 50:-50], atol=0.002)


def test_zero_phase_is_what_pose2sim_calls_4th_order() -> None:
    values = np.random.default_rng(0).normal(size=(3, 200, 2))
    filtered = filters.low_pass(values, rate_hz=60, cutoff_hz=6, order=4, zero_phase=True)
    expected = sosfiltfilt(butter(2, 6, fs=60, output="sos"), values, axis=1)
    np.testing.assert_allclose(filtered, expected, atol=1e-12)


@pytest.mark.parametrize("num_samples", [1, 2, 5])
@pytest.mark.parametrize("zero_phase", [False, True])
def test_short_windows_are_filtered_too(num_samples: int, zero_phase: bool) -> None:
    values = np.random.default_rng(0).normal(size=(2, num_samples, 2))
    filtered = filters.low_pass(values, rate_hz=RATE_HZ, cutoff_hz=5, zero_phase=zero_phase)
    assert filtered.shape == values.shape
    assert np.isfinite(filtered).all()


def test_gravity_and_linear_acceleration_add_up_to_the_acceleration() -> None:
    gravity = np.array([0.0, 9.81, 0.5])
    moving = gravity + 3 * np.concatenate([sine(2.0), sine(3.0), sine(4.0)], axis=2)
    linear, slow = filters.gravity_split(moving, rate_hz=RATE_HZ)
    np.testing.assert_allclose(linear + slow, moving, atol=1e-12)
    np.testing.assert_allclose(slow[0, 500:], np.broadcast_to(gravity, (500, 3)), atol=0.05)


@pytest.mark.parametrize("rate_hz", [20.0, 100.0, 1000.0])
@pytest.mark.parametrize("cutoff_hz", [0.3, 5.0, 9.99])
@pytest.mark.parametrize("order", [1, 3, 4, 10])
def test_after_settling_a_step_is_forgotten_to_1_percent(
    rate_hz: float, cutoff_hz: float, order: int
) -> None:
    settling = filters.settling_samples(rate_hz, cutoff_hz, order)
    step = np.ones((1, settling * 6 + 200, 1))
    step[:, 0] = 0
    away = np.abs(filters.low_pass(step, rate_hz=rate_hz, cutoff_hz=cutoff_hz, order=order) - 1)
    assert away[0, settling:].max() <= 0.01
    assert settling == 1 or away[0, settling - 1, 0] > 0.01


def test_the_sections_are_a_butterworth_filter() -> None:
    sections, _ = filters.butterworth(RATE_HZ, 20.0, 3)
    _, response = sosfreqz(sections, worN=[20.0, 1e-6], fs=RATE_HZ)
    np.testing.assert_allclose(np.abs(response), [np.sqrt(0.5), 1], rtol=1e-6)
