"""Videos: what a file holds, found from its packet times without decoding all of it.

In: the URI of an mp4, mov, mkv, webm or avi file. Out: a `Video`, and notes of what is wrong with
the file. Axes: T frames. Frames at given times come from `FrameReader`, offered here too.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import av
import numpy as np
from av.container import InputContainer
from av.packet import Packet
from av.video.stream import VideoStream
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.ingest.samples import Notes
from motoric.data.recording import Video
from motoric.data.video.container import demux, open_container, video_stream
from motoric.data.video.frames import FrameReader

# What a file may declare beyond its last frame before it counts as cut off.
_TRUNCATED_S = 0.5
_TRUNCATED_FRAMES = 2
# FFmpeg's own assumption for a single frame of a file that names no rate.
_DEFAULT_RATE_HZ = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Times:
    """When frames are shown, by their packets.

    Attributes:
        ticks_T: In units of `tick_s`, sorted.
        tick_s: The stream's time base.
        rate_hz: As the file states it, for videos of one frame.
        last_duration_s: Of the last frame as the file states it, or 0.
        end_s: Where the last packet of any stream ends, on the file's own clock.
        num_damaged: Packets that could not be read whole.
    """

    ticks_T: NDArray[np.int64]
    tick_s: float
    rate_hz: float
    last_duration_s: float
    end_s: float
    num_damaged: int


def probe(uri: str, sha256: str, num_bytes: int, notes: Notes) -> Video:
    """Look a video over: all packet times, and whether its first and last frames decode.

    Args:
        uri: Local path or URI.
        sha256: Of the file; goes into the answer.
        num_bytes: Of the file.
        notes: Gets `truncated`, `damaged_packets`, `metadata_not_utf8`; and under metadata
            `video_creation_time` where the file has one (ISO 8601, often that of an export).

    Raises:
        NotFoundError: There is no such file.
        UnreadableError: It gives no usable frame; the message says why, without its name.
    """
    if num_bytes == 0:
        raise UnreadableError("the file is empty (0 bytes)")
    container, file = open_container(uri)
    try:
        stream = video_stream(container)
        codec = stream.codec_context.codec.canonical_name
        _note_metadata(container, notes)
        times = _packet_times(container, stream)
        missing = _missing(container, stream, times)
        is_avi = container.format.name == "avi"
    finally:
        container.close()
        if file is not None:
            file.close()
    if len(times.ticks_T) == 0:
        raise UnreadableError("has a video stream, but not one frame in it")
    with FrameReader(uri) as reader:
        # AVI's times only count from the first packet, whatever the decoder's delay.
        first_ticks = int(times.ticks_T[0]) if is_avi else reader.first_ticks
        time_s_T = (times.ticks_T - first_ticks) * times.tick_s
        time_s_T = time_s_T[time_s_T > -times.tick_s / 2]
        (last,) = reader.read([float(time_s_T[-1])])
        num_errors = times.num_damaged + reader.num_errors
        rotation_deg = 90 * reader.quarter_turns
        height, width = reader.displayed_size
    num_frames = int(np.searchsorted(time_s_T, last.time_s + times.tick_s / 2))
    num_lost = len(time_s_T) - num_frames
    _note_damage(notes, missing, num_lost, num_errors)
    time_s_T = time_s_T[:num_frames]
    step_s_T = np.diff(time_s_T)
    step_s = float(np.median(step_s_T)) if len(step_s_T) else 1 / times.rate_hz
    last_s = times.last_duration_s if num_lost == 0 else 0.0
    duration_s = float(time_s_T[-1]) + (last_s or step_s)
    tolerance_s = max(1.5 * times.tick_s, 0.1 * step_s)
    return Video(
        uri=uri,
        sha256=sha256,
        num_bytes=num_bytes,
        codec=codec,
        width=width,
        height=height,
        rotation_deg=rotation_deg,
        num_frames=num_frames,
        duration_s=duration_s,
        rate_hz=num_frames / duration_s,
        is_variable_rate=bool((np.abs(step_s_T - step_s) > tolerance_s).any()),
    )


def _note_damage(notes: Notes, missing: str, num_lost: int, num_errors: int) -> None:
    if missing or (num_lost and num_errors):
        detail = missing or f"its last {num_lost} frames do not decode"
        notes.add("truncated", f"the video ends early: {detail}", is_repair=True)
    elif num_errors:
        notes.add(
            "damaged_packets",
            f"{num_errors} packets of the video cannot be read or decoded; they are passed over",
            count=num_errors,
            is_repair=True,
        )


def _note_metadata(container: InputContainer, notes: Notes) -> None:
    texts = dict(container.metadata)
    for stream in container.streams:
        texts.update(stream.metadata)
    broken = sorted(key for key, text in texts.items() if "\N{REPLACEMENT CHARACTER}" in text)
    if broken:
        notes.add("metadata_not_utf8", f"not readable as UTF-8: {', '.join(broken)}")
    if "creation_time" in texts:
        notes.metadata["video_creation_time"] = texts["creation_time"]


def _packet_times(container: InputContainer, stream: VideoStream) -> _Times:
    ticks, num_damaged, end_s = array("q"), 0, 0.0
    last_ticks, last_duration = -(2**62), 0
    is_avi = container.format.name == "avi"

    def count() -> None:
        nonlocal num_damaged
        num_damaged += 1

    # All streams, since what a file declares to hold is the length of the longest.
    streams = tuple(each for each in container.streams if each.type in ("video", "audio"))
    for packet in demux(container, streams, count):
        stamp = _stamp(packet, is_avi=is_avi)
        if stamp is None:
            continue
        end_s = max(end_s, float((stamp + (packet.duration or 0)) * packet.time_base))
        if packet.stream_index != stream.index or packet.is_discard:
            continue
        ticks.append(stamp)
        if stamp >= last_ticks:
            last_ticks, last_duration = stamp, packet.duration or 0
    tick_s = float(stream.time_base or 1)
    return _Times(
        ticks_T=np.sort(np.frombuffer(ticks, np.int64)) if ticks else np.empty(0, np.int64),
        tick_s=tick_s,
        rate_hz=float(stream.guessed_rate or _DEFAULT_RATE_HZ),
        last_duration_s=last_duration * tick_s,
        end_s=end_s,
        num_damaged=num_damaged,
    )


def _stamp(packet: Packet[av.stream.Stream], *, is_avi: bool) -> int | None:
    first, second = (packet.dts, packet.pts) if is_avi else (packet.pts, packet.dts)
    return second if first is None else first


def _missing(container: InputContainer, stream: VideoStream, times: _Times) -> str:
    """What the file declares to hold beyond what is there, or an empty text."""
    num_frames = len(times.ticks_T)
    if stream.frames > num_frames + _TRUNCATED_FRAMES:
        return f"{num_frames} of {stream.frames} frames are there"
    # Matroska counts from zero, mp4 from its start: the lesser of the two never misleads.
    declared_s = (container.duration or 0) / av.time_base
    if declared_s > times.end_s + _TRUNCATED_S:
        return f"{times.end_s:.2f} of {declared_s:.2f} s are there"
    return ""
