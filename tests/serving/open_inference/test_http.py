from __future__ import annotations

import json
import struct

import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from artefacts import CLASSES, write_small_artefact
from inference_requests import CLIP, FUSED, SHAPE, SPEC, WINDOW, binary, read_http, tensor
from motoric.artefact.predictor import Predictor
from motoric.core.errors import (
    AccessError,
    ArtefactError,
    InputError,
    MalformedBodyError,
    MotoricError,
    NotFoundError,
    PlatformError,
)
from motoric.serving.open_inference.http import (
    HEADER_LENGTH,
    error_status,
    read_request,
    write_answer,
)
from motoric.serving.open_inference.request import build_answer
from motoric.serving.open_inference.tensors import bytes_tensor, decode_bytes, encode_bytes

finite_windows = st.integers(1, 3).flatmap(
    lambda num: arrays.arrays(
        np.float32,
        (num, *SHAPE),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    )
)


def header_of(answer) -> int | None:
    length = dict(answer.headers).get(HEADER_LENGTH)
    return None if length is None else int(length)


def probabilities(num: int) -> np.ndarray:
    scores = np.random.default_rng(num).random((num, len(CLASSES))).astype(np.float32)
    return scores / scores.sum(axis=1, keepdims=True)


@settings(max_examples=20, deadline=None)
@given(finite_windows, st.booleans(), st.sampled_from([None, True, False]), st.text(max_size=5))
def test_tritonclient_and_this_read_what_the_other_writes(windows, is_binary, wanted, request_id):
    sent = triton.InferInput("windows", list(windows.shape), "FP32")
    sent.set_data_from_numpy(windows, binary_data=is_binary)
    outputs = None
    if wanted is not None:
        names = ("label", "probabilities")
        outputs = [triton.InferRequestedOutput(name, binary_data=wanted) for name in names]
    client = triton.InferenceServerClient
    body, length = client.generate_request_body([sent], outputs=outputs, request_id=request_id)
    request = read_request(body, None if length is None else b"%d" % length, SPEC)
    np.testing.assert_array_equal(request.inputs["windows"], windows)
    assert request.inputs["windows"].dtype == np.float32

    values = probabilities(len(windows))
    answer = write_answer(build_answer(request, SPEC, values))
    read = client.parse_response_body(answer.body, header_length=header_of(answer))
    np.testing.assert_array_equal(read.as_numpy("probabilities"), values)
    labels = [item.decode() if isinstance(item, bytes) else item for item in read.as_numpy("label")]
    assert labels == [CLASSES[k] for k in values.argmax(axis=1)]
    response = read.get_response()
    assert (response["model_name"], response["model_version"]) == ("lifts", "3")
    assert response.get("id", "") == request_id
    order = [item["name"] for item in response["outputs"]]
    assert order == (["probabilities", "label"] if wanted is None else ["label", "probabilities"])


@pytest.mark.parametrize("binary_data", [True, False])
def test_tritonclient_sends_clips_and_what_is_present(binary_data):
    clips = np.random.default_rng(0).integers(0, 256, (2, *CLIP.shape), dtype=np.uint8)
    windows = np.concatenate([WINDOW, WINDOW])
    present = np.array([[True, True], [False, True]])
    sent = []
    for name, datatype, values in (
        ("present", "BOOL", present),
        ("clips", "UINT8", clips),
        ("windows", "FP32", windows),
    ):
        sent.append(triton.InferInput(name, list(values.shape), datatype))
        sent[-1].set_data_from_numpy(values, binary_data=binary_data)
    body, length = triton.InferenceServerClient.generate_request_body(sent)
    request = read_request(body, None if length is None else b"%d" % length, FUSED)
    np.testing.assert_array_equal(request.inputs["present"], present)
    np.testing.assert_array_equal(request.inputs["clips"], clips)
    np.testing.assert_array_equal(request.inputs["windows"], windows)
    assert request.inputs["windows"].flags.aligned


def test_json_and_binary_give_what_the_predictor_gives(tmp_path):
    write_small_artefact(str(tmp_path))
    predictor = Predictor.load(str(tmp_path))
    expected = predictor.predict(WINDOW)
    raw = WINDOW.tobytes()
    flat = WINDOW.ravel().tolist()
    for request in (
        read_http({"inputs": [tensor()]}),
        read_http({"inputs": [tensor(data=flat)]}),
        read_http({"inputs": [binary(len(raw))]}, raw),
        read_http({"inputs": [tensor(datatype="FP64")]}),
    ):
        values = predictor.predict(**request.inputs)
        np.testing.assert_array_equal(values, expected)
        document = json.loads(write_answer(build_answer(request, SPEC, values)).body)
        by_name = {item["name"]: item for item in document["outputs"]}
        np.testing.assert_array_equal(
            np.array(by_name["probabilities"]["data"], np.float32).reshape(expected.shape), expected
        )
        assert by_name["label"]["data"] == [CLASSES[int(expected.argmax())]]


def test_a_request_without_id_gets_none_and_the_timeout_is_in_seconds():
    request = read_http({"inputs": [tensor()], "parameters": {"timeout": 1500, "mine": "x"}})
    assert (request.id, request.timeout_s, request.parameters["mine"]) == ("", 0.0015, "x")
    assert b'"id"' not in write_answer(build_answer(request, SPEC, probabilities(1))).body


def test_an_output_may_be_json_where_the_rest_is_binary():
    outputs = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "probabilities"}]
    request = read_http(
        {
            "inputs": [tensor()],
            "outputs": outputs,
            "parameters": {"binary_data_output": True},
        }
    )
    assert [(item.name, item.binary) for item in request.outputs] == [
        ("label", False),
        ("probabilities", True),
    ]
    answer = write_answer(build_answer(request, SPEC, probabilities(1)))
    assert answer.body[header_of(answer) :] == probabilities(1).tobytes()


def test_inputs_of_fused_models_must_agree():
    clips = {"name": "clips", "datatype": "UINT8", "shape": [1, *CLIP.shape], "data": [7] * 72}
    present = {"name": "present", "datatype": "FP32", "shape": [1, 2], "data": [1, 0]}
    request = read_http({"inputs": [tensor(), clips, present]}, spec=FUSED)
    assert request.inputs["present"].tolist() == [[True, False]]
    assert set(read_http({"inputs": [clips]}, spec=FUSED).inputs) == {"clips"}
    for inputs, says in (
        ([present], "neither windows nor clips were sent"),
        ([clips, present], "says that there are windows"),
        ([tensor(), {**present, "data": [0, 0]}], "neither window nor clip"),
        ([tensor(), {**present, "data": [0.5, 0]}], "must be 0 or 1"),
        (
            [tensor(), {**clips, "shape": [2, *CLIP.shape], "data": [7] * 144}],
            "differ in their number of examples: 1 of windows, 2 of clips",
        ),
        ([{**clips, "data": [256] * 72}], "UINT8 cannot hold"),
        ([{**clips, "data": [-1] * 72}], "UINT8 cannot hold"),
    ):
        with pytest.raises(InputError) as caught:
            read_http({"inputs": inputs}, spec=FUSED)
        assert says in caught.value.message
    raw = b"\1\2"
    item = {"name": "present", "datatype": "BOOL", "shape": [1, 2]}
    with pytest.raises(MalformedBodyError, match="the byte 0 or 1"):
        read_http(
            {"inputs": [tensor(), {**item, "parameters": {"binary_data_size": 2}}]}, raw, spec=FUSED
        )


@settings(max_examples=30, deadline=None)
@given(st.lists(st.binary(max_size=6), max_size=5))
def test_bytes_tensors_read_back(elements):
    raw = encode_bytes(bytes_tensor(elements))
    assert decode_bytes("label", raw, len(elements)).tolist() == elements
    for broken in (raw + b"\0", raw[:-1], raw + struct.pack("<I", 0)):
        if broken != raw:
            with pytest.raises(MalformedBodyError, match="tensor 'label'"):
                decode_bytes("label", broken, len(elements))
    with pytest.raises(MalformedBodyError, match="4294967295 bytes"):
        decode_bytes("label", b"\xff" * 5, 1)


def test_nan_from_a_model_is_not_answered():
    request = read_http({"inputs": [tensor()]})
    with pytest.raises(MotoricError, match="NaN") as caught:
        build_answer(request, SPEC, np.full((1, 3), np.nan, np.float32))
    assert error_status(caught.value) == 500


def test_statuses_of_errors():
    statuses = {InputError: 400, MalformedBodyError: 400, ArtefactError: 400, NotFoundError: 404}
    statuses |= {AccessError: 401, PlatformError: 503, MotoricError: 500}
    assert {kind: error_status(kind("x")) for kind in statuses} == statuses
