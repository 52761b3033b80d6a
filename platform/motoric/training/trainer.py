"""Ray Train around the plain loop: workers, data-parallel gradients, checkpoints, live progress.

In: a recipe and the URI of its dataset. Out: the weights to keep and the figures of each epoch.
Workers read the dataset and write checkpoints by URI alone, so they share nothing with the driver
but the storage.
"""

from __future__ import annotations

import json
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
import ray.train
import ray.train.torch
from ray.util.queue import Empty, Queue
from safetensors.torch import load_file, save_file

from motoric.core import storage
from motoric.core.errors import MotoricError, PlatformError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.training.loop import fit
from motoric.training.partition import load_split
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.run import State, Worker
from motoric.training.system import SystemSampler

_WEIGHTS, _EPOCHS = "weights.safetensors", "epochs.json"

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
) -> TrainedRun:
    """Train on the Ray that this process is connected to.

    Args:
        recipe: The recipe.
        dataset_uri: Absolute URI of the dataset.
        storage_uri: The platform's storage; checkpoints go to `runs/` below it.
        run_id: From `new_run_id`.
        can_grow: Whether an autoscaler may add nodes; if not, a recipe that asks for more than
            there is is refused at once.
        on_epoch: Called in this process after each epoch, while training runs.

    Raises:
        MotoricError: A user's error from a worker, as it was raised there.
        PlatformError: Training failed otherwise.
    """
    needed = recipe.resources
    if not can_grow:
        check_cluster(recipe, recipe.resources.num_workers)
    per_worker = recipe.resources.of_worker
    filesystem, path = storage.filesystem(storage.join(storage_uri, "runs"))
    filesystem.create_dir(path, recursive=True)
    progress: Queue = Queue(actor_options={"num_cpus": 0})
    trainer = ray.train.torch.TorchTrainer(
        _worker_loop,
        train_loop_config={
            "recipe": recipe.model_dump(mode="json"),
            "dataset_uri": dataset_uri,
            "progress": progress,
        },
        scaling_config=ray.train.ScalingConfig(
            num_workers=needed.num_workers,
            use_gpu=needed.gpus_per_worker > 0,
            resources_per_worker=per_worker,
        ),
        run_config=ray.train.RunConfig(
            name=run_id,
            storage_path=path,
            storage_filesystem=filesystem,
            checkpoint_config=ray.train.CheckpointConfig(num_to_keep=2),
        ),
    )
    errors: list[str] = []
    try:
        with _follow(progress, on_epoch, errors):
            result = trainer.fit()
    except MotoricError:
        raise
    except Exception as error:  # Ray wraps what workers raise in several classes
        _raise_user_error(errors, storage.join(storage_uri, "runs", run_id))
        if "OutOfMemory" in str(error):
            raise RecipeError(
                "Ray ended a worker because its node ran out of memory: lower train.batch_size,"
                " clip.height, clip.width or clip.num_frames, or resources.num_workers"
            ) from error
        raise PlatformError(f"training failed: {error}") from error
    finally:
        progress.shutdown(force=True)
    if result.checkpoint is None:
        raise PlatformError("training ended without a checkpoint")
    with result.checkpoint.as_directory() as folder:
        weights = load_file(Path(folder) / _WEIGHTS)
        rows = json.loads((Path(folder) / _EPOCHS).read_text())
    return TrainedRun(
        run_id=run_id,
        weights=weights,
        epochs=tuple(EpochReport(**row) for row in rows),
        num_workers=needed.num_workers,
    )


def check_cluster(recipe: Recipe, num_workers: int) -> None:
    """Refuse a recipe that no node of a fixed cluster can carry, instead of waiting for ever."""
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for name, amount in recipe.resources.of_worker.items():
        needed, there = amount * num_workers, total.get(name, 0.0)
        if needed > there:
            raise RecipeError(
                f"resources: {num_workers} worker(s) need {needed:g} {name}, the"
                f" cluster has {there:g}: lower resources.num_workers, or grow the cluster"
            )


@contextmanager
def _follow(progress: Queue, on_epoch: OnEpoch, errors: list[str]) -> Iterator[None]:
    """Hand what workers put on the queue to `on_epoch`, in this process."""
    done = threading.Event()
    failures: list[Exception] = []

    def watch() -> None:
        try:
            drain()
        except Exception as error:  # noqa: BLE001 - raised again below, in the caller's thread
            failures.append(error)

    def drain() -> None:
        while True:
            try:
                kind, content = progress.get(timeout=0.2)
            except Empty:
                if done.is_set():
                    return
                continue
            if kind == "epoch":
                on_epoch(EpochReport(**content))
            else:
                errors.append(content)

    thread = threading.Thread(target=watch, name="motoric-train-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(timeout=10)
    if failures:
        raise failures[0]


def _raise_user_error(errors: list[str], folder_uri: str) -> None:
    if errors:
        raise RecipeError(f"{errors[0]} (checkpoints, if there are any, lie in {folder_uri})")


def _worker_loop(config: dict[str, Any]) -> None:
    """What each training worker runs."""
    import torch

    context = ray.train.get_context()
    rank, world_size = context.get_world_rank(), context.get_world_size()
    recipe = Recipe.model_validate(config["recipe"])
    progress: Queue = config["progress"]
    device = ray.train.torch.get_device()
    torch.set_num_threads(max(1, int(recipe.resources.cpus_per_worker)))
    history: list[EpochReport] = []

    def report(epoch: EpochReport, weights: State) -> None:
        history.append(epoch)
        if rank != 0:
            ray.train.report(asdict(epoch))
            return
        progress.put(("epoch", asdict(epoch)))
        with tempfile.TemporaryDirectory() as folder:
            save_file(weights, Path(folder) / _WEIGHTS)
            rows = json.dumps([asdict(row) for row in history])
            (Path(folder) / _EPOCHS).write_text(rows)
            ray.train.report(asdict(epoch), checkpoint=ray.train.Checkpoint.from_directory(folder))

    sampler = SystemSampler(with_gpu=recipe.resources.gpus_per_worker > 0)
    try:
        data = load_split(recipe, open_dataset(config["dataset_uri"]))
        worker = Worker(
            rank=rank,
            world_size=world_size,
            device=str(device),
            wrap=ray.train.torch.prepare_model,
            sample_system=sampler.sample,
        )
        fit(recipe, data, worker=worker, on_epoch=report)
    except MotoricError as error:
        progress.put(("error", error.message))
        raise
    finally:
        sampler.close()
