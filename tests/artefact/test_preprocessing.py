from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoric.artefact.preprocessing import check_windows, fit_normaliser, prepare
from motoric.artefact.signature import Channel, Normaliser, Preprocessing, SensorInput
from motoric.core.errors import InputError

SENSORS = SensorInput(
    channels=(Channel(name="a", unit="g"), Channel(name="b", unit="g")),
    rate_hz=5.0,
    length_s=1.0,
    hop_s=1.0,
)


def test_the_normaliser_gives_mean_0_and_std_1_on_what_it_was_fitted_on() -> None:
    windows_BTC = np.random.default_rng(0).normal(5, 3, (50, 5, 2)).astype(np.float32)
    prepared = prepare(windows_BTC, Preprocessing(normaliser=fit_normaliser(windows_BTC)))
    assert prepared.dtype == np.float32
    np.testing.assert_allclose(prepared.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(prepared.std((0, 1)), 1, atol=1e-5)


def test_a_channel_that_never_moves_stays_finite() -> None:
    windows_BTC = np.full((3, 5, 2), 7, np.float32)
    prepared = prepare(windows_BTC, Preprocessing(normaliser=fit_normaliser(windows_BTC)))
    np.testing.assert_array_equal(prepared, 0)


@given(num=st.integers(1, 6), cut=st.integers(0, 6))
def test_windows_are_prepared_one_by_one(num: int, cut: int) -> None:
    windows_BTC = np.random.default_rng(num).normal(size=(num, 5, 2)).astype(np.float32)
    preprocessing = Preprocessing(normaliser=Normaliser(mean=(1.0, 2.0), std=(2.0, 0.5)))
    together = prepare(windows_BTC, preprocessing)
    parts = [prepare(part, preprocessing) for part in (windows_BTC[:cut], windows_BTC[cut:])]
    np.testing.assert_array_equal(together, np.concatenate(parts))


def test_one_window_gets_its_batch_axis() -> None:
    assert check_windows(np.zeros((5, 2)), SENSORS).shape == (1, 5, 2)


@pytest.mark.parametrize("shape", [(1, 4, 2), (1, 5, 3), (5,), (1, 1, 5, 2), (2, 5)])
def test_a_wrong_shape_names_the_right_one(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"must have shape \[5, 2\]: 5 samples at 5 Hz"):
        check_windows(np.zeros(shape), SENSORS)


def test_no_windows_are_refused() -> None:
    with pytest.raises(InputError, match="no windows"):
        check_windows(np.zeros((0, 5, 2)), SENSORS)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_found(bad: float) -> None:
    windows = np.zeros((3, 5, 2))
    windows[1, 4, 1] = bad
    with pytest.raises(InputError, match="window 1, sample 4, channel b"):
        check_windows(windows, SENSORS)


def test_infinities_of_both_signs_do_not_cancel_out() -> None:
    windows = np.zeros((1, 5, 2))
    windows[0, 0, 0], windows[0, 1, 0] = np.inf, -np.inf
    with pytest.raises(InputError, match="2 values"):
        check_windows(windows, SENSORS)


def test_large_finite_values_pass() -> None:
    windows = np.full((2, 5, 2), 3e38, np.float32)
    np.testing.assert_array_equal(check_windows(windows, SENSORS), windows)
