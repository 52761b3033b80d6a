"""The OpenAPI of live streams: tokens alone, since WebSockets have no place in it."""

from __future__ import annotations

from motoric.serving.openapi.parts import Json, json_content, problems

_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIuLi4ifQ.c2lnbmF0dXJl"
_WANTED: Json = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "lifetime_s": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": 600,
            "default": 60,
            "description": "how long the token opens streams",
        }
    },
}
_ANSWER: Json = {
    "type": "object",
    "required": ["token", "model", "expires_at", "protocols"],
    "properties": {
        "token": {"type": "string"},
        "model": {"type": "string", "description": "the one model it is for"},
        "expires_at": {"type": "string", "format": "date-time"},
        "protocols": {
            "type": "array",
            "items": {"type": "string"},
            "description": "subprotocols to open the WebSocket at `stream` with",
        },
    },
}


def token_path(model: str, tag: str) -> Json:
    """`POST stream/tokens`."""
    example = {
        "token": _TOKEN,
        "model": model,
        "expires_at": "2030-01-01T00:01:00+00:00",
        "protocols": ["motoric.stream.v1", f"motoric.token.{_TOKEN}"],
    }
    post = {
        "operationId": "streamToken",
        "tags": [tag],
        "summary": "Make a token with which a browser opens a live stream",
        "requestBody": {
            "content": {"application/json": {"schema": _WANTED, "example": {"lifetime_s": 60}}}
        },
        "responses": {
            "201": json_content("A token", {"schema": _ANSWER, "example": example}),
            **problems(400, 401, 408, 413, 500, 503),
        },
    }
    return {"post": post}
