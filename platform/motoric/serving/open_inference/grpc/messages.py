"""gRPC messages of the Open Inference Protocol v2, pure: the same requests and answers as HTTP's.

In: a ModelInferRequest, with raw_input_contents or typed contents. Out: an `InferRequest`; and back
from an `InferAnswer` to a ModelInferResponse, always with raw_output_contents, which every client
reads. Source: https://github.com/kserve/open-inference-protocol
(specification/protocol/inference_grpc.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

import grpc
from motoric.core.errors import (
    AccessError,
    DeadlineError,
    MalformedBodyError,
    MotoricError,
    NotFoundError,
    PlatformError,
    TooLargeError,
    UserError,
)
from motoric.serving.open_inference import metadata
from motoric.serving.open_inference.grpc import grpc_predict_v2_pb2 as pb2
from motoric.serving.open_inference.metadata import ModelSpec
from motoric.serving.open_inference.request import (
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
    Parameters,
    array_of_bytes,
    bytes_tensor,
    check_header,
    check_parameters,
    convert,
    raw_bytes,
    shown,
)

Parsed = TypeVar("Parsed", bound=Message)

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}
# In this order: the first that fits decides.
_STATUS: tuple[tuple[type[MotoricError], grpc.StatusCode], ...] = (
    (AccessError, grpc.StatusCode.UNAUTHENTICATED),
    (NotFoundError, grpc.StatusCode.NOT_FOUND),
    (TooLargeError, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (UserError, grpc.StatusCode.INVALID_ARGUMENT),
    (DeadlineError, grpc.StatusCode.DEADLINE_EXCEEDED),
    (PlatformError, grpc.StatusCode.UNAVAILABLE),
)


def parse(kind: type[Parsed], content: bytes) -> Parsed:
    """Read a message from the wire.

    Args:
        kind: Class of the message.
        content: Its bytes.

    Raises:
        MalformedBodyError: It is not one.
    """
    message: Parsed = kind()
    try:
        message.ParseFromString(content)
    except DecodeError as error:
        raise MalformedBodyError(
            f"the message is no {kind.DESCRIPTOR.name}: {error}; make it with the protocol's .proto"
        ) from error
    return message


def parse_message(content: bytes) -> pb2.ModelInferRequest:
    """Read a ModelInferRequest from the wire.

    Raises:
        MalformedBodyError: It is not one.
    """
    return parse(pb2.ModelInferRequest, content)


def read_request(message: pb2.ModelInferRequest, spec: ModelSpec) -> InferRequest:
    """Read a request.

    Raises:
        NotFoundError: It names another model or version.
        MalformedBodyError: Not what the protocol says.
        InputError: The inputs or outputs do not fit the model.
    """
    metadata.check_model(spec, message.model_name, message.model_version)
    outputs: list[tuple[object, bool]] = []
    for item in message.outputs:
        _parameters(item.parameters, f"output {shown(item.name)}")
        outputs.append((item.name, True))
    return build_request(
        spec,
        request_id=message.id,
        inputs=_read_inputs(message, spec),
        outputs=find_outputs(spec, outputs, binary=True),
        parameters=_parameters(message.parameters, "the request"),
    )


def _read_inputs(message: pb2.ModelInferRequest, spec: ModelSpec) -> dict[str, Array]:
    raws = message.raw_input_contents
    if raws and len(raws) != len(message.inputs):
        raise MalformedBodyError(
            f"there are {len(raws)} raw_input_contents for {len(message.inputs)} inputs: send one"
            " for each, in their order, or none"
        )
    inputs: dict[str, Array] = {}
    for index, item in enumerate(message.inputs):
        wanted = find_input(spec, item.name, inputs)
        datatype, shape = check_header(wanted, item.datatype, tuple(item.shape))
        _parameters(item.parameters, f"input {item.name!r}")
        if not raws:
            values = _typed(item.name, datatype, shape, item.contents)
        elif item.HasField("contents"):
            raise MalformedBodyError(
                f"input {item.name!r} has contents, and there are raw_input_contents: send one"
            )
        else:
            values = array_of_bytes(item.name, datatype, shape, raws[index])
        inputs[item.name] = convert(wanted, datatype, values)
    return inputs


def _typed(
    name: str, datatype: str, shape: tuple[int, ...], contents: pb2.InferTensorContents
) -> Array:
    """A tensor from its typed contents.

    Raises:
        MalformedBodyError: Another field is filled than that of the datatype, or the number of
            values is not that of the shape.
    """
    field = _CONTENTS.get(datatype)
    filled = {descriptor.name for descriptor, _ in contents.ListFields()}
    if filled != {field}:
        raise MalformedBodyError(
            f"input {name!r} of datatype {datatype} needs"
            f" {field or 'raw_input_contents'}; {', '.join(sorted(filled)) or 'nothing'} was sent"
        )
    assert field is not None
    given: Any = getattr(contents, field)
    if len(given) != math.prod(shape):
        raise MalformedBodyError(
            f"input {name!r} has {len(given)} values, and its shape {shown(list(shape))} has"
            f" {math.prod(shape)}"
        )
    if datatype == BYTES:
        return bytes_tensor(list(given)).reshape(shape)
    try:
        # Of a list: numpy wraps around what does not fit where it reads protobuf's own container.
        return np.array(list(given), dtype=DTYPES[datatype]).reshape(shape)
    except OverflowError as error:
        raise MalformedBodyError(f"input {name!r} has values that are no {datatype}") from error


def _parameters(sent: Mapping[str, pb2.InferParameter], place: str) -> Parameters:
    values = {}
    for name, parameter in sent.items():
        choice = parameter.WhichOneof("parameter_choice")
        if choice is None:
            raise MalformedBodyError(f"{place}: parameter {shown(name)} has no value")
        values[name] = getattr(parameter, choice)
    return check_parameters(values, place)


def write_answer(answer: InferAnswer) -> pb2.ModelInferResponse:
    """Write the response to a request."""
    response = pb2.ModelInferResponse(
        model_name=answer.model, model_version=answer.version, id=answer.id
    )
    for tensor in answer.outputs:
        response.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.values.shape)
        response.raw_output_contents.append(raw_bytes(tensor.datatype, tensor.values))
    return response


def server_metadata() -> pb2.ServerMetadataResponse:
    """The answer of ServerMetadata."""
    return pb2.ServerMetadataResponse(**metadata.server_metadata())


def model_metadata(spec: ModelSpec) -> pb2.ModelMetadataResponse:
    """The answer of ModelMetadata."""
    return pb2.ModelMetadataResponse(**metadata.model_metadata(spec))


def status_of(error: MotoricError) -> grpc.StatusCode:
    """The gRPC status of an error."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return grpc.StatusCode.INTERNAL
