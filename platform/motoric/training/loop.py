"""The training loop in plain torch: one worker's part of it, without Ray.

In: examples, a recipe, a rank. Out: the weights to keep, and one `EpochReport` an epoch.
Axes: B examples, F features, K outputs.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from motoric.artefact.signature import QuantilesOutput
from motoric.core.errors import RecipeError
from motoric.models.catalogue import build_model, parse_config
from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.heads import RelativeInput
from motoric.models.late_fusion import LateFusion
from motoric.models.weights import load_weights
from motoric.training.batches import Batches, input_shapes
from motoric.training.examples import Examples, SplitExamples
from motoric.training.input_config import ChannelTarget
from motoric.training.memory import batches_that_fit
from motoric.training.objective import Objective, num_outputs, target_channel
from motoric.training.recipe import Recipe
from motoric.training.run import OnEpoch, Run, State, Worker, chunks_of, diverged, weights_of
from motoric.training.solving import solve, solve_sensors


def make_network(recipe: Recipe, data: SplitExamples) -> nn.Module:
    """The network of a recipe, with weights that follow from its seed alone.

    Raises:
        RecipeError: Its settings do not fit the inputs, or `initial_weights` does not fit it.
    """
    torch.manual_seed(recipe.train.seed)
    network = build_model(parse_config(recipe.model), input_shapes(data), num_outputs(data))
    if recipe.initial_weights is not None:
        load_weights(network, recipe.initial_weights)
    target, output = recipe.target, data.signature.output
    if not isinstance(output, QuantilesOutput):
        return network
    if isinstance(network, ClosedFormNetwork):
        raise RecipeError(
            f"model {recipe.model['name']!r} gives no quantiles: choose another for a forecast"
        )
    if isinstance(target, ChannelTarget) and target.relative:
        network = RelativeInput(
            network,
            channel=target_channel(data.signature, output),
            num_channels=data.signature.num_prepared_channels,
        )
    return network


def fit(recipe: Recipe, data: SplitExamples, *, worker: Worker, on_epoch: OnEpoch) -> State:
    """Train; return the weights of the epoch that `stopping.keep` asks for.

    Args:
        recipe: The recipe.
        data: Examples and signature.
        worker: This worker.
        on_epoch: Called after each epoch with its figures and the weights to keep so far.

    Raises:
        RecipeError: The loss is no longer finite, a batch does not fit the memory, or the recipe
            does not fit the data.
    """
    network = make_network(recipe, data).to(worker.device)
    run = Run(recipe=recipe, data=data, worker=worker, network=network)
    if isinstance(network, ClosedFormNetwork):
        return solve(run, network, on_epoch)
    if isinstance(network, LateFusion):
        solve_sensors(run, network)
    return _descend(run, on_epoch)


def _descend(run: Run, on_epoch: OnEpoch) -> State:
    """Gradient descent."""
    recipe, worker = run.recipe, run.worker
    parallel = worker.wrap(run.network)
    optimiser = torch.optim.AdamW(
        parallel.parameters(),
        lr=recipe.optimiser.learning_rate,
        weight_decay=recipe.optimiser.weight_decay,
    )
    batch = max(1, recipe.train.batch_size // worker.world_size)
    steps = math.ceil(math.ceil(len(run.data.train) / worker.world_size) / batch)
    scheduler = _scheduler(recipe, optimiser, steps * recipe.train.epochs)
    steppers = _Steppers(parallel=parallel, optimiser=optimiser, scheduler=scheduler, batch=batch)
    kept = weights_of(run.network)
    for epoch in range(recipe.train.epochs):
        started_s = time.perf_counter()
        train_loss = _train_epoch(run, steppers, epoch)
        elapsed_s = time.perf_counter() - started_s
        learning_rate = float(optimiser.param_groups[0]["lr"])
        report = run.report(epoch, train_loss, learning_rate, len(run.data.train) / elapsed_s)
        if report.is_best or recipe.stopping.keep == "last":
            kept = weights_of(run.network)
        on_epoch(report, kept)
        if recipe.stopping.patience is not None and run.stale >= recipe.stopping.patience:
            break
    return kept


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steppers:
    parallel: nn.Module
    optimiser: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    batch: int


def _scheduler(
    recipe: Recipe, optimiser: torch.optim.Optimizer, total_steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if recipe.schedule.name == "one_cycle" and total_steps > 1:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=recipe.optimiser.learning_rate, total_steps=total_steps
        )
    return torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)


def _train_epoch(run: Run, steppers: _Steppers, epoch: int) -> float:
    """One pass over this worker's examples; returns the mean loss."""
    run.network.train()
    indices, generator = run.indices(epoch), run.generator(epoch)
    losses = []
    for step, first in enumerate(range(0, len(indices), steppers.batch)):
        chosen = indices[first : first + steppers.batch]
        with batches_that_fit(len(chosen), run.worker.device):
            losses.append(_step(run, steppers, chosen, generator, place=(epoch, step)))
        if step == 0:
            run.limit.check(f"step {step} of epoch {epoch}")
    run.limit.check(f"epoch {epoch}")
    # The last step may have spoilt what its own loss did not show yet.
    if not all(bool(item.isfinite().all()) for item in run.network.parameters()):
        raise diverged(run, math.nan, f"epoch {epoch}, step {len(losses) - 1}", epoch)
    return float(np.mean(losses))


def _step(
    run: Run,
    steppers: _Steppers,
    chosen: NDArray[np.int64],
    generator: torch.Generator,
    *,
    place: tuple[int, int],
) -> float:
    """One step of the optimiser; returns the loss."""
    batch = run.batches.training(run.data.train, chosen, generator)
    outputs = steppers.parallel(*batch.inputs)
    loss = run.objective.loss(outputs, batch.targets_B)
    if batch.others_B is not None:
        other = run.objective.loss(outputs, batch.others_B)
        loss = batch.share * loss + (1 - batch.share) * other
    value = loss.item()
    if not math.isfinite(value):
        raise diverged(run, value, f"epoch {place[0]}, step {place[1]}", place[0])
    steppers.optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(steppers.parallel.parameters(), run.recipe.optimiser.max_grad_norm)
    steppers.optimiser.step()
    steppers.scheduler.step()
    return value


def predict_examples(
    network: nn.Module, recipe: Recipe, data: SplitExamples, examples: Examples, device: str = "cpu"
) -> NDArray[np.float32]:
    """Probabilities, values or quantiles of examples, shape (B, K)."""
    batches, objective = Batches(recipe, data, device), Objective(recipe, data)
    network.eval()
    parts = []
    with torch.no_grad():
        for chosen in chunks_of(examples, recipe):
            batch = batches.plain(examples, chosen)
            parts.append(objective.head(network(*batch.inputs), batch.windows_BTC).cpu())
    predicted_BK: NDArray[np.float32] = torch.cat(parts).numpy()
    return predicted_BK
