"""Answers of predict: what a model gives, and the Accept header, to bytes and their type.

    application/json                      see `protocol`; values and quantiles as
        {"model", "version", "digest", "predictions": [{"value", "unit"}, ...]}
        {..., "predictions": [{"quantiles": {"0.1": x, ...}, "unit", "horizon_s"}, ...]}
        and of a fused model "inputs": ["windows", "clips"] or one of both in each prediction
    application/x-npy                     float32 of shape (B, K), a .npy
    application/octet-stream              the same without a header: little-endian, C order
    application/vnd.apache.arrow.stream   one record batch: label, probability, probabilities; or
                                          value; or quantiles; all else in the schema's metadata

Axes: B windows of a request, K classes, values (one) or quantiles of a window. pyarrow is loaded
by the first answer in Arrow.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.artefact.predictor import CLIPS, WINDOWS
from motoric.artefact.preprocessing import surely_finite
from motoric.artefact.signature import ClassesOutput, QuantilesOutput, ValueOutput
from motoric.core.errors import MotoricError, NotAcceptableError
from motoric.serving.bodies.json_windows import AnswerWriter
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE

# In the order in which they are preferred where the client has no preference.
ANSWER_TYPES = (JSON_TYPE, NPY_TYPE, RAW_TYPE, ARROW_TYPE)

Output = ClassesOutput | ValueOutput | QuantilesOutput
Outputs = NDArray[np.float32]
# Of a fused model, the names of the inputs of each example.
_Inputs = list[list[str]] | None

_MAX_ACCEPT_BYTES = 2048
_NPY_ALIGNMENT = 64


@functools.lru_cache(maxsize=256)
def choose_type(accept: bytes | None) -> bytes:
    """Choose the type of an answer by the Accept header (RFC 9110, 12.5.1).

    A type's quality is that of the most precise range that names it. Among types of the same
    quality the one that was named more precisely goes first, then the one that was named first.

    Args:
        accept: The header; None or empty accepts anything, which gives JSON.

    Raises:
        NotAcceptableError: It accepts none of `ANSWER_TYPES`.
    """
    if accept is None or not accept.strip():
        return JSON_TYPE
    there = b", ".join(ANSWER_TYPES).decode()
    if len(accept) > _MAX_ACCEPT_BYTES:
        raise NotAcceptableError(
            f"the Accept header has {len(accept)} bytes, and at most {_MAX_ACCEPT_BYTES} are read:"
            f" name what you want among {there}"
        )
    ranges = _ranges(accept)
    ranked: list[tuple[float, int, int, int, bytes]] = []
    for rank, name in enumerate(ANSWER_TYPES):
        forms = (b"*/*", name.split(b"/")[0] + b"/*", name)
        found = [(forms.index(form), -place, q) for place, form, q in ranges if form in forms]
        if found:
            precision, place, quality = max(found)
            ranked.append((quality, precision, place, -rank, name))
    best = max(ranked, default=None)
    if best is None or best[0] <= 0:
        raise NotAcceptableError(
            f"Accept is {accept.decode('latin-1')[:200]!r}, and an answer can be {there}:"
            " name one of these, or send no Accept for JSON"
        )
    return best[-1]


def _ranges(accept: bytes) -> list[tuple[int, bytes, float]]:
    """Place, range and quality of each part that is well formed; others say nothing."""
    found = []
    for place, part in enumerate(accept.lower().split(b",")):
        name, *parameters = (piece.strip() for piece in part.split(b";"))
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition(b"=")
            if key.strip() == b"q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = -1.0
        if name and 0 <= quality <= 1:
            found.append((place, name, quality))
    return found


class AnswerEncoder:
    """Writes the answers of predict for one version of a model.

    Args:
        model: Its name.
        version: Its number.
        digest: Its artefact's digest.
        output: Of its signature.
    """

    def __init__(self, *, model: str, version: int, digest: str, output: Output) -> None:
        self._output = output
        self._about: dict[str, Any] = {"model": model, "version": version, "digest": digest}
        self._head = orjson.dumps(self._about)[:-1] + b',"predictions":'
        self._json = self._json_writer()
        self._writers: dict[bytes, Callable[[Outputs], bytes]] = {
            NPY_TYPE: _npy,
            RAW_TYPE: _raw,
            ARROW_TYPE: self._arrow,
        }

    def encode(
        self,
        content_type: bytes,
        outputs_BK: Outputs,
        present_B2: NDArray[np.bool_] | None = None,
    ) -> bytes:
        """Write an answer.

        Args:
            content_type: One of `ANSWER_TYPES`; see `choose_type`, which costs nothing to call
                before the model runs.
            outputs_BK: What the model gave.
            present_B2: Of a fused model, which inputs each example had; JSON says so.

        Raises:
            MotoricError: The model gave values that are not finite.
        """
        if not surely_finite(outputs_BK) and not np.isfinite(outputs_BK).all():
            raise MotoricError("the model gave NaN or infinite values for these windows")
        if content_type == JSON_TYPE:
            return self._json(outputs_BK, None if present_B2 is None else _inputs(present_B2))
        return self._writers[content_type](outputs_BK)

    def _json_writer(self) -> Callable[[Outputs, _Inputs], bytes]:
        output = self._output
        if isinstance(output, ClassesOutput):
            return AnswerWriter(**self._about, classes=output.classes).write
        return self._values if isinstance(output, ValueOutput) else self._quantiles

    def _values(self, outputs_B1: Outputs, inputs: _Inputs) -> bytes:
        assert isinstance(self._output, ValueOutput)
        unit = self._output.unit
        predictions = [{"value": value, "unit": unit} for value in outputs_B1[:, 0]]
        return self._with_head(predictions, inputs)

    def _quantiles(self, outputs_BQ: Outputs, inputs: _Inputs) -> bytes:
        assert isinstance(self._output, QuantilesOutput)
        unit, horizon_s = self._output.unit, self._output.horizon_s
        names = [f"{quantile:g}" for quantile in self._output.quantiles]
        return self._with_head(
            [
                {
                    "quantiles": dict(zip(names, row_Q, strict=True)),
                    "unit": unit,
                    "horizon_s": horizon_s,
                }
                for row_Q in outputs_BQ
            ],
            inputs,
        )

    def _with_head(self, predictions: list[dict[str, Any]], inputs: _Inputs) -> bytes:
        for prediction, names in zip(predictions, inputs or (), strict=False):
            prediction["inputs"] = names
        # As numpy scalars: float32 is written with the digits it has.
        content = orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY)
        return b"%b%b}" % (self._head, content)

    def _arrow(self, outputs_BK: Outputs) -> bytes:
        import pyarrow as pa

        output, flat = self._output, pa.array(outputs_BK.ravel())
        rows = pa.FixedSizeListArray.from_arrays(flat, outputs_BK.shape[1])
        said: dict[str, Any]
        if isinstance(output, ClassesOutput):
            labels = [output.classes[index] for index in outputs_BK.argmax(axis=1)]
            columns = {
                "label": pa.array(labels, pa.string()),
                "probability": pa.array(outputs_BK.max(axis=1)),
                "probabilities": rows,
            }
            said = {"classes": list(output.classes)}
        elif isinstance(output, ValueOutput):
            columns, said = {"value": flat}, {"unit": output.unit}
        else:
            columns = {"quantiles": rows}
            levels = [f"{quantile:g}" for quantile in output.quantiles]
            said = {"quantiles": levels, "unit": output.unit, "horizon_s": output.horizon_s}
        metadata = {
            key: value if isinstance(value, str) else orjson.dumps(value)
            for key, value in (self._about | said).items()
        }
        batch = pa.record_batch(columns).replace_schema_metadata(metadata)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
        content: bytes = sink.getvalue().to_pybytes()
        return content


def _inputs(present_B2: NDArray[np.bool_]) -> list[list[str]]:
    names = (WINDOWS, CLIPS)
    return [
        [name for name, is_there in zip(names, row, strict=True) if is_there]
        for row in present_B2.tolist()
    ]


def _raw(outputs_BK: Outputs) -> bytes:
    return np.ascontiguousarray(outputs_BK, dtype="<f4").tobytes()


def _npy(outputs_BK: Outputs) -> bytes:
    """As `numpy.save` writes it, version 1.0 of the format (NEP 1)."""
    num_windows, num_outputs = outputs_BK.shape
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (%d, %d), }" % (
        num_windows,
        num_outputs,
    )
    # Magic, version and length take 10 bytes; the header ends in a newline.
    padding = -(10 + len(header) + 1) % _NPY_ALIGNMENT
    length = struct.pack("<H", len(header) + padding + 1)
    return b"\x93NUMPY\x01\x00" + length + header + b" " * padding + b"\n" + _raw(outputs_BK)
