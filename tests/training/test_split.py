from __future__ import annotations

import itertools
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import DatasetError, RecipeError
from motoric.training.split import Split, split_subjects, split_windows_leaking
from motoric.training.split_config import (
    GroupKFoldSplit,
    LeakingSplit,
    LeaveOneOutSplit,
    SplitConfig,
    SubjectSplit,
)

few = settings(max_examples=12, deadline=None)
label_rows = st.dictionaries(st.sampled_from("abcd"), st.integers(0, 30), max_size=4)
label_tables = st.lists(label_rows, min_size=4, max_size=9)


def named(table: list[dict[str, int]]) -> dict[str, dict[str, int]]:
    return {f"s{index:02d}": dict(labels) for index, labels in enumerate(table)}


def missing(
    split: Split, labels: dict[str, dict[str, int]], names: set[str]
) -> tuple[int, int, int]:
    found = [
        {label for subject in part for label, count in labels[subject].items() if count}
        for part in (split.train, split.test, split.validation)
    ]
    return len(names - found[0]), len(names - found[1]), len(names - found[2])


def all_names(labels: dict[str, dict[str, int]]) -> set[str]:
    return {name for row in labels.values() for name, count in row.items() if count}


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


def test_draws_that_are_equally_good_keep_the_people_of_the_plain_draw() -> None:
    subjects = [f"p{index:02d}" for index in range(10)]
    labels = {name: {"row": 14, "curl": 14} for name in subjects}
    for seed in range(10):
        config = SubjectSplit(seed=seed)
        order = np.random.default_rng(seed).permutation(subjects).tolist()
        split = split_subjects(subjects, config, labels)
        assert split.test == tuple(sorted(order[:3]))
        assert split.validation == (order[3],)
        assert split == split_subjects(subjects, config)


@few
@given(table=st.lists(label_rows, min_size=4, max_size=7), data=st.data())
def test_labels_are_in_all_parts_where_that_is_possible(
    table: list[dict[str, int]], data: st.DataObject
) -> None:
    labels = named(table)
    num_test = data.draw(st.integers(1, len(labels) - 2))
    num_validation = data.draw(st.integers(1, len(labels) - num_test - 1))
    seed = data.draw(st.integers(0, 50))
    config = SubjectSplit(
        num_test_subjects=num_test, num_validation_subjects=num_validation, seed=seed
    )
    split = split_subjects(list(labels), config, labels)
    names = all_names(labels)
    reachable = min(
        missing(
            Split(train=tuple({*labels} - {*test, *validation}), validation=validation, test=test),
            labels,
            names,
        )
        for test in itertools.combinations(labels, num_test)
        for validation in itertools.combinations(sorted({*labels} - {*test}), num_validation)
    )
    assert missing(split, labels, names) == reachable
    shuffled = data.draw(st.permutations(sorted(labels)))
    assert split_subjects(shuffled, config, dict(reversed(labels.items()))) == split


def test_training_gets_every_label_of_a_large_dataset_where_that_is_possible() -> None:
    labels = {f"s{index:02d}": {"walk": 3} for index in range(40)}
    for index in range(6):
        labels[f"s{5 * index:02d}"] = {f"rare{index}": 1}
    config = SubjectSplit(num_test_subjects=16, num_validation_subjects=16)
    split = split_subjects(list(labels), config, labels)
    assert missing(split, labels, all_names(labels))[0] == 0
    assert (len(split.train), len(split.validation), len(split.test)) == (8, 16, 16)


def test_a_label_that_nobody_can_bring_to_training_does_not_stop_the_others() -> None:
    labels = {f"s{index:02d}": {"walk": 3} for index in range(40)}
    labels["s00"] = {"rare": 1}
    labels["s07"] = {"other": 1}
    config = SubjectSplit(test_subjects=("s00",), num_validation_subjects=30)
    split = split_subjects(list(labels), config, labels)
    assert "s07" in split.train


def test_labels_of_unknown_people_count_for_training() -> None:
    labels = {
        "a": {"jump": 1},
        "b": {"walk": 1, "jump": 1},
        "c": {"walk": 1, "jump": 1},
        "unknown:1": {"walk": 5},
    }
    for seed in range(5):
        config = SubjectSplit(num_test_subjects=1, seed=seed)
        split = split_subjects(list(labels), config, labels)
        assert split.train == ("a", "unknown:1")


def test_the_parts_have_alike_shares_of_labels() -> None:
    labels = {f"s{index}": {"walk": 10, "run": 1} for index in range(10)}
    labels |= {f"t{index}": {"walk": 1, "run": 10} for index in range(10)}
    for seed in range(5):
        config = SubjectSplit(num_test_subjects=4, num_validation_subjects=2, seed=seed)
        split = split_subjects(list(labels), config, labels)
        assert sum(name.startswith("s") for name in split.test) == 2
        assert sum(name.startswith("s") for name in split.validation) == 1


@few
@given(
    table=label_tables,
    num_folds=st.integers(2, 4),
    num_unknown=st.integers(0, 3),
    has_labels=st.booleans(),
    seed=st.integers(0, 100),
)
def test_every_known_subject_is_tested_once_over_all_folds(
    table: list[dict[str, int]], num_folds: int, num_unknown: int, has_labels: bool, seed: int
) -> None:
    # In two folds of four people, two are left for validation and training.
    labels = named(table)
    unknown = [f"unknown:{index}" for index in range(num_unknown)]
    tested: list[str] = []
    for fold in range(num_folds):
        config = GroupKFoldSplit(num_folds=num_folds, fold=fold, seed=seed)
        given_labels = labels if has_labels else None
        try:
            split = split_subjects([*labels, *unknown], config, given_labels)
        except DatasetError:
            # One fold of two took all but one of four people.
            assert num_folds == 2
            return
        check_whole(split, [*labels, *unknown])
        assert set(unknown) <= set(split.train)
        assert split == split_subjects([*unknown, *reversed(labels)], config, given_labels)
        tested.extend(split.test)
    assert sorted(tested) == sorted(labels)


@few
@given(table=label_tables, num_unknown=st.integers(0, 3), seed=st.integers(0, 100))
def test_every_known_subject_is_tested_once_where_each_is_left_out(
    table: list[dict[str, int]], num_unknown: int, seed: int
) -> None:
    labels = named(table)
    unknown = [f"unknown:{index}" for index in range(num_unknown)]
    for name in labels:
        config = LeaveOneOutSplit(test_subject=name, num_validation_subjects=2, seed=seed)
        split = split_subjects([*labels, *unknown], config, labels)
        check_whole(split, [*labels, *unknown])
        assert split.test == (name,)
        assert len(split.validation) == 2
        assert set(unknown) <= set(split.train)
        assert split == split_subjects([*unknown, *reversed(labels)], config, labels)


def check_whole(split: Split, subjects: list[str]) -> None:
    parts = [split.train, split.validation, split.test]
    assert all(parts)
    assert sorted(name for part in parts for name in part) == sorted(subjects)


def test_folds_have_alike_shares_of_labels() -> None:
    labels = {f"s{index}": {"walk": 10, "run": 1} for index in range(8)}
    labels |= {f"t{index}": {"walk": 1, "run": 10} for index in range(8)}
    for fold in range(4):
        config = GroupKFoldSplit(num_folds=4, fold=fold)
        split = split_subjects(list(labels), config, labels)
        assert sorted(name[0] for name in split.test) == ["s", "s", "t", "t"]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (GroupKFoldSplit(num_folds=4), r"has 3 known subject\(s\).*lower split.num_folds"),
        (
            GroupKFoldSplit(num_folds=3, num_validation_subjects=2),
            "at least 1 for training.*split.num_validation_subjects",
        ),
        (
            LeaveOneOutSplit(test_subject="a", num_validation_subjects=2),
            "at least 1 for training.*split.num_validation_subjects",
        ),
    ],
)
def test_too_few_people_are_refused_with_the_mend(config: SplitConfig, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        split_subjects(["a", "b", "c", "unknown:1"], config)


@pytest.mark.parametrize("name", ["x", "unknown:1"])
def test_nobody_unknown_can_be_left_out(name: str) -> None:
    with pytest.raises(RecipeError, match=f"split names {name}, but the dataset has a, b, c"):
        split_subjects(["a", "b", "c", "unknown:1"], LeaveOneOutSplit(test_subject=name))


def test_the_kind_that_leaks_gives_no_subjects() -> None:
    with pytest.raises(RecipeError, match="divides windows"):
        split_subjects(["a", "b", "c"], LeakingSplit())


@given(
    num_windows=st.integers(3, 500),
    test_share=st.floats(0.01, 0.5),
    validation_share=st.floats(0.01, 0.49),
    seed=st.integers(0, 100),
)
@few
def test_leaking_windows_are_each_in_one_part(
    num_windows: int, test_share: float, validation_share: float, seed: int
) -> None:
    config = LeakingSplit(test_share=test_share, validation_share=validation_share, seed=seed)
    parts = split_windows_leaking(num_windows, config)
    assert sorted(np.concatenate(parts).tolist()) == list(range(num_windows))
    assert all(len(part) for part in parts)
    assert abs(len(parts[2]) - test_share * num_windows) <= 1
    again = split_windows_leaking(num_windows, config)
    assert all(np.array_equal(one, other) for one, other in zip(parts, again, strict=True))


def test_leaking_warns_that_it_means_nothing_for_new_people(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.WARNING):
        split_windows_leaking(10, LeakingSplit())
    assert "means nothing for new people" in caplog.text


def test_too_few_windows_are_refused() -> None:
    with pytest.raises(DatasetError, match=r"2 window\(s\) cannot be divided"):
        split_windows_leaking(2, LeakingSplit())
