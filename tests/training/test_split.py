from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoric.core.errors import DatasetError, RecipeError
from motoric.training.recipe import SubjectSplit
from motoric.training.split import split_subjects


@given(
    num_subjects=st.integers(3, 40),
    num_unknown=st.integers(0, 5),
    num_test=st.integers(1, 10),
    num_validation=st.integers(1, 10),
    seed=st.integers(0, 1000),
)
def test_no_subject_is_in_two_parts_and_none_is_lost(
    num_subjects: int, num_unknown: int, num_test: int, num_validation: int, seed: int
) -> None:
    subjects = [f"s{index}" for index in range(num_subjects)]
    unknown = [f"unknown:r{index}" for index in range(num_unknown)]
    config = SubjectSplit(
        num_test_subjects=num_test, num_validation_subjects=num_validation, seed=seed
    )
    if num_test + num_validation + 1 > num_subjects:
        with pytest.raises(DatasetError):
            split_subjects(subjects + unknown, config)
        return
    split = split_subjects(subjects + unknown, config)
    parts = [split.train, split.validation, split.test]
    assert sorted(name for part in parts for name in part) == sorted(subjects + unknown)
    assert (len(split.test), len(split.validation)) == (num_test, num_validation)
    assert set(unknown) <= set(split.train)
    assert split == split_subjects([*reversed(subjects), *unknown, *subjects], config)


def test_named_subjects_are_used() -> None:
    config = SubjectSplit(test_subjects=("b",), validation_subjects=("c",))
    split = split_subjects(["a", "b", "c", "d"], config)
    assert split.test == ("b",)
    assert split.validation == ("c",)
    assert split.train == ("a", "d")


def test_one_subject_is_not_enough() -> None:
    with pytest.raises(DatasetError, match=r"has 1 known subject\(s\)"):
        split_subjects(["a"], SubjectSplit(num_test_subjects=1))


def test_unknown_people_do_not_count() -> None:
    with pytest.raises(DatasetError, match="has 2 known"):
        split_subjects(["a", "b", "unknown:1", "unknown:2"], SubjectSplit(num_test_subjects=1))


def test_names_that_are_not_there_or_twice_are_refused() -> None:
    with pytest.raises(RecipeError, match="split names x"):
        split_subjects(["a", "b", "c"], SubjectSplit(test_subjects=("x",)))
    with pytest.raises(RecipeError, match="puts a into both"):
        split_subjects(
            ["a", "b", "c"], SubjectSplit(test_subjects=("a",), validation_subjects=("a",))
        )
