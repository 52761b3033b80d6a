"""The one function that turns raw windows into what a network sees.

In: raw windows with their context, in the units of the signature. Out: float32 windows without the
context, of the channels that the steps give. Training, the command line, every replica and live
streams call this and nothing else.

Axes: B windows, T samples (with the context before `prepare`, without it after) or frames,
H height, W width, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import (
    ACCELERATION,
    Channel,
    ClipInput,
    GravitySplitStep,
    HampelStep,
    Normaliser,
    Preprocessing,
    SensorInput,
    Step,
    output_channels,
)
from motoric.core.errors import InputError

Windows = NDArray[np.float32]
Clips = NDArray[np.uint8]
Values = NDArray[np.float32] | NDArray[np.float64]

# Keeps the memory of fitting bounded.
_FIT_BATCH = 512
_MAX_DOT = 8192


def prepare(
    windows_BTC: Windows, preprocessing: Preprocessing, sensors: SensorInput | None = None
) -> Windows:
    """Apply the preprocessing of a signature.

    Args:
        windows_BTC: Raw windows, shape (B, num_input_samples, C).
        preprocessing: From the signature.
        sensors: From the signature; needed where there are steps or a context.

    Returns:
        float32 windows of shape (B, num_samples, C'), C' being the channels after the steps.

    Raises:
        InputError: The windows lack the context.
        ValueError: There are steps, and `sensors` is not given.
    """
    prepared_BTC = _after_steps(windows_BTC, preprocessing.steps, sensors)
    normaliser = preprocessing.normaliser
    if normaliser is None:
        return np.ascontiguousarray(prepared_BTC)
    mean_C = np.asarray(normaliser.mean, dtype=np.float32)
    std_C = np.asarray(normaliser.std, dtype=np.float32)
    normalised_BTC: Windows = (prepared_BTC - mean_C) / std_C
    return normalised_BTC


def _after_steps(
    windows_BTC: Windows, steps: Sequence[Step], sensors: SensorInput | None
) -> Windows:
    if sensors is None:
        if steps:
            raise ValueError("steps need the signature's sensors: their rate and channel names")
        return windows_BTC.astype(np.float32, copy=False)
    if windows_BTC.shape[1] != sensors.num_input_samples:
        raise InputError(
            f"windows of {windows_BTC.shape[1]} samples were given: {_samples_wanted(sensors)}"
        )
    values_BTC: Values = windows_BTC
    channels = sensors.channels
    for step in steps:
        values_BTC = _apply(step, values_BTC, channels, sensors.rate_hz)
        channels = output_channels(channels, (step,))
    return values_BTC[:, sensors.num_context_samples :].astype(np.float32, copy=False)


def _apply(step: Step, values_BTC: Values, channels: Sequence[Channel], rate_hz: float) -> Values:
    # scipy takes seconds to load, and a replica whose model has no steps never needs it.
    from motoric.artefact import filters

    if isinstance(step, HampelStep):
        return filters.hampel(
            values_BTC, half_samples=step.half_samples(rate_hz), num_sigmas=step.num_sigmas
        )
    if isinstance(step, GravitySplitStep):
        return _split_gravity(step, values_BTC, [item.name for item in channels], rate_hz)
    return filters.low_pass(
        values_BTC,
        rate_hz=rate_hz,
        cutoff_hz=step.cutoff_hz,
        order=step.order,
        zero_phase=step.zero_phase,
    )


def _split_gravity(
    step: GravitySplitStep, values_BTC: Values, names: list[str], rate_hz: float
) -> Values:
    from motoric.artefact import filters

    columns = [names.index(name) for name in ACCELERATION]
    linear_BTC, gravity_BTC = filters.gravity_split(
        values_BTC[:, :, columns], rate_hz=rate_hz, cutoff_hz=step.cutoff_hz, order=step.order
    )
    split_BTC = values_BTC.astype(np.float64)
    split_BTC[:, :, columns] = gravity_BTC if step.keep == "gravity" else linear_BTC
    return np.concatenate([split_BTC, gravity_BTC], axis=2) if step.keep == "both" else split_BTC


def settling_s(steps: Sequence[Step], rate_hz: float) -> float:
    """Context that the steps need until the past before it no longer matters, in seconds.

    Filters: until less than 1 % of a step's transient remains, by the pass forwards. Hampel: half
    of its window. Steps add up.

    Args:
        steps: Of a preprocessing.
        rate_hz: Of the windows.
    """
    from motoric.artefact import filters

    num_samples = 0
    for step in steps:
        if isinstance(step, HampelStep):
            num_samples += step.half_samples(rate_hz)
            continue
        is_twice = not isinstance(step, GravitySplitStep) and step.zero_phase
        order = step.order // 2 if is_twice else step.order
        num_samples += filters.settling_samples(rate_hz, step.cutoff_hz, order)
    return num_samples / rate_hz


class NormaliserFit:
    """Fits mean and deviation of each channel; a channel that never moves gets deviation 1.

    Fit it on windows of the training subjects only: those of others would leak into the model.

    Args:
        preprocessing: Its steps are what stands before the normaliser; by default none.
        sensors: Needed where there are steps or a context.
    """

    def __init__(
        self, preprocessing: Preprocessing | None = None, sensors: SensorInput | None = None
    ) -> None:
        self._steps = () if preprocessing is None else preprocessing.steps
        self._sensors = sensors
        self._count = 0
        self._mean_C: NDArray[np.float64] = np.zeros(1)
        self._squares_C: NDArray[np.float64] = np.zeros(1)

    def add(self, windows_BTC: Windows) -> None:
        """Take raw windows."""
        for first in range(0, len(windows_BTC), _FIT_BATCH):
            part_BTC = windows_BTC[first : first + _FIT_BATCH]
            part_BTC = _after_steps(part_BTC, self._steps, self._sensors)
            flat = part_BTC.reshape(-1, part_BTC.shape[-1]).astype(np.float64)
            mean_C = flat.mean(axis=0)
            self._join(len(flat), mean_C, ((flat - mean_C) ** 2).sum(axis=0))

    def merge(self, other: NormaliserFit) -> None:
        """Take what another has taken."""
        if other._count:
            self._join(other._count, other._mean_C, other._squares_C)

    def fitted(self) -> Normaliser:
        """The normaliser of all windows so far."""
        std_C = np.sqrt(self._squares_C / self._count)
        std_C[std_C < 1e-8] = 1.0
        return Normaliser(mean=tuple(self._mean_C.tolist()), std=tuple(std_C.tolist()))

    def _join(self, num: int, mean_C: NDArray[np.float64], squares_C: NDArray[np.float64]) -> None:
        """Means and sums of squares of two parts make those of both (Chan et al. 1979)."""
        away_C = mean_C - self._mean_C
        total = self._count + num
        self._squares_C = squares_C + (self._squares_C + away_C**2 * (self._count * num / total))
        self._mean_C = self._mean_C + away_C * (num / total)
        self._count = total


def _samples_wanted(sensors: SensorInput) -> str:
    wanted = f"{sensors.num_input_samples} samples at {sensors.rate_hz:g} Hz"
    if sensors.num_context_samples == 0:
        return wanted
    return (
        f"{wanted} (the first {sensors.num_context_samples} are the {sensors.context_s:g} s of"
        f" context before the window's own {sensors.num_samples}; repeat the first sample where"
        " there are none)"
    )


def surely_finite(values: NDArray[np.float32]) -> bool:
    """Whether no value is NaN or infinite, as far as one sum tells.

    False is no proof: sums of large values overflow. It costs a tenth of looking at each value.
    """
    flat_V = values.ravel()
    with np.errstate(over="ignore", invalid="ignore"):
        # The product is faster, and of long vectors some libraries start threads.
        is_long = len(flat_V) > _MAX_DOT
        return math.isfinite(np.add.reduce(flat_V) if is_long else flat_V.dot(flat_V))


def check_windows(windows: NDArray[np.generic], sensors: SensorInput) -> Windows:
    """Check that windows fit a signature; a single window gets its batch axis.

    Args:
        windows: Numbers of shape (B, num_input_samples, C) or (num_input_samples, C).
        sensors: The input of the signature.

    Raises:
        InputError: Another shape, no windows, or values that are not finite.
    """
    expected = (sensors.num_input_samples, sensors.num_channels)
    if windows.ndim == 2:
        windows = windows[None]
    if windows.ndim != 3 or windows.shape[1:] != expected:
        names = ", ".join(f"{channel.name} [{channel.unit}]" for channel in sensors.channels)
        got = windows.shape[1:] if windows.ndim == 3 else windows.shape
        raise InputError(
            f"a window must have shape {list(expected)}: {_samples_wanted(sensors)}"
            f" of {expected[1]} channels ({names}); got {list(got)}"
        )
    if len(windows) == 0:
        raise InputError("no windows were sent")
    checked: Windows = np.ascontiguousarray(windows, dtype=np.float32)
    if not surely_finite(checked) and len(bad := np.argwhere(~np.isfinite(checked))):
        window, sample, channel = bad[0].tolist()
        raise InputError(
            f"{len(bad)} values are NaN or infinite; the first is window {window},"
            f" sample {sample}, channel {sensors.channels[channel].name}: fill or drop such"
            " samples before sending"
        )
    return checked


def check_clips(clips: NDArray[np.generic], clip: ClipInput) -> Clips:
    """Check that clips fit a signature; a single clip gets its batch axis.

    Args:
        clips: Bytes of shape (B, T, H, W, C) or (T, H, W, C).
        clip: The input of the signature.

    Raises:
        InputError: Another shape or type, or no clips.
    """
    if clips.ndim == 4:
        clips = clips[None]
    if clips.ndim != 5 or clips.shape[1:] != clip.shape:
        got = clips.shape[1:] if clips.ndim == 5 else clips.shape
        raise InputError(
            f"a clip must have shape {list(clip.shape)}: {clip.num_frames} frames of"
            f" {clip.height} x {clip.width} pixels, {clip.colour}; got {list(got)}"
        )
    if len(clips) == 0:
        raise InputError("no clips were sent")
    if clips.dtype != np.uint8:
        raise InputError(f"clips must be uint8, values of 0 to 255; got {clips.dtype}")
    return np.ascontiguousarray(clips, dtype=np.uint8)
