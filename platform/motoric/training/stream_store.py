"""What a node keeps of examples whose training part streams: all but the training windows.

In: a recipe and its dataset, read one recording after the other. Out: the index of all examples;
files of the validation and test part, and of a sample of the training part; what is fitted to the
training windows. The index and one recording are in memory at a time.

Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import RecipeError
from motoric.data.dataset import Dataset
from motoric.training.data_plan import lacking_room
from motoric.training.examples import Examples, Rows, join
from motoric.training.inputs import ModelInputs
from motoric.training.loading import load_by_recording
from motoric.training.recipe import Recipe
from motoric.training.window_statistics import StatisticsFit

STATISTICS, SAMPLE = "statistics.json", "sample"
# A sample costs the reading of a few recordings, however large the training part is.
_SAMPLE_RECORDINGS = 16
_SAMPLE_OF_EACH = 64


def write_streamed(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    inputs: ModelInputs,
    divide: Callable[[Examples], Rows],
) -> Examples:
    """Write everything but the training windows, in two passes; returns the index.

    The first pass reads all recordings, the second those of which windows are written.

    Args:
        folder: Of the files, which is there.
        recipe: The recipe.
        dataset: Its dataset.
        inputs: From both.
        divide: Given the index, says which examples are in which part.

    Raises:
        DatasetError: There is not one example.
        RecipeError: The disk has no room.
    """
    assert inputs.sensors is not None, "the recipe has checked it"
    fits: dict[str, StatisticsFit] = {}
    indices: list[Examples] = []
    for examples in load_by_recording(recipe, dataset, inputs):
        assert examples.windows_BTC is not None
        fit = StatisticsFit(recipe, inputs.sensors)
        fit.add(examples.windows_BTC)
        fits[examples.recording_ids[0]] = fit
        indices.append(replace(examples, windows_BTC=None))
    index = join(indices)
    train, validation, test = divide(index)
    whole = StatisticsFit(recipe, inputs.sensors)
    for name in dict.fromkeys(index.recording_ids[row] for row in train):
        whole.merge(fits[name])
    (folder / STATISTICS).write_text(whole.fitted().model_dump_json())
    rows = {"validation": validation, "test": test, SAMPLE: sample_rows(index, train)}
    _write_windows(folder, recipe, dataset, inputs, index, rows)
    return index


def sample_rows(index: Examples, train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places of training examples to try a network on: of a few recordings from all over.

    Args:
        index: Of all examples.
        train: Places of the training part, rising.
    """
    names = np.array([index.recording_ids[row] for row in train])
    firsts = np.flatnonzero(np.r_[True, names[1:] != names[:-1]])
    ends = np.r_[firsts[1:], len(names)]
    chosen = [
        _spread(int(firsts[item]), int(ends[item]), _SAMPLE_OF_EACH)
        for item in _spread(0, len(firsts), _SAMPLE_RECORDINGS)
    ]
    return train[np.concatenate(chosen)]


def _spread(first: int, end: int, most: int) -> NDArray[np.int64]:
    """Whole numbers from `first` to before `end`, evenly spaced, at most so many."""
    return np.linspace(first, end - 1, min(most, end - first)).round().astype(np.int64)


def _write_windows(
    folder: Path,
    recipe: Recipe,
    dataset: Dataset,
    inputs: ModelInputs,
    index: Examples,
    rows: Mapping[str, NDArray[np.int64]],
) -> None:
    """Write the windows of some examples, a file a part; rows rise."""
    assert inputs.sensors is not None
    shape = (inputs.sensors.num_input_samples, inputs.sensors.num_channels)
    window_bytes = 4 * shape[0] * shape[1]
    needed = sum(len(chosen) for chosen in rows.values()) * window_bytes
    if problem := lacking_room(needed):
        raise RecipeError(
            f"train.data is stream, but the windows of validation and test are written, and"
            f" {problem}: hold fewer people out, free the disk, or set TMPDIR to a larger one"
        )
    files: dict[str, NDArray[np.float32]] = {}
    for part, chosen in rows.items():
        path = folder / f"{part}-windows_BTC.npy"
        if len(chosen):
            files[part] = np.lib.format.open_memmap(path, "w+", np.float32, (len(chosen), *shape))
        else:
            np.save(path, np.empty((0, *shape), dtype=np.float32))
    first_rows: dict[str, int] = {}
    for row, name in enumerate(index.recording_ids):
        first_rows.setdefault(name, row)
    wanted = {index.recording_ids[row] for chosen in rows.values() for row in chosen}
    outlines = tuple(item for item in inputs.outlines if item.recording_id in wanted)
    for examples in load_by_recording(recipe, dataset, replace(inputs, outlines=outlines)):
        assert examples.windows_BTC is not None
        first = first_rows[examples.recording_ids[0]]
        for part, file in files.items():
            low, high = np.searchsorted(rows[part], [first, first + len(examples)])
            file[low:high] = examples.windows_BTC[rows[part][low:high] - first]
