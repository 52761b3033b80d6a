"""Batches: examples as the network sees them, augmented where they train.

Axes: B examples, T samples or frames, C channels, H height, W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from motoric.artefact.preprocessing import prepare
from motoric.artefact.signature import output_channels
from motoric.models.shapes import ClipShape, InputShapes, SensorShape
from motoric.training.augmentation import augment_prepared, augment_raw, check_augmentation
from motoric.training.clip_augmentation import augment_clips, check_clip_augmentation
from motoric.training.examples import Examples, SplitExamples
from motoric.training.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Inputs of a network in the order of its `forward`, on its device, and the targets.

    Attributes:
        inputs: The tensors.
        targets_B: Of each example; of a forecast, the change from its last value, which the
            augmentation of the window does not touch.
        others_B: Of the examples that are mixed in; None where none are.
        share: What is left of each example where another is mixed in.
    """

    inputs: tuple[Tensor, ...]
    targets_B: Tensor
    others_B: Tensor | None = None
    share: float = 1.0

    @property
    def windows_BTC(self) -> Tensor | None:
        """Prepared windows, which stand first where there are some."""
        return self.inputs[0] if self.inputs[0].ndim == 3 else None

    @property
    def present_B2(self) -> Tensor | None:
        """Which of two inputs each example has, where the network takes two."""
        return self.inputs[2] if len(self.inputs) > 2 else None


def input_shapes(data: SplitExamples) -> InputShapes:
    """What the network is given."""
    signature = data.signature
    sensors, clip = signature.sensor_input, signature.clip_input
    return InputShapes(
        sensors=None
        if sensors is None
        else SensorShape(
            num_samples=sensors.num_samples,
            num_channels=signature.num_prepared_channels,
            rate_hz=sensors.rate_hz,
        ),
        clip=None
        if clip is None
        else ClipShape(
            num_frames=clip.num_frames,
            height=clip.height,
            width=clip.width,
            num_channels=clip.num_channels,
        ),
    )


class Batches:
    """Makes batches of one recipe's examples.

    Args:
        recipe: Its augmentation.
        data: Its signature holds the preprocessing.
        device: Where batches go.

    Raises:
        RecipeError: An augmentation does not fit the channels or the labels.
    """

    def __init__(self, recipe: Recipe, data: SplitExamples, device: str = "cpu") -> None:
        self._recipe = recipe
        self._signature = data.signature
        self._device = device
        self._channels: list[str] = []
        self._prepared_channels: list[str] = []
        sensors = data.signature.sensor_input
        if sensors is not None:
            self._channels = [item.name for item in sensors.channels]
            steps = data.signature.preprocessing.steps
            self._prepared_channels = [
                item.name for item in output_channels(sensors.channels, steps)
            ]
            check_augmentation(
                recipe.augmentation,
                self._channels,
                rate_hz=sensors.rate_hz,
                num_samples=sensors.num_input_samples,
            )
        if data.signature.clip_input is not None:
            check_clip_augmentation(
                recipe.clip_augmentation, data.train.classes, has_sensors=sensors is not None
            )
        normaliser = data.signature.preprocessing.clip_normaliser
        mean, std = (normaliser.mean, normaliser.std) if normaliser else ((0.0,), (1.0,))
        self._clip_mean_C = torch.tensor(mean, device=device)
        self._clip_std_C = torch.tensor(std, device=device)

    def training(
        self, examples: Examples, chosen: NDArray[np.int64], generator: torch.Generator
    ) -> Batch:
        """Augmented examples; the generator is the only source of randomness."""
        batch = self._batch(examples, chosen, generator)
        alpha = self._recipe.train.mixup_alpha
        return batch if alpha == 0 else mix(batch, alpha, generator)

    def plain(self, examples: Examples, chosen: NDArray[np.int64]) -> Batch:
        """Examples as a predictor sees them."""
        return self._batch(examples, chosen, None)

    def _batch(
        self, examples: Examples, chosen: NDArray[np.int64], generator: torch.Generator | None
    ) -> Batch:
        inputs = []
        targets_B = torch.from_numpy(examples.targets_B[chosen])
        if examples.persistence_B is not None:
            targets_B = targets_B - torch.from_numpy(examples.persistence_B[chosen])
        if examples.windows_BTC is not None:
            inputs.append(self._windows(examples.windows_BTC[chosen], generator))
        if examples.clips_BTHWC is not None:
            clips_BTHWC = torch.from_numpy(examples.clips_BTHWC[chosen])
            if generator is not None:
                clips_BTHWC, targets_B = augment_clips(
                    clips_BTHWC,
                    targets_B,
                    self._recipe.clip_augmentation,
                    examples.classes,
                    generator,
                )
            inputs.append(self._normalised(clips_BTHWC.to(self._device)))
        inputs = [item.to(self._device) for item in inputs]
        if len(inputs) == 2:
            present_B2 = torch.from_numpy(examples.present_B2[chosen].astype(np.float32))
            present_B2 = present_B2.to(self._device)
            inputs[0] = inputs[0] * present_B2[:, 0, None, None]
            inputs[1] = inputs[1] * present_B2[:, 1, None, None, None, None]
            inputs.append(present_B2)
        return Batch(
            inputs=tuple(inputs),
            targets_B=targets_B.to(self._device),
        )

    def _windows(self, raw_BTC: NDArray[np.float32], generator: torch.Generator | None) -> Tensor:
        sensors, preprocessing = self._signature.sensors, self._signature.preprocessing
        config = self._recipe.augmentation
        if generator is not None:
            raw_BTC = augment_raw(
                torch.from_numpy(raw_BTC), config, self._channels, sensors.rate_hz, generator
            ).numpy()
        prepared_BTC = torch.from_numpy(prepare(raw_BTC, preprocessing, sensors))
        if generator is None:
            return prepared_BTC
        return augment_prepared(prepared_BTC, config, generator, channels=self._prepared_channels)

    def _normalised(self, clips_BTHWC: Tensor) -> Tensor:
        return normalise_clips(clips_BTHWC, self._clip_mean_C, self._clip_std_C)


def mix(batch: Batch, alpha: float, generator: torch.Generator) -> Batch:
    """Mix each example with another of the batch (mixup, Zhang et al. 2018, arXiv 1710.09412).

    What has both inputs is not mixed with what lacks one: such examples stay as they are.
    """
    order_B = torch.randperm(len(batch.targets_B), generator=generator).to(batch.targets_B.device)
    if batch.present_B2 is not None:
        is_alike_B = (batch.present_B2 == batch.present_B2[order_B]).all(dim=1)
        order_B = torch.where(is_alike_B, order_B, torch.arange(len(order_B)).to(order_B))
    seed = int(torch.randint(2**31, (), generator=generator))
    share = float(np.random.default_rng(seed).beta(alpha, alpha))
    return Batch(
        inputs=tuple(share * item + (1 - share) * item[order_B] for item in batch.inputs),
        targets_B=batch.targets_B,
        others_B=batch.targets_B[order_B],
        share=share,
    )


def normalise_clips(clips_BTHWC: Tensor, mean_C: Tensor, std_C: Tensor) -> Tensor:
    """Values of 0 to 255 to float32 with mean 0 and deviation 1 over the training clips."""
    return (clips_BTHWC.float() / 255 - mean_C) / std_C
