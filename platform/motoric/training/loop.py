"""The training loop in plain torch: one worker's part of it, without Ray.

In: windows, a recipe, a rank. Out: the weights to keep, and one `EpochReport` an epoch.
Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import cross_entropy

from motoric.artefact.preprocessing import prepare
from motoric.core.errors import RecipeError
from motoric.data.windows import WindowSet
from motoric.models.catalogue import build_model, parse_config
from motoric.training.augmentation import perturb, rotate_raw
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.sampler import epoch_indices
from motoric.training.windows import SplitWindows

_EVALUATION_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """Which worker this is; `wrap` makes a network data-parallel and moves it to its device."""

    rank: int = 0
    world_size: int = 1
    device: str = "cpu"
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network


State = dict[str, Tensor]
OnEpoch = Callable[[EpochReport, State], None]


def make_network(recipe: Recipe, data: SplitWindows) -> nn.Module:
    """The network of a recipe, with weights that follow from its seed alone."""
    torch.manual_seed(recipe.train.seed)
    return build_model(
        parse_config(recipe.model),
        num_channels=data.signature.num_prepared_channels,
        num_classes=len(data.signature.classes),
    )


def fit(recipe: Recipe, data: SplitWindows, *, worker: Worker, on_epoch: OnEpoch) -> State:
    """Train; return the weights of the epoch that `stopping.keep` asks for.

    Args:
        recipe: The recipe.
        data: Windows and signature.
        worker: This worker.
        on_epoch: Called after each epoch with its figures and the weights to keep so far.

    Raises:
        RecipeError: The loss is no longer finite, or `rotation_deg` does not fit the channels.
    """
    _check(recipe, data)
    network = make_network(recipe, data).to(worker.device)
    parallel = worker.wrap(network)
    optimiser = torch.optim.AdamW(
        parallel.parameters(),
        lr=recipe.optimiser.learning_rate,
        weight_decay=recipe.optimiser.weight_decay,
    )
    batch = max(1, recipe.train.batch_size // worker.world_size)
    steps = math.ceil(math.ceil(len(data.train) / worker.world_size) / batch)
    scheduler = _scheduler(recipe, optimiser, steps * recipe.train.epochs)
    kept, best_loss, stale = _weights(network), math.inf, 0
    for epoch in range(recipe.train.epochs):
        started_s = time.perf_counter()
        train_loss = _train_epoch(
            parallel, optimiser, scheduler, recipe, data, worker=worker, epoch=epoch, batch=batch
        )
        elapsed_s = time.perf_counter() - started_s
        logits_BK = logits_of(network, data.validation, data, worker.device)
        validation_loss, accuracy = _score(logits_BK, data.validation)
        validation_loss = _of_first_worker(validation_loss, worker.device)
        improved = validation_loss < best_loss
        best_loss, stale = (validation_loss, 0) if improved else (best_loss, stale + 1)
        if improved or recipe.stopping.keep == "last":
            kept = _weights(network)
        report = EpochReport(
            epoch=epoch,
            train_loss=train_loss,
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
            learning_rate=float(optimiser.param_groups[0]["lr"]),
            windows_per_s=len(data.train) / elapsed_s,
            is_best=improved,
        )
        on_epoch(report, kept)
        if recipe.stopping.patience is not None and stale >= recipe.stopping.patience:
            break
    return kept


def _check(recipe: Recipe, data: SplitWindows) -> None:
    channels = data.signature.sensors.num_channels
    if recipe.augmentation.rotation_deg > 0 and channels % 3:
        raise RecipeError(
            "augmentation.rotation_deg needs (x, y, z) triples, but the stream has"
            f" {channels} channels"
        )


def _scheduler(
    recipe: Recipe, optimiser: torch.optim.Optimizer, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule.name == "one_cycle" and total_steps > 1:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=recipe.optimiser.learning_rate, total_steps=total_steps
        )
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)


def _train_epoch(
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    scheduler: torch.optim.lr_scheduler.LRScheduler,
    recipe: Recipe,
    data: SplitWindows,
    *,
    worker: Worker,
    epoch: int,
    batch: int,
) -> float:
    """One pass over this worker's windows; returns the mean loss."""
    network.train()
    indices = epoch_indices(
        len(data.train),
        seed=recipe.train.seed,
        epoch=epoch,
        rank=worker.rank,
        world_size=worker.world_size,
    )
    generator = torch.Generator().manual_seed(
        int(np.random.SeedSequence([recipe.train.seed, epoch, worker.rank]).generate_state(1)[0])
    )
    losses = []
    for first in range(0, len(indices), batch):
        chosen = indices[first : first + batch]
        inputs_BTC = _batch(recipe, data, chosen, generator).to(worker.device)
        labels_B = torch.from_numpy(data.train.labels_B[chosen]).to(worker.device)
        loss = cross_entropy(
            network(inputs_BTC), labels_B, label_smoothing=recipe.train.label_smoothing
        )
        if not torch.isfinite(loss):
            raise RecipeError(
                f"the loss is {loss.item()} in epoch {epoch}, step {first // batch}: lower"
                f" optimiser.learning_rate (now {recipe.optimiser.learning_rate:g})"
            )
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), recipe.optimiser.max_grad_norm)
        optimiser.step()
        scheduler.step()
        losses.append(loss.item())
    return float(np.mean(losses))


def _batch(
    recipe: Recipe, data: SplitWindows, chosen: np.ndarray, generator: torch.Generator
) -> Tensor:
    raw_BTC = torch.from_numpy(data.train.windows_BTC[chosen])
    if recipe.augmentation.rotation_deg > 0:
        raw_BTC = rotate_raw(raw_BTC, recipe.augmentation.rotation_deg, generator)
    prepared_BTC = _prepared(raw_BTC.numpy(), data)
    return perturb(prepared_BTC, recipe.augmentation, generator)


def _prepared(raw_BTC: np.ndarray, data: SplitWindows) -> Tensor:
    signature = data.signature
    return torch.from_numpy(prepare(raw_BTC, signature.preprocessing, signature.sensors))


def logits_of(network: nn.Module, windows: WindowSet, data: SplitWindows, device: str) -> Tensor:
    """Logits of all windows, shape (B, num_classes), on the CPU."""
    network.eval()
    parts = []
    with torch.no_grad():
        for first in range(0, len(windows), _EVALUATION_BATCH):
            raw_BTC = windows.windows_BTC[first : first + _EVALUATION_BATCH]
            prepared_BTC = _prepared(raw_BTC, data)
            parts.append(network(prepared_BTC.to(device)).cpu())
    return torch.cat(parts)


def _score(logits_BK: Tensor, windows: WindowSet) -> tuple[float, float]:
    labels_B = torch.from_numpy(windows.labels_B)
    accuracy = (logits_BK.argmax(dim=1) == labels_B).float().mean().item()
    return cross_entropy(logits_BK, labels_B).item(), accuracy


def _of_first_worker(value: float, device: str) -> float:
    """The value that the first worker has, so that all come to the same decisions.

    Weights are equal on all workers, but the running statistics of normalisation layers are not.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.broadcast(shared, src=0)
    return float(shared.item())


def _weights(network: nn.Module) -> State:
    return {
        name: copy.deepcopy(value.detach().cpu()) for name, value in network.state_dict().items()
    }
