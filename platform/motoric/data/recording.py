"""One recording in memory: its streams, annotations and metadata.

Axes: T samples, C channels. Times are seconds from the start of the recording.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError

STANDARD_GRAVITY_M_S2 = 9.80665


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Channels that share one clock and rate.

    Attributes:
        name: Unique in the recording, such as `imu`.
        rate_hz: Nominal rate.
        time_s: Shape (T,), increasing.
        values_TC: Shape (T, C), float32, in the units of the dataset's card.
    """

    name: str
    rate_hz: float
    time_s: NDArray[np.float64]
    values_TC: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.values_TC.ndim != 2 or len(self.time_s) != len(self.values_TC):
            raise DatasetError(
                f"stream {self.name!r} needs one time a sample: it has {len(self.time_s)} times"
                f" for values of shape {self.values_TC.shape}"
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
class Recording:
    """One continuous capture of one subject."""

    recording_id: str
    subject: str
    streams: tuple[Stream, ...]
    annotations: tuple[Annotation, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def duration_s(self) -> float:
        """Length of the longest stream, in seconds."""
        return max(float(stream.time_s[-1]) + 1 / stream.rate_hz for stream in self.streams)
