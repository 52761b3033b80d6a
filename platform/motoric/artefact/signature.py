"""The signature: what a model takes and gives, with all preprocessing that changes values.

Axes: B windows of a batch, T samples of a window, C channels. One `signature.json` stands in every
artefact; training writes it, serving and batch read it, so that what was trained is what is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motoric.artefact.timeline import TimelineSettings
from motoric.core.errors import ArtefactError, RecipeError
from motoric.core.settings import describe

# What `gravity_split` reads and writes.
ACCELERATION = ("acc_x", "acc_y", "acc_z")
GRAVITY = ("gravity_x", "gravity_y", "gravity_z")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Channel(_Part):
    """One channel of a sensor input."""

    name: str
    unit: str


class SensorInput(_Part):
    """Raw windows of one stream: shape (B, num_input_samples, num_channels), in channels' units.

    `rate_hz` is the uniform rate of the windows, whatever the devices' own rates. The first
    `num_context_samples` of each window are the time before it that the filters need; where a
    recording or a segment begins, its first sample is repeated. A window of span `annotation` holds
    one whole movement: with `fit: pad` from its middle, with its first and last sample repeated
    around it, with `fit: stretch` resampled to `length_s`. What is optional may be missing where
    another input is there.
    """

    name: str = "sensors"
    kind: Literal["sensor"] = "sensor"
    channels: tuple[Channel, ...] = Field(min_length=1)
    rate_hz: float = Field(gt=0)
    length_s: float = Field(gt=0)
    hop_s: float = Field(gt=0)
    context_s: float = Field(default=0.0, ge=0)
    span: Literal["window", "annotation"] = "window"
    fit: Literal["pad", "stretch"] = "pad"
    optional: bool = False

    @property
    def num_samples(self) -> int:
        """Samples of a window (T), as the network sees it."""
        return round(self.length_s * self.rate_hz)

    @property
    def num_context_samples(self) -> int:
        """Samples before each window that are sent with it."""
        return round(self.context_s * self.rate_hz)

    @property
    def num_input_samples(self) -> int:
        """Samples of a window as it is sent: its context and itself."""
        return self.num_context_samples + self.num_samples

    @property
    def num_channels(self) -> int:
        """Channels of a window (C)."""
        return len(self.channels)


class ClipInput(_Part):
    """Clips: shape (B, num_frames, height, width, C), uint8, upright; C is 3, or 1 for grey.

    `rate_hz` samples frames from the start of a span of `length_s`; where it is None they are
    spread evenly over the span, and where `length_s` is None the span is one whole movement.
    `region` is the part of the picture taken: top, left, bottom, right, in shares.
    """

    name: str = "clip"
    kind: Literal["clip"] = "clip"
    num_frames: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    colour: Literal["rgb", "grey"] = "rgb"
    resize: Literal["crop", "stretch"] = "crop"
    region: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    rate_hz: float | None = Field(default=None, gt=0)
    length_s: float | None = Field(default=None, gt=0)
    hop_s: float | None = Field(default=None, gt=0)
    optional: bool = False

    @property
    def num_channels(self) -> int:
        """Channels of a pixel (C)."""
        return 3 if self.colour == "rgb" else 1

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Of one clip: (T, H, W, C)."""
        return self.num_frames, self.height, self.width, self.num_channels


class ClassesOutput(_Part):
    """Probabilities by class, shape (B, num_classes)."""

    name: str = "probabilities"
    kind: Literal["classes"] = "classes"
    classes: tuple[str, ...] = Field(min_length=2)


class ValueOutput(_Part):
    """One value, shape (B, 1): a channel's mean over the window, or a number of the recording."""

    name: str = "value"
    kind: Literal["value"] = "value"
    of: str
    unit: str


class QuantilesOutput(_Part):
    """Quantiles of a channel `horizon_s` after the window's last sample, shape (B, Q), rising."""

    name: str = "quantiles"
    kind: Literal["quantiles"] = "quantiles"
    of: str
    unit: str
    horizon_s: float = Field(gt=0)
    quantiles: tuple[float, ...] = Field(min_length=1)


Input = Annotated[SensorInput | ClipInput, Field(discriminator="kind")]
Output = Annotated[ClassesOutput | ValueOutput | QuantilesOutput, Field(discriminator="kind")]


class Normaliser(_Part):
    """Per channel `(value - mean) / std`, fitted on training subjects only."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @model_validator(mode="after")
    def _check(self) -> Normaliser:
        if len(self.mean) != len(self.std) or any(std <= 0 for std in self.std):
            raise ValueError("mean and std need the same length, and every std must be above 0")
        return self


class HampelStep(_Part):
    """Outliers are replaced by the local median, by channel."""

    step: Literal["hampel"] = "hampel"
    window_s: float = Field(gt=0, description="centred span the median is taken over")
    num_sigmas: float = Field(default=3.0, gt=0, description="robust deviations that are kept")

    def half_samples(self, rate_hz: float) -> int:
        """Samples on each side of the one that is judged."""
        return round(self.window_s * rate_hz) // 2


class LowPassStep(_Part):
    """A Butterworth low-pass filter on every channel."""

    step: Literal["low_pass"] = "low_pass"
    cutoff_hz: float = Field(gt=0)
    order: int = Field(default=4, ge=1, le=10, description="in all, over both passes")
    zero_phase: bool = Field(
        default=False, description="forwards and backwards over window and context: no delay"
    )

    @model_validator(mode="after")
    def _check(self) -> LowPassStep:
        if self.zero_phase and self.order % 2:
            raise ValueError("zero_phase filters twice: order must be even, half of it each way")
        return self


class GravitySplitStep(_Part):
    """Acceleration becomes gravity (its slow part) and linear acceleration (the rest)."""

    step: Literal["gravity_split"] = "gravity_split"
    cutoff_hz: float = Field(default=0.3, gt=0)
    order: int = Field(default=3, ge=1, le=10)
    keep: Literal["both", "linear", "gravity"] = Field(
        default="both",
        description="linear stays in acc_x, acc_y, acc_z; gravity goes to gravity_x and so on,"
        " which `both` appends and `gravity` puts in their place",
    )


Step = Annotated[HampelStep | LowPassStep | GravitySplitStep, Field(discriminator="step")]


class Preprocessing(_Part):
    """What is done to raw samples before the network, in this order.

    Attributes:
        max_gap_s: Longest gap that is interpolated before windows are cut.
        steps: Filters on a window and its context, after which the context is cut off.
        normaliser: Of the channels that come out of the steps.
        clip_normaliser: Of a clip's channels in 0 to 1. The graph applies it itself, so that clips
            travel as bytes.
    """

    max_gap_s: float = Field(default=0.0, ge=0)
    steps: tuple[Step, ...] = ()
    normaliser: Normaliser | None = None
    clip_normaliser: Normaliser | None = None


class TrainingStatistics(_Part):
    """What the model saw, to compare live input with later."""

    num_windows: int
    num_subjects: int
    channel_min: tuple[float, ...] = ()
    channel_max: tuple[float, ...] = ()


class Signature(_Part):
    """All that a client or a server needs to know to use an artefact."""

    schema_version: Literal[1] = 1
    task: Literal["classify", "regress", "forecast"] = "classify"
    inputs: tuple[Input, ...] = Field(min_length=1, max_length=2)
    outputs: tuple[Output, ...] = Field(min_length=1, max_length=1)
    preprocessing: Preprocessing = Preprocessing()
    training_statistics: TrainingStatistics | None = None
    timeline: TimelineSettings = TimelineSettings()

    @model_validator(mode="after")
    def _check(self) -> Signature:
        if len({item.kind for item in self.inputs}) < len(self.inputs):
            raise ValueError("a model takes at most one sensor input and one clip input")
        expected = {"classify": "classes", "regress": "value", "forecast": "quantiles"}[self.task]
        if self.output.kind != expected:
            raise ValueError(f"task {self.task} gives {expected}, not {self.output.kind}")
        clip, of_clip = self.clip_input, self.preprocessing.clip_normaliser
        if clip is not None and of_clip is not None and len(of_clip.mean) != clip.num_channels:
            raise ValueError(
                f"the clip_normaliser has {len(of_clip.mean)} channels, the clip has"
                f" {clip.num_channels}"
            )
        if self.sensor_input is None:
            return self
        steps, normaliser = self.preprocessing.steps, self.preprocessing.normaliser
        try:
            check_steps(steps, self.sensors.channels, self.sensors.rate_hz)
        except RecipeError as error:
            raise ValueError(error.message) from error
        num_channels = len(output_channels(self.sensors.channels, steps))
        if normaliser is not None and len(normaliser.mean) != num_channels:
            raise ValueError(
                f"the normaliser has {len(normaliser.mean)} channels, the steps give {num_channels}"
            )
        return self

    @property
    def sensor_input(self) -> SensorInput | None:
        """The sensor input, if there is one."""
        return next((item for item in self.inputs if isinstance(item, SensorInput)), None)

    @property
    def clip_input(self) -> ClipInput | None:
        """The clip input, if there is one."""
        return next((item for item in self.inputs if isinstance(item, ClipInput)), None)

    @property
    def sensors(self) -> SensorInput:
        """The sensor input.

        Raises:
            ArtefactError: The model takes clips alone.
        """
        if self.sensor_input is None:
            raise ArtefactError("this model takes clips of video, and no sensor windows")
        return self.sensor_input

    @property
    def num_prepared_channels(self) -> int:
        """Channels of windows that the network sees, after the steps of the preprocessing."""
        return len(output_channels(self.sensors.channels, self.preprocessing.steps))

    @property
    def output(self) -> ClassesOutput | ValueOutput | QuantilesOutput:
        """The output."""
        return self.outputs[0]

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the output's last axis.

        Raises:
            ArtefactError: The model gives values, and no classes.
        """
        if not isinstance(self.output, ClassesOutput):
            raise ArtefactError(f"this model gives {self.output.kind}, and no classes")
        return self.output.classes


def parse_signature(content: bytes, place: str) -> Signature:
    """Read a signature.

    Raises:
        ArtefactError: It does not fit the schema; `place` is named in the message.
    """
    try:
        return Signature.model_validate_json(content)
    except ValidationError as error:
        raise ArtefactError(f"{place}: {describe(error)}") from error


def output_channels(channels: Sequence[Channel], steps: Sequence[Step]) -> tuple[Channel, ...]:
    """The channels that the network sees: those that come out of the steps.

    Raises:
        RecipeError: A step needs channels that are not there.
    """
    for index, step in enumerate(steps):
        if isinstance(step, GravitySplitStep):
            channels = _after_split(step, channels, _place(index, step))
    return tuple(channels)


def check_steps(steps: Sequence[Step], channels: Sequence[Channel], rate_hz: float) -> None:
    """Check that steps fit their input.

    Args:
        steps: In the order in which they are applied.
        channels: Of the raw windows.
        rate_hz: Of the raw windows.

    Raises:
        RecipeError: A cutoff is not below half the rate, a Hampel window is shorter than 3 samples,
            or acceleration channels are missing.
    """
    for index, step in enumerate(steps):
        if isinstance(step, HampelStep):
            if round(step.window_s * rate_hz) < 3:
                raise RecipeError(
                    f"{_place(index, step)}: window_s {step.window_s:g} is"
                    f" {round(step.window_s * rate_hz)} samples at {rate_hz:g} Hz, and a median"
                    f" needs 3: make it {3 / rate_hz:g} or more"
                )
        elif step.cutoff_hz >= rate_hz / 2:
            raise RecipeError(
                f"{_place(index, step)}: cutoff_hz {step.cutoff_hz:g} must be below half the rate"
                f" of the windows, {rate_hz:g} Hz: lower it under {rate_hz / 2:g}, or leave the"
                " step out"
            )
    output_channels(channels, steps)


def _after_split(
    step: GravitySplitStep, channels: Sequence[Channel], place: str
) -> tuple[Channel, ...]:
    by_name = {channel.name: channel for channel in channels}
    missing = [name for name in ACCELERATION if name not in by_name]
    if missing:
        raise RecipeError(
            f"{place}: there is no channel {', '.join(missing)} at this step (there is:"
            f" {', '.join(by_name)}): name the acceleration so, or leave the step out"
        )
    taken = [name for name in GRAVITY if name in by_name]
    if taken and step.keep != "linear":
        raise RecipeError(
            f"{place}: there is a channel {', '.join(taken)} already: set keep to linear, or leave"
            " the step out"
        )
    gravity_of = {
        name: Channel(name=gravity, unit=by_name[name].unit)
        for name, gravity in zip(ACCELERATION, GRAVITY, strict=True)
    }
    if step.keep == "gravity":
        return tuple(gravity_of.get(channel.name, channel) for channel in channels)
    return (*channels, *(gravity_of.values() if step.keep == "both" else ()))


def _place(index: int, step: Step) -> str:
    return f"preprocessing.steps.{index} ({step.step})"
