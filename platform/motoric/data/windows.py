"""Windows: fixed spans of one stream, with the label of the annotation that covers them.

Axes: B windows, T samples of a window, C channels. Pure numpy, no Ray.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError
from motoric.data.recording import Annotation, Recording, Stream

# A step of more than this many sample periods is a gap; no window crosses one.
_GAP_PERIODS = 1.5
_TIME_TOLERANCE_S = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSet:
    """Labelled windows of some recordings, in the order of the recordings and of time.

    Attributes:
        windows_BTC: Raw values, float32.
        labels_B: Index into `classes`.
        subjects: Subject of each window.
        recording_ids: Recording of each window.
        start_s_B: Start of each window in its recording.
        classes: Class names.
    """

    windows_BTC: NDArray[np.float32]
    labels_B: NDArray[np.int64]
    subjects: tuple[str, ...]
    recording_ids: tuple[str, ...]
    start_s_B: NDArray[np.float64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.windows_BTC)


def window_starts(
    time_s: NDArray[np.float64], *, rate_hz: float, num_samples: int, hop_samples: int
) -> NDArray[np.int64]:
    """First sample of each window: every `hop_samples` within each stretch that has no gap.

    Args:
        time_s: Shape (T,), increasing.
        rate_hz: Nominal rate.
        num_samples: Samples of a window.
        hop_samples: Samples from one window to the next.
    """
    breaks = np.flatnonzero(np.diff(time_s) > _GAP_PERIODS / rate_hz) + 1
    edges = [0, *breaks.tolist(), len(time_s)]
    starts = [
        np.arange(first, last - num_samples + 1, hop_samples)
        for first, last in itertools.pairwise(edges)
    ]
    return np.concatenate(starts).astype(np.int64)


def covering_label(annotations: Sequence[Annotation], start_s: float, end_s: float) -> str | None:
    """Label of the one annotation that covers the whole span, or None."""
    for annotation in annotations:
        if (
            annotation.start_s <= start_s + _TIME_TOLERANCE_S
            and annotation.end_s >= end_s - _TIME_TOLERANCE_S
        ):
            return annotation.label
    return None


def _labelled(
    recording: Recording, stream: Stream, num_samples: int, hop_samples: int
) -> Iterator[tuple[NDArray[np.float32], str, float]]:
    starts = window_starts(
        stream.time_s, rate_hz=stream.rate_hz, num_samples=num_samples, hop_samples=hop_samples
    )
    for start in starts.tolist():
        start_s = float(stream.time_s[start])
        end_s = float(stream.time_s[start + num_samples - 1]) + 1 / stream.rate_hz
        label = covering_label(recording.annotations, start_s, end_s)
        if label is not None:
            yield stream.values_TC[start : start + num_samples], label, start_s


def cut_windows(
    recordings: Iterable[Recording],
    *,
    stream_name: str,
    rate_hz: float,
    length_s: float,
    hop_s: float,
    classes: Sequence[str],
) -> WindowSet:
    """Cut recordings into labelled windows; spans without one clear label are left out.

    Raises:
        DatasetError: A recording lacks the stream or has another rate, an unknown label or values
            that are not finite; or there is not one window in all.
    """
    num_samples, hop_samples = round(length_s * rate_hz), max(1, round(hop_s * rate_hz))
    index_of = {label: index for index, label in enumerate(classes)}
    windows: list[NDArray[np.float32]] = []
    labels: list[int] = []
    subjects: list[str] = []
    recording_ids: list[str] = []
    starts_s: list[float] = []
    for recording in recordings:
        stream = _find_stream(recording, stream_name, rate_hz)
        for values_TC, label, start_s in _labelled(recording, stream, num_samples, hop_samples):
            if label not in index_of:
                raise DatasetError(f"{recording.recording_id}: label {label!r} is not a class")
            windows.append(values_TC)
            labels.append(index_of[label])
            subjects.append(recording.subject)
            recording_ids.append(recording.recording_id)
            starts_s.append(start_s)
    if not windows:
        raise DatasetError(
            f"no labelled window of {length_s:g} s fits these recordings: shorten window.length_s"
        )
    return WindowSet(
        windows_BTC=np.stack(windows),
        labels_B=np.array(labels, dtype=np.int64),
        subjects=tuple(subjects),
        recording_ids=tuple(recording_ids),
        start_s_B=np.array(starts_s),
        classes=tuple(classes),
    )


def _find_stream(recording: Recording, name: str, rate_hz: float) -> Stream:
    for stream in recording.streams:
        if stream.name != name:
            continue
        if abs(stream.rate_hz - rate_hz) > 1e-6:
            raise DatasetError(
                f"{recording.recording_id}: stream {name!r} runs at {stream.rate_hz:g} Hz,"
                f" the others at {rate_hz:g} Hz"
            )
        if not np.isfinite(stream.values_TC).all():
            raise DatasetError(
                f"{recording.recording_id}: stream {name!r} has NaN or infinite values"
            )
        return stream
    raise DatasetError(f"{recording.recording_id} has no stream {name!r}")
