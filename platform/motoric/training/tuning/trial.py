"""What one trial of a search runs: the plain training loop in the trial's own process.

A recipe of several workers trains by Ray Train from here, as `motoric train` does. Either way each
epoch is reported to ray.tune, which ends the trial at that epoch's boundary or lets it go on.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from motoric.core import storage
from motoric.core.errors import CheckpointError, MotoricError
from motoric.data.dataset import open_dataset
from motoric.training.checkpoint import Checkpoints, identity_of
from motoric.training.examples import SplitExamples
from motoric.training.partition import load_split
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.search_config import SearchConfig
from motoric.training.tuning.proposals import NUMBER, VALUES
from motoric.training.tuning.scheduler import EPOCH, VALUE
from motoric.training.tuning.space import trial_recipe
from motoric.training.tuning.trials import Metric

# Keys of what trials report, beside EPOCH and VALUE.
REPORT, ERROR = "report", "error_message"
# Parts of a recipe that change what is read: trials that differ in them read for themselves.
_OF_DATA = frozenset({"window", "clip", "preprocessing"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrialWork:
    """What all trials of a search share.

    Attributes:
        recipe: As it stands in the file, `search` and all, as plain values.
        dataset_uri: Absolute.
        storage_uri: Where workers keep checkpoints.
        search_name: Of the search.
        metric: What trials are compared by.
    """

    recipe: dict[str, Any]
    dataset_uri: str
    storage_uri: str
    search_name: str
    metric: Metric


def shares_examples(search: SearchConfig) -> bool:
    """Whether all trials train on the same examples, so that one reading is enough."""
    return not any(key.partition(".")[0] in _OF_DATA for key in search.space)


def is_alone(recipe: Recipe) -> bool:
    """Whether a trial trains in its own process, without workers beside it."""
    return recipe.resources.num_workers == 1 and recipe.strategy == "ddp"


def run_name(search_name: str, number: int) -> str:
    """What the run of a trial is called."""
    return f"{search_name}-{number:05d}"


def run_uri(work: TrialWork, number: int) -> str:
    """Folder of a trial's checkpoints, while it is not over."""
    return storage.join(work.storage_uri, "runs", run_name(work.search_name, number))


def train_trial(config: dict[str, Any], work: TrialWork, data: SplitExamples | None) -> None:
    """Train one trial; an error of the user's is reported, and ends this trial alone.

    Args:
        config: Number and values, as `Proposals` gave them.
        work: What trials share.
        data: The examples, where all trials have the same.
    """
    from ray import tune

    def report(epoch: EpochReport, _: object = None) -> None:
        value = work.metric.value(epoch)
        tune.report({EPOCH: epoch.epoch + 1, VALUE: value, REPORT: asdict(epoch)})

    try:
        recipe = trial_recipe(Recipe.model_validate(work.recipe), config[VALUES])
        checkpoints = _checkpoints(recipe, work, config[NUMBER])
        for epoch in _history(checkpoints):
            report(epoch)
        if is_alone(recipe):
            _train_here(recipe, work, data, report, checkpoints)
        else:
            _train_on_workers(recipe, work, config[NUMBER], report)
    except MotoricError as error:
        tune.report({VALUE: math.nan, ERROR: error.message})


def _checkpoints(recipe: Recipe, work: TrialWork, number: int) -> Checkpoints:
    """Those of the trial; where none of an earlier start can be used, it begins anew."""
    uri = run_uri(work, number)
    found = Checkpoints(uri, identity_of(recipe, open_dataset(work.dataset_uri)))
    try:
        found.newest()
    except CheckpointError:
        storage.remove_folder(uri)
    return found


def _history(checkpoints: Checkpoints) -> tuple[EpochReport, ...]:
    """The epochs that an earlier start had trained: ASHA hears of them first."""
    name = checkpoints.newest()
    return () if name is None else checkpoints.read(name).position.history


def _train_here(
    recipe: Recipe,
    work: TrialWork,
    data: SplitExamples | None,
    report: Any,
    checkpoints: Checkpoints,
) -> None:
    import torch

    from motoric.training.loop import fit
    from motoric.training.run import Worker
    from motoric.training.system import SystemSampler

    torch.set_num_threads(max(1, int(recipe.resources.cpus_per_worker)))
    share = recipe.resources.gpus_per_worker
    if 0 < share < 1:
        # To Ray a share is bookkeeping alone: nothing else keeps a trial from the whole card.
        torch.cuda.set_per_process_memory_fraction(share)
    if data is None:
        data = load_split(recipe, open_dataset(work.dataset_uri))
    with SystemSampler(with_gpu=share > 0) as sampler:
        worker = Worker(device="cuda" if share > 0 else "cpu", sample_system=sampler.sample)
        fit(recipe, data, worker=worker, on_epoch=report, checkpoints=checkpoints)


def _train_on_workers(recipe: Recipe, work: TrialWork, number: int, report: Any) -> None:
    from motoric.training.trainer import train

    train(
        recipe,
        dataset_uri=work.dataset_uri,
        storage_uri=work.storage_uri,
        run_id=run_name(work.search_name, number),
        can_grow=True,  # what does not fit was refused before the search
        on_epoch=report,
    )
