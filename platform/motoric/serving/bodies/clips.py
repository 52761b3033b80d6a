"""Bodies of predict to clips, by Content-Type.

    application/json                      {"clips": [...]}: whole numbers of 0 to 255, nested as
                                          clips, frames, rows, columns, colours; or one clip
    application/octet-stream              uint8 in C order, B by the length
    application/x-npy                     one .npy array of uint8
    application/vnd.apache.arrow.stream   Arrow IPC stream with the one column `clips` of uint8

Axes: B clips of a request, T frames, H height, W width, C colours.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.artefact.predictor import CLIPS
from motoric.artefact.preprocessing import Clips, check_clips
from motoric.artefact.signature import ClipInput
from motoric.core.errors import (
    ContentTypeError,
    InputError,
    MalformedBodyError,
    QueryError,
    TooLargeError,
)
from motoric.serving.bodies.arrow_stream import ArrowReader, Column
from motoric.serving.bodies.npy import npy_header, npy_values
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE, bare_type

_AXES = "frames x height x width x colours"
_HINT = 'send {"clips": [[[[[...colours] x width] x height] x frames] x clips]}'


class ClipDecoder:
    """Reads the bodies of predict for a model of clips.

    Args:
        clip: The input of the signature.
        max_clips: Most clips of a request.
        max_bytes: Most bytes that the compressed buffers of a body may unpack to.
    """

    def __init__(self, clip: ClipInput, *, max_clips: int, max_bytes: int) -> None:
        self.clip = clip
        self._max_clips = max_clips
        self._max_bytes = max_bytes
        self._clip_bytes = math.prod(clip.shape)
        self._parsers: dict[bytes | None, Callable[[bytes], Clips]] = {
            None: self._json,
            JSON_TYPE: self._json,
            RAW_TYPE: self._raw,
            NPY_TYPE: self._npy,
            ARROW_TYPE: self._arrow,
        }

    def parse(self, content_type: bytes | None, body: bytes, query: bytes = b"") -> Clips:
        """Read clips of shape (B, T, H, W, C), B at least 1.

        Raises:
            ContentTypeError: There is no decoder of this type.
            MalformedBodyError: The body is not what its type says, or is truncated.
            InputError: The clips do not fit the signature.
            TooLargeError: There are more clips than a request may have.
            QueryError: There is a query: clips are taken as they are.
        """
        if query:
            raise QueryError("clips have no query: send them as the model's signature has them")
        parse = self._parsers.get(content_type) or self._parsers.get(bare_type(content_type))
        if parse is None:
            raise unknown_type(content_type)
        return parse(body)

    def column(self, *, may_be_null: bool = False) -> Column:
        """The column of clips of an Arrow stream."""
        return Column(
            name=CLIPS, shape=self.clip.shape, axes=_AXES, holds="bytes", may_be_null=may_be_null
        )

    def of_values(self, values_V: NDArray[np.uint8]) -> Clips:
        """Clips of the values of such a column."""
        return check_clips(values_V.reshape(-1, *self.clip.shape), self.clip)

    def of_nested(self, clips: Any) -> Clips:
        """Clips of nested lists of whole numbers; one clip gets its batch axis.

        Raises:
            InputError: They are ragged or of another shape, or hold anything but 0 to 255.
            TooLargeError: There are too many.
        """
        if not isinstance(clips, list):
            raise InputError(f"'clips' must be a list of clips: {_HINT}")
        if _depth(clips) == len(self.clip.shape):
            clips = [clips]
        self._check_count(len(clips))
        items = clips
        for axis, length in enumerate(self.clip.shape):
            # What is no list fails here or, as a string or an object, among the numbers.
            if not all(type(item) is list and len(item) == length for item in items):
                raise InputError(
                    f"each clip must be lists of shape {list(self.clip.shape)} ({_AXES}): a list"
                    f" {axis + 2} deep is of another length than {length}, or no list"
                )
            items = list(chain.from_iterable(items))
        try:
            flat = bytes(items)
        except (TypeError, ValueError) as error:
            raise InputError(f"clips hold whole numbers of 0 to 255 alone: {error}") from error
        return self.of_values(np.frombuffer(flat, np.uint8))

    def _check_count(self, num_clips: int) -> None:
        if num_clips > self._max_clips:
            raise TooLargeError(
                f"{num_clips} clips were sent, and a request may have {self._max_clips}: send them"
                " in several requests"
            )

    def _json(self, body: bytes) -> Clips:
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedBodyError(
                f"the body is not JSON ({error.msg} at byte {error.pos}): {_HINT}"
            ) from error
        if not isinstance(content, dict) or set(content) != {CLIPS}:
            raise MalformedBodyError(f"the body has not the one key 'clips': {_HINT}")
        check_no_words(body)
        return self.of_nested(content[CLIPS])

    def _raw(self, body: bytes) -> Clips:
        num_clips, rest = divmod(len(body), self._clip_bytes)
        if rest or not body:
            raise MalformedBodyError(
                f"the body has {len(body)} bytes, and a clip has {self._clip_bytes} (uint8,"
                f" {' x '.join(map(str, self.clip.shape))}, {_AXES}): it is cut off, or of another"
                " shape or type"
            )
        self._check_count(num_clips)
        return self.of_values(np.frombuffer(body, np.uint8))

    def _npy(self, body: bytes) -> Clips:
        header = npy_header(body)
        dtype, shape = header[:2]
        if shape[-4:] != self.clip.shape or len(shape) not in (4, 5) or dtype != np.uint8:
            raise InputError(
                f".npy: {dtype} of shape {list(shape)}: send uint8 of [clips,"
                f" {', '.join(map(str, self.clip.shape))}], {_AXES}, or one clip without the first"
            )
        self._check_count(shape[0] if len(shape) == 5 else 1)
        return check_clips(npy_values(body, header), self.clip)

    def _arrow(self, body: bytes) -> Clips:
        reader = ArrowReader((self.column(),), self._check_count, self._max_bytes)
        return self.of_values(reader.read(body)[CLIPS].flat_V)


def check_no_words(body: bytes, num_allowed: int = 0) -> None:
    """Refuse `true` and `false` beyond `num_allowed`, which Python takes for 1 and 0.

    Raises:
        InputError: There are more.
    """
    if b"u" in body or b"f" in body:
        num = body.count(b"true") + body.count(b"false")
        if num > num_allowed:
            raise InputError("clips hold true or false: they hold whole numbers of 0 to 255 alone")


def unknown_type(content_type: bytes | None) -> ContentTypeError:
    """What is said of a body that nothing reads."""
    shown = (content_type or b"").decode("latin-1")[:100]
    there = b", ".join((JSON_TYPE, RAW_TYPE, NPY_TYPE, ARROW_TYPE)).decode()
    return ContentTypeError(
        f"a body of type {shown!r} cannot be read: send one of {there}, and name it in Content-Type"
    )


def _depth(nested: Any) -> int:
    depth = 0
    while isinstance(nested, list) and depth < 8:
        depth += 1
        nested = nested[0] if nested else None
    return depth
