"""Timelines of people never seen in training: long annotated series, and what a network finds.

In: a trained network and the recordings of the test groups. Out: one `Series` a recording whose
labels change, or a person whose recordings each have one label and are set one after the other.
Axes: B windows, T samples, C channels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from motoric.artefact.signature import SensorInput
from motoric.artefact.timeline import Timeline, smooth
from motoric.core.errors import RecipeError
from motoric.data.concatenation import concatenate_recordings
from motoric.data.dataset import Dataset
from motoric.data.recording import Annotation, Recording
from motoric.data.windows import WindowSet, cut_windows
from motoric.training.examples import SENSORS, Examples, SplitExamples
from motoric.training.loop import predict_examples
from motoric.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One long recording.

    Attributes:
        name: Of the recording, or of the person.
        true: Its annotations.
        found: Its timeline.
        unsmoothed: The timeline that takes the most probable class of each moment.
    """

    name: str
    true: tuple[Annotation, ...]
    found: Timeline
    unsmoothed: Timeline


def check_timeline(recipe: Recipe) -> None:
    """Check that a recipe's model can draw timelines.

    Raises:
        RecipeError: It takes clips, gives no classes, or sees whole movements.
    """
    if recipe.task != "classify" or recipe.clip is not None:
        raise RecipeError("timelines need a model that tells classes apart by sensors alone")
    assert recipe.window is not None
    if recipe.window.span != "window":
        raise RecipeError(
            "timelines need window.span: window, since a long recording has no annotations to cut"
            " windows by"
        )


def find_series(
    recipe: Recipe, dataset: Dataset, data: SplitExamples, network: nn.Module, device: str = "cpu"
) -> tuple[Series, ...]:
    """Timelines of the test recordings.

    Raises:
        DatasetError: A series is shorter than a window.
    """
    sensors = data.signature.sensors
    series = []
    for recording in _long_recordings(recipe, dataset, data):
        windows = _windows(recipe, sensors, recording)
        examples = _as_examples(windows, data.train.classes)
        outputs_BK = predict_examples(network, recipe, data, examples, device)
        found, unsmoothed = (
            smooth(
                windows.start_s_B,
                outputs_BK.astype(np.float64),
                length_s=sensors.length_s,
                hop_s=sensors.hop_s,
                classes=data.train.classes,
                settings=settings,
            )
            for settings in (
                recipe.timeline,
                recipe.timeline.model_copy(update={"smoothing": "none"}),
            )
        )
        series.append(
            Series(
                name=recording.recording_id,
                true=recording.annotations,
                found=found,
                unsmoothed=unsmoothed,
            )
        )
    return tuple(series)


def _long_recordings(recipe: Recipe, dataset: Dataset, data: SplitExamples) -> Iterator[Recording]:
    """Recordings whose labels change as they are; those of one label joined by person."""
    classes = set(data.train.classes)
    single: dict[str, list[Recording]] = {}
    for recording in dataset.recordings(recording_ids=sorted(set(data.test.recording_ids))):
        known = tuple(item for item in recording.annotations if item.label in classes)
        kept = replace(recording, annotations=known)
        if len({item.label for item in known}) > 1:
            yield kept
        elif known:
            single.setdefault(recording.subject, []).append(kept)
    for number, (_, recordings) in enumerate(sorted(single.items())):
        rng = np.random.default_rng([recipe.train.seed, number])
        assert recipe.window is not None
        yield concatenate_recordings(recordings, recipe.window.stream, rng)


def _windows(recipe: Recipe, sensors: SensorInput, recording: Recording) -> WindowSet:
    return cut_windows(
        [recording],
        stream_name=sensors.name,
        rate_hz=sensors.rate_hz,
        length_s=sensors.length_s,
        hop_s=sensors.hop_s,
        classes=None,
        context_s=sensors.context_s,
        max_gap_s=recipe.preprocessing.max_gap_s,
        channels=[channel.name for channel in sensors.channels],
        resample=recipe.preprocessing.rate_hz is not None,
    )


def _as_examples(windows: WindowSet, classes: tuple[str, ...]) -> Examples:
    present_B2 = np.zeros((len(windows), 2), dtype=np.bool_)
    present_B2[:, SENSORS] = True
    return Examples(
        windows_BTC=windows.windows_BTC,
        clips_BTHWC=None,
        present_B2=present_B2,
        targets_B=np.zeros(len(windows), dtype=np.int64),
        persistence_B=None,
        subjects=windows.subjects,
        recording_ids=windows.recording_ids,
        start_s_B=windows.start_s_B,
        end_s_B=windows.end_s_B,
        classes=classes,
    )
