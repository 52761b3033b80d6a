"""The documents that the Swagger pages show, for every kind of model."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from artefacts import CLASSES, small_signature
from motoric.artefact.signature import ClassesOutput, ClipInput, SensorInput, Signature
from motoric.serving.openapi.model import model_document
from motoric.serving.openapi.platform import platform_document

WATCH = small_signature(rate_hz=50.0, length_s=4.0, hop_s=1.0)
LONG = small_signature(rate_hz=200.0, length_s=60.0)
SMALL_CLIP = ClipInput(num_frames=2, height=6, width=8)
FILM = ClipInput(num_frames=16, height=112, width=112)
# A browser lays out about as much in a second.
MAX_PAGE_BYTES = 400_000


def signature(*inputs: SensorInput | ClipInput) -> Signature:
    return Signature(inputs=inputs, outputs=(ClassesOutput(classes=CLASSES),))


def optional(item: Any) -> Any:
    return item.model_copy(update={"optional": True})


MODELS = {
    "watch": (WATCH, {"windows"}),
    "long": (LONG, {"uri"}),
    "clip": (signature(SMALL_CLIP), {"clips"}),
    "film": (signature(FILM), {"uri"}),
    "both": (signature(WATCH.sensors, SMALL_CLIP), {"windows", "clips"}),
    "both_film": (signature(WATCH.sensors, FILM), {"uri", "video_uri"}),
    "either": (signature(optional(WATCH.sensors), optional(FILM)), {"windows"}),
}
DOCUMENTS = {
    "platform": platform_document(),
    "empty": model_document("gym", None, "/v1/models/gym"),
    **{name: model_document(name, made, f"/{name}") for name, (made, _) in MODELS.items()},
}


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [item for methods in document["paths"].values() for item in methods.values()]


@pytest.mark.parametrize("name", MODELS)
def test_the_example_of_predict_fits_its_schema(name: str):
    (predict,) = DOCUMENTS[name]["paths"]["/predict"].values()
    content = predict["requestBody"]["content"]["application/json"]
    assert set(content["example"]) == MODELS[name][1]
    jsonschema.validate(content["example"], content["schema"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_page_is_not_too_large_for_a_browser(name: str):
    assert len(json.dumps(DOCUMENTS[name])) < MAX_PAGE_BYTES


@pytest.mark.parametrize("name", DOCUMENTS)
def test_operations_stand_in_groups_that_are_described(name: str):
    document = DOCUMENTS[name]
    groups = [group["name"] for group in document["tags"]]
    found = [tag for operation in operations(document) for tag in operation["tags"]]
    assert list(dict.fromkeys(found)) == groups
    assert all(group["description"] for group in document["tags"])


@pytest.mark.parametrize("name", DOCUMENTS)
def test_examples_of_answers_fit_their_schemas(name: str):
    document = DOCUMENTS[name]
    num_problems = 0
    for operation in operations(document):
        for status, answer in operation["responses"].items():
            for kind, content in answer["content"].items():
                if kind == "application/problem+json":
                    assert content["example"]["status"] == int(status)
                    schema = document["components"]["schemas"]["Problem"]
                    jsonschema.validate(content["example"], schema)
                    num_problems += 1
                elif "example" in content:
                    jsonschema.validate(content["example"], content["schema"])
    assert num_problems > 0
