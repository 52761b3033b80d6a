from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.training.evaluation.bootstrap import (
    Interval,
    draw_weights,
    percentile_interval,
    ratio,
    resampling_units,
    sums_by_unit,
)


@settings(max_examples=20, deadline=None)
@given(st.integers(3, 40), st.integers(0, 5))
def test_each_draw_takes_as_many_units_as_there_are(num_units: int, seed: int) -> None:
    weights_DS = draw_weights(num_units, num_draws=50, seed=seed)
    assert weights_DS.shape == (50, num_units)
    assert (weights_DS.sum(axis=1) == num_units).all()
    np.testing.assert_array_equal(weights_DS, draw_weights(num_units, num_draws=50, seed=seed))


def test_sums_of_a_draw_are_those_of_drawing_the_people_one_by_one() -> None:
    rng = np.random.default_rng(0)
    people = rng.integers(0, 5, 60)
    values_B1 = rng.random((60, 1))
    units, _ = resampling_units([f"s{person}" for person in people], ["r"] * 60)
    assert units is not None
    weights_DS = draw_weights(5, num_draws=20)
    sums_D = (weights_DS @ sums_by_unit(units, values_B1))[:, 0]
    for weights_S, found in zip(weights_DS, sums_D, strict=True):
        drawn = np.repeat(np.arange(5), weights_S)
        assert found == pytest.approx(sum(values_B1[people == person].sum() for person in drawn))


def test_an_interval_of_means_agrees_with_theory() -> None:
    values_S = np.random.default_rng(1).normal(size=200)
    means_D = draw_weights(200) @ values_S / 200
    found = percentile_interval(means_D)
    assert found is not None
    error = values_S.std() / np.sqrt(200)
    assert found.low == pytest.approx(values_S.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values_S.mean() + 1.96 * error, abs=0.2 * error)


def test_an_undefined_draw_leaves_no_interval() -> None:
    assert percentile_interval(ratio(np.array([1.0, 0.0]), np.array([2.0, 0.0]))) is None
    assert percentile_interval(np.array([0.5, 0.5])) == Interval(low=0.5, high=0.5)


def test_two_people_give_no_interval_and_it_says_so() -> None:
    units, notes = resampling_units(["a", "b"], ["r1", "r2"])
    assert units is None
    assert notes == ("no confidence intervals: they resample people, and 2 is below 3",)


def test_recordings_stand_in_where_asked_and_it_says_so() -> None:
    recordings = ["r1", "r2", "r3", "r3"]
    units, notes = resampling_units(["a"] * 4, recordings, recordings_stand_in=True)
    assert units is not None
    assert (units.kind, units.num_units, units.index_B.tolist()) == ("recording", 3, [0, 1, 2, 2])
    assert "of 1 person(s), so intervals resample the 3 recordings" in notes[0]


def test_unknown_people_are_their_recordings_and_it_says_so() -> None:
    names = [f"unknown:r{number}" for number in range(10)]
    units, notes = resampling_units(names, [f"r{number}" for number in range(10)])
    assert units is not None
    assert (units.kind, units.num_units) == ("recording", 10)
    assert notes[0].startswith("the subject of 10 recording(s) is unknown")
    assert len(notes) == 1
    units, notes = resampling_units([*names, "anna"], ["r"] * 11)
    assert units is not None
    assert units.kind == "subject"


def test_few_people_are_said_to_give_too_narrow_intervals() -> None:
    assert "only 4 people" in resampling_units(list("abcd"), list("abcd"))[1][0]
    assert resampling_units(list("abcdefgh"), list("abcdefgh"))[1] == ()
