"""Filters on uniform windows: pure functions of numpy arrays.

Each window is filtered by itself along time, so that a result never depends on what else is in the
batch. Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import butter, sosfilt, sosfilt_zi, sosfiltfilt

Values = NDArray[np.float32] | NDArray[np.float64]
Floats = NDArray[np.float64]

# A normal distribution's standard deviation over its median absolute deviation.
_SIGMA_OF_MAD = 1.4826
# Keeps the sliding medians of large batches bounded.
_MAX_BLOCK_VALUES = 2**22
_SETTLED = 0.01


def hampel(values_BTC: Values, *, half_samples: int, num_sigmas: float = 3.0) -> Values:
    """Replace outliers by the median of their neighbourhood (Hampel filter).

    A sample further than `num_sigmas` robust standard deviations (1.4826 times the median absolute
    deviation) from the median of the 2 * `half_samples` + 1 samples around it becomes that median;
    all else stays bit for bit. The first and last `half_samples` are judged by the nearest whole
    neighbourhood. Where more than half of a neighbourhood has one value, any other value is an
    outlier. Source: Hampel, J. Am. Stat. Assoc. 69 (1974); Pearson et al., EURASIP J. Adv. Signal
    Process. 2016:87.

    Args:
        values_BTC: Shape (B, T, C).
        half_samples: Neighbours on each side.
        num_sigmas: Deviations that are kept.

    Returns:
        A new array of the same shape and type.
    """
    num_windows, num_samples, num_channels = values_BTC.shape
    # Odd, so that the median is one of the values.
    half_samples = min(half_samples, (num_samples - 1) // 2)
    span = 2 * half_samples + 1
    nearest_T = np.clip(np.arange(num_samples) - half_samples, 0, num_samples - span)
    filtered_BTC = values_BTC.copy()
    block = max(1, _MAX_BLOCK_VALUES // (num_samples * num_channels * span))
    for first in range(0, num_windows, block):
        part_BTC = values_BTC[first : first + block]
        around_BTCS: NDArray[Any] = sliding_window_view(part_BTC, span, axis=1)
        median_BTC = _middle(around_BTCS)
        mad_BTC = _middle(np.abs(around_BTCS - median_BTC[..., None]))
        median_BTC, mad_BTC = median_BTC[:, nearest_T], mad_BTC[:, nearest_T]
        is_outlier_BTC = np.abs(part_BTC - median_BTC) > num_sigmas * _SIGMA_OF_MAD * mad_BTC
        filtered_BTC[first : first + block][is_outlier_BTC] = median_BTC[is_outlier_BTC]
    return filtered_BTC


def _middle(values_BTCS: NDArray[Any]) -> NDArray[Any]:
    """Median over the last axis, whose length is odd."""
    half = values_BTCS.shape[-1] // 2
    return np.partition(values_BTCS, half, axis=-1)[..., half]


def low_pass(
    values_BTC: Values,
    *,
    rate_hz: float,
    cutoff_hz: float,
    order: int = 4,
    zero_phase: bool = False,
) -> Floats:
    """Butterworth low-pass filter in second-order sections.

    Causal: one pass that starts settled on the first sample, so that a constant stays constant.
    Zero phase: half the order forwards, then backwards, as gait laboratories, Pose2Sim and Sports2D
    do ("4th order, 6 Hz" is 2nd order twice); there the amplitude at the cutoff is 1/2 instead of
    0.71. Their cutoffs are 3 to 6 Hz for walking, 6 to 15 for running, 15 and more for impacts; UCI
    HAR filters noise at 20 Hz with order 3 (Anguita et al., ESANN 2013).

    Args:
        values_BTC: Shape (B, T, C).
        rate_hz: Of the samples.
        cutoff_hz: Below half the rate.
        order: In all; even where `zero_phase`.
        zero_phase: No delay, at the price of needing the whole window.

    Returns:
        Shape (B, T, C), float64.
    """
    if not zero_phase:
        return _causal(values_BTC, *butterworth(rate_hz, cutoff_hz, order))
    sections, _ = butterworth(rate_hz, cutoff_hz, order // 2)
    # scipy's own choice, where the window is long enough for it.
    num_lacking = min((sections[:, 2] == 0).sum(), (sections[:, 5] == 0).sum())
    padding = 3 * (2 * len(sections) + 1 - int(num_lacking))
    filtered_BTC: Floats = sosfiltfilt(
        sections, values_BTC, axis=1, padlen=min(padding, values_BTC.shape[1] - 1)
    )
    return filtered_BTC


def gravity_split(
    acceleration_BTC: Values, *, rate_hz: float, cutoff_hz: float = 0.3, order: int = 3
) -> tuple[Floats, Floats]:
    """Split acceleration into linear acceleration and gravity, whose sum it is.

    Gravity is the causal Butterworth low-pass of the acceleration, at 0.3 Hz as in UCI HAR (Anguita
    et al., ESANN 2013).

    Args:
        acceleration_BTC: Shape (B, T, C), any unit of acceleration.
        rate_hz: Of the samples.
        cutoff_hz: Below half the rate.
        order: Of the filter.

    Returns:
        Linear acceleration and gravity, each of the same shape, float64.
    """
    gravity_BTC = _causal(acceleration_BTC, *butterworth(rate_hz, cutoff_hz, order))
    return acceleration_BTC - gravity_BTC, gravity_BTC


@functools.lru_cache(maxsize=64)
def butterworth(rate_hz: float, cutoff_hz: float, order: int) -> tuple[Floats, Floats]:
    """Second-order sections, shape (S, 6), and their state settled on 1, shape (S, 2)."""
    sections: Floats = butter(order, cutoff_hz, fs=rate_hz, output="sos")
    return sections, sosfilt_zi(sections)


def _causal(values_BTC: Values, sections: Floats, settled: Floats) -> Floats:
    state_SB2C = settled[:, None, :, None] * values_BTC[None, :, :1]
    filtered_BTC: Floats
    filtered_BTC, _ = sosfilt(sections, values_BTC, axis=1, zi=state_SB2C)
    return filtered_BTC


@functools.lru_cache(maxsize=64)
def settling_samples(rate_hz: float, cutoff_hz: float, order: int) -> int:
    """Samples that a causal pass needs until it no longer matters what stood before them.

    It starts settled on the first; were the signal to step right after it, less than 1 % of the
    step would be left after so many samples.
    """
    sections, _ = butterworth(rate_hz, cutoff_hz, order)
    # The largest pole decays slowest; partners of the same size multiply the transient at most so.
    largest = max(0.1, *(float(abs(np.roots(section[3:])).max()) for section in sections))
    horizon = math.ceil(math.log(_SETTLED / 100) / math.log(largest)) + 1
    step_T = sosfilt(sections, np.ones(horizon))
    unsettled = np.flatnonzero(np.abs(step_T - 1) > _SETTLED)
    return int(unsettled[-1]) + 2 if len(unsettled) else 1
