"""The OpenAPI document of one model's application."""

from __future__ import annotations

from motoric.artefact.signature import Signature
from motoric.serving.config import Limits
from motoric.serving.openapi.inputs import describe, query_parameters, request_content
from motoric.serving.openapi.open_inference import OPEN_INFERENCE, model_paths
from motoric.serving.openapi.outputs import answer_content
from motoric.serving.openapi.parts import (
    EXAMPLE_DIGEST,
    Json,
    document,
    health_path,
    json_content,
    problems,
)
from motoric.serving.openapi.streams import token_path

_PREDICTIONS = "Predictions"
_MODEL = "Model"
_INFO: Json = {
    "type": "object",
    "required": [
        "model",
        "version",
        "digest",
        "alias",
        "versions",
        "metrics",
        "limits",
        "signature",
    ],
    "properties": {
        "model": {"type": "string"},
        "version": {"type": "integer"},
        "digest": {"type": "string", "description": "of the artefact that is served"},
        "alias": {"type": "string", "description": "of the registry that was released"},
        "versions": {"type": "array", "items": {"type": "object"}},
        "metrics": {"type": "object", "description": "on subjects that it never saw"},
        "limits": {"type": "object", "description": "of a request, and of a live stream"},
        "signature": {"type": "object", "description": "what it takes and gives"},
    },
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
        "tags": [_PREDICTIONS],
        "summary": "Ask the model",
        "parameters": query_parameters(signature),
        "requestBody": {
            "required": True,
            "description": "Windows or clips, or a whole recording: as a form, as the body itself,"
            " or in JSON as a URI below a prefix that the deployment allows (none by default).",
            "content": request_content(signature),
        },
        "responses": {
            "200": {
                "description": "One prediction an example in order, or a recording's timeline",
                "content": answer_content(model, signature, version),
            },
            **problems(400, 401, 403, 406, 408, 413, 415, 422, 500, 503, 504),
        },
    }
    info: Json = {
        "operationId": "model",
        "tags": [_MODEL],
        "summary": "Version, digest and signature that are served, and the limits of a request",
        "responses": {
            "200": json_content("The model", _info(model, signature, version)),
            **problems(401, 503),
        },
    }
    paths = {
        "/predict": {"post": predict},
        "/stream/tokens": token_path(model, _PREDICTIONS),
        "/": {"get": info},
        "/healthz": health_path(_MODEL),
        **model_paths(model, signature, version),
    }
    about = f"Predictions of the model `{model}`."
    if signature is not None:
        about += f" {describe(signature)}"
    about += (
        f"\n\nLive streams are a WebSocket at `{root}/stream`. Errors are problem documents"
        " (RFC 9457); `detail` says what is wrong and how to mend it."
    )
    tags = {
        _PREDICTIONS: "windows, clips and whole recordings in, predictions out",
        _MODEL: "what is served",
        OPEN_INFERENCE: "the same model for clients of KServe and Triton",
    }
    return document(f"Motoric: {model}", about, root, paths, tags)


def _info(model: str, signature: Signature | None, version: int) -> Json:
    if signature is None:
        return {"schema": _INFO}
    release = {"version": version, "digest": EXAMPLE_DIGEST}
    example = {
        "model": model,
        **release,
        "alias": "champion",
        "versions": [{**release, "role": "primary", "is_served": True}],
        "metrics": {},
        "limits": Limits().model_dump(mode="json"),
        "signature": signature.model_dump(mode="json"),
    }
    return {"schema": _INFO, "example": example}
