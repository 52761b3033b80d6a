"""Folds: which groups are tested in turn, and one fold trained and tested by the plain loop.

In: a recipe, its examples. Out: predictions for people that the fold's training never saw. No Ray.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import ClassesOutput, QuantilesOutput, Signature
from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import Dataset
from motoric.data.recording import UNKNOWN_SUBJECT
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.timeline_series import Series, find_series
from motoric.training.examples import Examples
from motoric.training.inputs import ModelInputs
from motoric.training.loop import fit, make_network, predict_examples
from motoric.training.partition import group_of, plan_split, split_examples
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.run import Worker
from motoric.training.split import Split
from motoric.training.split_config import GroupKFoldSplit, LeakingSplit, LeaveOneOutSplit

Protocol = Literal["hold_out", "group_k_fold", "leave_one_out"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """One division of the groups; `number` counts from 0."""

    number: int
    split: Split

    @property
    def name(self) -> str:
        """Whom it tests, in short."""
        tested = self.split.test
        return tested[0] if len(tested) == 1 else f"{len(tested)} of them"


@dataclass(frozen=True, slots=True, kw_only=True)
class FoldResult:
    """What one fold gave."""

    predictions: Predictions
    epochs: tuple[EpochReport, ...]
    series: tuple[Series, ...] = ()


def plan_folds(
    recipe: Recipe, inputs: ModelInputs, protocol: Protocol, num_folds: int = 5
) -> list[Fold]:
    """The folds of a protocol.

    Args:
        recipe: Its split says what is kept together (`by`), how many are for validation, the seed.
        inputs: The recordings.
        protocol: `hold_out` is the recipe's own split; the others test everybody once.
        num_folds: Of `group_k_fold`.

    Raises:
        DatasetError: Too few groups.
        RecipeError: The recipe's split leaks, and has no groups.
    """
    if protocol == "hold_out":
        return [Fold(number=0, split=plan_split(recipe, inputs))]
    if isinstance(recipe.split, LeakingSplit):
        raise RecipeError(f"split.kind {recipe.split.kind} has no groups to leave out: {protocol}")
    by, seed = recipe.split.by, recipe.split.seed
    num_validation = recipe.split.num_validation_subjects
    shared = {"by": by, "seed": seed, "num_validation_subjects": num_validation}
    groups = {group_of(recipe, outline) for outline in inputs.outlines}
    known = sorted(name for name in groups if not name.startswith(UNKNOWN_SUBJECT))
    if len(known) < 2 + num_validation:
        raise DatasetError(
            f"{protocol} needs {2 + num_validation} known {by}s, the dataset has {len(known)}: set"
            " split.by to recording for files of unknown people, or collect more"
        )
    configs: list[GroupKFoldSplit | LeaveOneOutSplit]
    if protocol == "group_k_fold":
        configs = [
            GroupKFoldSplit(num_folds=num_folds, fold=fold, **shared) for fold in range(num_folds)
        ]
    else:
        configs = [LeaveOneOutSplit(test_subject=name, **shared) for name in known]
    return [
        Fold(number=number, split=plan_split(with_split(recipe, config), inputs))
        for number, config in enumerate(configs)
    ]


def with_split(recipe: Recipe, config: GroupKFoldSplit | LeaveOneOutSplit) -> Recipe:
    """The recipe with another split."""
    return recipe.model_copy(update={"split": config})


def only_training_groups(recipe: Recipe, inputs: ModelInputs) -> ModelInputs:
    """The recordings of the recipe's training and validation groups, for choosing settings.

    What is chosen on them leaves the test groups untouched.

    Raises:
        DatasetError: Too few groups.
        RecipeError: The recipe's split leaks: everybody is in its test part.
    """
    if isinstance(recipe.split, LeakingSplit):
        raise RecipeError(
            f"split.kind {recipe.split.kind} tests everybody, so nobody is left to choose settings"
            " on: use by_subject, group_k_fold or leave_one_out"
        )
    split = plan_split(recipe, inputs)
    kept = {*split.train, *split.validation}
    return replace(
        inputs,
        outlines=tuple(item for item in inputs.outlines if group_of(recipe, item) in kept),
    )


def run_fold(
    recipe: Recipe,
    inputs: ModelInputs,
    examples: Examples,
    fold: Fold,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: Callable[[EpochReport], None] | None = None,
    timelines_of: Dataset | None = None,
) -> FoldResult:
    """Train on a fold's training groups and predict its test groups.

    With `timelines_of`, the dataset, long recordings of the test groups become timelines too.

    Raises:
        DatasetError: A part has no example, or training never sees a class.
        RecipeError: As `motoric.training.loop.fit`.
    """
    seeded = recipe.model_copy(update={"train": recipe.train.model_copy(update={"seed": seed})})
    data = split_examples(seeded, inputs, examples, fold.split)
    epochs: list[EpochReport] = []

    def report(epoch: EpochReport, _: object) -> None:
        epochs.append(epoch)
        if on_epoch is not None:
            on_epoch(epoch)

    weights = fit(seeded, data, worker=Worker(device=device), on_epoch=report)
    network = make_network(seeded, data)
    network.load_state_dict(weights)
    outputs_BK = predict_examples(network.to(device), seeded, data, data.test, device)
    predictions = to_predictions(data.signature, data.test, outputs_BK, fold=fold.number, seed=seed)
    series: tuple[Series, ...] = ()
    if timelines_of is not None:
        series = find_series(seeded, timelines_of, data, network, device)
    return FoldResult(predictions=predictions, epochs=tuple(epochs), series=series)


def to_predictions(
    signature: Signature,
    examples: Examples,
    outputs_BK: NDArray[np.float32],
    *,
    fold: int = 0,
    seed: int = 0,
) -> Predictions:
    """What a model said about examples, with what was true."""
    output = signature.output
    return Predictions(
        task=signature.task,
        subjects=examples.subjects,
        recording_ids=examples.recording_ids,
        start_s_B=examples.start_s_B,
        end_s_B=examples.end_s_B,
        fold_B=np.full(len(examples), fold, dtype=np.int64),
        seed_B=np.full(len(examples), seed, dtype=np.int64),
        targets_B=examples.targets_B,
        outputs_BK=outputs_BK,
        persistence_B=examples.persistence_B,
        classes=output.classes if isinstance(output, ClassesOutput) else (),
        quantiles=output.quantiles if isinstance(output, QuantilesOutput) else (),
        unit="" if isinstance(output, ClassesOutput) else output.unit,
        horizon_s=output.horizon_s if isinstance(output, QuantilesOutput) else 0.0,
    )
