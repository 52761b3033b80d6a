"""Examples for the report of an ingest: traces, tracks and frames of a few recordings.

In: a committed dataset and rows of its table of recordings. Out: pictures. At most a minute of a
recording's streams is kept (of positions an hour), and eight frames of a video. Axes: T samples or
frames, H height, W width, C channels or colours.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import MotoricError
from motoric.data.dataset import Dataset
from motoric.data.recording import Annotation, Channel, Recording, Video
from motoric.data.report.facts import Row
from motoric.data.report.plots import Trace, plot_text, traces_plot, track_plot

_SHOWN_S = 60.0
_TRACK_S = 3600.0
# A first annotation later than this is not gone to: what lies before it would have to be read.
_MAX_SKIPPED_S = 1800.0
_LEAD_S = 5.0
_POSITION = ("latitude", "longitude")

_NUM_FRAMES = 8
_SHEET_PX = 1100
_MIN_FRAME_PX, _MAX_FRAME_PX = 48, 120
# Not every AVI can be sought in, and then a late frame costs decoding all before it.
_MAX_AVI_S = 120.0
_BUDGET_S = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SensorExample:
    """One recording: the part shown, its traces and its track as PNGs where it has any."""

    recording: Recording
    start_s: float
    end_s: float
    traces: bytes | None
    track: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoExamples:
    """Frames of some videos on one PNG, the titles of its rows, and what could not be shown."""

    sheet: bytes | None
    titles: tuple[str, ...]
    problems: tuple[str, ...]


def sensor_example(dataset: Dataset, row: Row) -> SensorExample:
    """Draw at most a minute of one recording that has streams.

    Raises:
        DatasetError: The file of its streams is missing.
    """
    (recording,) = dataset.outlines(recording_ids=[row["recording_id"]])
    first_s = min(item["start_s"] for item in row["streams"])
    last_s = max(item["end_s"] for item in row["streams"])
    start_s = window_start(first_s, last_s, recording.annotations)
    end_s = min(start_s + _SHOWN_S, last_s)
    traces: list[Trace] = []
    track = None
    for stream in row["streams"]:
        names = [channel["name"] for channel in stream["channels"]]
        has_position = set(_POSITION) <= set(names)
        if has_position and track is None:
            whole = _read(dataset, recording.recording_id, stream, first_s, first_s + _TRACK_S)
            track = None if whole is None else track_plot(whole)
        others = [i for i, name in enumerate(names) if not (has_position and name in _POSITION)]
        trace = _read(dataset, recording.recording_id, stream, start_s, end_s) if others else None
        if trace is not None:
            traces.append(trace.only(others))
    return SensorExample(
        recording=recording,
        start_s=start_s,
        end_s=end_s,
        traces=traces_plot(traces, recording.annotations, start_s, end_s),
        track=track,
    )


def window_start(first_s: float, last_s: float, annotations: Sequence[Annotation]) -> float:
    """Where to begin: at the start, or shortly before the first annotation if that is later.

    Args:
        first_s: Time of the recording's first sample.
        last_s: End of its last.
        annotations: Of the recording.
    """
    begin_s = min((item.start_s for item in annotations), default=first_s)
    if not first_s + _SHOWN_S / 2 < begin_s <= first_s + _MAX_SKIPPED_S:
        return first_s
    return max(first_s, min(begin_s - _LEAD_S, last_s - _SHOWN_S))


def _read(
    dataset: Dataset, recording_id: str, stream: Row, start_s: float, end_s: float
) -> Trace | None:
    """The samples of a stream from `start_s` to `end_s`; reading stops there."""
    times_s: list[NDArray[np.float64]] = []
    values_TC: list[NDArray[np.float64]] = []
    for chunk in dataset.chunks(recording_id, stream["stream"]):
        if chunk.time_s[0] > end_s:
            break
        is_in = (chunk.time_s >= start_s) & (chunk.time_s <= end_s)
        if is_in.any():
            times_s.append(chunk.time_s[is_in])
            values_TC.append(chunk.values_TC[is_in].astype(np.float64))
    if not times_s:
        return None
    return Trace(
        stream=stream["stream"],
        rate_hz=stream["rate_hz"],
        channels=tuple(
            Channel(name=channel["name"], unit=channel["unit"]) for channel in stream["channels"]
        ),
        time_s=np.concatenate(times_s),
        values_TC=np.concatenate(values_TC),
    )


def video_examples(dataset: Dataset, rows: Sequence[Row]) -> VideoExamples:
    """Frames spread evenly over the videos of recordings.

    A video that cannot be opened any more becomes a problem to tell, and stops nothing. After 20 s
    no further video is begun, and that is told too.
    """
    from motoric.data.video.contact_sheet import contact_sheet

    clips: list[tuple[str, NDArray[np.uint8]]] = []
    problems: list[str] = []
    titles: list[str] = []
    begun_s = time.monotonic()
    for recording in dataset.outlines(recording_ids=[row["recording_id"] for row in rows]):
        name, video = recording.recording_id, recording.video
        assert video is not None
        if time.monotonic() - begun_s > _BUDGET_S:
            problems.append(f"{name}: left out, since the videos before it took long to decode")
            continue
        uri = dataset.video_uri(video)
        shown_s = video.duration_s
        if uri.lower().endswith(".avi"):
            shown_s = min(shown_s, _MAX_AVI_S)
        try:
            clip_THWC = _frames(uri, video, shown_s)
        except (MotoricError, OSError) as error:
            problems.append(f"{name}: {uri} cannot be shown: {error}")
            continue
        labels = ", ".join(sorted({item.label for item in recording.annotations})) or "no label"
        part = "" if shown_s == video.duration_s else f", first {shown_s:g} s"
        titles.append(f"{name}: {labels}{part}")
        number = len(titles)
        clips.append((plot_text(f"{number}  {titles[-1]}", 80).replace(r"\$", "$"), clip_THWC))
    if not clips:
        return VideoExamples(sheet=None, titles=(), problems=tuple(problems))
    widest = max(clip_THWC.shape[2] / clip_THWC.shape[1] for _, clip_THWC in clips)
    height = int(np.clip(_SHEET_PX / _NUM_FRAMES / widest, _MIN_FRAME_PX, _MAX_FRAME_PX))
    sheet = contact_sheet(clips, columns=_NUM_FRAMES, frame_height=height)
    return VideoExamples(sheet=sheet, titles=tuple(titles), problems=tuple(problems))


def _frames(uri: str, video: Video, shown_s: float) -> NDArray[np.uint8]:
    """Frames in the middle of equal parts of a video, uint8 (T, H, W, C), small."""
    # PyAV only where there is a video.
    from motoric.data.video.frames import FrameReader

    num_frames = max(1, min(_NUM_FRAMES, video.num_frames))
    times_s = (np.arange(num_frames) + 0.5) * shown_s / num_frames
    height = min(video.height, 2 * _MAX_FRAME_PX)
    width = max(1, round(video.width * height / video.height))
    with FrameReader(uri, height=height, width=width, resize="stretch") as reader:
        return np.stack([frame.rgb_HWC for frame in reader.read(times_s.tolist())])
