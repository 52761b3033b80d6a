"""OpenAPI 3.1 documents, made from what is served: the example fits the model's signature."""

from __future__ import annotations

from typing import Any

import motoric
from motoric.artefact.signature import SensorInput, Signature

Json = dict[str, Any]

_EXAMPLE_DIGEST = "sha256:" + "0" * 64
_PROBLEM: Json = {
    "type": "object",
    "description": "Problem details (RFC 9457)",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "examples": ["urn:motoric:problem:input"]},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "what is wrong, where, and how to mend it"},
        "instance": {"type": "string"},
    },
}
_REASONS = {
    400: "The body is not JSON, or not an object with the one key `windows`",
    401: "No API key, or an unknown one",
    404: "Nothing lies at this path",
    405: "The path does not take this method",
    413: "The body is over the limit",
    422: "The windows do not fit the model",
    500: "An unexpected error; the server's log says more",
    503: "No version is loaded yet, or keys cannot be checked: try again after Retry-After seconds",
}


def model_document(model: str, signature: Signature | None, root: str, version: int = 1) -> Json:
    """The document of one model's application.

    Args:
        model: Its name.
        signature: Of the version that is served; None while none is.
        root: Where the application is mounted.
        version: The served version.
    """
    predict: Json = {
        "operationId": "predict",
        "summary": "Label windows of motion",
        "requestBody": {"required": True, "content": {"application/json": _request(signature)}},
        "responses": {
            "200": _json("One prediction a window, in order", _answer(model, signature, version)),
            **_problems(400, 401, 413, 422, 500, 503),
        },
    }
    info: Json = {
        "operationId": "model",
        "summary": "Version, digest and signature that are served",
        "responses": {
            "200": _json("The model", {"schema": {"type": "object"}}),
            **_problems(401, 503),
        },
    }
    paths = {"/predict": {"post": predict}, "/": {"get": info}, "/healthz": _health()}
    about = f"Predictions of the model `{model}`."
    if signature is not None:
        about += f" {_describe(signature.sensors)}"
    return _document(f"Motoric: {model}", about, root, paths)


def platform_document(root: str = "") -> Json:
    """The document of the platform application."""
    entry = {
        "type": "object",
        "required": ["model", "version", "digest", "alias", "url"],
        "properties": {
            "model": {"type": "string"},
            "version": {"type": "integer"},
            "digest": {"type": "string"},
            "alias": {"type": "string"},
            "url": {"type": "string", "description": "base path of the model's application"},
            "signature": {"type": ["object", "null"]},
            "error": {"type": "string", "description": "why its signature cannot be read"},
        },
    }
    schema = {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": entry}},
    }
    models: Json = {
        "operationId": "models",
        "summary": "Released models with their signatures",
        "responses": {"200": _json("The catalogue", {"schema": schema}), **_problems(401, 503)},
    }
    paths = {"/v1/models": {"get": models}, "/healthz": _health()}
    about = (
        "The catalogue of the platform. Each model has its own pages at `/v1/models/{name}/docs`, "
        "and answers at `POST /v1/models/{name}/predict`."
    )
    return _document("Motoric", about, root, paths)


def example_window(sensors: SensorInput) -> list[list[float]]:
    """A window of the right shape: small distinct numbers, so that axes can be told apart."""
    channels = range(sensors.num_channels)
    return [
        [round(0.01 * sample + channel, 2) for channel in channels]
        for sample in range(sensors.num_input_samples)
    ]


def _document(title: str, about: str, root: str, paths: Json) -> Json:
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": motoric.__version__, "description": about},
        "servers": [{"url": root or "/"}],
        "security": [{"apiKey": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "apiKey": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "an API key, made by `motoric keys create`",
                }
            },
            "schemas": {"Problem": _PROBLEM},
        },
    }


def _describe(sensors: SensorInput) -> str:
    channels = ", ".join(f"{channel.name} [{channel.unit}]" for channel in sensors.channels)
    context = (
        f", the first {sensors.num_context_samples} of them context that filters need,"
        if sensors.num_context_samples
        else ""
    )
    length_s = sensors.num_input_samples / sensors.rate_hz
    return (
        f"A window holds {sensors.num_input_samples} samples at {sensors.rate_hz:g} Hz "
        f"({length_s:g} s){context} of {sensors.num_channels} channels, in this order: {channels}."
    )


def _window_schema(sensors: SensorInput) -> Json:
    channels, samples = sensors.num_channels, sensors.num_input_samples
    sample = {
        "type": "array",
        "items": {"type": "number"},
        "minItems": channels,
        "maxItems": channels,
    }
    return {
        "type": "array",
        "items": sample,
        "minItems": samples,
        "maxItems": samples,
        "description": _describe(sensors),
    }


def _request(signature: Signature | None) -> Json:
    window: Json = {"type": "array"} if signature is None else _window_schema(signature.sensors)
    windows: Json = {
        "description": "windows, or one window",
        "anyOf": [{"type": "array", "items": window, "minItems": 1}, window],
    }
    content: Json = {
        "schema": {
            "type": "object",
            "required": ["windows"],
            "additionalProperties": False,
            "properties": {"windows": windows},
        }
    }
    if signature is not None:
        content["example"] = {"windows": [example_window(signature.sensors)]}
    return content


def _answer(model: str, signature: Signature | None, version: int) -> Json:
    classes = ["class"] if signature is None else list(signature.classes)
    probability = {"type": "number", "minimum": 0, "maximum": 1}
    prediction: Json = {
        "type": "object",
        "required": ["label", "probability", "probabilities"],
        "properties": {
            "label": {"type": "string"} if signature is None else {"enum": classes},
            "probability": probability,
            "probabilities": {"type": "object", "additionalProperties": probability},
        },
    }
    schema = {
        "type": "object",
        "required": ["model", "version", "digest", "predictions"],
        "properties": {
            "model": {"const": model},
            "version": {"type": "integer"},
            "digest": {"type": "string"},
            "predictions": {"type": "array", "items": prediction},
        },
    }
    rest = round(0.1 / max(1, len(classes) - 1), 6)
    shares = {name: rest if index else 0.9 for index, name in enumerate(classes)}
    example = {
        "model": model,
        "version": version,
        "digest": _EXAMPLE_DIGEST,
        "predictions": [{"label": classes[0], "probability": 0.9, "probabilities": shares}],
    }
    return {"schema": schema, "example": example}


def _health() -> Json:
    return {
        "get": {
            "operationId": "health",
            "summary": "Whether requests can be answered now",
            "security": [],
            "responses": {
                "200": _json("Ready", {"schema": {"type": "object"}}),
                "503": _json("Not ready", {"schema": {"type": "object"}}),
            },
        }
    }


def _json(description: str, content: Json) -> Json:
    return {"description": description, "content": {"application/json": content}}


def _problems(*statuses: int) -> Json:
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        str(status): {
            "description": _REASONS[status],
            "content": {"application/problem+json": schema},
        }
        for status in statuses
    }
