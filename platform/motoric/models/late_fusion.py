"""One network on sensor windows and one on clips, each trained by itself; their answers are joined.

The log-probabilities of both are added, and normalised: the product rule of Kittler et al., "On
Combining Classifiers", 1998 (doi:10.1109/34.667881). With few people this is hard to beat, since
neither network can lean on what the other fits by heart, and either may be one whose head is solved
(`closed_form`), which has no gradient to learn with others. Where one input is missing, the answer
is the other network's.

Axes: B recordings, T samples or frames, C channels, H height, W width, K classes; of `present`
(B, 2) column 0 is the sensors and column 1 the clip.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from torch import Tensor, nn

from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.fusion import build_branches, check_branch, run_branch
from motoric.models.shapes import InputShapes


class LateFusionConfig(BaseModel):
    """`model:` of a recipe with `name: late_fusion`; for `classify` alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Literal["late_fusion"] = "late_fusion"
    sensors: dict[str, Any] = Field(description="`model:` of a network of sensors")
    clip: dict[str, Any] = Field(description="`model:` of a network of clips")
    passes: int = Field(
        default=1,
        ge=1,
        le=1000,
        description="over the windows, where the sensors' network is solved; further ones augment",
    )

    @field_validator("sensors", "clip")
    @classmethod
    def _is_a_branch(cls, content: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return check_branch(content, str(info.field_name))


class LateFusion(nn.Module):
    """Windows (B, T, C), clips (B, T, H, W, C) and present (B, 2) to logits (B, K)."""

    def __init__(self, config: LateFusionConfig, sensors: nn.Module, clip: nn.Module) -> None:
        super().__init__()
        self.passes = config.passes
        self.sensors, self.clip = sensors, clip

    def forward(
        self, windows_BTC: Tensor, clips_BTHWC: Tensor, present_B2: Tensor
    ) -> Tensor | tuple[Tensor, ...]:
        """Joint log-probabilities up to a constant (B, K).

        In training the logits of the clips' network, and as an auxiliary output those of the
        sensors' where that one descends too: each has its own loss, and a row without the input
        gives equal logits, which teach nothing.
        """
        is_present_B2 = present_B2 > 0.5
        sensors_B, clip_B = is_present_B2[:, 0], is_present_B2[:, 1]
        clip_BK = _shown(run_branch(self.clip, clips_BTHWC, clip_B), clip_B)
        if self.training and isinstance(self.sensors, ClosedFormNetwork):
            return clip_BK
        sensors_BK = _shown(run_branch(self.sensors, windows_BTC, sensors_B), sensors_B)
        if self.training:
            return clip_BK, sensors_BK
        return torch.log_softmax(clip_BK, dim=1) + torch.log_softmax(sensors_BK, dim=1)


def build(config: LateFusionConfig, shapes: InputShapes, num_outputs: int) -> nn.Module:
    """Make the network and its two branches.

    Raises:
        RecipeError: The settings of a branch do not fit its shape.
    """
    sensors, clip = build_branches(config.sensors, config.clip, shapes, num_outputs)
    return LateFusion(config, sensors, clip)


def _shown(logits_BK: Tensor, present_B: Tensor) -> Tensor:
    return torch.where(present_B[:, None], logits_BK, torch.zeros_like(logits_BK))
