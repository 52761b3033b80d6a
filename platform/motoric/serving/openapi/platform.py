"""The OpenAPI document of the platform application."""

from __future__ import annotations

from motoric.artefact.signature import Channel, ClassesOutput, SensorInput, Signature
from motoric.serving.openapi.open_inference import OPEN_INFERENCE, server_paths
from motoric.serving.openapi.parts import (
    EXAMPLE_DIGEST,
    Json,
    document,
    health_path,
    json_content,
    problems,
)

_TAG = "Platform"

_ENTRY: Json = {
    "type": "object",
    "required": ["model"],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "digest": {"type": "string"},
        "alias": {"type": "string"},
        "url": {"type": "string", "description": "base path of the model's application"},
        "signature": {"type": ["object", "null"]},
        "error": {"type": "string", "description": "why its release or signature cannot be read"},
    },
}


def platform_document(root: str = "") -> Json:
    """The document of the platform application."""
    schema = {
        "type": "object",
        "required": ["models"],
        "properties": {"models": {"type": "array", "items": _ENTRY}},
    }
    models: Json = {
        "operationId": "models",
        "tags": [_TAG],
        "summary": "Released models with their signatures",
        "responses": {
            "200": json_content(
                "The catalogue", {"schema": schema, "example": {"models": [_example()]}}
            ),
            **problems(401, 503),
        },
    }
    paths = {"/v1/models": {"get": models}, "/healthz": health_path(_TAG), **server_paths()}
    about = (
        "The catalogue of the platform, and its health.\n\n"
        "- Each model has a page of its own, `/v1/models/{name}/docs`, with examples that fit it,"
        " and answers at `POST /v1/models/{name}/predict`.\n"
        "- Calls of the Open Inference Protocol to `/v2/models/{name}` are passed on to the model."
    )
    tags = {
        _TAG: "what is released",
        OPEN_INFERENCE: "for clients of KServe and Triton",
    }
    return document("Motoric", about, root, paths, tags)


def _example() -> Json:
    sensors = SensorInput(
        channels=tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz"),
        rate_hz=50.0,
        length_s=2.0,
        hop_s=1.0,
    )
    signature = Signature(inputs=(sensors,), outputs=(ClassesOutput(classes=("squat", "rest")),))
    return {
        "model": "gym",
        "version": 3,
        "digest": EXAMPLE_DIGEST,
        "alias": "champion",
        "url": "/v1/models/gym",
        "signature": signature.model_dump(mode="json"),
    }
