"""The one function that turns raw windows into what a network sees.

In: raw windows in the units of the signature. Out: float32 windows of the same shape. Training, the
command line and every replica call this and nothing else.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import Normaliser, Preprocessing, SensorInput
from motoric.core.errors import InputError

Windows = NDArray[np.float32]


def prepare(windows_BTC: Windows, preprocessing: Preprocessing) -> Windows:
    """Apply the preprocessing of a signature.

    Args:
        windows_BTC: Raw windows, shape (B, T, C).
        preprocessing: From the signature.

    Returns:
        Windows of the same shape, float32.
    """
    normaliser = preprocessing.normaliser
    if normaliser is None:
        return windows_BTC.astype(np.float32, copy=False)
    mean_C = np.asarray(normaliser.mean, dtype=np.float32)
    std_C = np.asarray(normaliser.std, dtype=np.float32)
    prepared: Windows = (windows_BTC - mean_C) / std_C
    return prepared


def fit_normaliser(windows_BTC: Windows) -> Normaliser:
    """Mean and standard deviation per channel; a channel that never moves gets std 1."""
    flat = windows_BTC.reshape(-1, windows_BTC.shape[-1]).astype(np.float64)
    std_C = flat.std(axis=0)
    std_C[std_C < 1e-8] = 1.0
    return Normaliser(mean=tuple(flat.mean(axis=0).tolist()), std=tuple(std_C.tolist()))


def check_windows(windows: NDArray[np.generic], sensors: SensorInput) -> Windows:
    """Check that windows fit a signature; a single window gets its batch axis.

    Args:
        windows: Numbers of shape (B, T, C) or (T, C).
        sensors: The input of the signature.

    Raises:
        InputError: Another shape, no windows, or values that are not finite.
    """
    expected = (sensors.num_samples, sensors.num_channels)
    if windows.ndim == 2:
        windows = windows[None]
    if windows.ndim != 3 or windows.shape[1:] != expected:
        names = ", ".join(f"{channel.name} [{channel.unit}]" for channel in sensors.channels)
        got = windows.shape[1:] if windows.ndim == 3 else windows.shape
        raise InputError(
            f"a window must have shape {list(expected)}: {expected[0]} samples"
            f" at {sensors.rate_hz:g} Hz of {expected[1]} channels ({names}); got {list(got)}"
        )
    if len(windows) == 0:
        raise InputError("no windows were sent")
    checked: Windows = np.ascontiguousarray(windows, dtype=np.float32)
    # A sum is finite only if no value is NaN or infinite; the exact look-up runs when it is not.
    with np.errstate(invalid="ignore"):
        is_finite = np.isfinite(checked.sum(dtype=np.float64))
    if not is_finite:
        bad = np.argwhere(~np.isfinite(checked))
        window, sample, channel = bad[0].tolist() if len(bad) else (0, 0, 0)
        raise InputError(
            f"{len(bad)} values are NaN or infinite; the first is window {window},"
            f" sample {sample}, channel {sensors.channels[channel].name}: fill or drop such"
            " samples before sending"
        )
    return checked
