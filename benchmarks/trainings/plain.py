"""The same training as a person would write it in plain torch: arrays in memory, and a loop.

It takes the network, the augmentation and the optimiser of a recipe, and nothing of Motoric's loop.
Axes: N examples in all, B of a batch, T samples or frames, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.nn.utils import clip_grad_norm_

from motoric.models.catalogue import build_model, parse_config
from motoric.training.augmentation import augment_prepared, augment_raw
from motoric.training.batches import input_shapes
from motoric.training.clip_augmentation import augment_clips
from motoric.training.examples import SplitExamples
from motoric.training.recipe import Recipe


def epochs(recipe: Recipe, data: SplitExamples) -> Iterator[int]:
    """Train; stops after each epoch, with how many examples it had."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    classes, train = data.train.classes, recipe.train
    network = build_model(parse_config(recipe.model), input_shapes(data), len(classes))
    optimiser = torch.optim.AdamW(
        network.parameters(),
        lr=recipe.optimiser.learning_rate,
        weight_decay=recipe.optimiser.weight_decay,
    )
    num = len(data.train)
    steps = train.epochs * -(-num // train.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=recipe.optimiser.learning_rate, total_steps=steps
    )
    load: Callable[[Tensor], Tensor] = (
        _Clips(recipe, data, generator) if recipe.clip else _Windows(recipe, data, generator)
    )
    targets_B = torch.from_numpy(data.train.targets_B)
    network.train()
    for _ in range(train.epochs):
        losses = []
        order_N = torch.randperm(num, generator=generator)
        for chosen in torch.split(order_N, train.batch_size):
            inputs, wanted_B = load(chosen), targets_B[chosen]
            if train.mixup_alpha > 0:
                share = float(np.random.beta(train.mixup_alpha, train.mixup_alpha))  # noqa: NPY002
                order_B = torch.randperm(len(chosen), generator=generator)
                outputs_BK = network(share * inputs + (1 - share) * inputs[order_B])
                loss = share * cross_entropy(
                    outputs_BK, wanted_B, label_smoothing=train.label_smoothing
                ) + (1 - share) * cross_entropy(
                    outputs_BK, wanted_B[order_B], label_smoothing=train.label_smoothing
                )
            else:
                outputs_BK = network(inputs)
                loss = cross_entropy(outputs_BK, wanted_B, label_smoothing=train.label_smoothing)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            clip_grad_norm_(network.parameters(), recipe.optimiser.max_grad_norm)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        if not np.isfinite(np.mean(losses)):
            raise ArithmeticError("the loss is no longer finite")
        yield num


class _Windows:
    """Sensor windows of a batch."""

    def __init__(self, recipe: Recipe, data: SplitExamples, generator: torch.Generator) -> None:
        assert data.train.windows_BTC is not None
        assert not recipe.preprocessing.steps
        normaliser = data.signature.preprocessing.normaliser
        assert normaliser is not None
        self._windows_BTC = torch.from_numpy(data.train.windows_BTC)
        self._mean_C, self._std_C = torch.tensor(normaliser.mean), torch.tensor(normaliser.std)
        self._channels = [item.name for item in data.signature.sensors.channels]
        self._rate_hz = data.signature.sensors.rate_hz
        self._config, self._generator = recipe.augmentation, generator

    def __call__(self, chosen: Tensor) -> Tensor:
        windows_BTC = augment_raw(
            self._windows_BTC[chosen],
            self._config,
            self._channels,
            self._rate_hz,
            self._generator,
        )
        prepared_BTC = (windows_BTC - self._mean_C) / self._std_C
        return augment_prepared(
            prepared_BTC, self._config, self._generator, channels=self._channels
        )


class _Clips:
    """Clips of a batch."""

    def __init__(self, recipe: Recipe, data: SplitExamples, generator: torch.Generator) -> None:
        assert data.train.clips_BTHWC is not None
        normaliser = data.signature.preprocessing.clip_normaliser
        assert normaliser is not None
        self._clips_BTHWC = torch.from_numpy(data.train.clips_BTHWC)
        self._mean_C, self._std_C = torch.tensor(normaliser.mean), torch.tensor(normaliser.std)
        self._classes = data.train.classes
        self._config, self._generator = recipe.clip_augmentation, generator

    def __call__(self, chosen: Tensor) -> Tensor:
        clips_BTHWC, _ = augment_clips(
            self._clips_BTHWC[chosen], chosen, self._config, self._classes, self._generator
        )
        return (clips_BTHWC.float() / 255 - self._mean_C) / self._std_C
