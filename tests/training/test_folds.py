from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.data.recording import Recording
from motoric.training.folds import (
    Protocol,
    only_training_groups,
    plan_folds,
    run_fold,
)
from motoric.training.loading import load_examples
from motoric.training.partition import plan_split
from recordings import SineSource, write_dataset
from trainings import inputs_of, recipe_of

KNOWN = [f"s{index}" for index in range(5)]
LAST = {"stopping": {"keep": "last"}}


class OneUnknown(SineSource):
    """Five known people, and recordings of unknown ones."""

    def recording(self, index: int) -> Recording:
        made = super().recording(index)
        if made.subject == "s5":
            return replace(made, subject=f"unknown:{made.recording_id}")
        return made


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, OneUnknown(num_subjects=6, duration_s=8.0))
    return folder


def in_test(uri: str, protocol: Protocol, num_folds: int = 5, **changes: Any) -> list[str]:
    """Everybody who is tested, over all folds; on the way each fold is checked."""
    recipe = recipe_of(uri, **changes)
    found: list[str] = []
    for number, fold in enumerate(plan_folds(recipe, inputs_of(recipe), protocol, num_folds)):
        assert fold.number == number
        split = fold.split
        parts = [*split.train, *split.validation, *split.test]
        assert len(parts) == len(set(parts))
        assert not any(name.startswith("unknown:") for name in (*split.validation, *split.test))
        found += split.test
    return found


@pytest.mark.parametrize(
    ("protocol", "num_folds"), [("leave_one_out", 5), ("group_k_fold", 2), ("group_k_fold", 5)]
)
@pytest.mark.parametrize("num_validation", [0, 1])
def test_every_known_person_is_tested_exactly_once(
    uri: str, protocol: Protocol, num_folds: int, num_validation: int
) -> None:
    split = {"num_test_subjects": 1, "num_validation_subjects": num_validation}
    assert sorted(in_test(uri, protocol, num_folds, split=split, **LAST)) == KNOWN


def test_every_recording_is_tested_once_where_the_split_is_by_recording(uri: str) -> None:
    split = {"by": "recording", "num_validation_subjects": 2}
    counts = Counter(in_test(uri, "group_k_fold", 4, split=split))
    assert counts == dict.fromkeys((f"r{index:03d}" for index in range(18)), 1)


def test_hold_out_is_the_split_of_the_recipe(uri: str) -> None:
    recipe = recipe_of(uri, split={"test_subjects": ["s3"], "validation_subjects": ["s1"]})
    inputs = inputs_of(recipe)
    (fold,) = plan_folds(recipe, inputs, "hold_out")
    assert fold.split == plan_split(recipe, inputs)
    assert fold.name == "s3"


def test_choosing_settings_never_sees_the_test_people(uri: str) -> None:
    recipe = recipe_of(uri, split={"test_subjects": ["s3", "s0"], "validation_subjects": ["s1"]})
    inputs = only_training_groups(recipe, inputs_of(recipe))
    assert {item.subject for item in inputs.outlines} & set(KNOWN) == {"s1", "s2", "s4"}
    examples = load_examples(recipe, open_dataset(uri), inputs)
    assert not {"s0", "s3"} & set(examples.subjects)
    folds = plan_folds(recipe, inputs, "leave_one_out")
    assert sorted(name for fold in folds for name in fold.split.test) == ["s1", "s2", "s4"]
    for fold in folds:
        assert not {"s0", "s3"} & {*fold.split.train, *fold.split.validation}


def test_a_fold_predicts_its_test_people_and_nobody_else(uri: str) -> None:
    recipe = recipe_of(uri, train={"epochs": 5, "batch_size": 16})
    inputs = inputs_of(recipe)
    examples = load_examples(recipe, open_dataset(uri), inputs)
    fold = plan_folds(recipe, inputs, "leave_one_out")[2]
    result = run_fold(recipe, inputs, examples, fold, seed=7)
    predictions = result.predictions
    assert set(predictions.subjects) == {"s2"}
    mine = examples.take(np.array([name == "s2" for name in examples.subjects]))
    assert predictions.recording_ids == mine.recording_ids
    np.testing.assert_array_equal(predictions.targets_B, mine.targets_B)
    np.testing.assert_array_equal(predictions.start_s_B, mine.start_s_B)
    assert set(predictions.fold_B.tolist()) == {2}
    assert set(predictions.seed_B.tolist()) == {7}
    assert len(result.epochs) == 5
    assert (predictions.outputs_BK.argmax(axis=1) == predictions.targets_B).mean() > 0.8


def test_the_seed_of_a_fold_decides_what_it_says(uri: str) -> None:
    recipe = recipe_of(uri, train={"epochs": 1, "batch_size": 32})
    inputs = inputs_of(recipe)
    examples = load_examples(recipe, open_dataset(uri), inputs)
    fold = plan_folds(recipe, inputs, "leave_one_out")[0]
    first, again, other = (
        run_fold(recipe, inputs, examples, fold, seed=seed).predictions.outputs_BK
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_what_cannot_be_divided_is_refused(uri: str) -> None:
    leaking = recipe_of(uri, split={"kind": "random_windows_leaking_subjects"})
    with pytest.raises(RecipeError, match="has no groups to leave out: leave_one_out"):
        plan_folds(leaking, inputs_of(leaking), "leave_one_out")
    with pytest.raises(RecipeError, match="nobody is left to choose settings on"):
        only_training_groups(leaking, inputs_of(leaking))
    recipe = recipe_of(uri, where={"side": "left"}, split={"num_validation_subjects": 2})
    with pytest.raises(DatasetError, match=r"needs 4 known subjects, the dataset has 2"):
        plan_folds(recipe, inputs_of(recipe), "leave_one_out")
    recipe = recipe_of(uri)
    with pytest.raises(DatasetError, match=r"split\.num_folds is 6"):
        plan_folds(recipe, inputs_of(recipe), "group_k_fold", 6)
