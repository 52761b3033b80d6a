"""Windows: fixed spans of one stream, with the label of the annotation that covers them.

In: samples of a stream as they were recorded. Out: windows at one rate, each with the context that
filters need before it. A file and a live stream are cut by the same `Windower`.

Axes: B windows, T samples of a window and its context, C channels. Pure numpy, no Ray.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from motoric.core.errors import DatasetError
from motoric.data.recording import Annotation, Recording, Stream
from motoric.data.resampling import Resampler, SegmentPart, Values

_TIME_TOLERANCE_S = 1e-6
_RATE_TOLERANCE_HZ = 1e-6
# An annotation of which the stream has less says too little, as of video.
_MIN_COVERED = 0.5

Fit = Literal["pad", "stretch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """One window of a stream.

    Attributes:
        start_s: Start of the window, after its context, in the time of the stream.
        end_s: Its end.
        values_TC: Shape (context + T, C), float32, read-only.
    """

    start_s: float
    end_s: float
    values_TC: NDArray[np.float32]


class Windower:
    """Cuts one stream into windows at one rate, incrementally.

    Windows stand on a grid of `hop_s` from the start of each segment (see `Resampler`) and cross no
    gap. Where a segment has less than `context_s` before a window, its first sample is repeated.
    The windows do not depend on how the samples are cut into pushes. Held between pushes: what the
    resampler holds, and the context and length of one window.

    Args:
        native_rate_hz: Nominal rate of the stream.
        rate_hz: Rate of the windows.
        length_s: Length of a window.
        hop_s: From one window's start to the next.
        context_s: Time before each window that its array holds too.
        max_gap_s: Longest gap that is filled by interpolation.
        origin_s: Time of the grid's first row; by default that of the first sample.

    Raises:
        DatasetError: A rate is not above 0, or the length is not one sample.
    """

    def __init__(
        self,
        *,
        native_rate_hz: float,
        rate_hz: float,
        length_s: float,
        hop_s: float,
        context_s: float = 0.0,
        max_gap_s: float = 0.0,
        origin_s: float | None = None,
    ) -> None:
        self._new_resampler = functools.partial(
            Resampler,
            native_rate_hz=native_rate_hz,
            target_rate_hz=rate_hz,
            max_gap_s=max_gap_s,
        )
        self._resampler = self._new_resampler(origin_s=origin_s)
        self.native_rate_hz = native_rate_hz
        self.rate_hz = rate_hz
        self.num_samples = round(length_s * rate_hz)
        self.hop_samples = max(1, round(hop_s * rate_hz))
        self.num_context_samples = round(context_s * rate_hz)
        if self.num_samples < 1:
            raise DatasetError(
                f"a window of {length_s:g} s holds no sample at {rate_hz:g} Hz: make length_s"
                f" {1 / rate_hz:g} or more"
            )
        self._segment = -1
        self._segment_start_s = 0.0
        # Counted in rows of the segment; the context of its first window lies below 0.
        self._next_start = 0
        self._base = 0
        self._rows_TC: NDArray[np.float32] = np.empty((0, 0), dtype=np.float32)

    @property
    def num_held(self) -> int:
        """Samples and rows held for windows to come."""
        return self._resampler.num_held + len(self._rows_TC)

    def push(self, time_s: NDArray[np.float64], values_TC: Values) -> list[Window]:
        """Take the next samples; gives the windows that they complete.

        Args:
            time_s: Shape (T,), increasing, also from push to push.
            values_TC: Shape (T, C). What is not finite is a missing value.

        Raises:
            InputError: The times do not increase, or the shapes do not fit.
        """
        return self._cut(self._resampler.push(time_s, values_TC))

    def finish(self) -> list[Window]:
        """The windows that were waiting for more samples. Call it once, after the last push."""
        return self._cut(self._resampler.finish())

    def whole(
        self, time_s: NDArray[np.float64], values_TC: Values, *, fit: Fit = "pad"
    ) -> Window | None:
        """One window of all these samples, whatever was pushed before.

        Args:
            time_s: Shape (T,), increasing.
            values_TC: Shape (T, C).
            fit: `pad` takes the window around their middle; where they are fewer than it holds, the
                first and the last are repeated around them. `stretch` resamples them to the length
                of a window by linear interpolation, so that slow and quick movements look alike
                (time normalisation, as of gait cycles); there is no low-pass filter, so make the
                window as long as most movements. The first stands in for the context.

        Returns:
            None where there is no sample, or a gap longer than `max_gap_s`.
        """
        resampler = self._new_resampler()
        parts = [*resampler.push(time_s, values_TC), *resampler.finish()] if len(time_s) else []
        if not parts or any(part.segment != parts[0].segment for part in parts):
            return None
        rows_TC = np.concatenate([part.values_TC for part in parts]).astype(np.float32)
        if fit == "stretch":
            return self._stretched(rows_TC, parts[0].start_s)
        first = (len(rows_TC) - self.num_samples) // 2
        wanted_T = np.arange(first - self.num_context_samples, first + self.num_samples)
        inside_T = np.clip(wanted_T, max(first, 0), len(rows_TC) - 1)
        start_s = parts[0].start_s
        return Window(
            start_s=start_s + max(first, 0) / self.rate_hz,
            end_s=start_s + min(first + self.num_samples, len(rows_TC)) / self.rate_hz,
            values_TC=rows_TC[inside_T],
        )

    def _stretched(self, rows_RC: NDArray[np.float32], start_s: float) -> Window:
        positions_T = np.linspace(0.0, len(rows_RC) - 1.0, self.num_samples)
        below_T = positions_T.astype(np.int64)
        above_T = np.minimum(below_T + 1, len(rows_RC) - 1)
        share_T1 = (positions_T - below_T).astype(np.float32)[:, None]
        values_TC = rows_RC[below_T] * (1.0 - share_T1) + rows_RC[above_T] * share_T1
        context_TC = np.repeat(rows_RC[:1], self.num_context_samples, axis=0)
        return Window(
            start_s=start_s,
            end_s=start_s + len(rows_RC) / self.rate_hz,
            values_TC=np.concatenate([context_TC, values_TC]),
        )

    def _cut(self, parts: list[SegmentPart]) -> list[Window]:
        windows: list[Window] = []
        for part in parts:
            rows_TC = part.values_TC.astype(np.float32)
            if part.segment != self._segment:
                self._segment, self._segment_start_s = part.segment, part.start_s
                self._next_start, self._base = 0, -self.num_context_samples
                self._rows_TC = np.repeat(rows_TC[:1], self.num_context_samples, axis=0)
            self._rows_TC = np.concatenate([self._rows_TC, rows_TC])
            self._rows_TC.flags.writeable = False
            windows.extend(self._complete())
        return windows

    def _complete(self) -> Iterator[Window]:
        """The windows whose last sample is there; rows before the next context are forgotten."""
        num_rows = self.num_context_samples + self.num_samples
        first = self._next_start - self.num_context_samples - self._base
        if first + num_rows <= len(self._rows_TC):
            views_BCT = sliding_window_view(self._rows_TC, num_rows, axis=0)
            views_BCT = views_BCT[first :: self.hop_samples]
            for values_CT in views_BCT:
                start_s = self._segment_start_s + self._next_start / self.rate_hz
                end_s = start_s + self.num_samples / self.rate_hz
                yield Window(start_s=start_s, end_s=end_s, values_TC=values_CT.T)
                self._next_start += self.hop_samples
        num_old = self._next_start - self.num_context_samples - self._base
        num_old = min(num_old, len(self._rows_TC))
        self._rows_TC = self._rows_TC[num_old:].copy()
        self._base += num_old


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSet:
    """Labelled windows of some recordings, in the order of the recordings and of time.

    Attributes:
        windows_BTC: Raw values, float32; the first samples of each are its context, if any.
        labels_B: Index into `classes`; -1 where there are none.
        subjects: Subject of each window.
        recording_ids: Recording of each window.
        start_s_B: Start of each window, after its context, in its recording.
        end_s_B: End of each.
        classes: Class names.
    """

    windows_BTC: NDArray[np.float32]
    labels_B: NDArray[np.int64]
    subjects: tuple[str, ...]
    recording_ids: tuple[str, ...]
    start_s_B: NDArray[np.float64]
    end_s_B: NDArray[np.float64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.windows_BTC)


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
    recording: Recording, time_s: NDArray[np.float64], values_TC: Values, windower: Windower
) -> Iterator[tuple[Window, str | None]]:
    length_s = windower.num_samples / windower.rate_hz
    for window in windower.push(time_s, values_TC) + windower.finish():
        yield (
            window,
            covering_label(recording.annotations, window.start_s, window.start_s + length_s),
        )


def _of_annotations(
    recording: Recording,
    time_s: NDArray[np.float64],
    values_TC: Values,
    windower: Windower,
    *,
    fit: Fit,
) -> Iterator[tuple[Window, str | None]]:
    """One window an annotation.

    Left out is what the stream has less than half of, or what has a gap in it.
    """
    for annotation in recording.annotations:
        inside_T = (time_s >= annotation.start_s) & (time_s <= annotation.end_s)
        length_s = annotation.end_s - annotation.start_s
        if inside_T.sum() < _MIN_COVERED * length_s * windower.native_rate_hz:
            continue
        window = windower.whole(time_s[inside_T], values_TC[inside_T], fit=fit)
        if window is not None:
            yield window, annotation.label


def cut_windows(
    recordings: Iterable[Recording],
    *,
    stream_name: str,
    rate_hz: float,
    length_s: float,
    hop_s: float,
    classes: Sequence[str] | None,
    context_s: float = 0.0,
    max_gap_s: float = 0.0,
    channels: Sequence[str] | None = None,
    resample: bool = False,
    span: Literal["window", "annotation"] = "window",
    fit: Fit = "pad",
    can_be_empty: bool = False,
) -> WindowSet:
    """Cut recordings into windows; spans without one clear label among `classes` are left out.

    Args:
        recordings: What to cut.
        stream_name: Stream of each recording.
        rate_hz: Rate of the windows.
        length_s: Length of a window; its label is that of this span, without the context.
        hop_s: From one window's start to the next.
        classes: Names of the classes; None takes every window, and labels are then -1.
        context_s: Time before each window that its array holds too.
        max_gap_s: Longest gap, or run of missing values, that is filled by interpolation; no window
            crosses a longer one.
        channels: Names of the channels to take, in this order; by default all.
        resample: Bring streams of other rates to `rate_hz`, instead of refusing them.
        span: `annotation` makes one window of each annotation.
        fit: How that comes to `length_s`, see `Windower.whole`.
        can_be_empty: Give an empty set where there is no window; `channels` is then needed.

    Raises:
        DatasetError: A recording lacks the stream or a channel, or has another rate (without
            `resample`); or there is not one window in all.
    """
    index_of = {label: index for index, label in enumerate(classes or ())}
    found: list[tuple[Window, int, Recording]] = []
    cut = _labelled if span == "window" else functools.partial(_of_annotations, fit=fit)
    for recording in recordings:
        stream = recording.stream(stream_name)
        windower = Windower(
            native_rate_hz=_native_rate_hz(recording, stream, rate_hz, resample=resample),
            rate_hz=rate_hz,
            length_s=length_s,
            hop_s=hop_s,
            context_s=context_s,
            max_gap_s=max_gap_s,
        )
        values_TC = _chosen(recording, stream, channels)
        for window, label in cut(recording, stream.time_s, values_TC, windower):
            if classes is None:
                found.append((window, -1, recording))
            elif label in index_of:
                found.append((window, index_of[label], recording))
    if not found and not can_be_empty:
        raise DatasetError(
            f"no{'' if classes is None else ' labelled'} window of {length_s:g} s fits these"
            " recordings: shorten window.length_s"
        )
    return WindowSet(
        windows_BTC=np.stack([window.values_TC for window, _, _ in found])
        if found
        else np.empty(
            (0, round(context_s * rate_hz) + round(length_s * rate_hz), len(channels or ())),
            dtype=np.float32,
        ),
        labels_B=np.array([label for _, label, _ in found], dtype=np.int64),
        subjects=tuple(recording.subject for _, _, recording in found),
        recording_ids=tuple(recording.recording_id for _, _, recording in found),
        start_s_B=np.array([window.start_s for window, _, _ in found]),
        end_s_B=np.array([window.end_s for window, _, _ in found]),
        classes=tuple(classes or ()),
    )


def _native_rate_hz(
    recording: Recording, stream: Stream, rate_hz: float, *, resample: bool
) -> float:
    if abs(stream.rate_hz - rate_hz) <= _RATE_TOLERANCE_HZ:
        return rate_hz
    if resample:
        return stream.rate_hz
    raise DatasetError(
        f"{recording.recording_id}: stream {stream.name!r} runs at {stream.rate_hz:g} Hz,"
        f" the others at {rate_hz:g} Hz"
    )


def _chosen(recording: Recording, stream: Stream, channels: Sequence[str] | None) -> Values:
    """The values of the channels asked for, by name."""
    if channels is None:
        return stream.values_TC
    column_of = {channel.name: column for column, channel in enumerate(stream.channels)}
    missing = [name for name in channels if name not in column_of]
    if missing:
        raise DatasetError(
            f"{recording.recording_id}: stream {stream.name!r} has no channel"
            f" {', '.join(missing)} (it has: {', '.join(column_of)})"
        )
    return stream.values_TC[:, [column_of[name] for name in channels]]
