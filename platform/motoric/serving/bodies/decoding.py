"""Bodies of predict to windows, by Content-Type.

    application/json                      see `protocol`; `rate_hz`, `channels` and `units` may
                                          stand beside `windows`, see `adaptation`
    application/octet-stream              little-endian float32 in C order, B by the length
    application/x-npy                     one .npy array, versions 1 to 3 of the format (NEP 1)
    application/vnd.apache.arrow.stream   Arrow IPC stream with the one column `windows`

In: the header, the body and the query of a request. Out: float32 windows (B, T, C) that fit the
signature, finite. Nothing here evaluates, unpickles, or allocates what a body merely claims to
hold.

Axes: B windows of a request, T samples of a window with its context, C channels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.artefact.preprocessing import Windows, check_windows, surely_finite
from motoric.artefact.signature import SensorInput
from motoric.core.errors import ContentTypeError, InputError, MalformedBodyError, TooLargeError
from motoric.serving.bodies.adaptation import KEYS, Adapter, Given, given_by_keys, given_by_query
from motoric.serving.bodies.arrow_stream import ArrowReader, Column
from motoric.serving.bodies.json_windows import WINDOWS, WindowParser
from motoric.serving.bodies.npy import npy_header, npy_values
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE, bare_type

BODY_TYPES = (JSON_TYPE, RAW_TYPE, NPY_TYPE, ARROW_TYPE)

MAX_WINDOWS = 1024
MAX_BYTES = 64 * 2**20

_FLOAT32 = np.dtype("<f4")
_NUM_ADAPTED = 16  # ways of sending windows that are remembered


class BodyDecoder:
    """Reads the bodies of predict for one signature.

    Args:
        sensors: The input of the signature.
        max_windows: Most windows of a request.
        max_bytes: Most bytes that the compressed buffers of a body may unpack to.
    """

    def __init__(
        self,
        sensors: SensorInput,
        *,
        max_windows: int = MAX_WINDOWS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self.sensors = sensors
        self._max_windows = max_windows
        self._max_bytes = max_bytes
        self._shape = (-1, sensors.num_input_samples, sensors.num_channels)
        self._window_bytes = 4 * sensors.num_input_samples * sensors.num_channels
        self._parser = WindowParser(sensors)
        self._is_adapted = False
        self._parsers: dict[bytes | None, Callable[[bytes], Windows]] = {
            None: self._json,
            JSON_TYPE: self._json,
            RAW_TYPE: self._raw,
            NPY_TYPE: self._npy,
            ARROW_TYPE: self._arrow,
        }
        self._adapted = functools.lru_cache(_NUM_ADAPTED)(self._new_adapted)

    def parse(self, content_type: bytes | None, body: bytes, query: bytes = b"") -> Windows:
        """Read windows of shape (B, T, C), B at least 1, finite.

        Args:
            content_type: Of the request; None is taken for JSON.
            body: Its body.
            query: Its query: `rate_hz`, `channels`, `units`; see `given_by_query`.

        Raises:
            ContentTypeError: There is no decoder of this type.
            MalformedBodyError: The body is not what its type says, or is truncated.
            InputError: The windows do not fit the signature, or cannot be adapted to it.
            TooLargeError: There are more windows than a request may have.
            QueryError: The query cannot be read.
        """
        if query:
            adapter, decoder = self._adapted(given_by_query(query))
            return adapter.adapt(decoder.parse(content_type, body))
        parse = self._parsers.get(content_type) or self._parsers.get(bare_type(content_type))
        if parse is None:
            shown = (content_type or b"").decode("latin-1")[:100]
            raise ContentTypeError(
                f"a body of type {shown!r} cannot be read: send one of"
                f" {b', '.join(BODY_TYPES).decode()}, and name it in Content-Type"
            )
        return parse(body)

    def column(self, query: bytes = b"", *, may_be_null: bool = False) -> Column:
        """The column of windows of an Arrow stream; `query` as of `parse`."""
        shape = (self._adapted(given_by_query(query))[1] if query else self)._shape[1:]
        return Column(
            name=WINDOWS,
            shape=shape,
            axes="samples x channels",
            holds="floats",
            may_be_null=may_be_null,
        )

    def of_values(self, values_V: NDArray[Any], query: bytes = b"") -> Windows:
        """Windows of the values of such a column, one window or more; raises as `parse`."""
        if query:
            adapter, decoder = self._adapted(given_by_query(query))
            return adapter.adapt(decoder.of_values(values_V))
        return self._checked(values_V.reshape(self._shape))

    def _new_adapted(self, given: Given) -> tuple[Adapter, BodyDecoder]:
        adapter = Adapter(self.sensors, given)
        limits = {"max_windows": self._max_windows, "max_bytes": self._max_bytes}
        decoder = BodyDecoder(adapter.given_sensors, **limits)
        decoder._is_adapted = True
        return adapter, decoder

    def _check_count(self, num_windows: int) -> None:
        if num_windows > self._max_windows:
            raise TooLargeError(
                f"{num_windows} windows were sent, and a request may have {self._max_windows}:"
                " send them in several requests"
            )

    def _json(self, body: bytes) -> Windows:
        try:
            windows_BTC = self._parser.parse(body)
        except MalformedBodyError:
            content = _with_keys(body)
            if content is None:
                raise
            if self._is_adapted:
                raise MalformedBodyError(
                    "the query and the body both say what the windows are: say it in one of them"
                ) from None
            adapter, decoder = self._adapted(given_by_keys(content))
            # Written again, since only a whole body tells how its numbers are written.
            return adapter.adapt(decoder.parse(JSON_TYPE, _only_windows(content)))
        self._check_count(len(windows_BTC))
        return windows_BTC

    def _raw(self, body: bytes) -> Windows:
        num_windows, rest = divmod(len(body), self._window_bytes)
        if rest or not body:
            _, num_samples, num_channels = self._shape
            raise MalformedBodyError(
                f"the body has {len(body)} bytes, and a window has {self._window_bytes}"
                f" ({num_samples} samples x {num_channels} channels of float32): it is cut off, or"
                " of another shape or type"
            )
        self._check_count(num_windows)
        windows_BTC = np.frombuffer(body, _FLOAT32).reshape(self._shape)
        # What is wrong is said by the exact look-up.
        return windows_BTC if surely_finite(windows_BTC) else self._checked(windows_BTC)

    def _checked(self, array: NDArray[Any]) -> Windows:
        # What float32 cannot hold is reported as infinite, and NaN of any kind as NaN.
        with np.errstate(over="ignore", invalid="ignore"):
            checked = check_windows(array, self.sensors)
        # onnxruntime reads whole floats, and a header may leave them at any byte.
        return checked if checked.flags.aligned else checked.copy()

    def _npy(self, body: bytes) -> Windows:
        header = npy_header(body)
        shape = header[1]
        if shape[-2:] != self._shape[1:] or len(shape) not in (2, 3):
            raise InputError(
                f".npy: the shape is {list(shape)}: send [windows, {self._shape[1]} samples,"
                f" {self._shape[2]} channels] of this model, or one window without the first"
            )
        self._check_count(shape[0] if len(shape) == 3 else 1)
        return self._checked(npy_values(body, header))

    def _arrow(self, body: bytes) -> Windows:
        reader = ArrowReader((self.column(),), self._check_count, self._max_bytes)
        return self._checked(reader.read(body)[WINDOWS].flat_V.reshape(self._shape))


def _with_keys(body: bytes) -> dict[str, Any] | None:
    """The content of a body that has keys beside `windows`, and only those there are."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(content, dict) or WINDOWS not in content or len(content) == 1:
        return None
    return None if set(content) - {WINDOWS, *KEYS} else content


def _only_windows(content: dict[str, Any]) -> bytes:
    return orjson.dumps({WINDOWS: content[WINDOWS]})
