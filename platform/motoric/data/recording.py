"""One recording in memory: its streams, video, annotations and metadata.

Axes: T samples, C channels. Times are seconds from the start of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError

STANDARD_GRAVITY_M_S2 = 9.80665
# Subjects whom nobody named: `unknown:<recording_id>`, never counted as distinct people.
UNKNOWN_SUBJECT = "unknown:"
# A step of more than this many sample periods is a gap; no window crosses one unless it is filled.
GAP_PERIODS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Channel:
    """One channel: its name and the unit of its values, empty where nobody said it."""

    name: str
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Channels that share one clock and rate.

    Attributes:
        name: Unique in the recording, such as `imu`.
        rate_hz: Nominal rate.
        channels: C channels.
        time_s: Shape (T,), increasing.
        values_TC: Shape (T, C), float32, or float64 where positions in degrees need it. NaN is a
            missing value.
    """

    name: str
    rate_hz: float
    channels: tuple[Channel, ...]
    time_s: NDArray[np.float64]
    values_TC: NDArray[np.float32] | NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.values_TC.shape != (len(self.time_s), len(self.channels)):
            raise DatasetError(
                f"stream {self.name!r} needs one row a time and one column a channel: it has"
                f" {len(self.time_s)} times and {len(self.channels)} channels for values of shape"
                f" {self.values_TC.shape}"
            )
        if len(self.time_s) == 0:
            raise DatasetError(f"stream {self.name!r} has no samples")
        if not np.isfinite(self.time_s).all() or (np.diff(self.time_s) <= 0).any():
            raise DatasetError(f"the times of stream {self.name!r} do not increase")


@dataclass(frozen=True, slots=True, kw_only=True)
class Annotation:
    """A labelled interval."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """Something ingest noticed about a recording.

    Attributes:
        kind: One short name, such as `gap`, `spike`, `truncated`, `unknown_column`.
        detail: One line for a person.
        stream: Name of the stream, empty for the whole recording.
        channel: Name of the channel, empty for all.
        count: How often.
        is_repair: The file was damaged and something was lost or put right; else a mere note.
    """

    kind: str
    detail: str
    stream: str = ""
    channel: str = ""
    count: int = 1
    is_repair: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Video:
    """The video of a recording; its pixels stay in the file.

    Attributes:
        uri: Absolute, or relative to the dataset where the video was copied into it.
        sha256: Of the file.
        num_bytes: Of the file.
        codec: FFmpeg's name, such as `h264`.
        width: Pixels as displayed, after rotation.
        height: Pixels as displayed, after rotation.
        rotation_deg: 0, 90, 180 or 270: how far frames are turned for display, counter-clockwise.
        num_frames: Frames found in the file.
        duration_s: From the first frame's time to the end of the last.
        rate_hz: Mean frame rate.
        is_variable_rate: Frames are not evenly spaced.
        offset_s: Time of the recording at which the first frame was taken.
        offset_method: `none`, `explicit`, `start_time` or `correlation`.
        offset_confidence: 0 to 1 where it was estimated, else 1.
    """

    uri: str
    sha256: str
    num_bytes: int
    codec: str
    width: int
    height: int
    rotation_deg: int
    num_frames: int
    duration_s: float
    rate_hz: float
    is_variable_rate: bool
    offset_s: float = 0.0
    offset_method: str = "none"
    offset_confidence: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One continuous capture of one subject: streams, a video, or both."""

    recording_id: str
    subject: str
    streams: tuple[Stream, ...] = ()
    video: Video | None = None
    annotations: tuple[Annotation, ...] = ()
    flags: tuple[Flag, ...] = ()
    start_time_s: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Time from the first sample or frame to the end of the last, in seconds."""
        starts = [float(stream.time_s[0]) for stream in self.streams]
        ends = [float(stream.time_s[-1]) + 1 / stream.rate_hz for stream in self.streams]
        if self.video is not None:
            starts.append(self.video.offset_s)
            ends.append(self.video.offset_s + self.video.duration_s)
        return max(ends) - min(starts)

    def stream(self, name: str) -> Stream:
        """One stream by its name.

        Raises:
            DatasetError: There is none of that name.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        known = ", ".join(stream.name for stream in self.streams) or "none"
        raise DatasetError(f"{self.recording_id} has no stream {name!r} (it has: {known})")
