"""From a recipe and its dataset to the windows of each part of the split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from motoric.artefact.preprocessing import fit_normaliser, settling_s
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    Preprocessing,
    SensorInput,
    Signature,
    TrainingStatistics,
    check_steps,
)
from motoric.core.errors import DatasetError, RecipeError
from motoric.data.card import MIXED_UNITS, StreamCard
from motoric.data.dataset import Dataset
from motoric.data.windows import WindowSet, cut_windows
from motoric.training.recipe import LeakingSplit, Recipe
from motoric.training.split import Split, split_subjects, split_windows_leaking

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitWindows:
    """Windows of the parts of a split, and the signature that the training part fixes."""

    split: Split
    train: WindowSet
    validation: WindowSet
    test: WindowSet
    signature: Signature


def load_windows(recipe: Recipe, dataset: Dataset) -> SplitWindows:
    """Read, split and cut a dataset as a recipe says; training subjects alone fit the normaliser.

    Raises:
        DatasetError: Too few subjects, labels or windows; a class that training never sees;
            recordings of several rates, and none is chosen.
        RecipeError: The recipe names a subject or a channel that is not there, or a step that does
            not fit the stream.
    """
    classes = dataset.labels()
    if len(classes) < 2:
        raise DatasetError(
            f"{dataset.uri} has {len(classes)} label(s); classification needs two or more"
        )
    sensors = _sensor_input(recipe, dataset.card.stream(recipe.window.stream))
    split, parts = _parts(recipe, dataset, sensors, classes)
    train = parts[0]
    unseen = sorted(set(range(len(classes))) - set(train.labels_B.tolist()))
    if unseen:
        names = ", ".join(classes[index] for index in unseen)
        raise DatasetError(f"no training subject has a window of: {names}; change split.seed")
    flat = train.windows_BTC.reshape(-1, train.windows_BTC.shape[-1])
    steps = Preprocessing(
        max_gap_s=recipe.preprocessing.max_gap_s, steps=recipe.preprocessing.steps
    )
    normaliser = None
    if recipe.preprocessing.normalise:
        normaliser = fit_normaliser(train.windows_BTC, steps, sensors)
    signature = Signature(
        inputs=(sensors,),
        outputs=(ClassesOutput(classes=tuple(classes)),),
        preprocessing=steps.model_copy(update={"normaliser": normaliser}),
        training_statistics=TrainingStatistics(
            num_windows=len(train),
            num_subjects=len(split.train),
            channel_min=tuple(flat.min(axis=0).tolist()),
            channel_max=tuple(flat.max(axis=0).tolist()),
        ),
    )
    return SplitWindows(
        split=split, train=train, validation=parts[1], test=parts[2], signature=signature
    )


def labels_by_subject(dataset: Dataset) -> dict[str, dict[str, int]]:
    """How many recordings of each label each subject has."""
    counts: dict[str, dict[str, int]] = {}
    for outline in dataset.outlines():
        mine = counts.setdefault(outline.subject, {})
        for label in {item.label for item in outline.annotations}:
            mine[label] = mine.get(label, 0) + 1
    return counts


def check_split(recipe: Recipe, dataset: Dataset) -> None:
    """Refuse early what `load_windows` would refuse after reading.

    Raises:
        DatasetError: Too few known subjects.
        RecipeError: The split names a subject that is not there.
    """
    _split(recipe, dataset)


def _split(recipe: Recipe, dataset: Dataset) -> Split:
    if isinstance(recipe.split, LeakingSplit):
        everyone = tuple(dataset.subjects())
        return Split(train=everyone, validation=everyone, test=everyone)
    return split_subjects(dataset.subjects(), recipe.split, labels_by_subject(dataset))


def _sensor_input(recipe: Recipe, card: StreamCard) -> SensorInput:
    chosen, steps = recipe.preprocessing, recipe.preprocessing.steps
    if chosen.rate_hz is None and not card.has_one_rate:
        raise DatasetError(
            f"the recordings have stream {card.name!r} at {card.min_rate_hz:g} to"
            f" {card.max_rate_hz:g} Hz: set preprocessing.rate_hz (most run at {card.rate_hz:g})"
        )
    rate_hz = chosen.rate_hz or card.rate_hz
    channels = _channels(recipe, card)
    check_steps(steps, channels, rate_hz)
    needed_s = settling_s(steps, rate_hz)
    context_s = needed_s if chosen.context_s is None else chosen.context_s
    if context_s < needed_s:
        logger.warning(
            "preprocessing.context_s is %g s, but the filters need %.2f s to settle: the first"
            " samples of windows carry their transient",
            context_s,
            needed_s,
        )
    return SensorInput(
        name=card.name,
        channels=channels,
        rate_hz=rate_hz,
        length_s=recipe.window.length_s,
        hop_s=recipe.window.hop_s,
        context_s=context_s,
    )


def _channels(recipe: Recipe, card: StreamCard) -> tuple[Channel, ...]:
    units = {item.name: item.unit for item in card.channels}
    names = recipe.window.channels or tuple(units)
    missing = [name for name in names if name not in units]
    if missing:
        raise RecipeError(
            f"window.channels names {', '.join(missing)}, but stream {card.name!r} has"
            f" {', '.join(units)}"
        )
    mixed = [name for name in names if units[name] == MIXED_UNITS]
    if mixed:
        raise RecipeError(
            f"recordings have {', '.join(mixed)} in different units: leave it out of"
            " window.channels, or name its unit in the ingest settings"
        )
    return tuple(Channel(name=name, unit=units[name]) for name in names)


def _parts(
    recipe: Recipe, dataset: Dataset, sensors: SensorInput, classes: Sequence[str]
) -> tuple[Split, tuple[WindowSet, WindowSet, WindowSet]]:
    split = _split(recipe, dataset)
    if isinstance(recipe.split, LeakingSplit):
        whole = _cut(recipe, dataset, sensors, classes, split.train)
        chosen = split_windows_leaking(len(whole), recipe.split)
        train, validation, test = (_take(whole, indices) for indices in chosen)
    else:
        train, validation, test = (
            _cut(recipe, dataset, sensors, classes, part)
            for part in (split.train, split.validation, split.test)
        )
    return split, (train, validation, test)


def _cut(
    recipe: Recipe,
    dataset: Dataset,
    sensors: SensorInput,
    classes: Sequence[str],
    subjects: Sequence[str],
) -> WindowSet:
    with_stream = [
        row["recording_id"]
        for row in dataset.recordings_table().to_pylist()
        if any(item["stream"] == sensors.name for item in row["streams"])
    ]
    return cut_windows(
        dataset.recordings(subjects, with_stream),
        stream_name=sensors.name,
        rate_hz=sensors.rate_hz,
        length_s=sensors.length_s,
        hop_s=sensors.hop_s,
        classes=classes,
        context_s=sensors.context_s,
        max_gap_s=recipe.preprocessing.max_gap_s,
        channels=[channel.name for channel in sensors.channels],
        resample=recipe.preprocessing.rate_hz is not None,
    )


def _take(windows: WindowSet, indices: np.ndarray) -> WindowSet:
    return replace(
        windows,
        windows_BTC=windows.windows_BTC[indices],
        labels_B=windows.labels_B[indices],
        subjects=tuple(windows.subjects[index] for index in indices),
        recording_ids=tuple(windows.recording_ids[index] for index in indices),
        start_s_B=windows.start_s_B[indices],
    )
