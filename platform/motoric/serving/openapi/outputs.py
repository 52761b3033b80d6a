"""What predict answers, as OpenAPI: a schema and an example that fit a signature."""

from __future__ import annotations

from motoric.artefact.signature import ClassesOutput, QuantilesOutput, Signature
from motoric.serving.openapi.parts import EXAMPLE_DIGEST, Json

_PROBABILITY: Json = {"type": "number", "minimum": 0, "maximum": 1}
_NUMBER: Json = {"type": "number"}
_STRING: Json = {"type": "string"}


def answer_content(model: str, signature: Signature | None, version: int) -> Json:
    """By type, the answers of predict: to examples, and in JSON alone to whole recordings."""
    schema, example = _prediction(signature)
    answer_schema = {
        "type": "object",
        "required": ["model", "version", "digest", "predictions"],
        "properties": {**_about(model), "predictions": {"type": "array", "items": schema}},
    }
    answer = {
        "model": model,
        "version": version,
        "digest": EXAMPLE_DIGEST,
        "predictions": [example],
    }
    binary: Json = {"schema": {"type": "string", "format": "binary"}}
    return {
        "application/json": {
            "schema": {"oneOf": [answer_schema, _recording(model, signature)]},
            "example": answer,
        },
        "application/x-npy": binary,
        "application/octet-stream": binary,
        "application/vnd.apache.arrow.stream": binary,
    }


def _recording(model: str, signature: Signature | None) -> Json:
    """Schema of the answer to a whole file."""
    is_classes = signature is None or isinstance(signature.output, ClassesOutput)
    span: Json = {"start_s": _NUMBER, "end_s": _NUMBER}
    if is_classes:
        properties: Json = {
            **span,
            "label": {"type": ["string", "null"], "description": "null where nothing is sure"},
            "probability": _PROBABILITY,
        }
        name = "segments"
    else:
        properties, name = span, "series"
    pieces: Json = {
        "type": "array",
        "items": {"type": "object", "required": list(properties), "properties": properties},
    }
    required = ["model", "version", "digest", "duration_s", "num_windows", name]
    return {
        "type": "object",
        "required": required,
        "properties": {
            **_about(model),
            "duration_s": _NUMBER,
            "num_windows": {"type": "integer"},
            name: pieces,
            "repairs": {"type": "array", "items": _STRING},
        },
    }


def _about(model: str) -> Json:
    return {"model": {"const": model}, "version": {"type": "integer"}, "digest": _STRING}


def _prediction(signature: Signature | None) -> tuple[Json, Json]:
    """Schema and example of one prediction."""
    if signature is not None and not isinstance(signature.output, ClassesOutput):
        return _of_values(signature)
    classes = ["class"] if signature is None else list(signature.classes)
    schema: Json = {
        "type": "object",
        "required": ["label", "probability", "probabilities"],
        "properties": {
            "label": _STRING if signature is None else {"enum": classes},
            "probability": _PROBABILITY,
            "probabilities": {"type": "object", "additionalProperties": _PROBABILITY},
        },
    }
    rest = round(0.1 / max(1, len(classes) - 1), 6)
    shares = {name: rest if index else 0.9 for index, name in enumerate(classes)}
    return schema, {"label": classes[0], "probability": 0.9, "probabilities": shares}


def _of_values(signature: Signature) -> tuple[Json, Json]:
    output = signature.output
    assert not isinstance(output, ClassesOutput)
    unit = {"unit": {"const": output.unit}}
    if not isinstance(output, QuantilesOutput):
        properties: Json = {"value": _NUMBER, **unit}
        example: Json = {"value": 1.0, "unit": output.unit}
    else:
        names = [f"{quantile:g}" for quantile in output.quantiles]
        quantiles: Json = {
            "type": "object",
            "required": names,
            "properties": dict.fromkeys(names, _NUMBER),
        }
        properties = {"quantiles": quantiles, **unit, "horizon_s": {"const": output.horizon_s}}
        example = {
            "quantiles": {name: 1.0 + index for index, name in enumerate(names)},
            "unit": output.unit,
            "horizon_s": output.horizon_s,
        }
    return {"type": "object", "required": list(properties), "properties": properties}, example
