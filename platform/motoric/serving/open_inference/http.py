"""The Open Inference Protocol v2 over HTTP, pure: bytes in, a request out; an answer in, bytes out.

    request   JSON {"id", "parameters", "inputs": [{"name", "datatype", "shape", "data"}],
              "outputs": [{"name"}]}, and behind it, with the binary tensor data extension, the
              bytes of those inputs that have the parameter `binary_data_size` instead of "data";
              then the header Inference-Header-Content-Length says how long the JSON is
    answer    the same way round; outputs are binary where the request has `binary_data` for one or
              `binary_data_output` for all
    error     {"error": "..."}

`data` is flat or nested as the shape. Source: https://github.com/kserve/open-inference-protocol
(specification/protocol/inference_rest.md) and protocol/extension_binary_data.md of
triton-inference-server/server.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import orjson

from motoric.core.errors import InputError, MalformedBodyError, MotoricError
from motoric.serving.media_types import JSON_TYPE, RAW_TYPE
from motoric.serving.open_inference.metadata import ModelSpec
from motoric.serving.open_inference.request import (
    AnswerTensor,
    InferAnswer,
    InferRequest,
    build_request,
    find_input,
    find_outputs,
)
from motoric.serving.open_inference.tensors import (
    BYTES,
    DTYPES,
    Array,
    array_of_bytes,
    bytes_tensor,
    check_header,
    check_parameters,
    convert,
    raw_bytes,
    shown,
)

HEADER_LENGTH = b"inference-header-content-length"

# KServe's own client repeats the model's name and version in the body; the path decides.
_KEYS = {"id", "parameters", "inputs", "outputs", "model_name", "model_version"}
_INPUT_KEYS = {"name", "shape", "datatype", "parameters", "data"}
_OUTPUT_KEYS = {"name", "parameters"}
_BINARY_SIZE, _BINARY, _ALL_BINARY = "binary_data_size", "binary_data", "binary_data_output"
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpAnswer:
    """A response; `headers` are its content type and, with binary outputs, the JSON's length."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...]


def read_request(body: bytes, header_length: bytes | None, spec: ModelSpec) -> InferRequest:
    """Read the body of `POST /v2/models/NAME/infer`.

    Args:
        body: Uncompressed.
        header_length: Value of the header Inference-Header-Content-Length, if there is one.
        spec: The model that is asked.

    Raises:
        MalformedBodyError: Not what the protocol says.
        InputError: The inputs or outputs do not fit the model.
    """
    text, raw = _split(body, header_length)
    content = _object(_loads(text), "the body", _KEYS)
    request_id = content.get("id", "")
    if not isinstance(request_id, str):
        raise MalformedBodyError(f"the id must be a string, not {shown(request_id)}")
    parameters = check_parameters(content.get("parameters"), "the request")
    all_binary = _flag(parameters, _ALL_BINARY, "the request", default=False)
    return build_request(
        spec,
        request_id=request_id,
        inputs=_read_inputs(content.get("inputs"), raw, spec),
        outputs=find_outputs(
            spec, _read_outputs(content.get("outputs"), all_binary), binary=all_binary
        ),
        parameters=parameters,
    )


def _split(body: bytes, header_length: bytes | None) -> tuple[memoryview, memoryview]:
    view = memoryview(body)
    if header_length is None:
        return view, view[:0]
    if not header_length.isdigit() or len(header_length) > _MAX_DIGITS:
        raise MalformedBodyError(
            "the header Inference-Header-Content-Length must be a number of bytes, not"
            f" {shown(header_length.decode('latin-1'))}"
        )
    length = int(header_length)
    if not 0 < length <= len(body):
        raise MalformedBodyError(
            f"the header Inference-Header-Content-Length is {length}, and the body has"
            f" {len(body)} bytes: it is the length of the JSON before the tensors"
        )
    return view[:length], view[length:]


def _loads(text: memoryview) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        hint = ""
        content = bytes(text)
        if b"NaN" in content or b"Infinity" in content:
            hint = "; JSON has neither NaN nor Infinity: fill or drop such samples before sending"
        raise MalformedBodyError(
            f"the request is not JSON ({error.msg} at byte {error.pos}){hint}; tensors behind the"
            " JSON need the header Inference-Header-Content-Length"
        ) from error


def _object(value: Any, place: str, keys: set[str]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise MalformedBodyError(f"{place} must be a JSON object, not {shown(value)}")
    unknown = sorted(set(value) - keys)
    if unknown:
        raise MalformedBodyError(
            f"{place} has the unknown key {shown(unknown[0])}; the protocol has"
            f" {', '.join(sorted(keys))}"
        )
    return value


def _flag(parameters: Mapping[str, Any], name: str, place: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise MalformedBodyError(
            f"{place}: parameter {name} must be true or false, not {shown(value)}"
        )
    return value


def _read_inputs(items: Any, raw: memoryview, spec: ModelSpec) -> dict[str, Array]:
    if not isinstance(items, list):
        raise MalformedBodyError(f"'inputs' must be a list of tensors, not {shown(items)}")
    inputs: dict[str, Array] = {}
    start = 0
    for index, item in enumerate(items):
        place = f"inputs[{index}]"
        tensor = _object(item, place, _INPUT_KEYS)
        wanted = find_input(spec, tensor.get("name"), inputs)
        datatype, shape = check_header(wanted, tensor.get("datatype"), tensor.get("shape"))
        parameters = check_parameters(tensor.get("parameters"), place)
        size = parameters.get(_BINARY_SIZE)
        if (size is None) == ("data" not in tensor):
            raise MalformedBodyError(
                f"{place} needs either 'data' or the parameter {_BINARY_SIZE}, and not both"
            )
        if size is None:
            values = _values(wanted.name, datatype, shape, tensor["data"])
        else:
            if type(size) is not int or not 0 <= size <= len(raw) - start:
                raise MalformedBodyError(
                    f"{place}: {_BINARY_SIZE} is {shown(size)}, and {len(raw) - start} bytes are"
                    " left behind the JSON"
                )
            values = array_of_bytes(wanted.name, datatype, shape, raw[start : start + size])
            start += size
        inputs[wanted.name] = convert(wanted, datatype, values)
    if start != len(raw):
        raise MalformedBodyError(
            f"{len(raw) - start} bytes are left behind the tensors: the sizes of the inputs'"
            f" {_BINARY_SIZE} must add up to what follows the JSON"
        )
    return inputs


def _read_outputs(items: Any, all_binary: bool) -> list[tuple[object, bool]]:
    if items is None:
        return []
    if not isinstance(items, list):
        raise MalformedBodyError(f"'outputs' must be a list, not {shown(items)}")
    outputs: list[tuple[object, bool]] = []
    for index, item in enumerate(items):
        place = f"outputs[{index}]"
        output = _object(item, place, _OUTPUT_KEYS)
        parameters = check_parameters(output.get("parameters"), place)
        outputs.append((output.get("name"), _flag(parameters, _BINARY, place, default=all_binary)))
    return outputs


def _values(name: str, datatype: str, shape: tuple[int, ...], data: Any) -> Array:
    """A tensor from its JSON.

    Raises:
        MalformedBodyError: Not as many values as the shape has, or of another type.
        InputError: Numbers that the datatype cannot hold.
    """
    flat = _flatten(name, data, shape)
    types = set(map(type, flat))
    wanted = _json_types(datatype)
    if not types <= wanted:
        odd = next(item for item in flat if type(item) not in wanted)
        raise MalformedBodyError(
            f"input {name!r} has {shown(odd)} among its data, which is no {datatype}"
        )
    if datatype == BYTES:
        return bytes_tensor([item.encode() for item in flat]).reshape(shape)
    try:
        if datatype == "FP32":  # half the time of numpy
            packed = struct.pack(f"<{len(flat)}f", *flat)
            return np.frombuffer(packed, DTYPES["FP32"]).reshape(shape)
        return np.array(flat, dtype=DTYPES[datatype]).reshape(shape)
    except OverflowError as error:
        raise InputError(f"input {name!r} has values that {datatype} cannot hold") from error


def _json_types(datatype: str) -> set[type]:
    if datatype == BYTES:
        return {str}
    if datatype == "BOOL":
        return {bool}
    return {int, float} if datatype.startswith("FP") else {int}


def _flatten(name: str, data: Any, shape: tuple[int, ...]) -> list[Any]:
    if not isinstance(data, list):
        raise MalformedBodyError(f"input {name!r}: its data must be a list, not {shown(data)}")
    if not data or type(data[0]) is not list:
        if len(data) != math.prod(shape):
            raise MalformedBodyError(
                f"input {name!r} has {len(data)} values, and its shape {shown(list(shape))} has"
                f" {math.prod(shape)}"
            )
        return data
    level = data
    is_even = len(data) == shape[0]
    for size in shape[1:]:
        is_even = is_even and set(map(type, level)) == {list} and set(map(len, level)) == {size}
        if not is_even:
            break
        level = list(chain.from_iterable(level))
    if not is_even:
        raise MalformedBodyError(
            f"input {name!r}: its data must be flat or nested as its shape {shown(list(shape))}"
        )
    return level


def write_answer(answer: InferAnswer) -> HttpAnswer:
    """Write the response to a request."""
    document: dict[str, Any] = {"model_name": answer.model, "model_version": answer.version}
    if answer.id:
        document["id"] = answer.id
    raws: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for tensor in answer.outputs:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.values.shape),
        }
        if tensor.binary:
            raws.append(raw_bytes(tensor.datatype, tensor.values))
            output["parameters"] = {_BINARY_SIZE: len(raws[-1])}
        else:
            output["data"] = _json_data(tensor)
        outputs.append(output)
    document["outputs"] = outputs
    text = orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)
    if not raws:
        return HttpAnswer(body=text, headers=((b"content-type", JSON_TYPE),))
    return HttpAnswer(
        body=b"".join((text, *raws)),
        headers=((b"content-type", RAW_TYPE), (HEADER_LENGTH, b"%d" % len(text))),
    )


def _json_data(tensor: AnswerTensor) -> Any:
    if tensor.datatype == BYTES:
        return [item.decode() for item in tensor.values.ravel().tolist()]
    return np.ascontiguousarray(tensor.values).reshape(-1)


def error_status(error: MotoricError) -> int:
    """The HTTP status of an error: the protocol knows 400 where Motoric else answers 422."""
    return 400 if isinstance(error, InputError) else error.status


def error_body(error: MotoricError) -> bytes:
    """The body of an error."""
    return orjson.dumps({"error": error.message})
