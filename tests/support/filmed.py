"""Recordings of sines with tiny videos beside them, or with one of both alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from motoric.data.ingest.source import RawRecording, VideoInput, as_raw
from recordings import SineSource, recipe_content, write_dataset

FRAME_RATE_HZ = 10
SIDE = 32


class FilmedSource(SineSource):
    """Sines whose recordings have a video too; of each label one column of the picture blinks.

    Args:
        folder: Where the videos are made.
        without_video: Indices of recordings that have sensors alone.
        without_sensors: Indices of recordings that have a video alone.
        filmed_s: Start and end of the videos in their recordings; by default the whole.
        more: Of `SineSource`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        without_video: Sequence[int] = (),
        without_sensors: Sequence[int] = (),
        filmed_s: tuple[float, float] | None = None,
        **more: object,
    ) -> None:
        super().__init__(**more)  # type: ignore[arg-type]
        self.folder = folder
        self.without_video = tuple(without_video)
        self.without_sensors = tuple(without_sensors)
        self.filmed_s = filmed_s or (0.0, self.duration_s)

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        recording = self.recording(index)
        if index in self.without_sensors:
            recording = replace(recording, streams=())
        raw = as_raw(recording)
        if index not in self.without_video:
            path = self.folder / f"{recording.recording_id}.mp4"
            kind = index % len(self.labels)
            start_s, end_s = self.filmed_s
            write_blinking(path, kind, end_s - start_s)
            raw.video = VideoInput(uri=str(path), offset_s=start_s or None)
        yield raw


def write_blinking(path: Path, kind: int, duration_s: float) -> Path:
    """A video in which column `kind` of four is white in every second frame, in red."""
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=FRAME_RATE_HZ)
        stream.width = stream.height = SIDE
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 400_000
        stream.time_base = stream.codec_context.time_base = Fraction(1, FRAME_RATE_HZ)
        width = SIDE // 4
        for number in range(round(duration_s * FRAME_RATE_HZ)):
            rgb_HWC = np.full((SIDE, SIDE, 3), 40, np.uint8)
            rgb_HWC[:, kind * width : (kind + 1) * width, 0] = 255 * (number % 4 < 2)
            frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FRAME_RATE_HZ)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_filmed(folder: Path, **more: object) -> str:
    """Build such a dataset under `folder`; returns its URI."""
    (folder / "video").mkdir()
    uri = str(folder / "dataset")
    write_dataset(uri, FilmedSource(folder / "video", **more))  # type: ignore[arg-type]
    return uri


CLIP = {"num_frames": 8, "height": 16, "width": 16}
CLIP_MODEL = {"name": "r2plus1d", "stages": [4], "stem_channels": 4, "dropout": 0.0}
SENSOR_MODEL = {"name": "recurrent", "hidden_size": 4, "stem_channels": 4, "dropout": 0.0}
FUSED_MODEL = {
    "name": "fusion",
    "sensors": SENSOR_MODEL,
    "clip": CLIP_MODEL,
    "embedding_size": 8,
    "joint_size": 8,
}


def fused_content(dataset: str, **changes: object) -> dict[str, object]:
    """A recipe that trains on sensors and clips of 2 s."""
    return recipe_content(dataset, **{"clip": CLIP, "model": FUSED_MODEL, **changes})


def clip_content(dataset: str, **changes: object) -> dict[str, object]:
    """A recipe that trains on clips of 2 s alone."""
    clip = {**CLIP, "length_s": 2.0, "hop_s": 1.0}
    content = recipe_content(dataset, **{"clip": clip, "model": CLIP_MODEL, **changes})
    del content["window"]
    return content
