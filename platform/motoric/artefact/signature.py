"""The signature: what a model takes and gives, with all preprocessing that changes values.

Axes: B windows of a batch, T samples of a window, C channels. One `signature.json` stands in every
artefact; training writes it, serving and batch read it, so that what was trained is what is served.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motoric.core.errors import ArtefactError
from motoric.core.settings import describe


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(_Part):
    """One channel of a sensor input."""

    name: str
    unit: str


class SensorInput(_Part):
    """Raw windows of one stream: shape (B, num_samples, num_channels) in the channels' units."""

    name: str = "sensors"
    kind: Literal["sensor"] = "sensor"
    channels: tuple[Channel, ...] = Field(min_length=1)
    rate_hz: float = Field(gt=0)
    length_s: float = Field(gt=0)
    hop_s: float = Field(gt=0)
    context_s: float = Field(default=0.0, ge=0)
    optional: bool = False

    @property
    def num_samples(self) -> int:
        """Samples of a window (T)."""
        return round(self.length_s * self.rate_hz)

    @property
    def num_channels(self) -> int:
        """Channels of a window (C)."""
        return len(self.channels)


class ClassesOutput(_Part):
    """Probabilities by class, shape (B, num_classes)."""

    name: str = "probabilities"
    kind: Literal["classes"] = "classes"
    classes: tuple[str, ...] = Field(min_length=2)


class Normaliser(_Part):
    """Per channel `(value - mean) / std`, fitted on training subjects only."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Normaliser:
        if len(self.mean) != len(self.std) or any(std <= 0 for std in self.std):
            raise ValueError("mean and std need the same length, and every std must be above 0")
        return self


class Preprocessing(_Part):
    """What is done to raw windows before the network, in this order."""

    normaliser: Normaliser | None = None


class TrainingStatistics(_Part):
    """What the model saw, to compare live input with later."""

    num_windows: int
    num_subjects: int
    channel_min: tuple[float, ...]
    channel_max: tuple[float, ...]


class Signature(_Part):
    """All that a client or a server needs to know to use an artefact."""

    schema_version: Literal[1] = 1
    task: Literal["classify"] = "classify"
    inputs: tuple[SensorInput, ...] = Field(min_length=1, max_length=1)
    outputs: tuple[ClassesOutput, ...] = Field(min_length=1, max_length=1)
    preprocessing: Preprocessing = Preprocessing()
    training_statistics: TrainingStatistics | None = None

    @property
    def sensors(self) -> SensorInput:
        """The sensor input."""
        return self.inputs[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the output's last axis."""
        return self.outputs[0].classes


def parse_signature(content: bytes, place: str) -> Signature:
    """Read a signature.

    Raises:
        ArtefactError: It does not fit the schema; `place` is named in the message.
    """
    try:
        return Signature.model_validate_json(content)
    except ValidationError as error:
        raise ArtefactError(f"{place}: {describe(error)}") from error
