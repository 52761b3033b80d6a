"""Which examples train, which are validated and tested, and what the training part alone fixes.

Axes: B examples, T samples or frames, C channels, H height, W width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import Normaliser, Preprocessing, Signature, TrainingStatistics
from motoric.core.errors import DatasetError
from motoric.data.dataset import Dataset
from motoric.data.recording import UNKNOWN_SUBJECT, Recording
from motoric.training.data_plan import DataPlan, plan_data
from motoric.training.example_store import stored_parts
from motoric.training.examples import CLIP, SENSORS, Examples, Rows, SplitExamples
from motoric.training.inputs import ModelInputs, model_inputs
from motoric.training.loading import load_examples
from motoric.training.recipe import Recipe
from motoric.training.split import Split, split_subjects, split_windows_leaking
from motoric.training.split_config import LeakingSplit
from motoric.training.window_statistics import StatisticsFit, WindowStatistics

logger = logging.getLogger(__name__)


def load_split(
    recipe: Recipe,
    dataset: Dataset,
    on_plan: Callable[[DataPlan], None] = lambda _: None,
    *,
    may_stream: bool = False,
) -> SplitExamples:
    """Read a dataset and divide it as a recipe says.

    Args:
        recipe: The recipe.
        dataset: Its dataset.
        on_plan: Told, before anything is read, where the examples will lie.
        may_stream: As of `plan_data`.

    Raises:
        DatasetError: See `load_examples` and `split_examples`.
        RecipeError: See `load_examples` and `split_examples`.
    """
    inputs = model_inputs(recipe, dataset)
    plan = plan_data(recipe, dataset, inputs, may_stream=may_stream)
    on_plan(plan)
    if plan.way == "memory":
        examples = load_examples(recipe, dataset, inputs)
        inputs = with_examples(inputs, examples)
        return split_examples(recipe, inputs, examples, plan_split(recipe, inputs))

    def divide(index: Examples) -> Rows:
        there = with_examples(inputs, index)
        return rows_of_parts(recipe, there, index, plan_split(recipe, there))

    found = stored_parts(recipe, dataset, inputs, divide, streams=plan.way == "stream")
    inputs = with_examples(inputs, found.index)
    data = split_parts(
        recipe, inputs, found.parts, plan_split(recipe, inputs), statistics=found.statistics
    )
    return replace(data, sample=found.sample)


def with_examples(inputs: ModelInputs, examples: Examples) -> ModelInputs:
    """The inputs without recordings that gave no example: whoever has none is not split."""
    there = set(examples.recording_ids)
    kept = tuple(item for item in inputs.outlines if item.recording_id in there)
    if len(kept) < len(inputs.outlines):
        logger.warning(
            "%d of %d recordings give no example (too short, or without the input or a label)",
            len(inputs.outlines) - len(kept),
            len(inputs.outlines),
        )
    return replace(inputs, outlines=kept)


def plan_split(recipe: Recipe, inputs: ModelInputs) -> Split:
    """Who goes to which part: subjects, or recordings where the split is by recording.

    Raises:
        DatasetError: Too few of them.
        RecipeError: The split names one that is not there.
    """
    groups = sorted({group_of(recipe, outline) for outline in inputs.outlines})
    if isinstance(recipe.split, LeakingSplit):
        everyone = tuple(groups)
        return Split(train=everyone, validation=everyone, test=everyone)
    return split_subjects(groups, recipe.split, _labels_by_group(recipe, inputs))


def group_of(recipe: Recipe, outline: Recording) -> str:
    """What the split keeps together: a subject or a recording."""
    if isinstance(recipe.split, LeakingSplit) or recipe.split.by == "subject":
        return outline.subject
    return outline.recording_id


def _labels_by_group(recipe: Recipe, inputs: ModelInputs) -> dict[str, dict[str, int]]:
    """How many recordings of each label each group has."""
    counts: dict[str, dict[str, int]] = {}
    for outline in inputs.outlines:
        mine = counts.setdefault(group_of(recipe, outline), {})
        for label in {item.label for item in outline.annotations} & set(inputs.classes):
            mine[label] = mine.get(label, 0) + 1
    return counts


def split_examples(
    recipe: Recipe, inputs: ModelInputs, examples: Examples, split: Split
) -> SplitExamples:
    """Divide examples; the training part alone fits the normalisers.

    Raises:
        DatasetError: A part has no example, or training never sees a class or one of the inputs.
    """
    train, validation, test = rows_of_parts(recipe, inputs, examples, split)
    parts = (examples.take(train), examples.take(validation), examples.take(test))
    return split_parts(recipe, inputs, parts, split)


def rows_of_parts(recipe: Recipe, inputs: ModelInputs, examples: Examples, split: Split) -> Rows:
    """Which examples, by their place, are in the training, validation and test part."""
    if isinstance(recipe.split, LeakingSplit):
        train, validation, test = split_windows_leaking(len(examples), recipe.split)
        return train, validation, test
    groups = {outline.recording_id: group_of(recipe, outline) for outline in inputs.outlines}
    # Examples of recordings that the inputs leave out belong to no part.
    group_B = np.array([groups.get(name, "") for name in examples.recording_ids])
    train, validation, test = (
        np.flatnonzero(np.isin(group_B, list(part))).astype(np.int64)
        for part in (split.train, split.validation, split.test)
    )
    return train, validation, test


def split_parts(
    recipe: Recipe,
    inputs: ModelInputs,
    parts: tuple[Examples, Examples, Examples],
    split: Split,
    *,
    statistics: WindowStatistics | None = None,
) -> SplitExamples:
    """As `split_examples`, of parts that are divided already.

    Args:
        recipe: The recipe.
        inputs: Of the recordings that gave them.
        parts: Training, validation and test.
        split: Who is in which.
        statistics: Of the training windows; by default they are fitted here.
    """
    train, validation, test = parts
    _check_parts(inputs, train, validation, test, split)
    return SplitExamples(
        split=split,
        train=train,
        validation=validation,
        test=test,
        signature=_signature(recipe, inputs, train, statistics),
    )


def _check_parts(
    inputs: ModelInputs,
    train: Examples,
    validation: Examples,
    test: Examples,
    split: Split,
) -> None:
    needs_validation = bool(split.validation)
    for name, part in (("training", train), ("validation", validation), ("test", test)):
        if len(part) == 0 and (name != "validation" or needs_validation):
            raise DatasetError(
                f"the {name} part has no example: shorten window.length_s, or change split.seed"
            )
    for column, name, values in (
        (SENSORS, "sensor windows", train.windows_BTC),
        (CLIP, "clips", train.clips_BTHWC),
    ):
        if values is not None and not train.present_B2[:, column].any():
            raise DatasetError(
                f"no training example has {name}: change split.seed, or leave that input out"
            )
    if not inputs.classes:
        return
    unseen = sorted(set(range(len(inputs.classes))) - set(train.targets_B.tolist()))
    if unseen:
        names = ", ".join(inputs.classes[index] for index in unseen)
        raise DatasetError(
            f"no training subject has an example of: {names}; change split.seed, or name the other"
            " labels in `labels`"
        )
    untested = sorted(set(range(len(inputs.classes))) - set(test.targets_B.tolist()))
    if untested:
        logger.warning(
            "no test subject has an example of %s: the figures say nothing of it",
            ", ".join(inputs.classes[index] for index in untested),
        )


def _signature(
    recipe: Recipe, inputs: ModelInputs, train: Examples, statistics: WindowStatistics | None
) -> Signature:
    steps = Preprocessing(
        max_gap_s=recipe.preprocessing.max_gap_s, steps=recipe.preprocessing.steps
    )
    clip_normaliser = None
    if train.windows_BTC is not None and inputs.sensors is not None:
        windows_BTC = train.windows_BTC
        if not train.present_B2[:, SENSORS].all():
            windows_BTC = windows_BTC[train.present_B2[:, SENSORS]]
        fit = StatisticsFit(recipe, inputs.sensors)
        fit.add(windows_BTC)
        statistics = fit.fitted()
    if train.clips_BTHWC is not None and recipe.preprocessing.normalise:
        clip_normaliser = _fit_clip_normaliser(train.clips_BTHWC, train.present_B2[:, CLIP])
    chosen = [item for item in (inputs.sensors, inputs.clip) if item is not None]
    return Signature(
        task=recipe.task,
        inputs=tuple(chosen),
        outputs=(inputs.output,),
        preprocessing=steps.model_copy(
            update={
                "normaliser": None if statistics is None else statistics.normaliser,
                "clip_normaliser": clip_normaliser,
            }
        ),
        timeline=recipe.timeline,
        training_statistics=TrainingStatistics(
            num_windows=len(train),
            num_subjects=sum(not name.startswith(UNKNOWN_SUBJECT) for name in set(train.subjects)),
            channel_min=() if statistics is None else statistics.channel_min,
            channel_max=() if statistics is None else statistics.channel_max,
        ),
    )


def _fit_clip_normaliser(
    clips_BTHWC: NDArray[np.uint8], is_there_B: NDArray[np.bool_]
) -> Normaliser:
    """Mean and deviation of each channel in 0 to 1, from counts of the 256 values."""
    levels = np.arange(256) / 255
    means, stds = [], []
    for channel in range(clips_BTHWC.shape[-1]):
        counts = np.zeros(256)
        for place in np.flatnonzero(is_there_B):
            counts += np.bincount(clips_BTHWC[place, ..., channel].ravel(), minlength=256)
        mean = float(counts @ levels / counts.sum())
        means.append(mean)
        stds.append(max(float(np.sqrt(counts @ (levels - mean) ** 2 / counts.sum())), 1e-3))
    return Normaliser(mean=tuple(means), std=tuple(stds))
