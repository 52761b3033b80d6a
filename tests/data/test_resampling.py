from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.signal import resample_poly

from motoric.core.errors import DatasetError, InputError
from motoric.data.resampling import Resampler, SegmentPart

RATES_HZ = (8.0, 10.0, 12.5, 25.0, 9.97)


def irregular_stream(seed: int, rate_hz: float, num_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Jitter, gaps, repeated drop-outs of single channels, and channels that lack at first."""
    rng = np.random.default_rng(seed)
    steps_s = np.full(num_samples, 1 / rate_hz)
    steps_s *= 1 + rng.choice([0.0, 0.2]) * rng.uniform(-1, 1, num_samples)
    steps_s[rng.random(num_samples) < 0.03] *= rng.uniform(1, 30)
    time_s = np.cumsum(steps_s) + rng.uniform(-5, 1000)
    values_TC = rng.normal(size=(num_samples, 3))
    values_TC[rng.random(values_TC.shape) < rng.choice([0.0, 0.05])] = np.nan
    for channel in range(3):
        first, length = rng.integers(0, num_samples), rng.integers(0, 20)
        values_TC[first : first + length, channel] = np.nan
    return time_s, values_TC


def run(
    resampler: Resampler, time_s: np.ndarray, values_TC: np.ndarray, cuts: list[int]
) -> list[SegmentPart]:
    parts = []
    for first, last in itertools.pairwise([0, *cuts, len(time_s)]):
        parts += resampler.push(time_s[first:last], values_TC[first:last])
    return parts + resampler.finish()


def joined(parts: list[SegmentPart]) -> list[tuple[int, float, np.ndarray]]:
    """Each segment as one piece; its parts must follow each other."""
    segments = []
    for _, group in itertools.groupby(parts, key=lambda part: part.segment):
        members = list(group)
        for before, after in itertools.pairwise(members):
            assert after.first_row == before.first_row + len(before.values_TC)
        values_TC = np.concatenate([part.values_TC for part in members])
        segments.append((members[0].first_row, members[0].start_s, values_TC))
    return segments


def random_cuts(seed: int, num_samples: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted(rng.integers(0, num_samples + 1, size=rng.integers(0, 12)).tolist())


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_samples=st.integers(1, 150),
    native_rate_hz=st.sampled_from(RATES_HZ),
    target_rate_hz=st.sampled_from(RATES_HZ),
    max_gap_s=st.sampled_from([0.0, 0.25, 2.0]),
)
def test_segments_do_not_depend_on_how_samples_are_pushed(
    seed: int, num_samples: int, native_rate_hz: float, target_rate_hz: float, max_gap_s: float
) -> None:
    time_s, values_TC = irregular_stream(seed, native_rate_hz, num_samples)

    def segments(cuts: list[int]) -> list[tuple[int, float, np.ndarray]]:
        resampler = Resampler(
            native_rate_hz=native_rate_hz, target_rate_hz=target_rate_hz, max_gap_s=max_gap_s
        )
        return joined(run(resampler, time_s, values_TC, cuts))

    whole = segments([])
    for cuts in (list(range(1, num_samples)), random_cuts(seed, num_samples)):
        pieces = segments(cuts)
        assert [item[:2] for item in pieces] == [item[:2] for item in whole]
        for (_, _, piece), (_, _, expected) in zip(pieces, whole, strict=True):
            np.testing.assert_array_equal(piece, expected)


def by_hand(
    time_s: np.ndarray, values_TC: np.ndarray, rate_hz: float, max_gap_s: float
) -> dict[int, list[float]]:
    """Whole rows by their number, found one by one; times 1e-4 periods from a row are on it."""
    places_T = (time_s - time_s[0]) * rate_hz
    is_on_row_T = np.abs(places_T - np.rint(places_T)) < 1e-4
    time_s = np.where(is_on_row_T, time_s[0] + np.rint(places_T) / rate_hz, time_s)
    rows = {}
    limit_s = max(1.5 / rate_hz, max_gap_s) + 1e-9
    for row in range(int((time_s[-1] - time_s[0]) * rate_hz + 1e-6) + 1):
        at_s = time_s[0] + row / rate_hz
        values = []
        for channel in values_TC.T:
            known = [(t, v) for t, v in zip(time_s, channel, strict=True) if np.isfinite(v)]
            left = [item for item in known if item[0] <= at_s + 1e-9]
            right = [item for item in known if item[0] >= at_s - 1e-9]
            if left and right and right[0][0] - left[-1][0] <= limit_s:
                (t0, v0), (t1, v1) = left[-1], right[0]
                values.append(v0 if t1 <= t0 else v0 + (v1 - v0) * (at_s - t0) / (t1 - t0))
        if len(values) == values_TC.shape[1]:
            rows[row] = values
    return rows


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_samples=st.integers(1, 60),
    max_gap_s=st.sampled_from([0.0, 0.31, 2.0]),
)
@example(seed=414, num_samples=58, max_gap_s=0.0)  # a sample 2e-5 periods beside a row
def test_rows_are_interpolated_between_neighbours_that_are_near_enough(
    seed: int, num_samples: int, max_gap_s: float
) -> None:
    time_s, values_TC = irregular_stream(seed, 10.0, num_samples)
    resampler = Resampler(native_rate_hz=10.0, target_rate_hz=10.0, max_gap_s=max_gap_s)
    segments = joined(run(resampler, time_s, values_TC, []))
    found = {
        first_row + index: values
        for first_row, _, rows in segments
        for index, values in enumerate(rows)
    }
    expected = by_hand(time_s, values_TC, 10.0, max_gap_s)
    assert sorted(found) == sorted(expected)
    for row, values in expected.items():
        np.testing.assert_allclose(found[row], values, rtol=1e-9, atol=1e-6)
    # A segment goes as far as its rows do.
    assert len(segments) == sum(row - 1 not in expected for row in expected)


@pytest.mark.parametrize("rate_hz", [10.0, 31.25, 100.0, 59.94])
def test_a_regular_stream_of_the_same_rate_stays_bit_for_bit(rate_hz: float) -> None:
    values_TC = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
    time_s = 1.7e3 + np.cumsum(np.full(5000, 1 / rate_hz))
    resampler = Resampler(native_rate_hz=rate_hz, target_rate_hz=rate_hz)
    ((first_row, start_s, found_TC),) = joined(run(resampler, time_s, values_TC, [7, 99]))
    assert (first_row, start_s) == (0, time_s[0])
    np.testing.assert_array_equal(found_TC, values_TC)


@pytest.mark.parametrize(
    ("native_rate_hz", "target_rate_hz", "up", "down"),
    [(100, 50, 1, 2), (50, 100, 2, 1), (31.25, 50, 8, 5), (100, 64, 16, 25), (25, 60, 12, 5)],
)
def test_other_rates_give_what_resample_poly_gives(
    native_rate_hz: float, target_rate_hz: float, up: int, down: int
) -> None:
    values_TC = np.random.default_rng(0).normal(size=(301, 2))
    time_s = np.arange(301) / native_rate_hz
    resampler = Resampler(native_rate_hz=native_rate_hz, target_rate_hz=target_rate_hz)
    ((_, _, found_TC),) = joined(run(resampler, time_s, values_TC, [100, 200]))
    expected_TC = resample_poly(values_TC, up, down, padtype="edge")
    np.testing.assert_allclose(found_TC, expected_TC, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("native_rate_hz", "target_rate_hz"), [(100.0, 37.3), (49.97, 50.0)])
def test_rows_stand_at_the_times_they_name(native_rate_hz: float, target_rate_hz: float) -> None:
    time_s = 3 + np.arange(4000) / native_rate_hz
    time_s = np.delete(time_s, slice(1500, 1520))
    values_TC = np.stack([time_s, np.sin(2 * np.pi * time_s)], axis=1)
    resampler = Resampler(native_rate_hz=native_rate_hz, target_rate_hz=target_rate_hz)
    segments = joined(run(resampler, time_s, values_TC, []))
    assert len(segments) == 2
    for first_row, start_s, found_TC in segments:
        assert start_s == pytest.approx(3 + first_row / target_rate_hz, abs=1e-9)
        at_s = start_s + np.arange(len(found_TC)) / target_rate_hz
        expected_TC = np.stack([at_s, np.sin(2 * np.pi * at_s)], axis=1)
        np.testing.assert_allclose(found_TC[30:-30], expected_TC[30:-30], rtol=2e-3, atol=0.01)


def test_what_the_lower_rate_cannot_hold_is_filtered_out() -> None:
    time_s = np.arange(2000) / 100
    values_TC = np.sin(2 * np.pi * 40 * time_s)[:, None]
    resampler = Resampler(native_rate_hz=100, target_rate_hz=50)
    ((_, _, found_TC),) = joined(run(resampler, time_s, values_TC, []))
    assert np.abs(found_TC[20:-20]).max() < 0.01


def test_state_stays_small_however_long_the_stream_is() -> None:
    resampler = Resampler(native_rate_hz=100, target_rate_hz=50, max_gap_s=1.0)
    num_rows = 0
    for minute in range(30):
        time_s = minute * 60 + np.arange(6000) / 100
        values_TC = np.ones((6000, 2), np.float32)
        values_TC[minute * 10 :, 1] = np.nan
        num_rows += sum(len(part.values_TC) for part in resampler.push(time_s, values_TC))
        assert resampler.num_held <= 2 * 100 + 2 * 41
    assert num_rows > 0


def test_a_gap_of_years_costs_no_memory() -> None:
    time_s = np.array([0.0, 0.01, 0.02, 3e9, 3e9 + 0.01])
    resampler = Resampler(native_rate_hz=100, target_rate_hz=100)
    segments = joined(run(resampler, time_s, np.ones((5, 1)), []))
    assert [(first_row, len(rows)) for first_row, _, rows in segments] == [(0, 3), (300 * 10**9, 2)]


def test_a_segment_is_given_out_as_soon_as_its_end_is_certain() -> None:
    resampler = Resampler(native_rate_hz=100, target_rate_hz=50)
    found = resampler.push(np.arange(100) / 100, np.ones((100, 1)))
    assert sum(len(part.values_TC) for part in found) < 50
    found += resampler.push(np.array([5.0]), np.ones((1, 1)))
    assert sum(len(part.values_TC) for part in found) == 50


@pytest.mark.parametrize("times", [[1.0, 1.0], [2.0, 1.0], [0.0, np.nan], [np.inf], [1.0, 1e300]])
def test_times_that_do_not_increase_are_refused(times: list[float]) -> None:
    resampler = Resampler(native_rate_hz=10, target_rate_hz=10)
    with pytest.raises(InputError, match=r"must increase|too far"):
        resampler.push(np.array(times), np.zeros((len(times), 1)))


def test_times_must_increase_from_push_to_push() -> None:
    resampler = Resampler(native_rate_hz=10, target_rate_hz=10)
    resampler.push(np.array([0.0, 0.1]), np.zeros((2, 1)))
    with pytest.raises(InputError, match=r"0\.1 s follows 0\.1 s"):
        resampler.push(np.array([0.1]), np.zeros((1, 1)))


@pytest.mark.parametrize("shape", [(2,), (3, 1), (2, 0), (2, 4)])
def test_shapes_that_do_not_fit_are_named(shape: tuple[int, ...]) -> None:
    resampler = Resampler(native_rate_hz=10, target_rate_hz=10)
    resampler.push(np.array([0.0]), np.zeros((1, 1)))
    with pytest.raises(InputError, match=r"column a channel|1 channels, these samples 4"):
        resampler.push(np.array([0.1, 0.2]), np.zeros(shape))


@pytest.mark.parametrize(
    "change", [{"native_rate_hz": 0}, {"target_rate_hz": -1}, {"max_gap_s": -1}]
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(DatasetError):
        Resampler(**{"native_rate_hz": 10, "target_rate_hz": 10, "max_gap_s": 0, **change})
