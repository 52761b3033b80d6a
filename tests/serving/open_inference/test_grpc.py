"""tritonclient.grpc brings messages of the same names as ours: it runs in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import CLASSES, write_small_artefact
from inference_requests import CLIP, FUSED, SHAPE, SPEC, WINDOW
from motoric.artefact.predictor import Predictor
from motoric.core.errors import (
    AccessError,
    DeadlineError,
    InputError,
    MalformedBodyError,
    MotoricError,
    NotFoundError,
    PlatformError,
    TooLargeError,
)
from motoric.serving.open_inference.grpc import METHODS, SERVICE
from motoric.serving.open_inference.grpc import grpc_predict_v2_pb2 as pb2
from motoric.serving.open_inference.grpc.messages import (
    model_metadata,
    parse_message,
    read_request,
    server_metadata,
    status_of,
    write_answer,
)
from motoric.serving.open_inference.request import build_answer

NUM_TRITON_CASES = 20

WRITE = """
import pathlib, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request
folder = pathlib.Path(sys.argv[1])
(folder / "descriptor").write_bytes(service_pb2.DESCRIPTOR.serialized_pb)
for path in sorted(folder.glob("*.npy")):
    case = int(path.stem)
    windows = np.load(path)
    sent = triton.InferInput("windows", list(windows.shape), "FP32")
    sent.set_data_from_numpy(windows)
    names = [[], ["label"], ["label", "probabilities"]][case % 3]
    request = _get_inference_request(
        model_name="lifts", inputs=[sent], model_version="3" if case % 2 else "",
        request_id=str(case), outputs=[triton.InferRequestedOutput(name) for name in names],
        sequence_id=0, sequence_start=False, sequence_end=False, priority=case, timeout=1000,
        parameters={"a": 1.5, "b": "x", "c": True, "d": 3},
    )
    (folder / f"{case}.request").write_bytes(request.SerializeToString())
"""

READ = """
import pathlib, sys
import numpy as np
import tritonclient.grpc as triton
from tritonclient.grpc import service_pb2
folder = pathlib.Path(sys.argv[1])
for path in folder.glob("*.response"):
    response = service_pb2.ModelInferResponse.FromString(path.read_bytes())
    result = triton.InferResult(response)
    assert (response.model_name, response.model_version) == ("lifts", "3"), response
    assert response.id == path.stem, response
    found = {}
    for output in response.outputs:
        values = result.as_numpy(output.name)
        found[output.name] = values.astype(str) if values.dtype == object else values
    np.savez(folder / f"{path.stem}.read.npz", **found)
for kind in ("ServerMetadata", "ModelMetadata"):
    message = getattr(service_pb2, f"{kind}Response")()
    message.ParseFromString((folder / kind).read_bytes())
    print(message)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triton:
    """What tritonclient wrote, and what we answer it."""

    folder: Path
    windows: list[np.ndarray]
    requests: list[bytes]


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def triton(tmp_path_factory) -> Triton:
    folder = tmp_path_factory.mktemp("triton")
    rng = np.random.default_rng(5)
    windows = []
    for case in range(NUM_TRITON_CASES):
        bits = rng.integers(0, 2**32, (1 + case % 3, *SHAPE), dtype=np.uint32)
        values = bits.view(np.float32)
        windows.append(np.where(np.isfinite(values), values, np.float32(case)))
        np.save(folder / f"{case}.npy", windows[-1])
    run(WRITE, folder)
    requests = [(folder / f"{case}.request").read_bytes() for case in range(NUM_TRITON_CASES)]
    return Triton(folder=folder, windows=windows, requests=requests)


def probabilities(num: int) -> np.ndarray:
    scores = np.random.default_rng(num).random((num, len(CLASSES))).astype(np.float32)
    return scores / scores.sum(axis=1, keepdims=True)


def message(*, raw: bool = True, name: str = "lifts", **changes) -> pb2.ModelInferRequest:
    found = pb2.ModelInferRequest(model_name=name)
    item = found.inputs.add(
        **{"name": "windows", "datatype": "FP32", "shape": [1, *SHAPE], **changes}
    )
    if raw:
        found.raw_input_contents.append(WINDOW.tobytes())
    elif "contents" not in changes:
        item.contents.fp32_contents.extend(WINDOW.ravel().tolist())
    return found


def contents(**fields) -> pb2.InferTensorContents:
    return pb2.InferTensorContents(**fields)


def test_tritonclient_and_this_read_what_the_other_writes(triton):
    for case, (windows, sent) in enumerate(zip(triton.windows, triton.requests, strict=True)):
        request = read_request(parse_message(sent), SPEC)
        np.testing.assert_array_equal(request.inputs["windows"], windows)
        assert (request.id, request.timeout_s) == (str(case), 0.001)
        values = {"a": 1.5, "b": "x", "c": True, "d": 3}
        assert {name: request.parameters[name] for name in "abcd"} == values
        response = write_answer(build_answer(request, SPEC, probabilities(len(windows))))
        (triton.folder / f"{case}.response").write_bytes(response.SerializeToString())
    for kind, document in (
        ("ServerMetadata", server_metadata()),
        ("ModelMetadata", model_metadata(SPEC)),
    ):
        (triton.folder / kind).write_bytes(document.SerializeToString())
    shown = run(READ, triton.folder)
    assert 'extensions: "binary_tensor_data"' in shown
    assert 'platform: "onnxruntime_onnx"' in shown
    for case, windows in enumerate(triton.windows):
        expected = probabilities(len(windows))
        with np.load(triton.folder / f"{case}.read.npz") as read:
            wanted = (["probabilities", "label"], ["label"], ["label", "probabilities"])[case % 3]
            assert list(read) == wanted
            assert read["label"].tolist() == [CLASSES[k] for k in expected.argmax(axis=1)]
            if "probabilities" in wanted:
                np.testing.assert_array_equal(read["probabilities"], expected)


def test_our_messages_are_those_of_tritonclient(triton):
    theirs = descriptor_pb2.FileDescriptorProto.FromString(
        (triton.folder / "descriptor").read_bytes()
    )
    ours = descriptor_pb2.FileDescriptorProto()
    pb2.DESCRIPTOR.CopyToProto(ours)

    def fields(message_type) -> list[object]:
        own = [
            (item.name, item.number, item.type, item.label, item.type_name)
            for item in message_type.field
        ]
        return [own, {inner.name: fields(inner) for inner in message_type.nested_type}]

    by_name = {item.name: fields(item) for item in theirs.message_type}
    assert {item.name: fields(item) for item in ours.message_type} == {
        item.name: by_name[item.name] for item in ours.message_type
    }
    methods = {item.name: (item.input_type, item.output_type) for item in theirs.service[0].method}
    assert ours.package == theirs.package
    assert f"{ours.package}.{ours.service[0].name}" == SERVICE
    assert {item.name for item in ours.service[0].method} == set(METHODS)
    for item in ours.service[0].method:
        assert methods[item.name] == (item.input_type, item.output_type)


def test_typed_and_raw_contents_give_what_the_predictor_gives(tmp_path):
    write_small_artefact(str(tmp_path))
    predictor = Predictor.load(str(tmp_path))
    expected = predictor.predict(WINDOW)
    flat = WINDOW.ravel().tolist()
    doubles = contents(fp64_contents=flat)
    for sent in (
        message(),
        message(raw=False),
        message(raw=False, datatype="FP64", contents=doubles),
    ):
        request = read_request(parse_message(sent.SerializeToString()), SPEC)
        response = write_answer(build_answer(request, SPEC, predictor.predict(**request.inputs)))
        assert [item.name for item in response.outputs] == ["probabilities", "label"]
        assert response.raw_output_contents[0] == expected.tobytes()
        assert response.raw_output_contents[1][4:].decode() == CLASSES[int(expected.argmax())]


def test_clips_and_what_is_present_come_typed():
    sent = pb2.ModelInferRequest(model_name="both")
    sent.inputs.add(
        name="clips",
        datatype="UINT8",
        shape=[1, *CLIP.shape],
        contents=contents(uint_contents=range(72)),
    )
    sent.inputs.add(
        name="present",
        datatype="BOOL",
        shape=[1, 2],
        contents=contents(bool_contents=[False, True]),
    )
    request = read_request(sent, FUSED)
    assert request.inputs["clips"].ravel().tolist() == list(range(72))
    assert request.inputs["present"].tolist() == [[False, True]]
    sent.inputs[0].contents.uint_contents[3] = 256
    with pytest.raises(MalformedBodyError, match="values that are no UINT8"):
        read_request(sent, FUSED)


def with_raw(*raws: bytes) -> pb2.ModelInferRequest:
    found = message()
    found.ClearField("raw_input_contents")
    found.raw_input_contents.extend(raws)
    return found


def twice() -> pb2.ModelInferRequest:
    found = message()
    found.inputs.append(found.inputs[0])
    found.raw_input_contents.append(found.raw_input_contents[0])
    return found


def with_parameter(**value) -> pb2.ModelInferRequest:
    found = message()
    found.parameters["sequence_id"].CopyFrom(pb2.InferParameter(**value))
    return found


def with_output(*names: str) -> pb2.ModelInferRequest:
    found = message()
    for name in names:
        found.outputs.add(name=name)
    return found


@pytest.mark.parametrize(
    ("sent", "kind", "says"),
    [
        (message(name="runs"), NotFoundError, "there is no model 'runs' here"),
        (pb2.ModelInferRequest(), NotFoundError, "there is no model ''"),
        (pb2.ModelInferRequest(model_name="lifts"), InputError, "'windows' was not sent"),
        (message(shape=[2, *SHAPE]), MalformedBodyError, "[2, 10, 4] needs 320"),
        (message(shape=[2**62, *SHAPE]), InputError, "the model takes [-1, 10, 4]"),
        (message(shape=[-1, *SHAPE]), InputError, "the model takes [-1, 10, 4]"),
        (message(datatype="FP16"), InputError, "FP16, which is not converted"),
        (message(datatype="WHAT"), MalformedBodyError, "no datatype 'WHAT'"),
        (with_raw(b""), MalformedBodyError, "has 0 bytes"),
        (with_raw(WINDOW.tobytes(), b""), MalformedBodyError, "2 raw_input_contents for 1 inputs"),
        (twice(), MalformedBodyError, "'windows' was sent twice"),
        (
            message(contents=contents(fp32_contents=[1.0])),
            MalformedBodyError,
            "there are raw_input_contents: send one",
        ),
        (message(raw=False, contents=contents()), MalformedBodyError, "needs fp32_contents"),
        (
            message(raw=False, contents=contents(fp64_contents=[1.0])),
            MalformedBodyError,
            "needs fp32_contents; fp64_contents was sent",
        ),
        (
            message(raw=False, contents=contents(fp32_contents=[1.0] * 39)),
            MalformedBodyError,
            "has 39 values",
        ),
        (
            message(raw=False, contents=contents(fp32_contents=[float("nan")] * 40)),
            InputError,
            "40 values are NaN or infinite",
        ),
        (with_raw(b"\xff" * 160), InputError, "40 values are NaN or infinite"),
        (with_parameter(), MalformedBodyError, "parameter 'sequence_id' has no value"),
        (with_parameter(int64_param=4), InputError, "'sequence_id' is not supported"),
        (with_output("label", "label"), MalformedBodyError, "asked for twice"),
        (with_output("x"), InputError, "there is no output 'x'"),
    ],
)
def test_malformed_requests_are_told_what_is_wrong(sent, kind, says):
    with pytest.raises(kind) as caught:
        read_request(sent, SPEC)
    assert says in caught.value.message
    expected = grpc.StatusCode.NOT_FOUND if kind is NotFoundError else None
    assert status_of(caught.value) is (expected or grpc.StatusCode.INVALID_ARGUMENT)


def test_statuses_of_errors():
    code = grpc.StatusCode
    statuses = {
        AccessError: code.UNAUTHENTICATED,
        NotFoundError: code.NOT_FOUND,
        DeadlineError: code.DEADLINE_EXCEEDED,
        TooLargeError: code.RESOURCE_EXHAUSTED,
        InputError: code.INVALID_ARGUMENT,
        PlatformError: code.UNAVAILABLE,
        MotoricError: code.INTERNAL,
    }
    assert {kind: status_of(kind("x")) for kind in statuses} == statuses


VALID = message().SerializeToString()
VALID_TYPED = message(raw=False).SerializeToString()


def read_or_refuse(content: bytes) -> None:
    try:
        request = read_request(parse_message(content), SPEC)
    except MotoricError as error:
        assert status_of(error) is not grpc.StatusCode.INTERNAL  # noqa: PT017 - either is right
        return
    assert request.inputs["windows"].shape[1:] == SHAPE
    assert np.isfinite(request.inputs["windows"]).all()


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([b"", VALID, VALID_TYPED]),
    st.integers(0, 250),
    st.integers(0, 12),
    st.binary(max_size=12),
)
def test_any_bytes_give_a_request_or_a_refusal(valid, start, num_cut, patch):
    read_or_refuse(valid[:start] + patch + valid[start + num_cut :])


@settings(max_examples=100, deadline=None)
@given(
    datatype=st.sampled_from(["FP32", "FP64", "FP16", "BYTES", "BOOL", "UINT8", "INT64", ""]),
    batch=st.integers(-(2**63), 2**63 - 1) | st.integers(0, 2),
    rest=st.lists(st.integers(-1, 11), max_size=3) | st.just(list(SHAPE)),
    floats=st.lists(st.floats(width=32), max_size=3) | st.just([1.0] * 40),
    others=st.lists(st.binary(max_size=3), max_size=2),
    raws=st.lists(st.binary(max_size=8) | st.just(WINDOW.tobytes()), max_size=2),
)
def test_any_message_gives_a_request_or_a_refusal(datatype, batch, rest, floats, others, raws):
    sent = pb2.ModelInferRequest(model_name="lifts", raw_input_contents=raws)
    given_contents = contents(fp32_contents=floats, bytes_contents=others)
    sent.inputs.add(
        name="windows", datatype=datatype, shape=[batch, *rest], contents=given_contents
    )
    read_or_refuse(sent.SerializeToString())
