from __future__ import annotations

from typing import Any

import pytest

from motoric.data.dataset import Dataset, open_dataset
from motoric.training.folds import Fold, FoldResult, Protocol, plan_folds, to_predictions
from motoric.training.loading import load_examples
from motoric.training.partition import split_examples
from motoric.workflows.evaluate import EvaluationPlan, _FoldStore
from recordings import SineSource, write_dataset
from trainings import inputs_of, recipe_of

LEAKING = "random_windows_leaking_subjects"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=6.0))
    return open_dataset(folder)


def job_of(
    dataset: Dataset, protocol: Protocol = "hold_out", seed: int = 0, **changes: Any
) -> tuple[_FoldStore, tuple[Fold, int]]:
    """The store of a recipe in a folder beside the dataset, and its last fold."""
    recipe = recipe_of(dataset.uri, **changes)
    plan = EvaluationPlan(protocol=protocol)
    fold = plan_folds(recipe, inputs_of(recipe), protocol)[-1]
    return _FoldStore(dataset.uri + "-storage", recipe, dataset, plan), (fold, seed)


def result_of(dataset: Dataset, fold: Fold, **changes: Any) -> FoldResult:
    """As if the fold had been trained: right about everything."""
    recipe = recipe_of(dataset.uri, **changes)
    inputs = inputs_of(recipe)
    data = split_examples(recipe, inputs, load_examples(recipe, dataset, inputs), fold.split)
    outputs_BK = (data.test.targets_B[:, None] == [0, 1, 2]).astype("float32")
    predictions = to_predictions(data.signature, data.test, outputs_BK, fold=fold.number)
    return FoldResult(predictions=predictions, epochs=())


def test_a_fold_that_was_done_is_found_under_any_name_of_its_run(dataset: Dataset) -> None:
    store, job = job_of(dataset)
    assert store.read(job) is None
    store.write(job, result_of(dataset, job[0]))
    same = {"tracking": {"experiment": "other"}, "resources": {"cpus_per_worker": 2}}
    store, job = job_of(dataset, **same)
    found = store.read(job)
    assert found is not None
    assert set(found.predictions.subjects) == set(job[0].split.test)


@pytest.mark.parametrize(
    ("changes", "seed"),
    [
        ({"preprocessing": {"normalise": False}}, 0),
        ({"model": {"name": "random_kernels", "num_features": 168}}, 0),
        ({"train": {"epochs": 4}}, 0),
        ({"split": {"num_test_subjects": 2, "num_validation_subjects": 1}}, 0),
        ({}, 1),
    ],
)
def test_other_settings_are_another_result(
    dataset: Dataset, changes: dict[str, Any], seed: int
) -> None:
    store, job = job_of(dataset)
    store.write(job, result_of(dataset, job[0]))
    store, job = job_of(dataset, seed=seed, **changes)
    assert store.read(job) is None


@pytest.mark.parametrize("changes", [{"seed": 1}, {"test_share": 0.4}])
def test_another_draw_of_a_leaking_split_is_another_result(
    dataset: Dataset, changes: dict[str, Any]
) -> None:
    split = {"kind": LEAKING}
    store, job = job_of(dataset, split=split)
    store.write(job, result_of(dataset, job[0], split=split))
    assert store.read(job) is not None
    store, job = job_of(dataset, split=split | changes)
    assert store.read(job) is None


def test_a_fold_of_another_protocol_is_the_same_with_its_own_number(dataset: Dataset) -> None:
    store, (fold, seed) = job_of(dataset, "leave_one_out")
    store.write((fold, seed), result_of(dataset, fold))
    renumbered = Fold(number=0, split=fold.split)
    found = store.read((renumbered, seed))
    assert fold.number == 3
    assert found is not None
    assert set(found.predictions.fold_B.tolist()) == {0}
