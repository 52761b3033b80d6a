"""Clips: a fixed number of frames sampled from spans of a recording's video.

In: a video, annotations, a `ClipSpec`. Out: spans, the times of their frames, and the frames.
Axes: T frames of a clip, H height, W width, C channels (RGB). Spans are in the recording's time;
the video's first frame was taken at `offset_s` of it. Everything but the decoding is pure.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import RecipeError
from motoric.data.recording import Annotation
from motoric.data.video.frames import WHOLE, FrameReader, Region, Resize
from motoric.data.windows import covering_label

# Times are compared with this much slack, as those of windows are.
_TIME_TOLERANCE_S = 1e-6
# An annotation of which the video shows less says too little about the clip.
_MIN_SHOWN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipSpec:
    """How clips are cut from a video.

    Attributes:
        num_frames: Frames of a clip, T.
        height: Pixels.
        width: Pixels.
        resize: `crop` keeps the aspect and cuts the middle out, `stretch` does not.
        region: Part of the upright picture that is taken: top, left, bottom, right, in shares.
        rate_hz: Frames are sampled at this rate from the start of the span; None spreads them
            evenly over the whole span.
        length_s: Length of a span; None makes one span of each annotation, or of the whole video.
        hop_s: From one span to the next, with `length_s`; None: `length_s`.
    """

    num_frames: int
    height: int
    width: int
    resize: Resize = "crop"
    region: Region = WHOLE
    rate_hz: float | None = None
    length_s: float | None = None
    hop_s: float | None = None

    def __post_init__(self) -> None:
        for name in ("num_frames", "height", "width", "rate_hz", "length_s", "hop_s"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and math.isfinite(value)):
                raise RecipeError(f"clip.{name} is {value}: it needs to be more than 0")
        if self.hop_s is not None and self.length_s is None:
            raise RecipeError(f"clip.hop_s is {self.hop_s}, but it needs clip.length_s beside it")
        top, left, bottom, right = self.region
        if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
            raise RecipeError(
                f"clip.region is {list(self.region)}: it needs top < bottom and left < right, from"
                " 0 to 1"
            )
        if self.resize not in ("crop", "stretch"):
            raise RecipeError(f"clip.resize is {self.resize!r}: it needs to be crop or stretch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of a recording to take one clip from; `label` is None where no one is clear."""

    start_s: float
    end_s: float
    label: str | None


def clip_spans(
    duration_s: float, annotations: Sequence[Annotation], spec: ClipSpec, offset_s: float = 0.0
) -> list[Span]:
    """Spans to take clips from, all within the video.

    Without `spec.length_s` these are the annotations, cut to the video, or the whole video where
    there are none; annotations of which the video shows less than half are left out. Else they are
    windows on a grid of `hop_s` from the recording's start, labelled by the one annotation that
    covers them, like windows of sensors.

    Args:
        duration_s: Of the video.
        annotations: Of the recording.
        spec: How to cut.
        offset_s: Time of the recording at which the first frame was taken.
    """
    end_s = offset_s + duration_s
    if spec.length_s is None:
        if not annotations:
            return [Span(start_s=offset_s, end_s=end_s, label=None)]
        return [
            Span(start_s=start_s, end_s=stop_s, label=annotation.label)
            for annotation in annotations
            for start_s in [max(annotation.start_s, offset_s)]
            for stop_s in [min(annotation.end_s, end_s)]
            if stop_s > start_s
            and stop_s - start_s >= _MIN_SHOWN * (annotation.end_s - annotation.start_s)
        ]
    hop_s = spec.hop_s or spec.length_s
    first = math.ceil((offset_s - _TIME_TOLERANCE_S) / hop_s)
    last = math.floor((end_s + _TIME_TOLERANCE_S - spec.length_s) / hop_s)
    starts_s = [index * hop_s for index in range(first, last + 1)]
    return [
        Span(
            start_s=start_s,
            end_s=start_s + spec.length_s,
            label=covering_label(annotations, start_s, start_s + spec.length_s),
        )
        for start_s in starts_s
    ]


def frame_times(span: Span, spec: ClipSpec) -> NDArray[np.float64]:
    """Times of a clip's frames in the recording, shape (T,), never decreasing, within the span.

    Evenly sampled frames are those in the middle of T equal parts of the span. Frames sampled at a
    rate that the span is too short for repeat the last that lies within it.
    """
    index_T = np.arange(spec.num_frames, dtype=np.float64)
    if spec.rate_hz is None:
        step_s = (span.end_s - span.start_s) / spec.num_frames
        return span.start_s + (index_T + 0.5) * step_s
    length_s = span.end_s - span.start_s
    last = max(0, math.ceil((length_s - _TIME_TOLERANCE_S) * spec.rate_hz) - 1)
    return span.start_s + np.minimum(index_T, last) / spec.rate_hz


def decode_clips(
    video: FrameReader | str, spans: Sequence[Span], spec: ClipSpec, offset_s: float = 0.0
) -> Iterator[NDArray[np.uint8]]:
    """Decode one clip a span, in their order, going through the video once.

    A frame that several clips want is converted once and kept until the last of them is given
    out, so that the memory needed is that of the spans that overlap. Spans that are not in the
    order of their start come out right, and need more memory.

    Args:
        video: Path or URI, or an entered reader with the spec's size.
        spans: From `clip_spans`.
        spec: How to sample.
        offset_s: Time of the recording at which the first frame was taken.

    Yields:
        Clips of shape (T, H, W, C), uint8, upright RGB.

    Raises:
        NotFoundError: There is no such file.
        UnreadableError: Its frames cannot be read.
    """
    times_ST = [frame_times(span, spec) - offset_s for span in spans]
    last_use = {time_s: clip for clip, times in enumerate(times_ST) for time_s in times.tolist()}
    wanted_s = sorted(last_use)
    with ExitStack() as stack:
        if isinstance(video, str):
            video = stack.enter_context(
                FrameReader(
                    video,
                    height=spec.height,
                    width=spec.width,
                    resize=spec.resize,
                    region=spec.region,
                )
            )
        frames = zip(wanted_s, video.read(wanted_s), strict=True)
        kept: dict[float, NDArray[np.uint8]] = {}
        for clip, times_T in enumerate(times_ST):
            needed = times_T.tolist()
            while not kept.keys() >= set(needed):
                time_s, frame = next(frames)
                kept[time_s] = frame.rgb_HWC
            yield np.stack([kept[time_s] for time_s in needed])
            for time_s in set(needed):
                if last_use[time_s] == clip:
                    del kept[time_s]
