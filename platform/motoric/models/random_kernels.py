"""MiniRocket: random dilated convolutions, how often each is positive, and a linear head.

After Dempster et al., "MiniRocket: A Very Fast (Almost) Deterministic Transform for Time Series
Classification", 2021 (arXiv 2012.08791), with random subsets of the channels as in the authors'
multivariate variant, and on wish the first differences of MultiRocket (Tan et al., 2022, arXiv
2102.00457). One thing differs: "positive" is a narrow ramp instead of a step. A step turns the
last bit of a sum into a whole sample, so that no two runtimes would agree. Axes: B windows, T
samples, C channels, K kernels, Q thresholds of a kernel, F features.
"""

from __future__ import annotations

import itertools
import math
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional

from motoric.core.errors import RecipeError
from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.shapes import InputShapes

Representation = Literal["raw", "diff"]

_LENGTH = 9
# All ways to place three weights of 2 among nine, the others being -1: each kernel sums to 0.
_TRIPLES = tuple(itertools.combinations(range(_LENGTH), 3))
_NUM_KERNELS = len(_TRIPLES)
_MAX_CHANNELS = 9
_MAX_SAMPLE = 256
_GOLDEN = (math.sqrt(5.0) + 1.0) / 2.0


class RandomKernelsConfig(BaseModel):
    """`model:` of a recipe with `name: random_kernels`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["random_kernels"] = "random_kernels"
    num_features: int = Field(
        default=2000, ge=84, le=20000, description="rounded down to a multiple of 84"
    )
    max_dilations: int = Field(default=8, ge=1, le=64, description="of one kernel")
    representations: tuple[Representation, ...] = Field(default=("raw",), min_length=1)
    ramp: float = Field(
        default=0.5, gt=0.0, le=4.0, description="width of the step, in deviations of the output"
    )


class KernelGroup(nn.Module):
    """Half of the 84 kernels at one dilation: windows (B, C, T) to features (B, 42 * Q).

    Args:
        num_channels: C.
        dilation: Samples from weight to weight.
        num_thresholds: Q.
        parity: 0 takes the kernels of even number, 1 those of odd number.
        is_padded: Zeros are seen beyond the window's ends; else only outputs inside it count.
    """

    weights_KCL: Tensor
    thresholds_KQ: Tensor

    def __init__(
        self,
        *,
        num_channels: int,
        dilation: int,
        num_thresholds: int,
        parity: int,
        is_padded: bool,
    ) -> None:
        super().__init__()
        self.dilation = dilation
        self.parity = parity
        self.padding = (_LENGTH // 2) * dilation if is_padded else 0
        num_kernels = _NUM_KERNELS // 2
        self.register_buffer("weights_KCL", torch.zeros(num_kernels, num_channels, _LENGTH))
        self.register_buffer("thresholds_KQ", torch.zeros(num_kernels, num_thresholds))

    @property
    def num_features(self) -> int:
        """How many it gives."""
        return self.thresholds_KQ.numel()

    def initialise(
        self, windows_BCT: Tensor, quantiles_KQ: Tensor, ramp: float, generator: torch.Generator
    ) -> None:
        """Draw the channels of each kernel, and thresholds among its outputs on one window each.

        The thresholds are `quantiles_KQ` of the outputs.
        """
        num_kernels, num_channels, _ = self.weights_KCL.shape
        triples = _TRIPLES[self.parity :: 2]
        kernels_KL = torch.full((num_kernels, _LENGTH), -1.0)
        kernels_KL.scatter_(1, torch.tensor(triples), 2.0)
        chosen_KC = _draw_channels(num_kernels, num_channels, generator)
        weights_KCL = chosen_KC[:, :, None] * kernels_KL[:, None, :]
        self.weights_KCL.copy_(weights_KCL)

        outputs_BKT = self._convolve(windows_BCT)
        deviation_K = outputs_BKT.std(dim=(0, 2), correction=0)
        # A kernel on channels that never move gets weights of 0, so a feature that never does.
        sharpness_K = torch.where(deviation_K > 1e-6, 1.0 / (ramp * deviation_K), 0.0)
        picked_K = torch.randint(len(windows_BCT), (num_kernels,), generator=generator)
        picked_KT = outputs_BKT[picked_K.to(outputs_BKT.device), torch.arange(num_kernels)]
        ordered_KT = picked_KT.sort(dim=1).values
        place_KQ = quantiles_KQ.to(ordered_KT.device) * (ordered_KT.shape[1] - 1)
        low_KQ = ordered_KT.gather(1, place_KQ.floor().long())
        high_KQ = ordered_KT.gather(1, place_KQ.ceil().long())
        threshold_KQ = torch.lerp(low_KQ, high_KQ, place_KQ.frac())
        self.weights_KCL.mul_(sharpness_K[:, None, None])
        self.thresholds_KQ.copy_(threshold_KQ * sharpness_K[:, None] - 0.5)

    def forward(self, windows_BCT: Tensor) -> Tensor:
        """How much of the time each output is above each threshold."""
        outputs_BK1T = self._convolve(windows_BCT).unsqueeze(2)
        above_BKQT = (outputs_BK1T - self.thresholds_KQ[:, :, None]).clamp(0.0, 1.0)
        return above_BKQT.mean(dim=-1).flatten(1)

    def _convolve(self, windows_BCT: Tensor) -> Tensor:
        return functional.conv1d(
            windows_BCT, self.weights_KCL, padding=self.padding, dilation=self.dilation
        )


class RandomKernels(ClosedFormNetwork):
    """Windows of shape (B, T, C) to outputs of shape (B, num_outputs)."""

    def __init__(
        self, config: RandomKernelsConfig, num_samples: int, num_channels: int, num_outputs: int
    ) -> None:
        representations = tuple(dict.fromkeys(config.representations))
        per_kernel = max(1, config.num_features // _NUM_KERNELS // len(representations))
        layout = {
            name: fit_dilations(num_samples - (name == "diff"), per_kernel, config.max_dilations)
            for name in representations
        }
        num_features = _NUM_KERNELS * sum(sum(counts.values()) for counts in layout.values())
        super().__init__(num_features, num_outputs)
        self.ramp = config.ramp
        self.groups = nn.ModuleDict(
            {
                name: nn.ModuleList(
                    KernelGroup(
                        num_channels=num_channels,
                        dilation=dilation,
                        num_thresholds=num_thresholds,
                        parity=parity,
                        is_padded=(parity + index) % 2 == 0,
                    )
                    for index, (dilation, num_thresholds) in enumerate(counts.items())
                    for parity in (0, 1)
                )
                for name, counts in layout.items()
            }
        )

    def _initialise(self, windows_BTC: Tensor, generator: torch.Generator) -> None:
        picked = torch.randperm(len(windows_BTC), generator=generator)[:_MAX_SAMPLE]
        series = self._series(windows_BTC[picked.to(windows_BTC.device)])
        for name, windows_BCT in series.items():
            quantiles = low_discrepancy(self.num_features)
            for group in self._groups(name):
                taken = group.num_features
                quantiles_KQ = quantiles[:taken].view_as(group.thresholds_KQ)
                quantiles = quantiles[taken:]
                group.initialise(windows_BCT, quantiles_KQ, self.ramp, generator)

    def _features(self, windows_BTC: Tensor) -> Tensor:
        parts = [
            group(windows_BCT)
            for name, windows_BCT in self._series(windows_BTC).items()
            for group in self._groups(name)
        ]
        return torch.cat(parts, dim=1)

    def _groups(self, name: str) -> list[KernelGroup]:
        groups = self.groups[name]
        assert isinstance(groups, nn.ModuleList)
        return [group for group in groups if isinstance(group, KernelGroup)]

    def _series(self, windows_BTC: Tensor) -> dict[str, Tensor]:
        windows_BCT = windows_BTC.transpose(1, 2)
        return {
            name: windows_BCT if name == "raw" else windows_BCT[:, :, 1:] - windows_BCT[:, :, :-1]
            for name in self.groups
        }


def fit_dilations(num_samples: int, per_kernel: int, max_dilations: int) -> dict[int, int]:
    """Thresholds of a kernel by dilation, so that the longest kernel just fits into a window.

    Args:
        num_samples: T, at least 9.
        per_kernel: Thresholds in all.
        max_dilations: At most so many dilations, exponentially spaced, before rounding.
    """
    num_places = min(per_kernel, max_dilations)
    largest = math.log2((num_samples - 1) / (_LENGTH - 1))
    places = np.floor(np.logspace(0.0, largest, num_places, base=2.0) + 1e-9).astype(int)
    dilations, counts = np.unique(places, return_counts=True)
    shares = counts * (per_kernel // num_places)
    for index in range(per_kernel - int(shares.sum())):
        shares[index % len(shares)] += 1
    return dict(zip(dilations.tolist(), shares.tolist(), strict=True))


def low_discrepancy(count: int) -> Tensor:
    """`count` numbers spread evenly over (0, 1), in a fixed order without period."""
    return (torch.arange(1, count + 1, dtype=torch.float64) * _GOLDEN).frac().float()


def _draw_channels(num_kernels: int, num_channels: int, generator: torch.Generator) -> Tensor:
    """1 where a kernel (row) adds up a channel (column): 1 to 9 of them, few more often."""
    exponent = math.log2(min(num_channels, _MAX_CHANNELS) + 1)
    counts_K = torch.exp2(torch.rand(num_kernels, generator=generator) * exponent).long()
    # The rank of a random number among a row's is a random order of the channels.
    order_KC = torch.rand(num_kernels, num_channels, generator=generator).argsort(dim=1)
    return (order_KC < counts_K[:, None]).float()


def build(config: RandomKernelsConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network.

    Raises:
        RecipeError: A window is shorter than a kernel.
    """
    assert shapes.sensors is not None
    sensors = shapes.sensors
    shortest = _LENGTH + ("diff" in config.representations)
    if sensors.num_samples < shortest:
        raise RecipeError(
            f"model random_kernels needs windows of at least {shortest} samples, not"
            f" {sensors.num_samples}: make window.length_s longer"
        )
    return RandomKernels(config, sensors.num_samples, sensors.num_channels, num_outputs)
