from __future__ import annotations

import json

import numpy as np
import orjson
import pytest

from artefacts import NUM_CHANNELS, NUM_SAMPLES, small_signature
from motoric.artefact.signature import ClipInput, QuantilesOutput, Signature, ValueOutput
from motoric.core.errors import NotFoundError
from motoric.serving.open_inference.http import read_request, write_answer
from motoric.serving.open_inference.metadata import (
    Route,
    check_model,
    live_document,
    model_metadata,
    model_ready_document,
    model_spec,
    parse_route,
    ready_document,
    server_metadata,
)
from motoric.serving.open_inference.request import build_answer

SIGNATURE = small_signature()
SPEC = model_spec(SIGNATURE, model="lifts", version=3)
CLIP = ClipInput(num_frames=2, height=3, width=4)
FUSED = model_spec(
    SIGNATURE.model_copy(update={"inputs": (SIGNATURE.sensors, CLIP)}), model="both", version=1
)
TENSOR = {
    "name": "windows",
    "datatype": "FP32",
    "shape": [1, NUM_SAMPLES, NUM_CHANNELS],
    "data": [0.5] * NUM_SAMPLES * NUM_CHANNELS,
}


def test_metadata_names_every_tensor_of_a_signature():
    assert model_metadata(SPEC) == {
        "name": "lifts",
        "versions": ["3"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "windows", "datatype": "FP32", "shape": [-1, 10, 4]}],
        "outputs": [
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]},
            {"name": "label", "datatype": "BYTES", "shape": [-1]},
        ],
    }
    assert model_metadata(FUSED)["inputs"][1:] == [
        {"name": "clips", "datatype": "UINT8", "shape": [-1, 2, 3, 4, 3]},
        {"name": "present", "datatype": "BOOL", "shape": [-1, 2]},
    ]
    assert server_metadata()["extensions"] == ["binary_tensor_data"]
    assert live_document() == {"live": True}
    assert ready_document(False) == {"ready": False}
    assert model_ready_document("lifts", True) == {"name": "lifts", "ready": True}


def test_values_and_quantiles_are_answered_by_name():
    for output, task, given_BX, expected in (
        (
            ValueOutput(of="heart_rate", unit="bpm"),
            "regress",
            [[1.5]],
            ("value", [-1], [1], [1.5]),
        ),
        (
            QuantilesOutput(of="power", unit="W", horizon_s=1.0, quantiles=(0.1, 0.9)),
            "forecast",
            [[1.5, 2.5]],
            ("quantiles", [-1, 2], [1, 2], [1.5, 2.5]),
        ),
    ):
        signature = Signature(inputs=SIGNATURE.inputs, outputs=(output,), task=task)
        spec = model_spec(signature, model="lifts", version=3)
        request = read_request(orjson.dumps({"inputs": [TENSOR]}), None, spec)
        values_BX = np.array(given_BX, np.float32)
        answer = json.loads(write_answer(build_answer(request, spec, values_BX)).body)
        (found,) = answer["outputs"]
        (described,) = model_metadata(spec)["outputs"]
        name, described_shape, shape, data = expected
        assert (found["name"], found["shape"], found["data"]) == (name, shape, data)
        assert described == {"name": name, "datatype": "FP32", "shape": described_shape}


def test_paths():
    assert parse_route("/v2") == parse_route("/v2/") == Route(kind="server")
    assert parse_route("/v2/health/live").kind == "live"
    assert parse_route("/v2/health/ready").kind == "ready"
    assert parse_route("/v2/models/a") == Route(kind="model", model="a")
    assert parse_route("/v2/models/a/ready") == Route(kind="model_ready", model="a")
    assert parse_route("/v2/models/versions/infer") == Route(kind="infer", model="versions")
    found = parse_route("/v2/models/a/versions/3/infer")
    assert found == Route(kind="infer", model="a", version="3")
    for path in ("", "/", "/v1", "/v2x", "/v2/models", "/v2/models/", "/v2/models//infer"):
        with pytest.raises(NotFoundError, match="nothing lies at"):
            parse_route(path)
    for path in ("/v2/models/a/b", "/v2/models/a/versions", "/v2/models/a/infer/x"):
        with pytest.raises(NotFoundError, match="nothing lies at"):
            parse_route(path)


def test_another_model_or_version_is_not_found():
    check_model(SPEC, "lifts", "")
    check_model(SPEC, "lifts", "3")
    with pytest.raises(NotFoundError, match="there is no model 'runs' here; this is 'lifts'"):
        check_model(SPEC, "runs", "")
    with pytest.raises(NotFoundError, match="version '2' of model 'lifts' is not served"):
        check_model(SPEC, "lifts", "2")
