"""Frames of the WebSocket protocol (RFC 6455) as a fast client needs them, without a library.

Out: chunks of live samples, masked once, of which only the number of the first sample changes. In:
bytes of the server, which does not mask.
"""

from __future__ import annotations

import base64
import os
import struct
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_MASK = b"\x5a\xc3\x96\x3c"  # any mask is as much work for the server as another
_MASK_8 = int.from_bytes(_MASK * 2, "little")
_CHUNK = struct.Struct("<4sIQII")  # motoric.serving.streams.messages


def masked(payload: bytes) -> bytes:
    """The payload under the mask."""
    keys = (_MASK * (len(payload) // 4 + 1))[: len(payload)]
    found: bytes = (np.frombuffer(payload, np.uint8) ^ np.frombuffer(keys, np.uint8)).tobytes()
    return found


def frame(opcode: int, payload: bytes) -> bytes:
    """A frame of a client."""
    return _head(opcode, len(payload)) + masked(payload)


def _head(opcode: int, length: int) -> bytes:
    first = bytes([0x80 | opcode])
    if length < 126:
        return first + bytes([0x80 | length]) + _MASK
    if length < 65_536:
        return first + bytes([0x80 | 126]) + struct.pack(">H", length) + _MASK
    return first + bytes([0x80 | 127]) + struct.pack(">Q", length) + _MASK


class ChunkFrame:
    """A binary chunk of samples that can be sent at any place of a stream."""

    def __init__(self, values_TC: NDArray[np.float32]) -> None:
        num_samples, num_channels = values_TC.shape
        payload = _CHUNK.pack(b"MOT1", 0, 0, num_samples, num_channels)
        payload += values_TC.astype("<f4").tobytes()
        hidden = masked(payload)
        # The number of the first sample lies in bytes 8 to 16, where the mask begins anew.
        self._before = _head(BINARY, len(payload)) + hidden[:8]
        self._after = hidden[16:]

    def at(self, first: int) -> bytes:
        """The frame, its first sample having this number."""
        return self._before + (first ^ _MASK_8).to_bytes(8, "little") + self._after


class FrameReader:
    """Cuts what a server sends into frames."""

    def __init__(self) -> None:
        self._kept = b""

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Opcode and payload of each frame that is whole."""
        if self._kept:
            data = self._kept + data
        place, end = 0, len(data)
        while end - place >= 2:
            length, start = data[place + 1], place + 2
            if length == 126:
                if end - place < 4:
                    break
                length, start = int.from_bytes(data[place + 2 : place + 4], "big"), place + 4
            elif length == 127:
                if end - place < 10:
                    break
                length, start = int.from_bytes(data[place + 2 : place + 10], "big"), place + 10
            if end - start < length:
                break
            yield data[place] & 0x0F, data[start : start + length]
            place = start + length
        self._kept = data[place:]


def handshake(host: str, path: str, headers: dict[str, str]) -> bytes:
    """The request that opens a WebSocket."""
    fields = {
        "host": host,
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-key": base64.b64encode(os.urandom(16)).decode(),
        "sec-websocket-version": "13",
        **headers,
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode()
