"""Bodies of predict of a fused model: windows, clips, or both.

    application/json                      {"windows": [...], "clips": [...], "present": [...]}:
                                          as many of each; null where an example lacks one;
                                          `present`, optional, has [window?, clip?] of each example;
                                          `rate_hz`, `channels`, `units` as of windows alone
    application/vnd.apache.arrow.stream   the columns `windows` and `clips`, or one; null where a
                                          row lacks one
    application/octet-stream, .npy        windows alone, of a model that may lack clips

Axes: B examples of a request.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS
from motoric.artefact.preprocessing import Clips, Windows
from motoric.artefact.signature import Signature
from motoric.core.errors import InputError, MalformedBodyError, TooLargeError
from motoric.serving.batching import Rows
from motoric.serving.bodies.adaptation import KEYS
from motoric.serving.bodies.arrow_stream import ArrowReader, ColumnValues
from motoric.serving.bodies.clips import ClipDecoder, check_no_words
from motoric.serving.bodies.decoding import BodyDecoder
from motoric.serving.bodies.examples import rows_of
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE, bare_type

_KEYS = (WINDOWS, CLIPS, PRESENT, *KEYS)
_HINT = 'send {"windows": [...], "clips": [...]}, or one of both where the model may lack the other'


class FusedDecoder:
    """Reads the bodies of predict for a model of windows and clips.

    Args:
        signature: Of the model.
        max_examples: Most examples of a request.
        max_bytes: Most bytes that the compressed buffers of a body may unpack to.
    """

    def __init__(self, signature: Signature, *, max_examples: int, max_bytes: int) -> None:
        clip = signature.clip_input
        assert clip is not None
        self._signature = signature
        self._windows = BodyDecoder(
            signature.sensors, max_windows=max_examples, max_bytes=max_bytes
        )
        self._clips = ClipDecoder(clip, max_clips=max_examples, max_bytes=max_bytes)
        self._max_examples = max_examples
        self._max_bytes = max_bytes

    def parse(self, content_type: bytes | None, body: bytes, query: bytes = b"") -> Rows:
        """Read the examples of a request; arguments and errors as of `BodyDecoder.parse`."""
        kind = JSON_TYPE if content_type is None else bare_type(content_type)
        if kind == JSON_TYPE:
            return self._json(body, query)
        if kind == ARROW_TYPE:
            return self._arrow(body, query)
        if kind in (RAW_TYPE, NPY_TYPE):
            clip = self._signature.clip_input
            if clip is not None and not clip.optional:
                raise InputError(
                    f"{kind.decode()} holds windows alone, and this model needs clips too: send"
                    " application/json or an Arrow stream with both"
                )
        return rows_of(self._signature, self._windows.parse(content_type, body, query))

    def _json(self, body: bytes, query: bytes) -> Rows:
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedBodyError(
                f"the body is not JSON ({error.msg} at byte {error.pos}): {_HINT}"
            ) from error
        if not isinstance(content, dict):
            raise MalformedBodyError(f"the body must be a JSON object: {_HINT}")
        if unknown := sorted(set(content) - set(_KEYS)):
            raise MalformedBodyError(f"unknown key {unknown[0]!r:.60}: {_HINT}")
        windows, has_window_B = _without_nulls(content, WINDOWS, 2)
        clips, has_clip_B = _without_nulls(content, CLIPS, 4)
        present_B2 = _present(content.get(PRESENT))
        for there_B in (has_window_B, has_clip_B):
            self._check_count(0 if there_B is None else len(there_B))
        windows_BTC = clips_BTHWC = None
        if windows:
            about = {key: content[key] for key in KEYS if key in content}
            # Written again, since only a whole body tells how its numbers are written.
            alone = orjson.dumps({WINDOWS: windows, **about})
            windows_BTC = self._windows.parse(JSON_TYPE, alone, query)
        if clips:
            check_no_words(body, 0 if present_B2 is None else present_B2.size)
            clips_BTHWC = self._clips.of_nested(clips)
        return self._rows((windows_BTC, has_window_B), (clips_BTHWC, has_clip_B), present_B2)

    def _arrow(self, body: bytes, query: bytes) -> Rows:
        columns = (
            self._windows.column(query, may_be_null=True),
            self._clips.column(may_be_null=True),
        )
        found = ArrowReader(columns, self._check_count, self._max_bytes).read(body)
        windows, clips = found.get(WINDOWS), found.get(CLIPS)
        windows_BTC = clips_BTHWC = None
        if windows is not None and len(windows.flat_V):
            windows_BTC = self._windows.of_values(windows.flat_V, query)
        if clips is not None and len(clips.flat_V):
            clips_BTHWC = self._clips.of_values(clips.flat_V)
        return self._rows((windows_BTC, _there(windows)), (clips_BTHWC, _there(clips)), None)

    def _check_count(self, num: int) -> None:
        if num > self._max_examples:
            raise TooLargeError(
                f"{num} examples were sent, and a request may have {self._max_examples}: send them"
                " in several requests"
            )

    def _rows(
        self,
        windows: tuple[Windows | None, NDArray[np.bool_] | None],
        clips: tuple[Clips | None, NDArray[np.bool_] | None],
        said_B2: NDArray[np.bool_] | None,
    ) -> Rows:
        """Put what is there in its place among the examples; values of those that have one."""
        lengths = {len(there_B) for _, there_B in (windows, clips) if there_B is not None}
        if not lengths or lengths == {0}:
            raise InputError(f"neither windows nor clips were sent: {_HINT}")
        if len(lengths) > 1:
            raise InputError(
                f"{' and '.join(map(str, sorted(lengths)))} windows and clips were sent: send as"
                " many of each, with null where an example lacks one"
            )
        (num,) = lengths
        present_B2 = np.zeros((num, 2), dtype=np.bool_)
        for column, (_, there_B) in enumerate((windows, clips)):
            if there_B is not None:
                present_B2[:, column] = there_B
        if said_B2 is not None:
            if said_B2.shape != (num, 2) or (said_B2 & ~present_B2).any():
                raise InputError(
                    f"'present' must have {num} pairs, one an example, and say of nothing that it"
                    " is there that was not sent"
                )
            present_B2 &= said_B2
        if not present_B2.any(axis=1).all():
            bad = int(np.argmin(present_B2.any(axis=1)))
            raise InputError(f"example {bad} has neither a window nor a clip")
        may_lack = (self._signature.sensors.optional, self._clips.clip.optional)
        for column, (name, is_optional) in enumerate(zip((WINDOWS, CLIPS), may_lack, strict=True)):
            if not is_optional and not present_B2[:, column].all():
                bad = int(np.argmin(present_B2[:, column]))
                raise InputError(f"this model needs {name}, and example {bad} has none")
        return rows_of(
            self._signature, _placed(*windows), _placed(*clips), np.ascontiguousarray(present_B2)
        )


def _there(column: ColumnValues | None) -> NDArray[np.bool_] | None:
    return None if column is None else column.is_there_B


def _without_nulls(
    content: dict[str, Any], name: str, depth_of_one: int
) -> tuple[list[Any] | None, NDArray[np.bool_] | None]:
    """What a key holds without its nulls, and where it has none; one alone gets its batch axis."""
    found = content.get(name)
    if found is None:
        return None, None
    if not isinstance(found, list):
        raise InputError(f"{name!r} must be a list of {name}: {_HINT}")
    depth, inner = 0, next((item for item in found if item is not None), None)
    while isinstance(inner, list) and depth <= depth_of_one:
        depth, inner = depth + 1, inner[0] if inner else None
    if depth == depth_of_one - 1:
        found = [found]
    there_B = np.array([item is not None for item in found], dtype=np.bool_)
    return [item for item in found if item is not None], there_B


def _present(pairs: Any) -> NDArray[np.bool_] | None:
    if pairs is None:
        return None
    if not isinstance(pairs, list) or not all(
        isinstance(pair, list) and len(pair) == 2 and all(type(item) is bool for item in pair)
        for pair in pairs
    ):
        raise InputError("'present' must be pairs of true and false: [[window?, clip?], ...]")
    return np.array(pairs, dtype=np.bool_).reshape(-1, 2)


def _placed(values: Any, there_B: NDArray[np.bool_] | None) -> Any:
    if values is None or there_B is None or there_B.all():
        return values
    placed = np.zeros((len(there_B), *values.shape[1:]), dtype=values.dtype)
    placed[there_B] = values
    return placed
