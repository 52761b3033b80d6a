"""A convolutional stem and a bidirectional GRU or LSTM for sensor windows.

The shape follows DeepConvLSTM (Ordonez and Roggen, 2016, doi:10.3390/s16010115), by default with a
GRU (Cho et al., 2014, arXiv 1406.1078), with pooling over time instead of the last state. Axes: B
windows, T samples, C channels, H features.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from motoric.models.shapes import InputShapes


class RecurrentConfig(BaseModel):
    """`model:` of a recipe with `name: recurrent`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["recurrent"] = "recurrent"
    cell: Literal["gru", "lstm"] = "gru"
    hidden_size: int = Field(default=64, ge=1, le=2048, description="features of each direction")
    num_layers: int = Field(default=1, ge=1, le=8)
    bidirectional: bool = True
    stem_channels: int = Field(default=64, ge=1, le=2048)
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)


class Recurrent(nn.Module):
    """Windows of shape (B, T, C) to outputs of shape (B, num_outputs).

    Two strided convolutions shorten T to T/4 before the recurrence, which is what takes the time.
    """

    def __init__(self, config: RecurrentConfig, num_channels: int, num_outputs: int) -> None:
        super().__init__()
        stem = config.stem_channels
        self.stem = nn.Sequential(
            nn.Conv1d(num_channels, stem, kernel_size=7, stride=2, padding=3),
            nn.BatchNorm1d(stem),
            nn.ReLU(),
            nn.Conv1d(stem, stem, kernel_size=5, stride=2, padding=2),
            nn.BatchNorm1d(stem),
            nn.ReLU(),
        )
        cell = nn.GRU if config.cell == "gru" else nn.LSTM
        self.cell = cell(
            stem,
            config.hidden_size,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        width = config.hidden_size * (2 if config.bidirectional else 1)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(2 * width, num_outputs))

    def forward(self, windows_BTC: Tensor) -> Tensor:
        """Outputs of shape (B, num_outputs)."""
        stem_BTH = self.stem(windows_BTC.transpose(1, 2)).transpose(1, 2)
        hidden_BTH, _ = self.cell(stem_BTH)
        pooled_BH = torch.cat([hidden_BTH.mean(dim=1), hidden_BTH.amax(dim=1)], dim=-1)
        outputs: Tensor = self.head(pooled_BH)
        return outputs


def build(config: RecurrentConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network."""
    assert shapes.sensors is not None
    return Recurrent(config, shapes.sensors.num_channels, num_outputs)
