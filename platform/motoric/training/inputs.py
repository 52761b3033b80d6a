"""What a recipe feeds its model: inputs and output of the signature, from the dataset's card.

In: a recipe and a dataset. Out: `ModelInputs`. Nothing is read but the card and the tables.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from motoric.artefact.preprocessing import settling_s
from motoric.artefact.signature import (
    ACCELERATION,
    Channel,
    ClassesOutput,
    ClipInput,
    Output,
    QuantilesOutput,
    SensorInput,
    ValueOutput,
    check_steps,
)
from motoric.core.errors import DatasetError, RecipeError
from motoric.data.card import MIXED_UNITS, StreamCard
from motoric.data.dataset import Dataset
from motoric.data.recording import Recording
from motoric.training.input_config import ChannelTarget, MetadataTarget
from motoric.training.recipe import Recipe
from motoric.training.split_config import LeakingSplit

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInputs:
    """The inputs and the output of a model, and the recordings that can give examples.

    Attributes:
        sensors: None where the recipe has no windows.
        clip: None where it has no clips.
        output: What the model gives.
        outlines: Recordings that the recipe chooses, without their streams, by their ids.
    """

    sensors: SensorInput | None
    clip: ClipInput | None
    output: Output
    outlines: tuple[Recording, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels to tell apart; empty where values are predicted."""
        return self.output.classes if isinstance(self.output, ClassesOutput) else ()


def model_inputs(recipe: Recipe, dataset: Dataset) -> ModelInputs:
    """Fix what goes in and what comes out.

    Raises:
        DatasetError: Recordings of several rates, and none is chosen; fewer than two labels;
            nothing is left of the dataset.
        RecipeError: The recipe names a channel, a label or metadata that is not there, or a step
            that does not fit the stream.
    """
    outlines = chosen_outlines(recipe, dataset)
    if not isinstance(recipe.split, LeakingSplit) and recipe.split.by == "recording":
        logger.warning(
            "split.by is recording: recordings of one person may be in training and in test"
        )
    is_fused = recipe.window is not None and recipe.clip is not None
    if recipe.clip is not None and recipe.task != "classify":
        raise RecipeError(f"task {recipe.task} is for sensors alone: leave `clip:` out")
    sensors = None
    if recipe.window is not None:
        sensors = _sensor_input(recipe, dataset.card.stream(recipe.window.stream), is_fused)
    clip = None if recipe.clip is None else _clip_input(recipe, is_fused)
    return ModelInputs(
        sensors=sensors,
        clip=clip,
        output=_output(recipe, dataset, sensors, outlines),
        outlines=outlines,
    )


def chosen_outlines(recipe: Recipe, dataset: Dataset) -> tuple[Recording, ...]:
    """The recordings that `where` chooses, without their streams.

    Raises:
        DatasetError: None has all that it asks for.
        RecipeError: No recording has one of its values.
    """
    outlines = dataset.outlines()
    for key, value in recipe.where.items():
        values = sorted({item.metadata[key] for item in outlines if key in item.metadata})
        if value not in values:
            found = ", ".join(values[:10]) if values else "no recording has it"
            raise RecipeError(f"where.{key} is {value!r}, but the dataset has: {found}")
        outlines = [item for item in outlines if item.metadata.get(key) == value]
    if not outlines:
        raise DatasetError(f"{dataset.uri}: no recording has all that `where` asks for")
    return tuple(outlines)


def _output(
    recipe: Recipe,
    dataset: Dataset,
    sensors: SensorInput | None,
    outlines: Sequence[Recording],
) -> Output:
    if recipe.target == "label":
        return ClassesOutput(classes=_classes(recipe, dataset, outlines))
    assert sensors is not None, "the recipe has checked it"
    if isinstance(recipe.target, MetadataTarget):
        return ValueOutput(of=recipe.target.metadata, unit=recipe.target.unit)
    assert isinstance(recipe.target, ChannelTarget)
    name, stream = recipe.target.channel, dataset.card.stream(sensors.name)
    units = {item.name: item.unit for item in stream.channels}
    if name not in units:
        raise RecipeError(
            f"target.channel is {name!r}, but stream {stream.name!r} has {', '.join(units)}"
        )
    is_input = name in {channel.name for channel in sensors.channels}
    if recipe.task == "regress":
        if is_input:
            raise RecipeError(
                f"target.channel {name!r} is an input too, so the model would only copy it: name"
                " the inputs in window.channels, without it"
            )
        return ValueOutput(of=name, unit=units[name])
    if not is_input:
        raise RecipeError(
            f"a forecast of {name!r} needs its past: add it to window.channels"
            f" (now {', '.join(channel.name for channel in sensors.channels)})"
        )
    assert recipe.horizon_s is not None
    _check_forecast(recipe, name, sensors)
    return QuantilesOutput(
        of=name, unit=units[name], horizon_s=recipe.horizon_s, quantiles=recipe.quantiles
    )


def _check_forecast(recipe: Recipe, name: str, sensors: SensorInput) -> None:
    """A forecast starts from the target's last sample, which the network must still see."""
    assert recipe.horizon_s is not None
    num_ahead = round((sensors.length_s + recipe.horizon_s) * sensors.rate_hz)
    if num_ahead <= sensors.num_samples:
        raise RecipeError(
            f"horizon_s {recipe.horizon_s:g} is less than a sample at {sensors.rate_hz:g} Hz: make"
            f" it {1 / sensors.rate_hz:g} or more"
        )
    is_split = any(step.step == "gravity_split" for step in recipe.preprocessing.steps)
    if is_split and name in ACCELERATION:
        raise RecipeError(
            f"target.channel {name!r} is changed by the step gravity_split, so the model would not"
            " know where it starts from: leave the step out, or forecast another channel"
        )


def _classes(recipe: Recipe, dataset: Dataset, outlines: Sequence[Recording]) -> tuple[str, ...]:
    there = sorted({item.label for outline in outlines for item in outline.annotations})
    missing = [label for label in recipe.labels if label not in there]
    if missing:
        raise RecipeError(
            f"labels names {', '.join(missing)}, but the dataset has {', '.join(there) or 'none'}"
        )
    classes = tuple(recipe.labels or there)
    if len(classes) < 2:
        raise DatasetError(
            f"{dataset.uri} has {len(classes)} label(s); classification needs two or more"
        )
    return classes


def _sensor_input(recipe: Recipe, card: StreamCard, is_optional: bool) -> SensorInput:
    assert recipe.window is not None
    chosen, steps = recipe.preprocessing, recipe.preprocessing.steps
    if chosen.rate_hz is None and not card.has_one_rate:
        raise DatasetError(
            f"the recordings have stream {card.name!r} at {card.min_rate_hz:g} to"
            f" {card.max_rate_hz:g} Hz: set preprocessing.rate_hz (most run at {card.rate_hz:g})"
        )
    rate_hz = chosen.rate_hz or card.rate_hz
    channels = _channels(recipe.window.channels, card)
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
        span=recipe.window.span,
        fit=recipe.window.fit,
        optional=is_optional,
    )


def _channels(wanted: Sequence[str], card: StreamCard) -> tuple[Channel, ...]:
    units = {item.name: item.unit for item in card.channels}
    names = tuple(wanted) or tuple(units)
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


def _clip_input(recipe: Recipe, is_optional: bool) -> ClipInput:
    assert recipe.clip is not None
    clip, window = recipe.clip, recipe.window
    length_s, hop_s = clip.length_s, clip.hop_s
    if window is not None and window.span == "window":
        length_s, hop_s = window.length_s, window.hop_s
    return ClipInput(
        num_frames=clip.num_frames,
        height=clip.height,
        width=clip.width,
        colour=clip.colour,
        resize=clip.resize,
        region=clip.region,
        rate_hz=clip.rate_hz,
        length_s=length_s,
        hop_s=hop_s,
        optional=is_optional,
    )
