"""A convolutional network on each frame of a clip, and a recurrent one over the frames.

After Donahue et al., 2015, "Long-term Recurrent Convolutional Networks" (arXiv 1411.4389), with a
bidirectional GRU (Cho et al., 2014, arXiv 1406.1078) and pooling over time in place of the last
state. What is left of a frame after the convolutions is a small grid, which is kept: where a hand
is says more than that there is one. Axes: B clips, T frames, H height, W width, C channels, F
features, N frames of all clips.
"""

from __future__ import annotations

from typing import Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from motoric.models.r2plus1d import FrameInput, check_frame_differences
from motoric.models.shapes import ClipShape, InputShapes

# The sides of the grid are at least this, where the frames are, and less than twice as much.
_GRID_SIDE = 4


class FrameRecurrentConfig(BaseModel):
    """`model:` of a recipe with `name: frame_recurrent`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["frame_recurrent"] = "frame_recurrent"
    channels: tuple[int, ...] = Field(
        default=(16, 32, 64, 64),
        min_length=1,
        max_length=8,
        description="of each convolution; each halves the sides while they are above 4",
    )
    frame_features: int = Field(
        default=128, ge=1, le=4096, description="features of a frame that the recurrence is given"
    )
    hidden_size: int = Field(default=96, ge=1, le=2048, description="features of each direction")
    num_layers: int = Field(default=1, ge=1, le=8)
    bidirectional: bool = True
    frame_differences: bool = Field(
        default=True, description="add what changed since the frame before as channels"
    )
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)

    @model_validator(mode="after")
    def _channels_fit(self) -> Self:
        if not all(1 <= channels <= 4096 for channels in self.channels):
            raise ValueError(f"channels are from 1 to 4096, not {list(self.channels)}")
        return self


class FrameRecurrent(nn.Module):
    """Clips of shape (B, T, H, W, C) to outputs of shape (B, num_outputs)."""

    def __init__(self, config: FrameRecurrentConfig, clip: ClipShape, num_outputs: int) -> None:
        super().__init__()
        self.input = FrameInput(clip.num_channels, frame_differences=config.frame_differences)
        height, width, num_in = clip.height, clip.width, self.input.num_channels
        layers: list[nn.Module] = []
        for index, channels in enumerate(config.channels):
            stride = 2 if min(height, width) > _GRID_SIDE else 1
            kernel = 5 if index == 0 else 3
            layers += [
                nn.Conv2d(num_in, channels, kernel, stride=stride, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(channels),
                nn.ReLU(inplace=True),
            ]
            height, width, num_in = -(-height // stride), -(-width // stride), channels
        pool = max(1, height // _GRID_SIDE), max(1, width // _GRID_SIDE)
        if pool != (1, 1):
            layers.append(nn.AvgPool2d(pool))
        self.convolutions = nn.Sequential(*layers)
        num_cells = (height // pool[0]) * (width // pool[1])
        self.project = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(num_cells * num_in, config.frame_features),
            nn.LayerNorm(config.frame_features),
            nn.ReLU(inplace=True),
        )
        self.cell = nn.GRU(
            config.frame_features,
            config.hidden_size,
            num_layers=config.num_layers,
            bidirectional=config.bidirectional,
            batch_first=True,
            dropout=config.dropout if config.num_layers > 1 else 0.0,
        )
        pooled = 2 * config.hidden_size * (2 if config.bidirectional else 1)
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(pooled, num_outputs))

    def forward(self, clips_BTHWC: Tensor) -> Tensor:
        """Outputs of shape (B, num_outputs)."""
        num_frames = clips_BTHWC.shape[1]
        frames_NCHW = self.input(clips_BTHWC).flatten(0, 1).permute(0, 3, 1, 2)
        features_NF = self.project(self.convolutions(frames_NCHW).flatten(1))
        hidden_BTF, _ = self.cell(features_NF.unflatten(0, (-1, num_frames)))
        pooled_BF = torch.cat([hidden_BTF.mean(dim=1), hidden_BTF.amax(dim=1)], dim=-1)
        outputs: Tensor = self.head(pooled_BF)
        return outputs


def build(config: FrameRecurrentConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network.

    Raises:
        RecipeError: Clips of one frame have no differences.
    """
    assert shapes.clip is not None
    check_frame_differences(shapes.clip, config.frame_differences)
    return FrameRecurrent(config, shapes.clip, num_outputs)
