"""Estimates the offset of a recording's video while its sensors are being read.

In: the batches of a reader, as they pass on their way into the dataset. Out: the video with its
offset, its confidence and how it was found. Axes: T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import AlignmentSettings
from motoric.data.recording import Video
from motoric.data.video.alignment import acceleration_energy, estimate_offset, motion_energy
from motoric.data.video.frames import FrameReader

# The first minutes say enough, and bound the work on long recordings.
MAX_COMPARED_S = 300.0
_MAX_FRAMES_HZ = 15.0
_HEIGHT, _WIDTH = 90, 120


_RATE, _ACCELERATION = "gyr_", "acc_"
_Rows = tuple[NDArray[np.float64], NDArray[np.float64]]


class MotionTap:
    """Passes samples on, and keeps how much moved in the first minutes.

    Args:
        samples: Batches of a reader.
    """

    def __init__(self, samples: Iterable[Samples]) -> None:
        self._samples = samples
        # By what is measured: angular rate, which fits video best, and acceleration.
        self._seen: dict[str, list[_Rows]] = {_RATE: [], _ACCELERATION: []}
        self._zero_s: float | None = None

    def __iter__(self) -> Iterator[Samples]:
        for batch in self._samples:
            self._look(batch)
            yield batch

    def _look(self, batch: Samples) -> None:
        finite_s = batch.time_s[np.isfinite(batch.time_s)]
        if self._zero_s is None and len(finite_s):
            # The same zero as the streams get.
            self._zero_s = float(finite_s[0]) if batch.is_unix_time else 0.0
        if self._zero_s is None:
            return
        time_s = batch.time_s - self._zero_s
        early = time_s <= MAX_COMPARED_S
        for prefix, seen in self._seen.items():
            columns = _columns(batch, prefix)
            if columns and early.any():
                seen.append((time_s[early], batch.values_TC[early][:, columns]))

    def align(self, video: Video, uri: str, settings: AlignmentSettings, notes: Notes) -> Video:
        """The video with the offset at which its motion fits that of the sensors.

        A weak estimate is flagged and not used: the video keeps what was known of it.
        """
        time_s, energy_T = self._energy()
        video_s, motion_T = _video_energy(uri, video)
        estimate = estimate_offset(video_s, motion_T, time_s, energy_T, settings.max_offset_s)
        if estimate.confidence < settings.min_confidence:
            notes.add(
                "not_aligned",
                f"motion in the video and of the sensors fit too weakly (confidence"
                f" {estimate.confidence:.2f}, {settings.min_confidence:g} is asked for): the offset"
                f" stays {video.offset_s:g} s, by {video.offset_method}",
            )
            return replace(video, offset_confidence=round(estimate.confidence, 3))
        return replace(
            video,
            offset_s=round(estimate.offset_s, 4),
            offset_method="correlation",
            offset_confidence=round(estimate.confidence, 3),
        )

    def _energy(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        prefix = _RATE if self._seen[_RATE] else _ACCELERATION
        seen = self._seen[prefix]
        if not seen:
            return np.empty(0), np.empty(0)
        time_s, first = np.unique(np.concatenate([rows[0] for rows in seen]), return_index=True)
        values_TC = np.concatenate([rows[1] for rows in seen])[first]
        timed = np.isfinite(time_s)
        time_s, values_TC = time_s[timed], values_TC[timed]
        if prefix == _RATE:
            return time_s, np.asarray(np.linalg.norm(values_TC, axis=1))
        return time_s, acceleration_energy(values_TC, time_s)


def _columns(batch: Samples, prefix: str) -> list[int]:
    names = [channel.name for channel in batch.channels]
    wanted = [f"{prefix}{axis}" for axis in "xyz"]
    return [names.index(name) for name in wanted] if set(wanted) <= set(names) else []


def _video_energy(uri: str, video: Video) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    length_s = min(video.duration_s, MAX_COMPARED_S)
    rate_hz = min(video.rate_hz, _MAX_FRAMES_HZ)
    wanted_s = np.arange(max(2, int(length_s * rate_hz))) / rate_hz
    with FrameReader(uri, height=_HEIGHT, width=_WIDTH, resize="stretch") as reader:
        motion_T = motion_energy(frame.rgb_HWC for frame in reader.read(wanted_s.tolist()))
    return wanted_s, motion_T
