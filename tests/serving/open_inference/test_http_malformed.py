"""What is not a request of the protocol over HTTP: each is told what is wrong, nothing breaks."""

from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_requests import SHAPE, SPEC, WINDOW, binary, read_http, tensor
from motoric.core.errors import (
    InputError,
    MalformedBodyError,
    MotoricError,
)
from motoric.serving.open_inference.http import (
    error_body,
    error_status,
    read_request,
)


@pytest.mark.parametrize(
    ("document", "kind", "says"),
    [
        ([], MalformedBodyError, "must be a JSON object"),
        ({"inputs": [tensor()], "x": 1}, MalformedBodyError, "unknown key 'x'"),
        ({"inputs": [tensor()], "id": 4}, MalformedBodyError, "the id must be a string, not 4"),
        ({}, MalformedBodyError, "'inputs' must be a list"),
        ({"inputs": []}, InputError, "input 'windows' was not sent: model 'lifts' takes windows"),
        ({"inputs": [1]}, MalformedBodyError, "inputs[0] must be a JSON object"),
        ({"inputs": [tensor(name=None)]}, MalformedBodyError, "needs a name that is a string"),
        ({"inputs": [tensor(name="x")]}, InputError, "there is no input 'x'"),
        ({"inputs": [tensor(name="present")]}, InputError, "there is no input 'present'"),
        ({"inputs": [tensor(), tensor()]}, MalformedBodyError, "'windows' was sent twice"),
        ({"inputs": [tensor(datatype="F32")]}, MalformedBodyError, "no datatype 'F32'"),
        ({"inputs": [tensor(datatype="BF16")]}, MalformedBodyError, "no datatype 'BF16'"),
        ({"inputs": [tensor(datatype=None)]}, MalformedBodyError, "no datatype None"),
        ({"inputs": [tensor(datatype="FP16")]}, InputError, "FP16, which is not converted"),
        ({"inputs": [tensor(datatype="INT32")]}, InputError, "send FP32 or FP64"),
        ({"inputs": [tensor(datatype="BYTES")]}, InputError, "BYTES, which is not converted"),
        ({"inputs": [tensor(shape="ab")]}, MalformedBodyError, "list of whole numbers"),
        ({"inputs": [tensor(shape=[True, 10, 4])]}, MalformedBodyError, "list of whole numbers"),
        ({"inputs": [tensor(shape=[1.0, 10, 4])]}, MalformedBodyError, "list of whole numbers"),
        ({"inputs": [tensor(shape=[10, 4])]}, InputError, "the model takes [-1, 10, 4]"),
        ({"inputs": [tensor(shape=[0, 10, 4])]}, InputError, "has shape [0, 10, 4]"),
        ({"inputs": [tensor(shape=[-1, 10, 4])]}, InputError, "has shape [-1, 10, 4]"),
        ({"inputs": [tensor(shape=[2**63, 10, 4])]}, InputError, "has shape [9223372036854775808"),
        ({"inputs": [tensor(shape=[2**31 - 1, 10, 4])]}, MalformedBodyError, "nested as its shape"),
        ({"inputs": [tensor(shape=[2, 10, 4])]}, MalformedBodyError, "nested as its shape"),
        ({"inputs": [tensor(data=[1.0] * 39)]}, MalformedBodyError, "39 values"),
        ({"inputs": [tensor(data=[])]}, MalformedBodyError, "0 values"),
        ({"inputs": [tensor(data="x" * 40)]}, MalformedBodyError, "its data must be a list"),
        ({"inputs": [tensor(data=[True] * 40)]}, MalformedBodyError, "True among its data"),
        ({"inputs": [tensor(data=["1"] * 40)]}, MalformedBodyError, "'1' among its data"),
        ({"inputs": [tensor(data=[[[1.0] * 4] * 9])]}, MalformedBodyError, "nested as its shape"),
        (
            {"inputs": [tensor(data=[[[1.0] * 4] * 9 + [5]])]},
            MalformedBodyError,
            "nested as its shape",
        ),
        ({"inputs": [tensor(data=[1e39] * 40)]}, InputError, "FP32 cannot hold"),
        ({"inputs": [tensor(data=[1e39] * 40, datatype="FP64")]}, InputError, "FP32 cannot hold"),
        ({"inputs": [tensor(data=None)]}, MalformedBodyError, "either 'data' or the parameter"),
        (
            {"inputs": [tensor(parameters={"binary_data_size": 160})]},
            MalformedBodyError,
            "and not both",
        ),
        ({"inputs": [binary(160)]}, MalformedBodyError, "0 bytes are left behind the JSON"),
        ({"inputs": [tensor(parameters=[1])]}, MalformedBodyError, "parameters must be an object"),
        ({"inputs": [tensor(parameters={"a": []})]}, MalformedBodyError, "parameter 'a' must be"),
        (
            {"inputs": [tensor(data=None, parameters={"shared_memory_region": "r"})]},
            InputError,
            "shared memory",
        ),
        (
            {"inputs": [tensor()], "parameters": {"sequence_id": 4}},
            InputError,
            "parameter 'sequence_id' is not supported",
        ),
        (
            {"inputs": [tensor()], "parameters": {"timeout": "1"}},
            MalformedBodyError,
            "whole number of microseconds",
        ),
        (
            {"inputs": [tensor()], "parameters": {"binary_data_output": 1}},
            MalformedBodyError,
            "must be true or false",
        ),
        ({"inputs": [tensor()], "outputs": 1}, MalformedBodyError, "'outputs' must be a list"),
        ({"inputs": [tensor()], "outputs": [{}]}, MalformedBodyError, "an output needs a name"),
        (
            {"inputs": [tensor()], "outputs": [{"name": "x"}]},
            InputError,
            "'lifts' gives probabilities, label",
        ),
        (
            {"inputs": [tensor()], "outputs": [{"name": "label"}] * 2},
            MalformedBodyError,
            "asked for twice",
        ),
        (
            {
                "inputs": [tensor()],
                "outputs": [{"name": "label", "parameters": {"classification": 2}}],
            },
            InputError,
            "parameter 'classification' is not supported",
        ),
    ],
)
def test_malformed_requests_are_told_what_is_wrong(document, kind, says):
    with pytest.raises(kind) as caught:
        read_http(document)
    assert says in caught.value.message
    assert error_status(caught.value) == 400
    assert json.loads(error_body(caught.value)) == {"error": caught.value.message}


@pytest.mark.parametrize(
    ("size", "num_bytes", "says"),
    [
        (160, 159, "159 bytes are left behind the JSON"),
        (160, 161, "1 bytes are left behind the tensors"),
        (156, 156, "FP32 of shape [1, 10, 4] needs 160"),
        (-1, 160, "binary_data_size is -1"),
        (True, 160, "binary_data_size is True"),
        (2**62, 160, "160 bytes are left"),
    ],
)
def test_sizes_of_binary_tensors_must_add_up(size, num_bytes, says):
    with pytest.raises(MalformedBodyError, match="bytes") as caught:
        read_http({"inputs": [binary(size)]}, b"\0" * num_bytes)
    assert says in caught.value.message


@pytest.mark.parametrize("length", [b"", b"x", b"-1", b"0", b"1e3", b"9" * 30, b"99999", b"+5"])
def test_a_wrong_header_length_is_refused(length):
    with pytest.raises(MalformedBodyError, match="Inference-Header-Content-Length"):
        read_request(orjson.dumps({"inputs": [tensor()]}), length, SPEC)


def test_nan_is_named_with_its_channel():
    windows = WINDOW.copy()
    windows[0, 2, 1] = np.nan
    raw = windows.tobytes()
    with pytest.raises(InputError, match="sample 2, channel acc_y"):
        read_http({"inputs": [binary(len(raw))]}, raw)
    raw = windows.astype(np.float64).tobytes()
    with pytest.raises(InputError, match="sample 2, channel acc_y"):
        read_http({"inputs": [binary(len(raw), datatype="FP64")]}, raw)
    with pytest.raises(MalformedBodyError, match="JSON has neither NaN nor Infinity"):
        read_request(b'{"inputs": [NaN]}', None, SPEC)


VALID_JSON = orjson.dumps({"inputs": [tensor()]})
VALID_HEAD = orjson.dumps({"id": "7", "inputs": [binary(160)], "outputs": [{"name": "label"}]})
VALID_BINARY = VALID_HEAD + WINDOW.tobytes()
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def read_or_refuse(body: bytes, length: bytes | None) -> None:
    try:
        request = read_request(body, length, SPEC)
    except MotoricError as error:
        assert error_status(error) == 400  # noqa: PT017 - either way is right
        return
    assert request.inputs["windows"].shape[1:] == SHAPE
    assert np.isfinite(request.inputs["windows"]).all()


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([b"", VALID_JSON, VALID_BINARY]),
    st.integers(0, 600),
    st.integers(0, 20),
    st.binary(max_size=20),
    st.none() | st.integers(0, 700) | st.just(len(VALID_HEAD)),
)
def test_any_bytes_give_a_request_or_a_refusal(valid, start, num_cut, patch, length):
    body = valid[:start] + patch + valid[start + num_cut :]
    read_or_refuse(body, None if length is None else b"%d" % length)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(["name", "datatype", "shape", "parameters", "data"]),
    json_values,
    st.sampled_from(["id", "parameters", "outputs", "inputs", "none"]),
    json_values,
)
def test_any_json_gives_a_request_or_a_refusal(key, value, top_key, top_value):
    document = {"inputs": [{**tensor(), key: value}]}
    if top_key != "none":
        document[top_key] = top_value
    read_or_refuse(orjson.dumps(document), None)
