"""The parts of a recipe that say what goes into the network, and what is asked of it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from motoric.artefact.signature import Step


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelTarget(_Part):
    """A channel of the windows' stream: its mean over the window, or its value later (forecast)."""

    channel: str
    relative: bool = Field(
        default=True,
        description="of a forecast: the network sees the channel relative to its last sample, so"
        " that it learns how it moves and not whose it is",
    )


class MetadataTarget(_Part):
    """A column of the recordings' metadata that holds a number."""

    metadata: str
    unit: str = ""


Target = Literal["label"] | ChannelTarget | MetadataTarget


class WindowConfig(_Part):
    """Windows of one stream of the dataset."""

    stream: str = "imu"
    length_s: float = Field(default=4.0, gt=0, le=3600)
    hop_s: float = Field(default=1.0, gt=0, le=3600)
    channels: tuple[str, ...] = Field(default=(), description="in this order; by default all")
    span: Literal["window", "annotation"] = Field(
        default="window", description="annotation: one window for each annotated interval"
    )
    fit: Literal["pad", "stretch"] = Field(
        default="pad",
        description="how such an interval comes to length_s: see data.windows.Windower",
    )

    @model_validator(mode="after")
    def _check(self) -> WindowConfig:
        if self.fit != "pad" and self.span == "window":
            raise ValueError(f"fit: {self.fit} is for span: annotation; it changes no other window")
        return self


class ClipConfig(_Part):
    """Clips of the recordings' video; see `motoric.data.video.clips.ClipSpec`."""

    num_frames: int = Field(default=16, ge=1, le=1024)
    height: int = Field(default=112, ge=8, le=4096, description="pixels")
    width: int = Field(default=112, ge=8, le=4096, description="pixels")
    resize: Literal["crop", "stretch"] = "crop"
    region: tuple[float, float, float, float] = Field(
        default=(0.0, 0.0, 1.0, 1.0),
        description="part of the picture: top, left, bottom, right, in shares of height and width;"
        " for a camera that stands still",
    )
    colour: Literal["rgb", "grey"] = "rgb"
    rate_hz: float | None = Field(
        default=None, gt=0, description="frames a second; by default spread over the whole span"
    )
    length_s: float | None = Field(
        default=None,
        gt=0,
        le=600,
        description="length of a span; by default one clip an annotation. With `window` it follows"
        " the windows and must be left out",
    )
    hop_s: float | None = Field(default=None, gt=0, le=600)


class PreprocessingConfig(_Part):
    """What changes values; it is copied into the signature."""

    rate_hz: float | None = Field(
        default=None,
        gt=0,
        description="rate of the windows; recordings of other rates are resampled with"
        " anti-aliasing. By default the stream's own, which all must then have",
    )
    max_gap_s: float = Field(
        default=0.0, ge=0, le=600, description="longest gap, or run of missing values, to fill"
    )
    steps: tuple[Step, ...] = Field(
        default=(), description="filters, in this order: hampel, low_pass, gravity_split"
    )
    context_s: float | None = Field(
        default=None,
        ge=0,
        le=600,
        description="time before each window that filters get; by default what they need to settle",
    )
    normalise: bool = Field(default=True, description="by the training subjects alone")
