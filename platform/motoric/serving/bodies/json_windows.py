"""The JSON of predict, pure: bytes in, windows out; probabilities in, bytes out.

    request   {"windows": [[[c0, c1, ...] x T] x B]}, or one window [[c0, c1, ...] x T]
    answer    {"model", "version", "digest",
               "predictions": [{"label", "probability", "probabilities": {class: p}}, ...]}

Axes: B windows of a request, T samples, C channels, K classes. Most of the time of a request goes
into turning digits into floats, so well-formed bodies take a short path: orjson, then one
`struct.pack` a window, which is twice as fast as numpy on nested lists and refuses strings, nulls
and numbers that float32 cannot hold. Whatever fails there goes the long way, which finds out what
is wrong.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import orjson

from motoric.artefact.predictor import Probabilities
from motoric.artefact.preprocessing import Windows, check_windows
from motoric.artefact.signature import SensorInput
from motoric.core.errors import InputError, MalformedBodyError, MotoricError

WINDOWS = "windows"
NUM_DECIMALS = 6
_MAX_DEPTH = 3  # windows, samples, channels
_BODY_HINT = 'send {"windows": [[[...channels] x samples] x windows]}'


class WindowParser:
    """Reads the body of predict for one signature.

    Args:
        sensors: The input of the signature.
    """

    def __init__(self, sensors: SensorInput) -> None:
        self.sensors = sensors
        self._num_samples = sensors.num_input_samples
        self._row_lengths = {sensors.num_channels}
        self._shape = (-1, sensors.num_input_samples, sensors.num_channels)
        self._pack = struct.Struct(f"={sensors.num_input_samples * sensors.num_channels}f").pack

    def parse(self, body: bytes) -> Windows:
        """Read windows of shape (B, T, C), B at least 1, finite.

        Raises:
            MalformedBodyError: Not JSON, or not an object with `windows` and nothing else.
            InputError: The windows do not fit the signature.
        """
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise MalformedBodyError(_not_json(body, error)) from error
        if type(content) is dict and len(content) == 1 and WINDOWS in content:
            windows = content[WINDOWS]
            # "true" and "false" would pass as numbers; each holds a letter that no number has.
            if b"u" not in body and b"l" not in body:
                try:
                    return self._fast(windows)
                except (TypeError, struct.error, OverflowError, _OddShapeError):
                    pass  # the long way says what is wrong
            return self._slow(windows)
        raise _refusal(content)

    def _fast(self, windows: Any) -> Windows:
        if not windows:
            raise _OddShapeError
        first = windows[0]
        if first and type(first[0]) is not list:
            windows = [windows]
        packed = []
        for window in windows:
            # Lengths of strings or objects may pass here; their characters or keys do not pack as
            # numbers.
            if len(window) != self._num_samples or set(map(len, window)) != self._row_lengths:
                raise _OddShapeError
            packed.append(self._pack(*chain.from_iterable(window)))
        flat = np.frombuffer(packed[0] if len(packed) == 1 else b"".join(packed), np.float32)
        return flat.reshape(self._shape)

    def _slow(self, windows: Any) -> Windows:
        if not isinstance(windows, list):
            raise InputError(f"'windows' must be a list of windows, not {_name(windows)}")
        if not windows:
            raise InputError("'windows' is empty: send at least one window")
        _check_numbers(windows, "windows", depth=1)
        try:
            array = np.array(windows, dtype=np.float64)
        except (ValueError, TypeError, OverflowError) as error:
            sensors = self.sensors
            raise InputError(
                f"the windows are ragged: each must have {sensors.num_input_samples} samples of "
                f"{sensors.num_channels} numbers, "
                f"shape {[sensors.num_input_samples, sensors.num_channels]}"
            ) from error
        with np.errstate(over="ignore"):  # what float32 cannot hold is reported as infinite
            return check_windows(array, self.sensors)


class _OddShapeError(Exception):
    """The short path does not take these windows."""


def _name(value: Any) -> str:
    names = {dict: "an object", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), f"{value!r:.40}")


def _check_numbers(value: Any, place: str, depth: int) -> None:
    """Raise InputError at the first leaf that is not a number, naming its place."""
    for index, item in enumerate(value):
        if type(item) is list:
            if depth == _MAX_DEPTH:
                raise InputError(f"{place}[{index}] is a list: windows are nested at most 3 deep")
            _check_numbers(item, f"{place}[{index}]", depth + 1)
        elif type(item) not in (float, int):
            raise InputError(
                f"{place}[{index}] is {_name(item)}, not a number; NaN and missing values "
                "cannot be sent: fill or drop such samples before"
            )


def _not_json(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body:
        return f"the body is empty: {_BODY_HINT}"
    if b"NaN" in body or b"Infinity" in body:
        return (
            "the body holds NaN or Infinity, which JSON does not have: "
            "fill or drop such samples before sending"
        )
    return f"the body is not JSON ({error.msg} at byte {error.pos}): {_BODY_HINT}"


def _refusal(content: Any) -> MalformedBodyError:
    if not isinstance(content, dict):
        return MalformedBodyError(
            f"the body must be a JSON object, not {_kind(content)}: {_BODY_HINT}"
        )
    unknown = sorted(set(content) - {WINDOWS})
    if WINDOWS not in content:
        have = f" (it has {', '.join(map(repr, unknown[:5]))})" if unknown else ""
        return MalformedBodyError(f"the body lacks the key 'windows'{have}: {_BODY_HINT}")
    return MalformedBodyError(
        f"unknown key {', '.join(map(repr, unknown[:5]))}: the body has the one key 'windows'"
    )


def _kind(content: Any) -> str:
    return "a list" if isinstance(content, list) else _name(content)


class AnswerWriter:
    """Writes the answer of predict for one version of a model.

    Args:
        model: Its name.
        version: Its number.
        digest: Its artefact's digest.
        classes: Class names in the order of the last axis.
    """

    def __init__(self, *, model: str, version: int, digest: str, classes: tuple[str, ...]) -> None:
        self._classes = classes
        head = orjson.dumps({"model": model, "version": version, "digest": digest})
        self._head = head[:-1] + b',"predictions":'

    def write(
        self, probabilities_BK: Probabilities, inputs: Sequence[list[str]] | None = None
    ) -> bytes:
        """Write an answer; `label` is the class of the highest probability, before rounding.

        Args:
            probabilities_BK: What the model gave.
            inputs: Of a fused model, the names of the inputs that each example had.

        Raises:
            MotoricError: The model gave NaN.
        """
        labels = probabilities_BK.argmax(axis=1).tolist()
        rows = np.round(probabilities_BK.astype(np.float64), NUM_DECIMALS).tolist()
        classes = self._classes
        predictions: list[dict[str, Any]] = []
        for label, row in zip(labels, rows, strict=True):
            probability = row[label]
            if probability != probability:
                raise MotoricError("the model gave NaN for these windows")
            predictions.append(
                {
                    "label": classes[label],
                    "probability": probability,
                    "probabilities": dict(zip(classes, row, strict=True)),
                }
            )
        for prediction, names in zip(predictions, inputs or (), strict=False):
            prediction["inputs"] = names
        return b"%b%b}" % (self._head, orjson.dumps(predictions))
