"""What a task of Ray Data does for a stream of training windows: read some recordings, cut them.

What it needs is imported where it is needed: Ray Data loads this module in processes that only hand
windows on, once an epoch.

Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError

if TYPE_CHECKING:
    from motoric.data.dataset import Dataset
    from motoric.training.inputs import ModelInputs
    from motoric.training.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Reading:
    """Windows of one recording, from its first on.

    Attributes:
        recording_id: Of it.
        first: Place of its first window in the training part.
        num: How many.
    """

    recording_id: str
    first: int
    num: int


class WindowReader:
    """Reads the windows of some runs of recordings.

    Args:
        recipe: As JSON.
        dataset_uri: Of its dataset.
        content_digest: Of the dataset when the run began.
    """

    def __init__(self, recipe: str, dataset_uri: str, content_digest: str) -> None:
        self._recipe, self._dataset_uri, self._digest = recipe, dataset_uri, content_digest

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
        """Blocks of `place` and `window`, of a recording each.

        Args:
            batch: Under `run`, JSON of the fields of readings.

        Raises:
            DatasetError: The dataset is another one by now, or damaged.
        """
        from motoric.training.loading import load_by_recording

        recipe, dataset, inputs = _opened(self._recipe, self._dataset_uri)
        if dataset.card.content_digest != self._digest:
            raise DatasetError(
                f"{self._dataset_uri} was changed while a run reads it: train anew, on a copy"
            )
        wanted: dict[str, list[Reading]] = {}
        for run in batch["run"].tolist():
            for name, first, num in json.loads(run):
                wanted.setdefault(name, []).append(Reading(name, first, num))
        outlines = tuple(item for item in inputs.outlines if item.recording_id in wanted)
        for examples in load_by_recording(recipe, dataset, replace(inputs, outlines=outlines)):
            assert examples.windows_BTC is not None
            for reading in wanted[examples.recording_ids[0]]:
                places_B = reading.first + np.arange(reading.num)
                yield {"place": places_B, "window": examples.windows_BTC[: reading.num]}


@functools.lru_cache(maxsize=2)
def _opened(content: str, dataset_uri: str) -> tuple[Recipe, Dataset, ModelInputs]:
    """Once a process, not once a task."""
    from motoric.data.dataset import open_dataset
    from motoric.training.inputs import model_inputs
    from motoric.training.recipe import Recipe

    recipe, dataset = Recipe.model_validate_json(content), open_dataset(dataset_uri)
    return recipe, dataset, model_inputs(recipe, dataset)
