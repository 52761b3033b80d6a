"""What a network is given: the shapes of its inputs, which follow from the recipe and its data.

A network's `forward` takes the inputs it has in this order: sensor windows (B, T, C), prepared;
clips (B, T, H, W, C), float32, normalised; and, of a network that has both, `present` (B, 2),
float32, 1 where the sensors (column 0) and the clip (column 1) are there and 0 where zeros stand
in. It gives (B, num_outputs) without any activation. While training it may give a tuple instead:
these outputs, then auxiliary ones of the same shape, whose losses are added with a smaller weight.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorShape:
    """Prepared windows: T samples at `rate_hz` of C channels."""

    num_samples: int
    num_channels: int
    rate_hz: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipShape:
    """Clips: T frames of height H, width W and C channels (3, or 1 for grey)."""

    num_frames: int
    height: int
    width: int
    num_channels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InputShapes:
    """The inputs of one recipe; None where it has none of that kind."""

    sensors: SensorShape | None = None
    clip: ClipShape | None = None
