"""A recording on this machine as samples of a live stream.

In: a sensor file of any kind that the endpoint reads. Out: its samples in the model's channels,
their order and units, rows in the order of time.

Axes: T samples, C channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import SensorInput
from motoric.core.errors import InputError, NotFoundError, UnreadableError
from motoric.serving.bodies.adaptation import Given
from motoric.serving.files.jobs import SourceFile
from motoric.serving.files.kinds import SENSOR_SUFFIXES, VIDEO_SUFFIXES, suffix_of
from motoric.serving.files.sensor_file import SensorFile

# Clocks of files have milliseconds.
_TIME_TOLERANCE_S = 1.5e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedSamples:
    """What a file holds of one model's input.

    Attributes:
        time_s: Shape (T,), increasing, from 0.
        values_TC: Shape (T, C), float32, in the model's units; NaN is missing.
        rate_hz: Nominal.
        is_regular: Whether the rate says the times.
    """

    time_s: NDArray[np.float64]
    values_TC: NDArray[np.float32]
    rate_hz: float
    is_regular: bool


def read_samples(path: Path, sensors: SensorInput) -> RecordedSamples:
    """Read the channels of a model; columns of tables are taken to be in its units.

    Raises:
        NotFoundError: There is no such file.
        ContentTypeError: Nothing reads such files.
        InputError: It is a video, is broken, lacks a channel, or has less than two samples.
    """
    if not path.is_file():
        raise NotFoundError(f"no file at {path}")
    suffix = suffix_of(path.name)
    if suffix in VIDEO_SUFFIXES:
        raise InputError(
            f"{path} is a video: a live stream takes files of {', '.join(SENSOR_SUFFIXES)}"
        )
    file = SensorFile(
        source=SourceFile(path=str(path), suffix=suffix),
        sensors=sensors,
        given=Given(),
        max_gap_s=0.0,  # the server fills gaps
        max_duration_s=math.inf,
    )
    try:
        parts = list(file.samples())
    except UnreadableError as error:
        raise InputError(f"{path} {error.message}") from error
    time_s = np.concatenate([np.empty(0), *(times for times, _ in parts)])
    if len(time_s) < 2:
        raise InputError(f"{path} has {len(time_s)} samples: a stream needs more")
    time_s -= time_s[0]
    rate_hz = file.rate_hz
    if abs(rate_hz - sensors.rate_hz) < 0.01 * sensors.rate_hz:
        rate_hz = sensors.rate_hz  # a measured rate is a little off
    numbers_T = np.arange(len(time_s))
    return RecordedSamples(
        time_s=time_s,
        values_TC=np.concatenate([values_TC for _, values_TC in parts]).astype(np.float32),
        rate_hz=rate_hz,
        is_regular=bool((np.abs(time_s - numbers_T / rate_hz) < _TIME_TOLERANCE_S).all()),
    )
