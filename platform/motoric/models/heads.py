"""From a network's raw outputs to what the signature promises: probabilities, values, quantiles.

Axes: B examples, T samples, C channels, K outputs. The head is the last part of the exported graph.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ClassesHead(nn.Module):
    """Logits (B, K) to probabilities (B, K)."""

    def forward(self, outputs_BK: Tensor, windows_BTC: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Probabilities."""
        return torch.softmax(outputs_BK, dim=-1)


class ValueHead(nn.Module):
    """Standardised values to values in their unit.

    Args:
        mean: Of the training targets.
        std: Of the training targets.
    """

    def __init__(self, mean: float, std: float) -> None:
        super().__init__()
        self.mean = mean
        self.std = std

    def forward(self, outputs_BK: Tensor, windows_BTC: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Values, shape (B, 1)."""
        return outputs_BK * self.std + self.mean


class RelativeInput(nn.Module):
    """A network that sees one channel relative to its last sample in the window.

    What a heart rate does next depends on where it has been, and hardly on the level that this
    person happens to have (compare RevIN, Kim et al. 2022).

    Args:
        network: Takes windows (B, T, C).
        channel: Place of the channel among the prepared ones.
        num_channels: Of the prepared windows, C.
    """

    mask_C: Tensor

    def __init__(self, network: nn.Module, *, channel: int, num_channels: int) -> None:
        super().__init__()
        self.network = network
        mask_C = torch.zeros(num_channels)
        mask_C[channel] = 1.0
        self.register_buffer("mask_C", mask_C, persistent=False)

    def forward(self, windows_BTC: Tensor) -> Tensor:
        """What the network gives."""
        outputs: Tensor = self.network(windows_BTC - windows_BTC[:, -1:] * self.mask_C)
        return outputs


class QuantilesHead(nn.Module):
    """Standardised changes to quantiles of the target, rising, shape (B, Q).

    The network says how far the target will have moved from its last sample in the window, so that
    an untrained one repeats the present (persistence).

    Args:
        channel: Place of the target among the prepared channels.
        mean: Of that channel, as the normaliser takes it off.
        std: Of that channel, as the normaliser divides by it.
        scale: Deviation of the change over the horizon, in the target's unit.
    """

    def __init__(self, *, channel: int, mean: float, std: float, scale: float) -> None:
        super().__init__()
        self.channel = channel
        self.mean = mean
        self.std = std
        self.scale = scale

    def forward(self, outputs_BK: Tensor, windows_BTC: Tensor) -> Tensor:
        """Quantiles in the target's unit."""
        last_B1 = windows_BTC[:, -1, self.channel : self.channel + 1] * self.std + self.mean
        return last_B1 + self.changes(outputs_BK)

    def changes(self, outputs_BK: Tensor) -> Tensor:
        """Quantiles of the change from the last value in the window, in the target's unit."""
        rising_BK, _ = torch.sort(outputs_BK, dim=-1)
        return rising_BK * self.scale
