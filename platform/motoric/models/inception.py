"""InceptionTime for sensor windows: parallel convolutions of several lengths, no recurrence.

After Fawaz et al., "InceptionTime: Finding AlexNet for Time Series Classification", 2020 (arXiv
1909.04939): one network of it, smaller by default, with a strided stem. Axes: B windows, T samples,
C channels, H features.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from motoric.models.shapes import InputShapes

Pooling = Literal["mean", "max", "mean_max"]

_BLOCKS_PER_RESIDUAL = 3
_SHORTEST_KERNEL = 3


class InceptionConfig(BaseModel):
    """`model:` of a recipe with `name: inception`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["inception"] = "inception"
    depth: int = Field(default=3, ge=1, le=24, description="blocks; a residual spans every 3")
    filters: int = Field(default=32, ge=1, le=512, description="features of each branch")
    kernel_samples: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(39, 19, 9),
        min_length=1,
        max_length=6,
        description="lengths of the parallel kernels, in samples of the window; all are scaled "
        "down where the longest would cover more than half of a window",
    )
    bottleneck: int = Field(default=32, ge=1, le=512, description="features before the kernels")
    stem_channels: int = Field(default=32, ge=1, le=512)
    stride: int = Field(default=2, ge=1, le=8, description="samples a step of the stem; 1 keeps T")
    pooling: Pooling = Field(default="mean_max", description="over time, before the head")
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)


def fit_kernels(kernel_samples: tuple[int, ...], num_samples: int, stride: int) -> tuple[int, ...]:
    """Odd lengths, in steps of `stride` samples, of which none covers more than half a window.

    Args:
        kernel_samples: Wanted lengths, in samples.
        num_samples: T of a window.
        stride: Samples a step.
    """
    longest = num_samples / 2
    factor = min(1.0, longest / max(kernel_samples)) / stride
    return tuple(max(_SHORTEST_KERNEL, int(size * factor) // 2 * 2 + 1) for size in kernel_samples)


class InceptionBlock(nn.Module):
    """Features (B, H, T) to (B, (kernels + 1) * filters, T)."""

    def __init__(self, num_inputs: int, config: InceptionConfig, kernels: tuple[int, ...]) -> None:
        super().__init__()
        width = min(config.bottleneck, num_inputs)
        self.bottleneck = nn.Conv1d(num_inputs, width, kernel_size=1, bias=False)
        self.branches = nn.ModuleList(
            nn.Conv1d(width, config.filters, kernel_size=size, padding=size // 2, bias=False)
            for size in kernels
        )
        self.pooled = nn.Sequential(
            nn.MaxPool1d(kernel_size=3, stride=1, padding=1),
            nn.Conv1d(num_inputs, config.filters, kernel_size=1, bias=False),
        )
        self.num_outputs = config.filters * (len(kernels) + 1)
        self.norm = nn.BatchNorm1d(self.num_outputs)

    def forward(self, hidden_BHT: Tensor) -> Tensor:
        """Concatenate the branches, normalise, rectify."""
        narrow_BHT = self.bottleneck(hidden_BHT)
        parts = [branch(narrow_BHT) for branch in self.branches]
        parts.append(self.pooled(hidden_BHT))
        return torch.relu(self.norm(torch.cat(parts, dim=1)))


class _Shortcut(nn.Module):
    """Adds what went into a group of blocks to what comes out of it."""

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.project = nn.Conv1d(num_inputs, num_outputs, kernel_size=1, bias=False)
        self.norm = nn.BatchNorm1d(num_outputs)

    def forward(self, before_BHT: Tensor, after_BHT: Tensor) -> Tensor:
        return torch.relu(after_BHT + self.norm(self.project(before_BHT)))


class Inception(nn.Module):
    """Windows of shape (B, T, C) to outputs of shape (B, num_outputs)."""

    def __init__(
        self, config: InceptionConfig, num_samples: int, num_channels: int, num_outputs: int
    ) -> None:
        super().__init__()
        self.pooling = config.pooling
        kernels = fit_kernels(config.kernel_samples, num_samples, config.stride)
        width = config.stem_channels
        self.stem = nn.Sequential(
            nn.Conv1d(num_channels, width, kernel_size=7, stride=config.stride, padding=3),
            nn.BatchNorm1d(width),
            nn.ReLU(),
        )
        self.blocks = nn.ModuleList()
        self.shortcuts = nn.ModuleList()
        num_before = width
        for index in range(config.depth):
            block = InceptionBlock(width, config, kernels)
            self.blocks.append(block)
            width = block.num_outputs
            if index % _BLOCKS_PER_RESIDUAL == _BLOCKS_PER_RESIDUAL - 1:
                self.shortcuts.append(_Shortcut(num_before, width))
                num_before = width
        num_pooled = width * (2 if config.pooling == "mean_max" else 1)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(num_pooled, num_outputs))

    def forward(self, windows_BTC: Tensor) -> Tensor:
        """Outputs of shape (B, num_outputs)."""
        hidden_BHT = self.stem(windows_BTC.transpose(1, 2))
        before_BHT = hidden_BHT
        for index, block in enumerate(self.blocks):
            hidden_BHT = block(hidden_BHT)
            if index % _BLOCKS_PER_RESIDUAL == _BLOCKS_PER_RESIDUAL - 1:
                shortcut = self.shortcuts[index // _BLOCKS_PER_RESIDUAL]
                hidden_BHT = shortcut(before_BHT, hidden_BHT)
                before_BHT = hidden_BHT
        outputs: Tensor = self.head(self._pool(hidden_BHT))
        return outputs

    def _pool(self, hidden_BHT: Tensor) -> Tensor:
        if self.pooling == "mean":
            return hidden_BHT.mean(dim=-1)
        if self.pooling == "max":
            return hidden_BHT.amax(dim=-1)
        return torch.cat([hidden_BHT.mean(dim=-1), hidden_BHT.amax(dim=-1)], dim=-1)


def build(config: InceptionConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network."""
    assert shapes.sensors is not None
    sensors = shapes.sensors
    return Inception(config, sensors.num_samples, sensors.num_channels, num_outputs)
