"""A video to the clips of a signature, as training makes them. Needs PyAV.

Axes: T frames, H height, W width, C colours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.clips import clip_spec, coloured
from motoric.artefact.signature import ClipInput
from motoric.core.errors import InputError, TooLargeError
from motoric.data.ingest.samples import Notes
from motoric.data.recording import Video
from motoric.data.video.clips import Span, clip_spans, decode_clips
from motoric.data.video.container import open_container, video_stream
from motoric.data.video.probe import probe

# A picture of 8K; a decoder takes several of them in its memory.
MAX_PIXELS = 7680 * 4320
# Of fast cameras; a file that claims more makes work out of nothing.
_MAX_FRAME_RATE_HZ = 1000.0
_TIME_TOLERANCE_S = 1e-6


class VideoFile:
    """One video of a recording.

    Args:
        path: Of the file.
        clip: The input of the signature.
        offset_s: Time of the recording at which its first frame was taken.
        max_duration_s: Longest video.

    Attributes:
        video: What the file holds.
        notes: What was found.

    Raises:
        UnreadableError: It is no video, or not one of its frames can be decoded.
        TooLargeError: It is too long, or its pictures are too large.
    """

    def __init__(
        self, path: str, clip: ClipInput, *, offset_s: float, max_duration_s: float
    ) -> None:
        self.notes = Notes()
        self._path, self._clip, self._offset_s = path, clip, offset_s
        _check_pixels(path)
        self.video: Video = probe(path, sha256="", num_bytes=1, notes=self.notes)
        video = self.video
        if video.duration_s > max_duration_s:
            raise TooLargeError(
                f"the video is {video.duration_s:.0f} s long, and a file may be"
                f" {max_duration_s:g} s: cut it"
            )
        if video.num_frames > _MAX_FRAME_RATE_HZ * max(video.duration_s, 1.0):
            raise TooLargeError(f"the video has {video.num_frames} frames in {video.duration_s} s")

    def spans(self) -> list[Span]:
        """Where clips are cut without sensors to go by.

        Raises:
            InputError: The video is too short for one.
        """
        found = clip_spans(self.video.duration_s, (), clip_spec(self._clip), self._offset_s)
        if not found:
            raise InputError(
                f"the video is {self.video.duration_s:.2f} s long, and one clip needs"
                f" {self._clip.length_s:g} s"
            )
        return found

    def shows(self, span: Span) -> bool:
        """Whether the whole span was filmed."""
        first_s = self._offset_s - _TIME_TOLERANCE_S
        last_s = self._offset_s + self.video.duration_s + _TIME_TOLERANCE_S
        return span.start_s >= first_s and span.end_s <= last_s

    def clips(self, spans: Sequence[Span]) -> Iterator[NDArray[np.uint8]]:
        """One clip a span, shape (T, H, W, C), in their order."""
        spec = clip_spec(self._clip)
        for clip_THWC in decode_clips(self._path, spans, spec, self._offset_s):
            yield coloured(clip_THWC, self._clip)


def _check_pixels(path: str) -> None:
    """Look at the size that the file declares before a picture of it is decoded."""
    container, file = open_container(path)
    try:
        context = video_stream(container).codec_context
        width, height = context.width, context.height
    finally:
        container.close()
        if file is not None:
            file.close()
    if width * height > MAX_PIXELS:
        raise TooLargeError(
            f"the pictures of the video have {width} x {height} pixels, and may have"
            f" {MAX_PIXELS}: scale it down"
        )
