"""A recipe tried without training it: what the data gives, one step, and what a run would need.

In: a recipe and its dataset. Out: a `DryRun`. Everything is read, divided and prepared as training
does it, so what training would refuse is refused here. No Ray is started, nothing is written.

Axes: B examples.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import psutil
import torch

from motoric.core.errors import RecipeError
from motoric.data.dataset import Dataset
from motoric.training.data_plan import DataPlan
from motoric.training.examples import Examples, SplitExamples
from motoric.training.inputs import ModelInputs, model_inputs
from motoric.training.memory import MemoryLimit
from motoric.training.network_cost import NetworkCost, Trial
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe
from motoric.training.split_config import LeakingSplit

_GIB = 2**30
# Figures of fewer people, or files, than this say little of new ones.
_FEW_TESTED = 3
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSummary:
    """One part of the split.

    Attributes:
        name: `training`, `validation` or `test`.
        num_examples: Windows or clips.
        num_subjects: People among them.
        examples_by_label: In the order of the classes; empty where values are predicted.
    """

    name: str
    num_examples: int
    num_subjects: int
    examples_by_label: dict[str, int]

    @property
    def missing_labels(self) -> tuple[str, ...]:
        """Labels without an example here."""
        return tuple(label for label, num in self.examples_by_label.items() if num == 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What a training run of a recipe would do.

    Attributes:
        parts: Training, validation and test.
        example_shapes: Of one example's inputs as the network sees them.
        examples_bytes: Of all examples' inputs.
        data_plan: Where they lie.
        network: Size and cost.
        worker_bytes: Memory of a worker: that of this process after one step, and for a solved head
            the features that are still to come.
        steps_per_epoch: Of each worker; of a solved head, batches of features in a pass.
        epochs: At most.
        training_s: Estimate for this machine, without the start of Ray and the export.
        num_workers: Workers that the cluster must offer at once.
        worker_resources: What each asks for, by Ray's names; memory in bytes.
        warnings: For a person.
    """

    parts: tuple[PartSummary, ...]
    example_shapes: tuple[tuple[int, ...], ...]
    examples_bytes: int
    data_plan: DataPlan
    network: NetworkCost
    worker_bytes: int
    steps_per_epoch: int
    epochs: int
    training_s: float
    num_workers: int
    worker_resources: dict[str, float]
    warnings: tuple[str, ...]


def dry_run(recipe: Recipe, dataset: Dataset) -> DryRun:
    """Try a recipe: read the data, run one batch forward and back.

    Raises:
        DatasetError: As training: too few subjects, a part without examples, unreadable video.
        RecipeError: As training: settings that do not fit the data, too little memory, a loss that
            is not finite.
    """
    inputs = model_inputs(recipe, dataset)
    plans: list[DataPlan] = []
    data = load_split(recipe, dataset, on_plan=plans.append, may_stream=True)
    limit = MemoryLimit(recipe.resources.memory_gib_per_worker)
    limit.check("reading the examples")
    examples_bytes = data.validation.num_bytes + data.test.num_bytes
    examples_bytes += data.at_hand.num_bytes // len(data.at_hand) * len(data.train)
    device = "cuda" if recipe.resources.gpus_per_worker > 0 and torch.cuda.is_available() else "cpu"
    with _threads(max(1, int(recipe.resources.cpus_per_worker))):
        trial = Trial(recipe, data, device)
        network = trial.solved() if trial.is_solved else trial.descended()
    worker_bytes = psutil.Process().memory_info().rss
    if trial.is_solved and device == "cpu":
        worker_bytes += network.step_bytes
    _check_memory(recipe, worker_bytes)
    steps = trial.steps_per_epoch
    epochs = recipe.train.epochs
    validation_s = len(data.validation) / network.batch_size * network.forward_ms / 1e3
    passes = 1 if trial.is_solved else epochs
    return DryRun(
        parts=tuple(
            _summary(name, part)
            for name, part in (
                ("training", data.train),
                ("validation", data.validation),
                ("test", data.test),
            )
        ),
        example_shapes=tuple(tuple(item.shape[1:]) for item in trial.one.inputs),
        examples_bytes=examples_bytes,
        data_plan=plans[0],
        network=network,
        worker_bytes=worker_bytes,
        steps_per_epoch=steps,
        epochs=epochs,
        training_s=epochs * steps * network.step_ms / 1e3 + passes * validation_s + network.solve_s,
        num_workers=recipe.resources.min_workers,
        worker_resources=recipe.resources.of_worker,
        warnings=tuple(_warnings(recipe, dataset, inputs, data, device)),
    )


def _check_memory(recipe: Recipe, worker_bytes: int) -> None:
    limit = recipe.resources.memory_gib_per_worker
    if limit is not None and worker_bytes > limit * _GIB:
        raise RecipeError(
            f"a worker needs about {worker_bytes / _GIB:.2f} GiB, over"
            f" resources.memory_gib_per_worker ({limit:g}): lower train.batch_size, clip.height,"
            " clip.width, clip.num_frames or model.num_features, raise window.hop_s, or raise the"
            " limit"
        )


def _summary(name: str, part: Examples) -> PartSummary:
    by_label: dict[str, int] = {}
    if part.classes:
        counts = np.bincount(part.targets_B.astype(np.int64), minlength=len(part.classes))
        by_label = dict(zip(part.classes, counts.tolist(), strict=True))
    return PartSummary(
        name=name,
        num_examples=len(part),
        num_subjects=len(set(part.subjects)),
        examples_by_label=by_label,
    )


@contextmanager
def _threads(num: int) -> Iterator[None]:
    """As many threads of torch as a worker has CPUs."""
    before = torch.get_num_threads()
    torch.set_num_threads(num)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _warnings(
    recipe: Recipe, dataset: Dataset, inputs: ModelInputs, data: SplitExamples, device: str
) -> Iterator[str]:
    """What a person should know before the run."""
    yield from _of_split(recipe, data)
    if recipe.task == "classify":
        yield from _unlabelled(inputs)
    used = {
        *data.train.recording_ids,
        *data.validation.recording_ids,
        *data.test.recording_ids,
    }
    unused = [item.recording_id for item in inputs.outlines if item.recording_id not in used]
    if unused:
        yield (
            f"{len(unused)} of {len(inputs.outlines)} recordings give no example"
            f" ({_named(unused)}): too short, with gaps, without the channels, or without one"
            " label for a whole window"
        )
    if recipe.resources.gpus_per_worker > 0 and device == "cpu":
        yield "the recipe asks for a GPU and this machine has none: the times are of its CPU"
    if recipe.task == "classify":
        from motoric.training.evaluation.leaks import find_leaks

        yield from (leak.message for leak in find_leaks(dataset, inputs.outlines))


def _of_split(recipe: Recipe, data: SplitExamples) -> Iterator[str]:
    for name, part in (("validation", data.validation), ("test", data.test)):
        missing = _summary(name, part).missing_labels
        if missing and len(part):
            yield f"the {name} part has no example of {_named(missing)}"
    if isinstance(recipe.split, LeakingSplit):
        yield "windows of one person are in training and in test: the figures say nothing of others"
        return
    if recipe.split.by == "recording":
        yield "the split is by recording: the figures say nothing of new people"
    num_tested = len(data.split.test)
    if num_tested < _FEW_TESTED:
        yield (
            f"the test part is {num_tested} {recipe.split.by}(s), too few for a figure to trust:"
            " `motoric evaluate RECIPE --protocol leave_one_out` tests everybody in turn"
        )


def _unlabelled(inputs: ModelInputs) -> Iterator[str]:
    unlabelled = [
        item.recording_id
        for item in inputs.outlines
        if not any(annotation.label in inputs.classes for annotation in item.annotations)
    ]
    if unlabelled:
        yield (
            f"{len(unlabelled)} of {len(inputs.outlines)} recordings have none of the labels and"
            f" teach nothing ({_named(unlabelled)})"
        )


def _named(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more
