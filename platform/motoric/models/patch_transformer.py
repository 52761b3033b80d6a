"""A Transformer over patches of a sensor window.

The patches follow PatchTST (Nie et al., 2023, arXiv 2211.14730), except that one patch embeds all
channels together, since what tells motions apart is how the axes move against each other; a
convolution before them helps where there are few windows. Blocks normalise first (Xiong et al.,
2020, arXiv 2002.04745). Axes: B windows, T samples, C channels, P patches, H features, N heads,
D features of one head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn
from torch.nn import functional

from motoric.core.errors import RecipeError
from motoric.models.shapes import InputShapes


class PatchTransformerConfig(BaseModel):
    """`model:` of a recipe with `name: patch_transformer`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["patch_transformer"] = "patch_transformer"
    patch_samples: int = Field(default=16, ge=1, le=4096)
    stride_samples: int = Field(default=8, ge=1, le=4096, description="from patch to patch")
    width: int = Field(default=64, ge=2, le=4096, description="features of a patch")
    depth: int = Field(default=3, ge=1, le=48, description="blocks")
    num_heads: int = Field(default=4, ge=1, le=64)
    mlp_ratio: float = Field(default=2.0, gt=0.0, le=8.0, description="hidden features / width")
    stem_channels: int = Field(
        default=32, ge=0, le=2048, description="of the convolution before the patches; 0: none"
    )
    positions: Literal["learned", "sinusoidal"] = "learned"
    dropout: float = Field(default=0.2, ge=0.0, lt=1.0)

    @property
    def hidden(self) -> int:
        """Features between the two layers of a perceptron."""
        return max(1, round(self.width * self.mlp_ratio))

    @model_validator(mode="after")
    def _check(self) -> PatchTransformerConfig:
        if self.width % self.num_heads or self.width % 2:
            raise ValueError(
                f"width is {self.width}: make it even and a multiple of num_heads"
                f" ({self.num_heads})"
            )
        if self.stride_samples > self.patch_samples:
            raise ValueError(
                f"stride_samples is {self.stride_samples}, above patch_samples"
                f" ({self.patch_samples}): samples between patches would be lost"
            )
        return self


class Attention(nn.Module):
    """Self-attention over patches, (B, P, H) to (B, P, H).

    The number of heads is read from the projections' width, so that q, k and v may be split by
    columns and `out` by rows over several devices.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.head_width = width // num_heads
        self.dropout = dropout
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, patches_BPH: Tensor) -> Tensor:
        """Mix the patches of each window."""
        query_BNPD, key_BNPD, value_BNPD = (
            project(patches_BPH).unflatten(-1, (-1, self.head_width)).transpose(1, 2)
            for project in (self.query, self.key, self.value)
        )
        mixed_BNPD = functional.scaled_dot_product_attention(
            query_BNPD, key_BNPD, value_BNPD, dropout_p=self.dropout if self.training else 0.0
        )
        mixed_BPH: Tensor = self.out(mixed_BNPD.transpose(1, 2).flatten(2))
        return mixed_BPH


class Block(nn.Module):
    """Attention, then a perceptron, each on normalised input and added to what came in."""

    def __init__(self, config: PatchTransformerConfig) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(config.width)
        self.attention = Attention(config.width, config.num_heads, config.dropout)
        self.mlp_norm = nn.LayerNorm(config.width)
        self.up = nn.Linear(config.width, config.hidden)
        self.down = nn.Linear(config.hidden, config.width)
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, patches_BPH: Tensor) -> Tensor:
        """(B, P, H) to (B, P, H)."""
        mixed_BPH = self.attention(self.attention_norm(patches_BPH))
        patches_BPH = patches_BPH + self.dropout(mixed_BPH)
        hidden_BPH = functional.gelu(self.up(self.mlp_norm(patches_BPH)))
        added_BPH: Tensor = self.dropout(self.down(self.dropout(hidden_BPH)))
        return patches_BPH + added_BPH


class PatchTransformer(nn.Module):
    """Windows of shape (B, T, C) to outputs of shape (B, num_outputs).

    Where the patches do not end with the window, its last sample is repeated up to their end.
    """

    def __init__(
        self, config: PatchTransformerConfig, num_samples: int, num_channels: int, num_outputs: int
    ) -> None:
        super().__init__()
        steps = math.ceil((num_samples - config.patch_samples) / config.stride_samples)
        self.num_patches = steps + 1
        self.num_repeated = steps * config.stride_samples + config.patch_samples - num_samples
        stem = config.stem_channels
        self.stem: nn.Module = nn.Identity()
        if stem:
            self.stem = nn.Sequential(
                nn.Conv1d(num_channels, stem, kernel_size=5, padding=2),
                nn.BatchNorm1d(stem),
                nn.ReLU(),
            )
        self.embed = nn.Conv1d(
            stem or num_channels,
            config.width,
            kernel_size=config.patch_samples,
            stride=config.stride_samples,
        )
        if config.positions == "learned":
            self.positions_PH = nn.Parameter(torch.randn(self.num_patches, config.width) * 0.02)
        else:
            self.register_buffer("positions_PH", sinusoids(self.num_patches, config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, num_outputs)

    def forward(self, windows_BTC: Tensor) -> Tensor:
        """Outputs of shape (B, num_outputs)."""
        windows_BCT = windows_BTC.transpose(1, 2)
        if self.num_repeated:
            last_BCT = windows_BCT[:, :, -1:].expand(-1, -1, self.num_repeated)
            windows_BCT = torch.cat([windows_BCT, last_BCT], dim=-1)
        patches_BPH = self.embed(self.stem(windows_BCT)).transpose(1, 2)
        patches_BPH = self.dropout(patches_BPH + self.positions_PH)
        for block in self.blocks:
            patches_BPH = block(patches_BPH)
        pooled_BH = self.norm(patches_BPH).mean(dim=1)
        outputs: Tensor = self.head(self.dropout(pooled_BH))
        return outputs


def sinusoids(num_positions: int, width: int) -> Tensor:
    """Fixed position codes (num_positions, width) of Vaswani et al., 2017 (arXiv 1706.03762)."""
    position_P1 = torch.arange(num_positions, dtype=torch.float32)[:, None]
    rate_H = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    angle_PH = position_P1 * rate_H
    return torch.stack([angle_PH.sin(), angle_PH.cos()], dim=-1).flatten(1)


def build(config: PatchTransformerConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network.

    Raises:
        RecipeError: A window is shorter than one patch.
    """
    assert shapes.sensors is not None
    sensors = shapes.sensors
    if sensors.num_samples < config.patch_samples:
        raise RecipeError(
            f"model.patch_samples is {config.patch_samples}, but a window has only"
            f" {sensors.num_samples} samples: make patches shorter or windows longer"
        )
    return PatchTransformer(config, sensors.num_samples, sensors.num_channels, num_outputs)
