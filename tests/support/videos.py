"""Test videos whose frames tell their number: it stands in them as eight black or white bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE_HZ = 30
HEIGHT, WIDTH = 96, 128
_BITS = 8


def numbered_frame(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """Bars above; below white on the left and black on the right, so that turns show."""
    bits = [(number >> bit) & 1 for bit in range(_BITS)]
    grey_HW = np.repeat(np.array(bits, np.uint8) * 255, width // _BITS)[None].repeat(height, 0)
    grey_HW[height * 3 // 4 :] = np.where(np.arange(width) < width // 2, 255, 0)
    return np.repeat(grey_HW[:, :, None], 3, axis=2)


def number_of(rgb_HWC: NDArray[np.uint8]) -> int:
    """The number of an upright frame; fails on any other."""
    height, width, _ = rgb_HWC.shape
    below = rgb_HWC[height * 7 // 8 :]
    left, right = below[:, : width // 3].mean(), below[:, -(width // 3) :].mean()
    assert left > 200, "the frame is not upright"
    assert right < 50, "the frame is not upright"
    bar = width // _BITS
    middles = [
        rgb_HWC[: height // 2, n * bar + bar // 4 : (n + 1) * bar - bar // 4].mean()
        for n in range(_BITS)
    ]
    return sum((middle > 128) << bit for bit, middle in enumerate(middles))


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How a test video is coded; `turn_deg` is counter-clockwise, for display."""

    codec: str = "h264"
    gop: int = 10
    b_frames: int | None = None
    turn_deg: int = 0
    is_mirrored: bool = False
    pixel_aspect: Fraction | None = None
    title: str | None = None
    has_index_first: bool = False
    with_audio_s: float = 0.0


def write_video(
    path: Path,
    *,
    num_frames: int = 45,
    ticks: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, RATE_HZ),
    shape: Shape | None = None,
) -> Path:
    """Encode numbered frames, shown at `ticks` of `time_base` (default: 0, 1, 2, ...)."""
    shape = shape or Shape()
    ticks = range(num_frames) if ticks is None else ticks
    options = {"movflags": "faststart"} if shape.has_index_first else {}
    with av.open(path, "w", container_options=options) as container:
        if shape.title is not None:
            container.metadata["title"] = shape.title
        codec_options = {"x265-params": "log-level=none"} if shape.codec == "hevc" else {}
        stream = container.add_stream(shape.codec, rate=RATE_HZ, options=codec_options)
        quarter_turns = shape.turn_deg // 90
        sizes = (HEIGHT, WIDTH) if quarter_turns % 2 else (WIDTH, HEIGHT)
        stream.width, stream.height = sizes
        stream.pix_fmt = "yuv420p"
        stream.gop_size = shape.gop
        stream.time_base = stream.codec_context.time_base = time_base
        if shape.b_frames is not None:
            stream.max_b_frames = shape.b_frames
        if shape.pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = shape.pixel_aspect
        if quarter_turns or shape.is_mirrored:
            stream.set_display_rotation(shape.turn_deg, hflip=shape.is_mirrored)
        if shape.with_audio_s:
            sound = container.add_stream("aac", rate=16_000, layout="mono")
        for number, tick in enumerate(ticks):
            rgb_HWC = numbered_frame(number)
            if shape.is_mirrored:
                rgb_HWC = rgb_HWC[:, ::-1]
            rgb_HWC = np.ascontiguousarray(np.rot90(rgb_HWC, -quarter_turns))
            frame = av.VideoFrame.from_ndarray(rgb_HWC, format="rgb24")
            frame.pts, frame.time_base = tick, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if shape.with_audio_s:
            _mux_silence(container, sound, shape.with_audio_s)
    return path


def write_sound(path: Path, length_s: float = 1.0) -> Path:
    with av.open(path, "w") as container:
        _mux_silence(container, container.add_stream("aac", rate=16_000, layout="mono"), length_s)
    return path


def _mux_silence(
    container: av.container.OutputContainer, stream: av.AudioStream, length_s: float
) -> None:
    for start in range(0, round(length_s * 16_000), 1024):
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 16_000, start
        container.mux(stream.encode(frame))
    container.mux(stream.encode())


def damage_packets(path: Path, first: int, last: int, *, skip_bytes: int = 0) -> Path:
    """Overwrite the payload of some packets, counted in the order of the file."""
    with av.open(path) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(path.read_bytes())
    for position, size in places[first:last]:
        content[position + skip_bytes : position + size] = b"\xff" * (size - skip_bytes)
    path.write_bytes(content)
    return path


def cut(path: Path, share: float) -> Path:
    """Keep the beginning of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * share)])
    return path
