"""What the documents of a model and of the platform share."""

from __future__ import annotations

from typing import Any

import motoric
from motoric.core.errors import (
    AccessError,
    ContentTypeError,
    DeadlineError,
    ForbiddenError,
    InputError,
    MotoricError,
    NotAcceptableError,
    NotFoundError,
    PlatformError,
    SlowBodyError,
    TooLargeError,
    UserError,
)

Json = dict[str, Any]

EXAMPLE_DIGEST = "sha256:" + "0" * 64

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
    400: "The body, the query or a header is not what it says it is",
    401: "No API key, or an unknown one",
    403: "The platform does not allow this address or origin",
    404: "Nothing lies at this path",
    406: "The answer cannot be written in a type that is accepted",
    408: "The body did not come to its end in time",
    413: "The body, or what it unpacks to, is over the limit",
    415: "Nothing reads a body of this type",
    422: "The input does not fit the model",
    500: "An unexpected error; the server's log says more",
    503: "No version is loaded yet, or keys cannot be checked: try again after Retry-After seconds",
    504: "It was not the request's turn before its deadline",
}
_ERRORS: dict[int, type[MotoricError]] = {
    error.status: error
    for error in (
        UserError,
        AccessError,
        ForbiddenError,
        NotFoundError,
        NotAcceptableError,
        SlowBodyError,
        TooLargeError,
        ContentTypeError,
        InputError,
        MotoricError,
        PlatformError,
        DeadlineError,
    )
}
_HEALTH: Json = {
    "type": "object",
    "required": ["status"],
    "properties": {"status": {"enum": ["ok", "unavailable"]}},
}


def document(title: str, about: str, root: str, paths: Json, tags: dict[str, str]) -> Json:
    """An OpenAPI document of an application mounted at `root`.

    Args:
        title: Of the page.
        about: What the application is for, in Markdown.
        root: Where it is mounted.
        paths: What it answers.
        tags: Groups of operations in their order on the page, each with a description.
    """
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": motoric.__version__, "description": about},
        "servers": [{"url": root or "/"}],
        "security": [{"apiKey": []}],
        "tags": [{"name": name, "description": text} for name, text in tags.items()],
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


def health_path(tag: str) -> Json:
    """`GET healthz`."""
    ready: Json = {"schema": _HEALTH, "example": {"status": "ok"}}
    not_ready: Json = {"schema": _HEALTH, "example": {"status": "unavailable"}}
    return {
        "get": {
            "operationId": "health",
            "tags": [tag],
            "summary": "Whether requests can be answered now",
            "security": [],
            "responses": {
                "200": json_content("Ready", ready),
                "503": json_content("Not ready", not_ready),
            },
        }
    }


def json_content(description: str, content: Json) -> Json:
    """A JSON response."""
    return {"description": description, "content": {"application/json": content}}


def problems(*statuses: int) -> Json:
    """Responses of these statuses, as problem documents."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        str(status): {
            "description": _REASONS[status],
            "content": {
                "application/problem+json": {
                    "schema": schema,
                    "example": _ERRORS[status](_REASONS[status]).problem(),
                }
            },
        }
        for status in statuses
    }
