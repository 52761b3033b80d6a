"""The Open Inference Protocol in OpenAPI: the paths that a model and the platform answer."""

from __future__ import annotations

import math
from collections.abc import Sequence

from motoric.artefact.signature import Signature
from motoric.serving.open_inference.metadata import (
    ModelSpec,
    live_document,
    model_metadata,
    model_ready_document,
    model_spec,
    ready_document,
    server_metadata,
)
from motoric.serving.open_inference.tensors import TensorSpec
from motoric.serving.openapi.parts import Json

OPEN_INFERENCE = "Open Inference Protocol v2"
_TAG = [OPEN_INFERENCE]
_MAX_EXAMPLE_VALUES = 20_000
_REASONS = {
    400: "Not what the protocol says, or not what the model takes",
    401: "No API key, or an unknown one",
    404: "Another model or version than is served here",
    408: "The body does not come to its end",
    413: "The body, unpacked too, or the number of examples is over the limit",
    415: "A Content-Encoding other than gzip and deflate",
    500: "An unexpected error; the server's log says more",
    503: "No version is loaded yet, or keys cannot be checked: try again",
    504: "It was not the request's turn before its `timeout`",
}
_TENSOR: Json = {
    "type": "object",
    "required": ["name", "datatype", "shape"],
    "properties": {
        "name": {"type": "string"},
        "datatype": {"type": "string", "examples": ["FP32"]},
        "shape": {"type": "array", "items": {"type": "integer"}},
        "parameters": {
            "type": "object",
            "description": "`binary_data_size` where the values are bytes behind the JSON",
        },
        "data": {"type": "array", "description": "values, flat or nested as the shape"},
    },
}
_REQUEST: Json = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": "string"},
        "parameters": {
            "type": "object",
            "description": "`timeout` in microseconds; `binary_data_output`",
        },
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}},
            },
        },
    },
}
_ANSWER: Json = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": {"type": "string"},
        "model_version": {"type": "string"},
        "id": {"type": "string"},
        "outputs": {"type": "array", "items": _TENSOR},
    },
}


def server_paths() -> Json:
    """The paths that ask of no model."""
    return {
        "/v2": {"get": _get("v2Server", "Name and extensions of the server", server_metadata())},
        "/v2/health/live": {"get": _get("v2Live", "Liveness", live_document(), is_open=True)},
        "/v2/health/ready": {
            "get": _get("v2Ready", "Readiness", ready_document(True), is_open=True)
        },
    }


def model_paths(model: str, signature: Signature | None, version: int) -> Json:
    """All paths of one model's application.

    Args:
        model: Its name.
        signature: Of the version that is served; None while none is.
        version: The served version.
    """
    spec = None if signature is None else model_spec(signature, model=model, version=version)
    base = f"/v2/models/{model}"
    described = {} if spec is None else model_metadata(spec)
    ready = model_ready_document(model, True)
    return {
        **server_paths(),
        base: {"get": _get("v2Model", "The tensors that the model takes and gives", described)},
        f"{base}/ready": {"get": _get("v2ModelReady", "Readiness of the model", ready)},
        f"{base}/infer": {"post": _infer(spec)},
    }


def _infer(spec: ModelSpec | None) -> Json:
    request: Json = {"schema": _REQUEST}
    inputs = [] if spec is None else _example_inputs(spec)
    if inputs:
        request["example"] = {"id": "1", "inputs": inputs}
    return {
        "operationId": "v2Infer",
        "tags": _TAG,
        "summary": "Tensors in, tensors out",
        "description": "With the binary tensor data extension: the header"
        " Inference-Header-Content-Length says how long the JSON is, and bytes follow it.",
        "requestBody": {"required": True, "content": {"application/json": request}},
        "responses": {
            "200": {
                "description": "The outputs",
                "content": {"application/json": {"schema": _ANSWER}},
            },
            **_refusals(400, 401, 404, 408, 413, 415, 500, 503, 504),
        },
    }


def _example_inputs(spec: ModelSpec) -> list[Json]:
    wanted = [item for item in spec.inputs if not item.optional] or list(spec.inputs[:1])
    inputs = [_example(item) for item in wanted]
    return inputs if all(inputs) else []


def _example(spec: TensorSpec) -> Json:
    shape = [max(size, 1) for size in spec.shape]
    num = math.prod(shape)
    if num > _MAX_EXAMPLE_VALUES:  # video
        return {}
    data: Sequence[float] = [
        round(0.01 * i, 2) if spec.datatype == "FP32" else i % 2 for i in range(num)
    ]
    return {"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": list(data)}


def _get(operation: str, summary: str, example: Json, *, is_open: bool = False) -> Json:
    content = {"schema": {"type": "object"}} | ({"example": example} if example else {})
    statuses = () if is_open else (401, 404)
    found: Json = {
        "operationId": operation,
        "tags": _TAG,
        "summary": summary,
        "responses": {
            "200": {"description": "The document", "content": {"application/json": content}},
            **_refusals(*statuses, 503),
        },
    }
    return found | ({"security": []} if is_open else {})


def _refusals(*statuses: int) -> Json:
    schema = {"type": "object", "properties": {"error": {"type": "string"}}}
    return {
        str(status): {
            "description": _REASONS[status],
            "content": {"application/json": {"schema": schema}},
        }
        for status in statuses
    }
