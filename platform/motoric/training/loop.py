"""The training loop in plain torch: one worker's part of it, without Ray.

In: examples, a recipe, a rank. Out: the weights to keep, and one `EpochReport` an epoch.
Axes: B examples, F features, K outputs.
"""

from __future__ import annotations

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
from motoric.training.checkpoint import Checkpoint, Checkpoints, Position
from motoric.training.descent import descend
from motoric.training.examples import Examples, SplitExamples
from motoric.training.input_config import ChannelTarget
from motoric.training.objective import Objective, num_outputs, target_channel
from motoric.training.progress import EpochReport
from motoric.training.recipe import Recipe
from motoric.training.run import OnEpoch, Run, State, Worker, chunks_of
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


def fit(
    recipe: Recipe,
    data: SplitExamples,
    *,
    worker: Worker,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> State:
    """Train; return the weights of the epoch that `stopping.keep` asks for.

    Args:
        recipe: The recipe.
        data: Examples and signature.
        worker: This worker.
        on_epoch: Called after each epoch with its figures and the weights to keep so far.
        checkpoints: Where the run's state is kept, by its first worker, and where it goes on from.

    Raises:
        RecipeError: The loss is no longer finite, a batch does not fit the memory, or the recipe
            does not fit the data.
        CheckpointError: No checkpoint can be read, or it is of another recipe or other data.
        PlatformError: A checkpoint cannot be written.
    """
    network = make_network(recipe, data).to(worker.device)
    run = Run(recipe=recipe, data=data, worker=worker, network=network)
    if isinstance(network, ClosedFormNetwork):
        if checkpoints is None or worker.world_size > 1:
            return solve(run, network, on_epoch)
        return _solved(run, network, on_epoch, checkpoints)
    if isinstance(network, LateFusion):
        solve_sensors(run, network)
    return descend(run, on_epoch, checkpoints)


def _solved(run: Run, network: ClosedFormNetwork, on_epoch: OnEpoch, kept: Checkpoints) -> State:
    """Solve, unless a run that is continued had done so."""
    name = kept.newest()
    if name is not None:
        return kept.read(name).to_keep
    reports: list[EpochReport] = []
    weights = solve(run, network, lambda report, _: reports.append(report))
    position = Position(epoch=1, is_finished=True, history=tuple(reports))
    kept.save(Checkpoint(position=position, weights=weights))
    kept.wait()
    on_epoch(reports[0], weights)
    return weights


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
