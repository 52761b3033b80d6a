"""Ray Train around the plain loop: workers that are replaced when they are lost, live progress.

In: a recipe and the URI of its dataset. Out: the weights to keep and the figures of each epoch.
Workers read the dataset and write checkpoints by URI alone, so they share nothing with the driver
but the storage.
"""

from __future__ import annotations

import logging
import signal
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray.train
import ray.train.torch
from ray.train.v2.api.config import FailureConfig, RunConfig, ScalingConfig

from motoric.core import storage
from motoric.core.errors import MotoricError, PlatformError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.training.attempt import begin_attempt, check_newest
from motoric.training.checkpoint import Checkpoint, Checkpoints, identity_of
from motoric.training.following import Followed, Listener, following
from motoric.training.progress import EpochReport, Tick
from motoric.training.ray_worker import StopOnUserErrors, train_worker
from motoric.training.recipe import Recipe
from motoric.training.room import check_cluster
from motoric.training.run import State
from motoric.training.strategies.crew import ServerLostError
from motoric.training.strategies.parameter_server import ParameterServer

logger = logging.getLogger(__name__)

OnEpoch = Callable[[EpochReport], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedRun:
    """What training leaves behind."""

    run_id: str
    weights: State
    epochs: tuple[EpochReport, ...]
    num_workers: int


def new_run_id(recipe: Recipe) -> str:
    """A name for one execution of a recipe."""
    return f"{recipe.name}-{uuid.uuid4().hex[:8]}"


def train(
    recipe: Recipe,
    *,
    dataset_uri: str,
    storage_uri: str,
    run_id: str,
    can_grow: bool,
    on_epoch: OnEpoch,
    on_tick: Callable[[Tick], None] = lambda _: None,
) -> TrainedRun:
    """Train on the Ray that this process is connected to.

    A run that has checkpoints goes on from the newest: one of this id that was stopped before, and
    this one where a worker or a node is lost.

    Args:
        recipe: The recipe.
        dataset_uri: Absolute URI of the dataset.
        storage_uri: The platform's storage; checkpoints go to `runs/` below it.
        run_id: From `new_run_id`, or of a run that was stopped.
        can_grow: Whether an autoscaler may add nodes; if not, a recipe that asks for more than
            there is is refused at once.
        on_epoch: Called in this process after each epoch, while training runs.
        on_tick: Called in this process every few seconds, while training runs.

    Raises:
        MotoricError: A user's error from a worker, as it was raised there.
        PlatformError: Training failed otherwise.
        KeyboardInterrupt: Ctrl-C; the workers have been ended.
    """
    check_cluster(recipe, recipe.resources.min_workers, can_grow=can_grow)
    run_uri = storage.join(storage_uri, "runs", run_id)
    checkpoints = Checkpoints(
        run_uri,
        identity_of(recipe, open_dataset(dataset_uri)),
        before_writing=lambda: check_newest(run_uri, attempt),
    )
    checkpoints.newest()  # refuses one of another recipe before workers are started
    attempt = begin_attempt(run_uri)
    listener = Listener(on_epoch=on_epoch, on_tick=on_tick)
    if recipe.strategy == "parameter_server":
        _run_servers(recipe, dataset_uri, checkpoints, listener)
    else:
        with following(listener) as followed:
            config = {
                "recipe": recipe.model_dump(mode="json"),
                "dataset_uri": dataset_uri,
                "run_uri": run_uri,
                "attempt": attempt,
                "progress": followed.queue,
            }
            _run(_trainer(recipe, storage_uri, run_id, config), run_id, followed, run_uri)
    name = checkpoints.newest()
    found = None if name is None else checkpoints.read(name)
    if found is None or not found.position.is_finished:
        raise PlatformError(f"training ended without its last checkpoint: {resume_hint(run_id)}")
    epochs = found.position.history
    return TrainedRun(
        run_id=run_id,
        weights=found.to_keep,
        epochs=epochs,
        num_workers=epochs[-1].num_workers,
    )


def _run_servers(
    recipe: Recipe, dataset_uri: str, checkpoints: Checkpoints, listener: Listener
) -> None:
    """The run without Ray Train, whose workers take every step together."""

    def keep(checkpoint: Checkpoint) -> None:
        checkpoints.save(checkpoint)
        listener.on_epoch(checkpoint.position.history[-1])

    for left in reversed(range(recipe.resources.max_restarts + 1)):
        name = checkpoints.newest()
        server = ParameterServer(
            recipe, dataset_uri=dataset_uri, on_checkpoint=keep, on_tick=listener.on_tick
        )
        try:
            server.run(None if name is None else checkpoints.read(name))
        except ServerLostError as error:
            checkpoints.wait()
            if left == 0:
                raise
            logger.warning("%s. The run goes on from its last checkpoint", error.message)
        else:
            checkpoints.wait()
            return


def resume_hint(run_id: str) -> str:
    """How a stopped run goes on, in words."""
    return f"`motoric train --resume {run_id}` goes on from the last checkpoint"


def _trainer(
    recipe: Recipe, storage_uri: str, run_id: str, config: dict[str, Any]
) -> ray.train.torch.TorchTrainer:
    resources = recipe.resources
    filesystem, path = storage.filesystem(storage.join(storage_uri, "runs"))
    filesystem.create_dir(path, recursive=True)
    # NCCL wants a card for each worker; those that share one talk over gloo.
    is_shared = 0 < resources.gpus_per_worker < 1 and resources.max_workers > 1
    return ray.train.torch.TorchTrainer(
        train_worker,
        train_loop_config=config,
        torch_config=ray.train.torch.TorchConfig(backend="gloo" if is_shared else None),
        scaling_config=ScalingConfig(
            num_workers=resources.num_workers,
            use_gpu=resources.gpus_per_worker > 0,
            resources_per_worker=resources.of_worker,
            elastic_resize_monitor_interval_s=resources.resize_interval_s,
        ),
        run_config=RunConfig(  # type: ignore[arg-type]
            name=run_id,
            storage_path=path,
            storage_filesystem=filesystem,
            failure_config=FailureConfig(max_failures=resources.max_restarts),
            callbacks=[StopOnUserErrors()],
        ),
    )


def _run(
    trainer: ray.train.torch.TorchTrainer, run_id: str, followed: Followed, run_uri: str
) -> None:
    """Run it to its end, and turn what Ray raises into errors that people read."""
    try:
        with _own_interrupt():
            trainer.fit()
    except MotoricError:
        raise
    except Exception as error:  # Ray wraps what workers raise in several classes
        if followed.errors:
            first = followed.errors[0]
            raise type(first)(
                f"{first.message} (checkpoints, if there are any, lie in {run_uri})"
            ) from error
        if "OutOfMemory" in str(error):
            raise RecipeError(
                "Ray ended a worker because its node ran out of memory: lower train.batch_size,"
                " clip.height, clip.width or clip.num_frames, or resources.num_workers"
            ) from error
        raise PlatformError(f"training failed: {error}. {resume_hint(run_id)}") from error


@contextmanager
def _own_interrupt() -> Iterator[None]:
    """Ctrl-C stays what it is in Python: Ray Train ends the run, and then the process."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stopped:
        raise KeyboardInterrupt from stopped
    finally:
        signal.signal(signal.SIGINT, before)
