"""Offset between the clocks of a video and of a worn sensor, from the motion that both saw.

In: how much moves in the picture, and how fast the sensor's acceleration changes, each with its
times. Out: the offset that makes them agree best, and how far to trust it.

Both sides are turned into the speed of the motion. A picture changes as fast as limbs move. For a
swing at one frequency acceleration is largest where speed is zero, so its size would match a
quarter of a period late; its derivative (jerk) is in step with speed, and so is the turning of
gravity in the sensor's frame, which dominates slow motion.

The estimate is the peak of the normalised cross-correlation (Knapp and Carter, The generalized
correlation method for estimation of time delay, IEEE TASSP 24(4), 1976, with whitening replaced by
a fixed smoothing), as video and inertial data are commonly synchronised (Bannach, Amft and
Lukowicz, Automatic event-based synchronization of multimodal data streams from wearable and ambient
sensors, EuroSSC 2009).

Axes: T frames or samples, C the axes of acceleration, L lags.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Both energies are compared at this rate, smoothed to what a slow camera can still show.
GRID_HZ = 50.0
_SMOOTHING_S = 0.1
_ACC_SMOOTHING_S = 0.05
# The picture's longer side after averaging blocks, in pixels: the noise of pixels goes, limbs stay.
_SMALL_PX = 80
_MIN_OVERLAP_S = 2.0
_MIN_OVERLAP_SHARE = 0.5
# A second peak nearer than this belongs to the first.
_PEAK_WIDTH_S = 0.3
# Where the overlap holds less than this share of a signal's variance there is little to match.
_MIN_VARIANCE_SHARE = 0.25
# A lead of this share over the second best match is a clear one.
_CLEAR_LEAD = 0.25
_FLAT = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class OffsetEstimate:
    """Where a video lies on the clock of the sensors.

    Attributes:
        offset_s: Time of the sensors at which video time 0 was: sensor time = video time + offset.
        confidence: 0 to 1: how far the best match is above chance, times how far it is above the
            second best at another offset. Evenly repeated motion matches at several offsets, and
            so gets a low one.
    """

    offset_s: float
    confidence: float


UNKNOWN_OFFSET = OffsetEstimate(offset_s=0.0, confidence=0.0)


def motion_energy(frames: Iterable[NDArray[np.uint8]]) -> Floats:
    """How much moves in each frame of a video: mean absolute difference to its neighbours.

    Frame differencing of grey, down-scaled frames. Each value is the mean of the difference to the
    frame before and to the one after, so that it belongs to the frame's own time.

    Args:
        frames: Each of shape (height, width) or (height, width, 3), all alike; read once, one at a
            time.

    Returns:
        Shape (T,), grey levels 0 to 255; zero for a single frame.
    """
    steps: list[float] = []
    before: NDArray[np.float32] | None = None
    for frame in frames:
        now = _small_grey(frame)
        if before is not None:
            steps.append(float(np.abs(now - before).mean()))
        before = now
    if before is None:
        return np.zeros(0)
    if not steps:
        return np.zeros(1)
    to_before_T, to_after_T = np.array([steps[0], *steps]), np.array([*steps, steps[-1]])
    return np.asarray((to_before_T + to_after_T) / 2)


def acceleration_energy(acc_TC: NDArray[np.floating], time_s: Floats) -> Floats:
    """How fast a worn sensor moves: size of the derivative of its smoothed acceleration.

    Args:
        acc_TC: Shape (T, 3), gravity included, any unit; samples with NaN are bridged.
        time_s: Shape (T,), increasing; need not be even.

    Returns:
        Shape (T,), the unit of `acc_TC` a second; zero where fewer than two samples are finite.
    """
    is_finite_T = np.isfinite(acc_TC).all(axis=1)
    if is_finite_T.sum() < 2:
        return np.zeros(len(time_s))
    known_s, known_TC = time_s[is_finite_T], acc_TC[is_finite_T].astype(np.float64)
    grid_s = _grid(known_s)
    if len(grid_s) < 2:
        return np.zeros(len(time_s))
    smooth_TC = np.stack(
        [
            _smooth(np.interp(grid_s, known_s, axis_T), _ACC_SMOOTHING_S * GRID_HZ)
            for axis_T in known_TC.T
        ],
        axis=1,
    )
    energy = np.linalg.norm(np.gradient(smooth_TC, 1 / GRID_HZ, axis=0), axis=1)
    return np.asarray(np.interp(time_s, grid_s, energy))


def estimate_offset(
    video_time_s: Floats,
    video_energy: Floats,
    sensor_time_s: Floats,
    sensor_energy: Floats,
    max_offset_s: float,
) -> OffsetEstimate:
    """Find the offset within ±`max_offset_s` at which both energies agree best.

    Only offsets at which they overlap by 2 s or more, and by half of the shorter, are tried.

    Args:
        video_time_s: Shape (T,), increasing, on the video's clock.
        video_energy: Shape (T,), as of `motion_energy`.
        sensor_time_s: Shape (T,) of its own, increasing, on the sensors' clock.
        sensor_energy: As of `acceleration_energy`, or the size of the angular rate, which is the
            better one where there is a gyroscope. NaN is bridged.
        max_offset_s: Farthest offset that is tried, above 0.

    Returns:
        The estimate; offset 0 at confidence 0 where nothing moves or nothing overlaps enough.
    """
    if len(video_time_s) < 2 or len(sensor_time_s) < 2:
        return UNKNOWN_OFFSET
    video_T = _resample(video_time_s, video_energy)
    sensor_T = _resample(sensor_time_s, sensor_energy)
    shortest = min(len(video_T), len(sensor_T))
    min_overlap = max(_MIN_OVERLAP_S * GRID_HZ, _MIN_OVERLAP_SHARE * shortest)
    if video_T.std() < _FLAT or sensor_T.std() < _FLAT or shortest < min_overlap:
        return UNKNOWN_OFFSET

    # A lag moves the video's first grid point along the sensors' grid.
    between_s = float(sensor_time_s[0] - video_time_s[0])
    lag_L = np.arange(
        int(np.ceil((-max_offset_s - between_s) * GRID_HZ)),
        int(np.floor((max_offset_s - between_s) * GRID_HZ)) + 1,
    )
    overlap_L = np.minimum(len(sensor_T), lag_L + len(video_T)) - np.maximum(0, lag_L)
    lag_L, overlap_L = lag_L[overlap_L >= min_overlap], overlap_L[overlap_L >= min_overlap]
    if len(lag_L) == 0:
        return UNKNOWN_OFFSET
    match_L = _correlation(_standardise(video_T), _standardise(sensor_T), lag_L)
    best = int(match_L.argmax())
    offset_s = (lag_L[best] + _vertex(match_L, best)) / GRID_HZ + between_s
    return OffsetEstimate(
        offset_s=float(np.clip(offset_s, -max_offset_s, max_offset_s)),
        confidence=_confidence(match_L, best, int(overlap_L[best]), video_T, sensor_T),
    )


def _small_grey(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean of square blocks of pixels and of the colours; a rest at right and bottom is cut off."""
    height, width = frame.shape[:2]
    block = min(max(1, round(max(height, width) / _SMALL_PX)), height, width)
    rows, columns = height // block, width // block
    cut = frame[: rows * block, : columns * block]
    small: NDArray[np.float32] = cut.reshape(rows, block, columns, -1).mean(
        axis=(1, 3), dtype=np.float32
    )
    return small


def _grid(time_s: Floats) -> Floats:
    return np.arange(time_s[0], time_s[-1] + 1e-9, 1 / GRID_HZ)


def _resample(time_s: Floats, energy: Floats) -> Floats:
    """Onto the even grid from the first time on, peaks tamed by a square root, smoothed."""
    grid_s, is_finite_T = _grid(time_s), np.isfinite(energy)
    if not is_finite_T.any():
        return np.zeros(len(grid_s))
    tamed_T = np.sqrt(np.maximum(energy[is_finite_T], 0))
    return _smooth(np.interp(grid_s, time_s[is_finite_T], tamed_T), _SMOOTHING_S * GRID_HZ)


def _smooth(values_T: Floats, sigma: float) -> Floats:
    """Gaussian smoothing, edges continued by their last value."""
    reach = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    return np.convolve(np.pad(values_T, reach, mode="edge"), kernel / kernel.sum(), mode="valid")


def _standardise(values_T: Floats) -> Floats:
    return np.asarray((values_T - values_T.mean()) / values_T.std())


def _correlation(video_T: Floats, sensor_T: Floats, lag_L: NDArray[np.int64]) -> Floats:
    """Pearson's correlation over the overlap at each lag, from standardised signals.

    A lag is the index of the sensor sample under the video's first. Where an overlap is nearly
    still, the variance of the whole is what counts, so that its noise is not blown up.
    """
    num_fft = 1 << (len(video_T) + len(sensor_T)).bit_length()
    spectrum = np.fft.rfft(sensor_T, num_fft) * np.conj(np.fft.rfft(video_T, num_fft))
    product_L = np.fft.irfft(spectrum, num_fft)[lag_L % num_fft]
    start_L, end_L = np.maximum(0, lag_L), np.minimum(len(sensor_T), lag_L + len(video_T))
    count_L = end_L - start_L
    mean_sensor_L, variance_sensor_L = _moments(sensor_T, start_L, end_L)
    mean_video_L, variance_video_L = _moments(video_T, start_L - lag_L, end_L - lag_L)
    covariance_L = product_L / count_L - mean_sensor_L * mean_video_L
    return np.asarray(covariance_L / np.sqrt(variance_sensor_L * variance_video_L))


def _moments(
    values_T: Floats, start_L: NDArray[np.int64], end_L: NDArray[np.int64]
) -> tuple[Floats, Floats]:
    """Mean and variance of each span; the variance at least a share of the whole's, which is 1."""
    sums = np.concatenate([[0.0], np.cumsum(values_T)])
    squares = np.concatenate([[0.0], np.cumsum(values_T**2)])
    mean_L = (sums[end_L] - sums[start_L]) / (end_L - start_L)
    variance_L = (squares[end_L] - squares[start_L]) / (end_L - start_L) - mean_L**2
    return mean_L, np.maximum(variance_L, _MIN_VARIANCE_SHARE)


def _vertex(match_L: Floats, best: int) -> float:
    """How far from `best` the parabola through it and its neighbours peaks, in lags."""
    if best in (0, len(match_L) - 1):
        return 0.0
    before, peak, after = match_L[best - 1 : best + 2]
    curvature = before - 2 * peak + after
    return 0.0 if curvature >= 0 else float(0.5 * (before - after) / curvature)


def _confidence(
    match_L: Floats, best: int, num_overlap: int, video_T: Floats, sensor_T: Floats
) -> float:
    """How far the best match is above chance, times how far above its rival.

    Chance is the height that the largest of as many independent matches as were tried reaches
    between signals that have nothing to do with each other: by Bartlett (1946) each match then has
    the variance (sum of the product of both autocorrelations) / samples. A peak at the rim of
    what was tried is no peak, and counts nothing.
    """
    peak = float(match_L[best])
    if best in (0, len(match_L) - 1) or peak <= 0:
        return 0.0
    shared = min(len(video_T), len(sensor_T))
    product = _autocorrelation(video_T)[:shared] * _autocorrelation(sensor_T)[:shared]
    # Only the main lobe: that evenly repeated motion matches again and again, the rival says.
    main_lobe = product[: int((product <= 0).argmax()) or shared]
    num_alike = 2 * float(main_lobe.sum()) - 1
    num_tried = max(2.0, len(match_L) / num_alike)
    chance = float(np.sqrt(2 * np.log(num_tried) * num_alike / num_overlap))
    if peak <= chance:
        return 0.0
    lead = 1 - _rival(match_L, best) / peak
    return min(1.0, (peak - chance) / (1 - chance)) * min(1.0, lead / _CLEAR_LEAD)


def _rival(match_L: Floats, best: int) -> float:
    """Height of the second highest peak that is a peak of its own; 0 where there is none."""
    is_peak_L = np.zeros(len(match_L), dtype=np.bool_)
    is_peak_L[1:-1] = (match_L[1:-1] >= match_L[:-2]) & (match_L[1:-1] >= match_L[2:])
    # The rim may hide a peak behind it.
    is_peak_L[[0, -1]] = True
    is_far_L = np.abs(np.arange(len(match_L)) - best) > _PEAK_WIDTH_S * GRID_HZ
    return float(match_L[is_peak_L & is_far_L].max(initial=0.0))


def _autocorrelation(values_T: Floats) -> Floats:
    centred_T = values_T - values_T.mean()
    num_fft = 1 << (2 * len(values_T)).bit_length()
    power = np.abs(np.fft.rfft(centred_T, num_fft)) ** 2
    raw = np.fft.irfft(power, num_fft)[: len(values_T)]
    return np.asarray(raw / raw[0])
