"""What each training worker runs inside Ray Train."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import ray
import ray.train
import ray.train.torch

from motoric.core.errors import MotoricError, UserError
from motoric.data.dataset import open_dataset
from motoric.training.attempt import check_newest, check_storage
from motoric.training.checkpoint import Checkpoints, identity_of
from motoric.training.following import Teller
from motoric.training.loop import fit
from motoric.training.partition import load_split
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.run import Worker
from motoric.training.streaming import WindowStream
from motoric.training.system import SystemSampler


class StopOnUserErrors(ray.train.UserCallback):
    """Ends a run at once where trying again would give the same error."""

    def after_exception(
        self,
        run_context: Any,  # noqa: ARG002 - Ray passes it by name
        worker_exceptions: dict[int, Exception],
    ) -> None:
        """Raise what a user must mend, which Ray then does not retry."""
        for wrapped in worker_exceptions.values():
            error = getattr(wrapped, "_base_exc", wrapped)
            if isinstance(error, UserError):
                raise error


def train_worker(config: dict[str, Any]) -> None:
    """Train one worker's part; errors that people read go to the driver too."""
    import torch

    context = ray.train.get_context()
    recipe = Recipe.model_validate(config["recipe"])
    teller = Teller(config["progress"])
    rank = context.get_world_rank()
    device = ray.train.torch.get_device()
    torch.set_num_threads(max(1, int(recipe.resources.cpus_per_worker)))
    share = recipe.resources.gpus_per_worker
    if device.type == "cuda" and 0 < share < 1:
        # To Ray a share is bookkeeping alone: nothing else keeps a worker from the whole card.
        torch.cuda.set_per_process_memory_fraction(share, device)

    def report(epoch: EpochReport, _: object) -> None:
        # Not by `ray.train.report`, which waits for the controller, that looks every two seconds.
        if rank == 0:
            teller.epoch(epoch)

    sampler = SystemSampler(with_gpu=share > 0)
    run_uri, attempt = config["run_uri"], config["attempt"]
    try:
        check_storage(run_uri, attempt)
        dataset = open_dataset(config["dataset_uri"])
        data = load_split(recipe, dataset)
        worker = Worker(
            rank=rank,
            world_size=context.get_world_size(),
            device=str(device),
            sample_system=sampler.sample,
            on_tick=teller.tick if rank == 0 else _ignore,
        )
        if data.sample is not None:
            stream = WindowStream(
                recipe,
                dataset,
                data,
                rank=rank,
                num_workers=worker.world_size,
                device=worker.device,
            )
            worker = replace(worker, stream=stream)
        checkpoints = Checkpoints(
            run_uri,
            identity_of(recipe, dataset),
            before_writing=lambda: check_newest(run_uri, attempt),
        )
        fit(recipe, data, worker=worker, on_epoch=report, checkpoints=checkpoints)
    except MotoricError as error:
        teller.error(error)
        raise
    finally:
        sampler.close()


def _ignore(_: object) -> None:
    return
