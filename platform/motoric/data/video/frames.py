"""Frames of a video at given times.

In: the URI of a video, times. Out: upright RGB frames. Axes: H height, W width, C channels (RGB).

Times are seconds from the first frame. They come from presentation timestamps, never from frame
numbers: phones record at variable rates. AVI stores no timestamps, and FFmpeg's guess of them is
wrong where frames are reordered, so there the order in which frames leave the decoder counts.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self, cast

import av
import numpy as np
from av.codec.context import ThreadType
from av.container import InputContainer
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.video.container import demux, open_container, raise_unless_damage, video_stream

Resize = Literal["crop", "stretch"]
# Top, left, bottom and right, in shares of the upright picture.
Region = tuple[float, float, float, float]
WHOLE: Region = (0.0, 0.0, 1.0, 1.0)

# Containers round timestamps to their ticks (mkv to 1 ms), so a frame is shown up to half a tick
# before its timestamp; AVI's ticks are whole frames and exact.
_MAX_ROUNDING_S = 0.00051


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """One frame, upright.

    Attributes:
        time_s: When it is first shown, from the first frame.
        rgb_HWC: uint8.
    """

    time_s: float
    rgb_HWC: NDArray[np.uint8]


_Decoded = tuple[int, VideoFrame]
# Packets before and after one that are looked at for the frame that follows it in time.
_LOOK_AHEAD = 4


class FrameReader:
    """Reads the frames shown at given times, decoding only what is needed for them.

    Use it in a `with`. One reader serves one video and one thread.

    Args:
        uri: Local path or URI.
        height: Pixels of the frames given back; with `width`, else as displayed.
        width: Pixels of the frames given back.
        resize: `crop` keeps the aspect and cuts the middle out, `stretch` does not.
        region: Part of the upright picture that is given back, as top, left, bottom, right in
            shares of its height and width.
        num_threads: Of the decoder; Ray runs one task a core.

    Attributes:
        num_errors: Packets so far that could not be read or decoded; they were passed over.
        first_ticks: Time of the first frame in the ticks of the stream.
        quarter_turns: Turns counter-clockwise that make a decoded frame upright, 0 to 3.
        is_mirrored: Whether it is mirrored left to right after that.
        displayed_size: Height and width of the first frame as displayed.
    """

    def __init__(
        self,
        uri: str,
        *,
        height: int | None = None,
        width: int | None = None,
        resize: Resize = "crop",
        region: Region = WHOLE,
        num_threads: int = 1,
    ) -> None:
        if (height is None) != (width is None):
            raise ValueError("give both height and width, or neither")
        self._uri = uri
        self._height, self._width, self._resize = height, width, resize
        self._region = region
        self._num_threads = num_threads
        self._reformatter = VideoReformatter()
        self._container: InputContainer | None = None
        self._shown: _Decoded | None = None
        self._upcoming: _Decoded | None = None
        self._no_keys_from = math.inf
        self._targets: list[float] | None = None
        self._coded = (0, 0)
        self.num_errors = 0

    def __enter__(self) -> Self:
        first = self._start()
        # All times count from the first frame, so it is known before any seek.
        self.first_ticks, frame = first
        self.quarter_turns, self.is_mirrored = _orientation(frame)
        height, width = _square_pixels(frame, self._aspect)
        self.displayed_size = (width, height) if self.quarter_turns % 2 else (height, width)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._close()

    def read(self, times_s: Iterable[float]) -> Iterator[Frame]:
        """The frame shown at each time: the last that starts at or before it.

        Timestamps are taken as rounded, by half a tick and at most 0.5 ms. Before the first frame
        that is the first, after the end the last. Increasing times cost the least; the same frame
        wanted twice in a row is converted once.

        Raises:
            UnreadableError: The file changed or broke since it was opened.
        """
        times = list(times_s)
        self._targets = sorted(self._target(time_s) for time_s in times)
        for time_s in times:
            yield self._frame_at(time_s)
        self._targets = None

    def _start(self) -> _Decoded:
        self._close()
        self._container, self._file = open_container(self._uri)
        self._stream = video_stream(self._container)
        context = self._stream.codec_context
        self._is_avi = self._container.format.name == "avi"
        # The time of a frame from AVI is read off the packet that brought it out of the decoder,
        # which threads over frames would blur.
        several = ThreadType.SLICE if self._is_avi else ThreadType.AUTO
        context.thread_type = several if self._num_threads > 1 else ThreadType.NONE
        context.thread_count = self._num_threads
        self._tick_s = float(self._stream.time_base or 1)
        self._aspect = float(self._stream.sample_aspect_ratio or 1)
        if "matroska" in self._container.format.name:
            # The cues at the end of a file are only read by a first seek.
            self._container.seek(0)
        self._index = self._stream.index_entries
        self._max_delay = 0
        self._restart_decoding(self._container)
        first = next(self._frames, None)
        if first is None:
            raise UnreadableError(f"not one of its frames decodes ({context.name})")
        # Without timestamps, the frames of a reordering decoder have no known time after a seek.
        self._can_seek = not self._is_avi or first[0] == self._first_stamp
        self._shown, self._upcoming = None, first
        return first

    def _close(self) -> None:
        if self._container is not None:
            self._container.close()
            self._container = None
            if self._file is not None:
                self._file.close()

    def _restart_decoding(self, container: InputContainer) -> None:
        self._frames = self._decode(container)
        self._converted: Frame | None = None
        self._first_stamp: int | None = None
        self._last_stamp = 0

    def _decode(self, container: InputContainer) -> Iterator[_Decoded]:
        """Frames from here on in the order of display, with their times in ticks."""
        is_avi = self._is_avi
        context = self._stream.codec_context
        is_decoding_all = True
        context.skip_frame = "DEFAULT"
        last: int | None = None
        for packet, is_wanted in self._with_need(self._packets(container)):
            # Frames that no other refers to are not even decoded, unless they are wanted.
            if is_wanted is not is_decoding_all:
                is_decoding_all = is_wanted
                context.skip_frame = "DEFAULT" if is_wanted else "NONREF"
            try:
                frames = self._stream.decode(packet)
            except av.FFmpegError as error:
                raise_unless_damage(error)
                self._count_error()
                continue
            for frame in frames:
                ticks = None if is_avi else frame.pts
                if ticks is None:
                    ticks = frame.dts
                if ticks is None:  # one of the last frames, that no packet brought out
                    ticks = 0 if last is None else last + max(1, frame.duration)
                if last is None or ticks > last:
                    last = ticks
                yield last, frame

    def _with_need(
        self, packets: Iterator[Packet[VideoStream] | None]
    ) -> Iterator[tuple[Packet[VideoStream] | None, bool]]:
        """Each packet, and whether its frame may be the one shown at a time that is asked for.

        It is not where another frame starts after it and before the next of these times. Frames
        stand near their neighbours in time also in the order of decoding, so a few packets before
        and after are looked at; where none of them tells, the frame counts as wanted.
        """
        if self._is_avi or self._num_threads > 1:
            yield from ((packet, True) for packet in packets)
            return
        near: deque[int] = deque(maxlen=2 * _LOOK_AHEAD + 1)
        held: deque[Packet[VideoStream] | None] = deque()
        for packet in packets:
            held.append(packet)
            if packet is not None and packet.pts is not None:
                near.append(packet.pts)
            if len(held) > _LOOK_AHEAD:
                yield self._need(held.popleft(), near)
        while held:
            yield self._need(held.popleft(), near)

    def _need(
        self, packet: Packet[VideoStream] | None, near: deque[int]
    ) -> tuple[Packet[VideoStream] | None, bool]:
        if self._targets is None or packet is None or packet.pts is None:
            return packet, True
        pts = packet.pts
        index = bisect_left(self._targets, pts)
        if index == len(self._targets):
            return packet, False
        target = self._targets[index]
        for other in near:
            if pts < other <= target:
                return packet, False
        return packet, True

    def _packets(self, container: InputContainer) -> Iterator[Packet[VideoStream] | None]:
        """All packets of the video, then None, which empties the decoder."""
        for packet in demux(container, (self._stream,), self._count_error):
            pts, dts = packet.pts, packet.dts
            stamp = pts if dts is None else dts
            if stamp is not None:
                if self._first_stamp is None:
                    self._first_stamp = stamp
                self._last_stamp = stamp
                if pts is not None and pts - stamp > self._max_delay:
                    self._max_delay = pts - stamp
            yield packet
        yield None

    def _count_error(self) -> None:
        self.num_errors += 1

    def _frame_at(self, time_s: float) -> Frame:
        target = self._target(time_s)
        is_behind = self._shown is not None and self.first_ticks < self._shown[0] > target
        if is_behind or self._is_key_ahead(target):
            self._go_to(target)
        shown, upcoming = self._shown, self._upcoming
        while upcoming is not None and (shown is None or upcoming[0] <= target):
            shown, upcoming = upcoming, next(self._frames, None)
        assert shown is not None
        if self._converted is None or self._shown is not shown:
            self._converted = Frame(
                time_s=(shown[0] - self.first_ticks) * self._tick_s, rgb_HWC=self._rgb(shown[1])
            )
        self._shown, self._upcoming = shown, upcoming
        return self._converted

    def _target(self, time_s: float) -> float:
        """A time in ticks, late enough for frames whose timestamps were rounded up."""
        rounding_s = min(0.51 * self._tick_s, _MAX_ROUNDING_S)
        return self.first_ticks + (time_s + rounding_s) / self._tick_s

    def _key_before(self, target: float) -> int | None:
        """Time of the keyframe to start from, in the order of decoding; None: from the start."""
        if not self._can_seek:
            return None
        position = self._index.search_timestamp(int(target) - self._max_delay)
        if position < 0:
            return None
        key_ticks = self._index[position].timestamp
        return key_ticks if key_ticks < self._no_keys_from else None

    def _is_key_ahead(self, target: float) -> bool:
        key_ticks = self._key_before(target)
        return key_ticks is not None and key_ticks > self._last_stamp

    def _go_to(self, target: float) -> None:
        """Go on from the keyframe at or before a time, or from the start where none is known."""
        assert self._container is not None
        key_ticks = self._key_before(target)
        if key_ticks is not None:
            try:
                self._container.seek(int(target), stream=self._stream)
            except av.FFmpegError as error:
                raise_unless_damage(error)
            else:
                self._restart_decoding(self._container)
                self._shown, self._upcoming = None, next(self._frames, None)
        if self._upcoming is None or self._upcoming[0] > target:
            # Nothing whole there: later times are reached by decoding on from before it.
            if key_ticks is not None:
                self._no_keys_from = key_ticks
            self._start()

    def _rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        coded = frame.width, frame.height
        if coded != self._coded:
            self._coded, self._fit = coded, self._fitted(frame)
        height, width, cut = self._fit
        # One scaler is kept: making one for each frame costs six times.
        scaled = self._reformatter.reformat(frame, width, height, "rgb24", threads=1)
        rgb_HWC = scaled.to_ndarray()
        if self.quarter_turns:
            rgb_HWC = np.rot90(rgb_HWC, self.quarter_turns)
        if self.is_mirrored:
            rgb_HWC = rgb_HWC[:, ::-1]
        return np.ascontiguousarray(rgb_HWC[cut], dtype=np.uint8)

    def _fitted(self, frame: VideoFrame) -> tuple[int, int, tuple[slice, slice]]:
        """Height and width to scale a frame to, before it is turned; what to cut out after it."""
        is_turned = bool(self.quarter_turns % 2)
        height, width = _square_pixels(frame, self._aspect)
        if is_turned:
            height, width = width, height
        top, left, bottom, right = self._region
        part_height, part_width = height * (bottom - top), width * (right - left)
        wanted_height = self._height or round(part_height)
        wanted_width = self._width or round(part_width)
        tall, wide = wanted_height / part_height, wanted_width / part_width
        if self._resize == "crop":
            tall = wide = max(tall, wide)
        height = max(wanted_height, round(height * tall))
        width = max(wanted_width, round(width * wide))
        first_row = round(height * (top + bottom) / 2 - wanted_height / 2)
        first_column = round(width * (left + right) / 2 - wanted_width / 2)
        first_row = min(max(first_row, 0), height - wanted_height)
        first_column = min(max(first_column, 0), width - wanted_width)
        cut = np.s_[
            first_row : first_row + wanted_height, first_column : first_column + wanted_width
        ]
        return (width, height, cut) if is_turned else (height, width, cut)


def _orientation(frame: VideoFrame) -> tuple[int, bool]:
    """Quarter turns counter-clockwise, and whether it is then mirrored left to right.

    Source: the display matrix of ISO/IEC 14496-12 (tkhd), rows (a b u), (c d v), (x y w).
    """
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return 0, False
    a, b, _, c, d, *_ = np.frombuffer(cast("bytes", side_data), np.int32).astype(float).tolist()
    is_mirrored = a * d - b * c < 0
    angle_deg = -np.degrees(np.arctan2(b, -a if is_mirrored else a))
    return round(angle_deg / 90) % 4, is_mirrored


def _square_pixels(frame: VideoFrame, aspect: float) -> tuple[int, int]:
    return frame.height, max(1, round(frame.width * aspect))
