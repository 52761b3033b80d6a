"""The bodies of predict of one model, of whatever inputs: bytes to the rows of a batch."""

from __future__ import annotations

from motoric.artefact.signature import Signature
from motoric.serving.batching import Rows
from motoric.serving.bodies.clips import ClipDecoder
from motoric.serving.bodies.decoding import MAX_BYTES, MAX_WINDOWS, BodyDecoder
from motoric.serving.bodies.fused import FusedDecoder


class RequestDecoder:
    """Reads the bodies of predict for one signature.

    Args:
        signature: Of the model.
        max_windows: Most examples of a request.
        max_bytes: Most bytes that the compressed buffers of a body may unpack to.
    """

    def __init__(
        self, signature: Signature, *, max_windows: int = MAX_WINDOWS, max_bytes: int = MAX_BYTES
    ) -> None:
        sensors, clip = signature.sensor_input, signature.clip_input
        self._windows: BodyDecoder | None = None
        self._others: FusedDecoder | ClipDecoder | None = None
        if clip is None:
            self._windows = BodyDecoder(
                signature.sensors, max_windows=max_windows, max_bytes=max_bytes
            )
        elif sensors is None:
            self._others = ClipDecoder(clip, max_clips=max_windows, max_bytes=max_bytes)
        else:
            self._others = FusedDecoder(signature, max_examples=max_windows, max_bytes=max_bytes)

    def parse(self, content_type: bytes | None, body: bytes, query: bytes = b"") -> Rows:
        """Read the examples of a request; arguments and errors as those of `BodyDecoder.parse`."""
        if self._windows is not None:
            return (self._windows.parse(content_type, body, query),)
        assert self._others is not None
        found = self._others.parse(content_type, body, query)
        return found if isinstance(found, tuple) else (found,)
