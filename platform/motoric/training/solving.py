"""Fitting a network whose head is solved instead of descended to.

Axes: B examples, N training examples of all passes, F features, K outputs.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from motoric.core.errors import RecipeError
from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.heads import ValueHead
from motoric.models.late_fusion import LateFusion
from motoric.training.augmentation import SensorAugmentation
from motoric.training.examples import SENSORS
from motoric.training.memory import batches_that_fit
from motoric.training.recipe import Recipe
from motoric.training.run import EVALUATION_BATCH, OnEpoch, Run, State, chunks_of, weights_of
from motoric.training.sampler import epoch_indices

logger = logging.getLogger(__name__)


def num_passes(recipe: Recipe) -> int:
    """Passes over the training examples: without augmentation a second would see the same again."""
    return recipe.train.epochs if recipe.augmentation != SensorAugmentation() else 1


def solve(run: Run, network: ClosedFormNetwork, on_epoch: OnEpoch) -> State:
    """Fit a network whose head is solved: an epoch is a pass with augmentation of its own.

    The first pass sees the examples as they are, so that without augmentation one is enough.
    """
    recipe = run.recipe
    if run.worker.world_size > 1:
        raise RecipeError(
            f"model {recipe.model['name']!r} is solved by one worker: set resources.num_workers to"
            f" 1 (now {run.worker.world_size})"
        )
    if recipe.train.class_weights != "none" or recipe.train.label_smoothing > 0:
        logger.warning(
            "model %r is solved, not descended to: train.class_weights and train.label_smoothing"
            " change nothing",
            recipe.model["name"],
        )
    started_s = time.perf_counter()
    train = run.data.train
    _fit(run, network)
    loss = run.mean_loss(train)
    elapsed_s = time.perf_counter() - started_s
    report = run.report(0, loss, 0.0, len(train) * num_passes(recipe) / elapsed_s)
    kept = weights_of(network)
    on_epoch(report, kept)
    return kept


def solve_sensors(run: Run, network: LateFusion) -> None:
    """Fit a late fusion's network of sensors, where it is one that is solved; it then stays."""
    if not isinstance(network.sensors, ClosedFormNetwork):
        return
    recipe, data = run.recipe, run.data
    assert data.signature.sensor_input is not None
    # Without the clips: they need not fit the memory.
    alone = replace(data.train, clips_BTHWC=None).take(data.train.present_B2[:, SENSORS])
    sensors_run = Run(
        recipe=recipe.model_copy(
            update={
                "model": recipe.model["sensors"],
                "clip": None,
                "train": recipe.train.model_copy(
                    update={"epochs": network.passes, "mixup_alpha": 0.0}
                ),
            }
        ),
        data=replace(
            data,
            train=alone,
            signature=data.signature.model_copy(update={"inputs": (data.signature.sensor_input,)}),
        ),
        worker=run.worker,
        network=network.sensors,
    )
    _fit(sensors_run, network.sensors)
    for parameter in network.sensors.parameters():
        parameter.requires_grad_(False)


def _fit(run: Run, network: ClosedFormNetwork) -> None:
    recipe, train = run.recipe, run.data.train
    features: list[Tensor] = []
    targets: list[Tensor] = []
    groups: list[Tensor] = []
    subject_B = np.unique(train.subjects, return_inverse=True)[1]
    network.eval()
    with torch.no_grad():
        for epoch in range(num_passes(recipe)):
            generator = run.generator(epoch)
            for chosen in chunks_of(train, recipe):
                with batches_that_fit(len(chosen), run.worker.device):
                    batch = (
                        run.batches.plain(train, chosen)
                        if epoch == 0
                        else run.batches.training(train, chosen, generator)
                    )
                    if not features:
                        order = epoch_indices(
                            len(train), seed=recipe.train.seed, epoch=0, rank=0, world_size=1
                        )
                        sample = np.sort(order[:EVALUATION_BATCH])
                        windows = run.batches.plain(train, sample).inputs[0]
                        network.initialise(windows, generator)
                    features.append(network.features(batch.inputs[0]))
                targets.append(batch.targets_B)
                groups.append(torch.from_numpy(subject_B[chosen]))
                run.limit.check(f"pass {epoch}")
        # The penalty is chosen by leaving whole people out, as new people will be.
        network.solve(
            torch.cat(features),
            _solved_targets(run, torch.cat(targets)),
            groups_N=torch.cat(groups) if len(set(train.subjects)) > 1 else None,
        )


def _solved_targets(run: Run, targets_B: Tensor) -> Tensor:
    if run.objective.is_classes:
        return targets_B
    head = run.objective.head
    assert isinstance(head, ValueHead)
    return (targets_B[:, None] - head.mean) / head.std
