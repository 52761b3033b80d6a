"""One network on sensor windows and one on clips, joined late, that works with either missing.

Each branch ends in an embedding with a head of its own; a third head reads both embeddings, each
weighted by a gate (Arevalo et al., 2017, "Gated Multimodal Units", arXiv 1702.01992). The outputs
are a learned mean of the heads that have something to say, so that the joint head adds to the two
single ones and does not replace them. While training, an embedding is dropped from the joint path
now and then (Neverova et al., 2016, "ModDrop", arXiv 1501.00102), and the heads of the branches are
returned too: without a loss of its own the weaker branch stops learning once the stronger one fits
(Wang et al., 2020, arXiv 1905.12681).

Axes: B recordings, T samples or frames, C channels, H height, W width, E embedding, K outputs, M
heads; of `present` (B, 2) column 0 is the sensors and column 1 the clip.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator
from torch import Tensor, nn

from motoric.core.errors import RecipeError
from motoric.core.settings import describe
from motoric.models.shapes import InputShapes

# Networks that are solved in one step and have no gradient to learn with others.
_CLOSED_FORM = frozenset({"random_kernels"})


def check_branch(content: dict[str, Any], part: str) -> dict[str, Any]:
    """Check the `model:` of one branch.

    Args:
        content: As in a recipe.
        part: `sensors` or `clip`, what the branch must take.

    Raises:
        ValueError: Unknown name, wrong setting, or a network that takes something else.
    """
    from motoric.models import catalogue  # it imports this module

    try:
        kind = catalogue.model_kind(content.get("name"))
    except RecipeError as error:
        raise ValueError(error.message) from error
    name = content["name"]
    if len(kind.takes) > 1:
        raise ValueError(f"{name!r} takes {' and '.join(kind.takes)}; a branch takes one")
    if kind.takes != (part,):
        raise ValueError(
            f"{name!r} is a network of {kind.takes[0]}: it belongs under `{kind.takes[0]}:`"
        )
    try:
        kind.config.model_validate(content)
    except ValidationError as error:
        raise ValueError(describe(error)) from error
    return content


class FusionConfig(BaseModel):
    """`model:` of a recipe with `name: fusion`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["fusion"] = "fusion"
    sensors: dict[str, Any] = Field(description="`model:` of a network of sensors")
    clip: dict[str, Any] = Field(description="`model:` of a network of clips")
    embedding_size: int = Field(default=128, ge=1, le=4096, description="what a branch gives")
    joint_size: int = Field(default=128, ge=1, le=4096, description="hidden width, joint head")
    modality_dropout: float = Field(
        default=0.3,
        ge=0.0,
        le=1.0,
        description="share of the recordings that have both of which one is hidden in training",
    )
    dropout: float = Field(default=0.3, ge=0.0, lt=1.0)

    @field_validator("sensors", "clip")
    @classmethod
    def _is_a_branch(cls, content: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = content.get("name")
        if name in _CLOSED_FORM:
            raise ValueError(
                f"{name!r} is not trained step by step and cannot be a branch; late_fusion takes it"
            )
        return check_branch(content, str(info.field_name))


class Fusion(nn.Module):
    """Windows (B, T, C), clips (B, T, H, W, C) and present (B, 2) to outputs (B, K).

    Where an input is not present, what stands in its place has no influence on the outputs.
    """

    def __init__(
        self, config: FusionConfig, sensors: nn.Module, clip: nn.Module, num_outputs: int
    ) -> None:
        super().__init__()
        size = config.embedding_size
        self.modality_dropout = config.modality_dropout
        self.sensors, self.clip = sensors, clip
        self.sensors_embedding = _embedding(size, config.dropout)
        self.clip_embedding = _embedding(size, config.dropout)
        self.sensors_head = nn.Linear(size, num_outputs)
        self.clip_head = nn.Linear(size, num_outputs)
        self.gates = nn.Linear(2 * size + 2, 2 * size)
        self.joint_head = nn.Sequential(
            nn.Linear(2 * size + 2, config.joint_size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.joint_size, num_outputs),
        )
        self.head_weights_M = nn.Parameter(torch.zeros(3))
        self.nothing_K = nn.Parameter(torch.zeros(num_outputs))

    def forward(
        self, windows_BTC: Tensor, clips_BTHWC: Tensor, present_B2: Tensor
    ) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Outputs (B, K); in training also those of the sensors' head and of the clip's.

        In training, where a branch has no input, its outputs are the joint ones, whose loss is
        right for any row.
        """
        present_B2 = present_B2 > 0.5
        sensors_B1, clip_B1 = present_B2[:, :1], present_B2[:, 1:]
        sensors_BE = self.sensors_embedding(run_branch(self.sensors, windows_BTC, sensors_B1[:, 0]))
        clip_BE = self.clip_embedding(run_branch(self.clip, clips_BTHWC, clip_B1[:, 0]))
        sensors_BK, clip_BK = self.sensors_head(sensors_BE), self.clip_head(clip_BE)
        shown_B2 = self._shown(present_B2)
        joint_BK = self._joint(sensors_BE, clip_BE, shown_B2)
        weights_BM = self._weights(shown_B2)
        heads_BMK = torch.stack([sensors_BK, clip_BK, joint_BK], dim=1)
        mean_BK = (heads_BMK * weights_BM.unsqueeze(-1)).sum(dim=1)
        outputs_BK = torch.where(present_B2.any(dim=1, keepdim=True), mean_BK, self.nothing_K)
        if not self.training:
            return outputs_BK
        return (
            outputs_BK,
            torch.where(sensors_B1, sensors_BK, outputs_BK),
            torch.where(clip_B1, clip_BK, outputs_BK),
        )

    def _shown(self, present_B2: Tensor) -> Tensor:
        """What the joint path may see: in training some rows with both lose one of them."""
        if not self.training or self.modality_dropout == 0.0:
            return present_B2
        rows = present_B2.shape[0]
        draws_B2 = torch.rand(rows, 2, device=present_B2.device)
        loses_B1 = present_B2.all(dim=1, keepdim=True) & (draws_B2[:, :1] < self.modality_dropout)
        first_B1 = draws_B2[:, 1:] < 0.5
        return present_B2 & ~(loses_B1 & torch.cat([first_B1, ~first_B1], dim=1))

    def _joint(self, sensors_BE: Tensor, clip_BE: Tensor, shown_B2: Tensor) -> Tensor:
        nothing = torch.zeros((), dtype=sensors_BE.dtype, device=sensors_BE.device)
        seen = [
            torch.where(shown_B2[:, :1], sensors_BE, nothing),
            torch.where(shown_B2[:, 1:], clip_BE, nothing),
        ]
        both_B2E = torch.cat(seen, dim=1)
        flags_B2 = shown_B2.to(both_B2E.dtype)
        gates_B2E = torch.sigmoid(self.gates(torch.cat([both_B2E, flags_B2], dim=1)))
        joint_BK: Tensor = self.joint_head(torch.cat([both_B2E * gates_B2E, flags_B2], dim=1))
        return joint_BK

    def _weights(self, shown_B2: Tensor) -> Tensor:
        """Weights of the three heads, which sum to 1: none to a branch that is not shown."""
        usable_BM = torch.cat([shown_B2, torch.ones_like(shown_B2[:, :1])], dim=1)
        parts_BM = torch.softmax(self.head_weights_M, dim=0) * usable_BM.to(
            self.head_weights_M.dtype
        )
        return parts_BM / parts_BM.sum(dim=1, keepdim=True)


def build(config: FusionConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network and its two branches.

    Raises:
        RecipeError: The settings of a branch do not fit its shape.
    """
    sensors, clip = build_branches(config.sensors, config.clip, shapes, config.embedding_size)
    return Fusion(config, sensors, clip, num_outputs)


def build_branches(
    sensors: dict[str, Any], clip: dict[str, Any], shapes: InputShapes, num_outputs: int
) -> tuple[nn.Module, nn.Module]:
    """Make the network of sensors and that of clips.

    Raises:
        RecipeError: The settings of one do not fit its shape.
    """
    from motoric.models import catalogue  # it imports this module

    branches = []
    for part, content, own in (
        ("sensors", sensors, InputShapes(sensors=shapes.sensors)),
        ("clip", clip, InputShapes(clip=shapes.clip)),
    ):
        try:
            settings = catalogue.parse_config(content)
            branches.append(catalogue.build_model(settings, own, num_outputs))
        except RecipeError as error:
            raise RecipeError(f"model.{part}: {error.message}") from error
    return branches[0], branches[1]


def run_branch(branch: nn.Module, inputs: Tensor, present_B: Tensor) -> Tensor:
    """Main outputs of a branch, shape (B, E).

    Zeros stand in for inputs that are missing. In training other rows do: what comes of them is
    hidden later, and zeros would spoil the statistics of normalisation layers.
    """
    column_shape = (-1, *(1 for _ in inputs.shape[1:]))
    zeroed = torch.where(present_B.view(column_shape), inputs, torch.zeros_like(inputs))
    if not branch.training:
        outputs: Tensor = branch(zeroed)
        return outputs
    found = branch(zeroed[_stand_ins(present_B)])
    main: Tensor = found[0] if isinstance(found, tuple) else found
    return main


def _embedding(size: int, dropout: float) -> nn.Module:
    return nn.Sequential(nn.LayerNorm(size), nn.ReLU(), nn.Dropout(dropout))


def _stand_ins(present_B: Tensor) -> Tensor:
    """For each row itself, or a present one in its place; itself too where none is present."""
    rows_B = torch.arange(len(present_B), device=present_B.device)
    order_B = torch.argsort(present_B.to(torch.int8), descending=True, stable=True)
    other_B = order_B[rows_B % present_B.sum().clamp(min=1)]
    return torch.where(present_B, rows_B, other_B)
