from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from motoric.data.ingest.ordering import Sequencer
from motoric.data.ingest.samples import Notes

Array = NDArray[np.float64]


def run(time_s: Array, values_T: Array, sizes: list[int]) -> tuple[Array, Array, Notes]:
    sequencer = Sequencer(1)
    parts, first = [], 0
    for size in [*sizes, len(time_s)]:
        part = slice(first, first + size)
        parts.append(sequencer.push(time_s[part], values_T[part, None]))
        first += size
    parts.append(sequencer.finish())
    notes = Notes()
    sequencer.report("imu", notes)
    times = np.concatenate([part[0] for part in parts])
    values = np.concatenate([part[1] for part in parts])
    return times, values[:, 0], notes


def kinds(notes: Notes) -> dict[str, int]:
    return {flag.kind: flag.count for flag in notes.flags}


def test_ordered_samples_pass_unchanged() -> None:
    time_s = np.arange(100) / 50
    times, values, notes = run(time_s, np.arange(100.0), [7, 30])
    np.testing.assert_array_equal(times, time_s)
    np.testing.assert_array_equal(values, np.arange(100.0))
    assert notes.flags == []


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16),
    sizes=st.lists(st.integers(1, 40), max_size=8),
    num_swaps=st.integers(0, 20),
)
def test_small_disorder_is_sorted_whatever_the_batches(
    seed: int, sizes: list[int], num_swaps: int
) -> None:
    rng = np.random.default_rng(seed)
    time_s = np.sort(rng.uniform(0, 40, 200)).round(6)
    time_s = np.unique(time_s)
    values = time_s * 3
    order = np.arange(len(time_s))
    for index in rng.integers(0, len(order) - 3, num_swaps):
        order[index : index + 3] = order[index : index + 3][::-1]
    times, found, _ = run(time_s[order], values[order], sizes)
    np.testing.assert_array_equal(times, time_s)
    np.testing.assert_array_equal(found, values)


def test_the_first_of_equal_times_stays() -> None:
    time_s = np.array([0.0, 1.0, 1.0, 2.0, 2.0])
    times, values, notes = run(time_s, np.array([1.0, 2.0, 9.0, 3.0, 3.0]), [2])
    assert times.tolist() == [0, 1, 2]
    assert values.tolist() == [1, 2, 3]
    (flag,) = notes.flags
    assert (flag.kind, flag.count, flag.is_repair) == ("duplicate_time", 2, True)
    assert "1 of other values" in flag.detail


def test_a_clock_set_back_goes_on_one_step_later_and_loses_nothing() -> None:
    time_s = np.concatenate([np.arange(100) / 10, np.arange(50) / 10 - 3600])
    times, values, notes = run(time_s, np.arange(150.0), [33, 67, 20])
    np.testing.assert_allclose(times, np.arange(150) / 10, atol=1e-9)
    np.testing.assert_array_equal(values, np.arange(150.0))
    assert kinds(notes) == {"clock_jump": 1}
    assert "-3610" in notes.flags[0].detail
    assert notes.flags[0].is_repair


def test_a_clock_set_years_forward_is_closed_up_and_a_pause_of_hours_is_not() -> None:
    year_s = 365 * 24 * 3600.0
    time_s = np.concatenate([np.arange(10.0), np.arange(10.0) + 20 * year_s])
    times, _, notes = run(time_s, np.arange(20.0), [])
    np.testing.assert_allclose(np.diff(times), 1.0)
    assert kinds(notes) == {"clock_jump": 1}
    pause = np.concatenate([np.arange(10.0), np.arange(10.0) + 2 * 3600])
    times, _, notes = run(pause, np.arange(20.0), [])
    np.testing.assert_array_equal(times, pause)
    assert notes.flags == []


def test_one_time_far_off_among_good_ones_is_left_out() -> None:
    time_s = np.arange(30.0)
    time_s[10] = 5000.0
    time_s[20] = -5000.0
    for sizes in ([], [10], [11], [20, 1]):
        times, _, notes = run(time_s.copy(), np.arange(30.0), sizes)
        assert times.tolist() == [t for t in range(30) if t not in (10, 20)]
        assert kinds(notes) == {"bad_time": 2}


def test_rows_without_time_go_and_infinite_values_become_missing() -> None:
    time_s = np.array([0.0, np.nan, 1.0, 2.0])
    times, values, notes = run(time_s, np.array([1.0, 2.0, np.inf, -np.inf]), [1])
    assert times.tolist() == [0, 1, 2]
    assert np.isnan(values[1:]).all()
    assert kinds(notes) == {"no_time": 1, "not_finite": 2}
