"""Opening a video file: which kinds are read, and going on behind damage.

In: the URI of an mp4, mov, mkv, webm or avi file. Out: a PyAV container, its video stream and its
packets. PyAV keeps FFmpeg's log off stderr unless a program turns it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import av
import pyarrow as pa
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition, Stream
from av.video.stream import VideoStream
from pyarrow import fs as pafs

from motoric.core import storage
from motoric.core.errors import NotFoundError, UnreadableError

# Only these: FFmpeg would also "read" text files, and playlists that name other files.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"
_KINDS = "mp4, mov, mkv, webm or avi"
# Reads of object storage cost a request each.
_REMOTE_BUFFER_BYTES = 2**20
# A demuxer that fails this often in a row has nothing more to give.
_MAX_DEMUX_ERRORS = 8


def open_container(uri: str) -> tuple[InputContainer, pa.NativeFile | None]:
    """Open a video; local files directly, others as a file object that the caller closes.

    Raises:
        NotFoundError: There is none.
        UnreadableError: It is not a video of a kind that is read.
    """
    system, path = storage.filesystem(uri)
    file = None if isinstance(system, pafs.LocalFileSystem) else storage.open_input(uri)
    try:
        return open_file(path if file is None else file), file
    except BaseException as error:
        if file is not None:
            file.close()
        if isinstance(error, FileNotFoundError):
            raise NotFoundError(f"nothing lies at {uri}") from error
        if isinstance(error, av.FFmpegError):
            raise_unless_damage(error)
            raise UnreadableError(_why_not_opened(uri)) from error
        raise


def open_file(source: str | pa.NativeFile) -> InputContainer:
    """Open a local path or a file object with the demuxers that are read."""
    # A title that is not UTF-8 must not make a video unreadable.
    return av.open(
        source,
        mode="r",
        options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"},
        metadata_errors="replace",
        buffer_size=2**15 if isinstance(source, str) else _REMOTE_BUFFER_BYTES,
    )


def video_stream(container: InputContainer) -> VideoStream:
    """The first video stream that is not a cover picture.

    Raises:
        UnreadableError: There is none, or no decoder for it.
    """
    for stream in container.streams.video:
        if stream.disposition & Disposition.attached_pic:
            continue
        if stream.codec_context is None:
            raise UnreadableError("its codec is unknown to this FFmpeg: convert it to H.264")
        return stream
    kinds = sorted({stream.type for stream in container.streams if stream.type != "video"})
    found = f"{kinds[0]} only" if len(kinds) == 1 else f"it holds {', '.join(kinds) or 'nothing'}"
    raise UnreadableError(f"has no video stream: {found}")


def demux(
    container: InputContainer, streams: tuple[Stream, ...], on_error: Callable[[], None]
) -> Iterator[Packet[Any]]:
    """The packets of some streams, going on behind damage; `on_error` hears of it."""
    errors_in_row = 0
    while errors_in_row < _MAX_DEMUX_ERRORS:
        try:
            for packet in container.demux(streams):
                errors_in_row = 0
                if packet.is_corrupt:  # cut off by the end of the file
                    on_error()
                # Empty ones: PyAV's mark for the end, AVI's for a frame that was dropped.
                elif packet.size:
                    yield packet
        except av.FFmpegError as error:
            raise_unless_damage(error)
            on_error()
            errors_in_row += 1
        else:
            return


def raise_unless_damage(error: av.FFmpegError) -> None:
    """Raise it again where the disk or the memory failed: that says nothing about the video."""
    if isinstance(error, OSError | MemoryError):
        raise error


def _why_not_opened(uri: str) -> str:
    with storage.open_input(uri) as file:
        head = bytes(file.read(12))
    if not head:
        return "the file is empty (0 bytes)"
    if head[4:8] in (b"ftyp", b"mdat", b"moov", b"wide", b"free"):
        return (
            "an mp4 or mov file without a whole index: it was cut off before its index was"
            " written, or while it was copied; copy it again from the camera"
        )
    return f"not a video that can be read: it needs to be {_KINDS}"
