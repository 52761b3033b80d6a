"""From a recipe and its dataset to examples: all in memory, or one recording after the other.

Axes: B examples, T samples, C channels.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import ClassesOutput, QuantilesOutput, SensorInput
from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import Dataset
from motoric.data.windows import WindowSet, cut_windows
from motoric.training.clip_loading import find_clips, load_clips
from motoric.training.examples import SENSORS, Examples
from motoric.training.input_config import MetadataTarget
from motoric.training.inputs import ModelInputs
from motoric.training.recipe import Recipe

logger = logging.getLogger(__name__)


def load_examples(recipe: Recipe, dataset: Dataset, inputs: ModelInputs) -> Examples:
    """Read every example of the recordings that the recipe chooses.

    Raises:
        DatasetError: There is not one, no recording has all channels, or a video cannot be read.
        RecipeError: Metadata that is to be predicted is no number.
    """
    windows = None
    if inputs.sensors is not None:
        names = _recordings_with_channels(recipe, dataset, inputs, inputs.sensors)
        windows = _windows(recipe, dataset, inputs, inputs.sensors, names)
    if inputs.clip is not None:
        return load_clips(dataset, inputs, inputs.clip, windows)
    assert windows is not None, "a recipe has an input"
    examples = _of_windows(inputs, windows)
    if isinstance(recipe.target, MetadataTarget):
        values = _metadata(inputs, recipe.target.metadata)
        return _with_metadata(examples, values)
    return examples


def load_by_recording(recipe: Recipe, dataset: Dataset, inputs: ModelInputs) -> Iterator[Examples]:
    """What `load_examples` gives, recording by recording in the same order; empty ones left out.

    Raises:
        DatasetError: As `load_examples`, but that there may be none.
        RecipeError: As `load_examples`.
    """
    sensors = inputs.sensors
    readable: set[str] = set()
    if sensors is not None:
        readable = set(_recordings_with_channels(recipe, dataset, inputs, sensors))
    values = None
    if isinstance(recipe.target, MetadataTarget):
        values = _metadata(inputs, recipe.target.metadata)
    for outline in sorted(inputs.outlines, key=lambda item: item.recording_id):
        own = replace(inputs, outlines=(outline,))
        windows = None
        if sensors is not None:
            names = [outline.recording_id] if outline.recording_id in readable else []
            windows = _windows(recipe, dataset, own, sensors, names, can_be_empty=True)
        if inputs.clip is not None:
            examples = find_clips(dataset, own, inputs.clip, windows)
        else:
            assert windows is not None, "a recipe has an input"
            examples = _of_windows(own, windows)
            if values is not None:
                examples = _with_metadata(examples, values)
        if examples is not None and len(examples):
            yield examples


def _recordings_with_channels(
    recipe: Recipe, dataset: Dataset, inputs: ModelInputs, sensors: SensorInput
) -> list[str]:
    """Recordings that have the stream with all channels; says how many have not.

    Raises:
        DatasetError: None has.
    """
    chosen = {outline.recording_id for outline in inputs.outlines}
    names = [channel.name for channel in sensors.channels]
    target = _target_channel(recipe, inputs)
    wanted = {*names, *target}
    with_channels: list[str] = []
    without_stream, lacking = 0, 0
    for row in dataset.recordings_table().to_pylist():
        if row["recording_id"] not in chosen:
            continue
        there = {
            channel["name"]
            for item in row["streams"]
            if item["stream"] == sensors.name
            for channel in item["channels"]
        }
        if there and not wanted <= there:
            lacking += 1
        elif there:
            with_channels.append(row["recording_id"])
        else:
            without_stream += 1
    if without_stream and not sensors.optional:
        logger.warning(
            "%d recording(s) have no stream %r and are left out", without_stream, sensors.name
        )
    if lacking:
        listed = ", ".join(dict.fromkeys([*names, *target]))
        logger.warning("%d recording(s) lack a channel of %s and are left out", lacking, listed)
        if not with_channels:
            raise DatasetError(
                f"no recording has all channels of {listed}: name those that recordings share in"
                " window.channels"
            )
    return with_channels


def _target_channel(recipe: Recipe, inputs: ModelInputs) -> list[str]:
    """The channel that is to be predicted, if one is."""
    if isinstance(inputs.output, ClassesOutput) or isinstance(recipe.target, MetadataTarget):
        return []
    return [inputs.output.of]


def _windows(
    recipe: Recipe,
    dataset: Dataset,
    inputs: ModelInputs,
    sensors: SensorInput,
    names: Sequence[str],
    *,
    can_be_empty: bool = False,
) -> WindowSet:
    """Raw windows; of a channel's target, the last column, and of a forecast the time ahead too."""
    output = inputs.output
    ahead_s = output.horizon_s if isinstance(output, QuantilesOutput) else 0.0
    channels = [channel.name for channel in sensors.channels]
    return cut_windows(
        dataset.recordings(recording_ids=names),
        stream_name=sensors.name,
        rate_hz=sensors.rate_hz,
        length_s=sensors.length_s + ahead_s,
        hop_s=sensors.hop_s,
        classes=inputs.classes or None,
        context_s=sensors.context_s,
        max_gap_s=recipe.preprocessing.max_gap_s,
        channels=[*channels, *_target_channel(recipe, inputs)],
        resample=recipe.preprocessing.rate_hz is not None,
        span=sensors.span,
        fit=sensors.fit,
        can_be_empty=can_be_empty,
    )


def _of_windows(inputs: ModelInputs, windows: WindowSet) -> Examples:
    """Windows as examples: targets come from the columns and samples beside the inputs."""
    assert inputs.sensors is not None
    values_BTC = windows.windows_BTC
    targets_B: NDArray[np.int64] | NDArray[np.float32] = windows.labels_B
    persistence_B, end_s_B = None, windows.end_s_B
    num_inputs, num_samples = inputs.sensors.num_channels, inputs.sensors.num_input_samples
    if not isinstance(inputs.output, ClassesOutput):
        target_BT = values_BTC[:, :, -1]
        own_BT = target_BT[:, inputs.sensors.num_context_samples : num_samples]
        if isinstance(inputs.output, QuantilesOutput):
            targets_B, persistence_B = target_BT[:, -1].copy(), own_BT[:, -1].copy()
            end_s_B = windows.start_s_B + inputs.sensors.length_s
        else:
            targets_B = own_BT.mean(axis=1)
        values_BTC = np.ascontiguousarray(values_BTC[:, :num_samples, :num_inputs])
    present_B2 = np.zeros((len(values_BTC), 2), dtype=np.bool_)
    present_B2[:, SENSORS] = True
    return Examples(
        windows_BTC=values_BTC,
        clips_BTHWC=None,
        present_B2=present_B2,
        targets_B=targets_B,
        persistence_B=persistence_B,
        subjects=windows.subjects,
        recording_ids=windows.recording_ids,
        start_s_B=windows.start_s_B,
        end_s_B=end_s_B,
        classes=windows.classes,
    )


def _metadata(inputs: ModelInputs, key: str) -> dict[str, float]:
    """The number to predict, by recording."""
    values: dict[str, float] = {}
    for outline in inputs.outlines:
        text = outline.metadata.get(key)
        try:
            value = float(text) if text is not None else np.nan
        except ValueError as error:
            raise RecipeError(
                f"target.metadata {key!r} of {outline.recording_id} is {text!r}, which is no number"
            ) from error
        if np.isfinite(value):
            values[outline.recording_id] = value
    if not values:
        raise RecipeError(f"target.metadata is {key!r}, but no recording has it")
    if len(values) < len(inputs.outlines):
        num_lacking = len(inputs.outlines) - len(values)
        logger.warning("%d recording(s) have no metadata %r and are left out", num_lacking, key)
    return values


def _with_metadata(examples: Examples, values: Mapping[str, float]) -> Examples:
    known = examples.of_recordings(list(values))
    targets_B = np.array([values[name] for name in known.recording_ids], dtype=np.float32)
    return replace(known, targets_B=targets_B)
