"""Where a run's examples lie: in memory, in files, or in a stream, by their estimated size.

Nothing is read but the tables of the dataset.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from motoric.artefact.signature import ClassesOutput, QuantilesOutput
from motoric.core.errors import RecipeError
from motoric.data.dataset import Dataset
from motoric.data.recording import Recording
from motoric.training.inputs import ModelInputs
from motoric.training.recipe import Recipe

Way = Literal["memory", "mapped", "stream"]

_GIB = 2**30
# All examples are written, then the parts of the split, before the first are removed.
TIMES_ON_DISK = 2.1


@dataclass(frozen=True, slots=True, kw_only=True)
class DataPlan:
    """Where the examples lie, and why.

    Attributes:
        way: In memory, mapped from files, or streamed from the dataset.
        num_bytes: Of all examples, estimated: at most so many.
        memory_bytes: That examples may take of a worker's memory.
    """

    way: Way
    num_bytes: int
    memory_bytes: int

    @property
    def text(self) -> str:
        """For a person."""
        where = {
            "memory": "in memory",
            "mapped": "in files of the scratch folder",
            "stream": "streamed from the dataset",
        }[self.way]
        return (
            f"{where}: at most {self.num_bytes / _GIB:.3g} GiB, and a worker keeps up to"
            f" {self.memory_bytes / _GIB:.3g} GiB in memory"
        )


def plan_data(
    recipe: Recipe, dataset: Dataset, inputs: ModelInputs, *, may_stream: bool = False
) -> DataPlan:
    """Decide for this machine; what a recipe names itself stays.

    Args:
        recipe: The recipe.
        dataset: Its dataset.
        inputs: From both.
        may_stream: Whether auto may choose a stream, which all workers of a run must then do.

    Raises:
        RecipeError: `train.data` is auto, and examples fit neither the memory nor the disk, nor
            can they stream.
    """
    num_bytes = estimated_bytes(dataset, inputs)
    memory_bytes = round(recipe.train.memory_share * _worker_bytes(recipe))
    way: Way
    if recipe.train.data != "auto":
        way = recipe.train.data
    elif num_bytes <= memory_bytes:
        way = "memory"
    elif not (problem := lacking_room(TIMES_ON_DISK * num_bytes)):
        way = "mapped"
    elif may_stream and not recipe.streaming_problem:
        way = "stream"
    else:
        raise RecipeError(
            f"the examples take about {num_bytes / _GIB:.3g} GiB, over train.memory_share"
            f" ({memory_bytes / _GIB:.3g} GiB of a worker), and {problem}: raise window.hop_s,"
            " lower clip.height, clip.width or clip.num_frames, free the disk, or set train.data to"
            f" stream{_not_yet(recipe)}"
        )
    return DataPlan(way=way, num_bytes=num_bytes, memory_bytes=memory_bytes)


def _not_yet(recipe: Recipe) -> str:
    problem = recipe.streaming_problem
    return f" (for which {problem})" if problem else ""


def lacking_room(needed: float) -> str:
    """Why the scratch folder cannot hold files of so many bytes; empty: it can."""
    free = shutil.disk_usage(scratch()).free
    if needed <= free:
        return ""
    return f"{scratch()} has {free / _GIB:.3g} GiB free, files of them need {needed / _GIB:.3g}"


def scratch() -> Path:
    """The folder for temporary files, as `TMPDIR` says."""
    return Path(tempfile.gettempdir())


def estimated_bytes(dataset: Dataset, inputs: ModelInputs) -> int:
    """Memory of all examples as if no recording had a gap: at most so much."""
    sensors, clip = inputs.sensors, inputs.clip
    example_bytes = 0 if clip is None else math.prod(clip.shape)
    if sensors is not None:
        num_samples, num_channels = sensors.num_input_samples, sensors.num_channels
        if not isinstance(inputs.output, ClassesOutput):
            num_channels += 1
        if isinstance(inputs.output, QuantilesOutput):
            num_samples += round(inputs.output.horizon_s * sensors.rate_hz)
        example_bytes += num_samples * num_channels * 4
    rows = {row["recording_id"]: row for row in dataset.recordings_table().to_pylist()}
    num = sum(_num_examples(inputs, item, rows[item.recording_id]) for item in inputs.outlines)
    return num * example_bytes


def _num_examples(inputs: ModelInputs, outline: Recording, row: dict[str, Any]) -> int:
    sensors, clip = inputs.sensors, inputs.clip
    spans_s = [
        item.end_s - item.start_s
        for item in outline.annotations
        if not inputs.classes or item.label in inputs.classes
    ]
    if not inputs.classes:
        spans_s = [row["duration_s"]]
    length_s, hop_s = None, None
    if sensors is not None and sensors.span == "window":
        length_s, hop_s = sensors.length_s, sensors.hop_s
    elif sensors is None and clip is not None:
        length_s, hop_s = clip.length_s, clip.hop_s
    if length_s is None:
        # Of one movement, window and clip may come apart.
        return len(spans_s) * (1 if sensors is None or clip is None else 2)
    step_s = hop_s or length_s
    return sum(max(0, math.floor((span_s - length_s) / step_s) + 2) for span_s in spans_s)


def _worker_bytes(recipe: Recipe) -> float:
    """Memory of a worker: what it asks for, or its part of this machine, the driver counted in."""
    if recipe.resources.memory_gib_per_worker is not None:
        return recipe.resources.memory_gib_per_worker * _GIB
    return psutil.virtual_memory().total / (recipe.resources.max_workers + 1)
