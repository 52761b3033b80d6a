"""The endpoint over gRPC: the unmodified tritonclient in a process of its own, and bad messages."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest

from artefacts import CLASSES
from live import serving_grpc
from motoric.serving.open_inference.grpc import SERVICE, SERVICER_FUNCTION
from motoric.serving.open_inference.grpc import grpc_predict_v2_pb2 as pb2
from motoric.serving.open_inference.grpc.endpoint import (
    GrpcCall,
    GrpcEndpoint,
    GrpcReply,
    GrpcService,
)
from motoric.serving.open_inference.grpc.front import GrpcFront
from motoric.serving.open_inference.grpc.servicer import add_to_server
from motoric.serving.platform_server import Catalogue

PROGRAM = Path(__file__).parents[2] / "support" / "triton_grpc.py"
CODE = grpc.StatusCode


class Service(GrpcService):
    """What a deployment's class is."""

    def __init__(self, answer) -> None:
        self._answer = answer

    async def open_inference_grpc(self, call: GrpcCall) -> GrpcReply:
        return await self._answer(call)


@dataclass(frozen=True, slots=True)
class Called:
    code: grpc.StatusCode
    message: bytes = b""
    details: str = ""


Call = Callable[..., Called]


@pytest.fixture
def endpoint(server) -> GrpcEndpoint:
    server.access.poll()
    server.releases.poll()
    return GrpcEndpoint(server.context, server.is_ready)


@pytest.fixture
def front(server, endpoint) -> GrpcFront:
    """The platform's, with the one model behind it."""

    async def forward(model: str, call: GrpcCall) -> GrpcReply | None:
        return await endpoint.answer(call) if model == "small" else None

    return GrpcFront(
        check=server.access.gate.check,
        is_ready=server.access.is_fresh,
        forward=forward,
        explain=Catalogue(server.context.storage_uri).why_missing,
    )


@pytest.fixture(params=["endpoint", "front"])
def address(request) -> Iterator[str]:
    """The model alone, and behind the platform."""
    service = Service(request.getfixturevalue(request.param).answer)
    with serving_grpc(add_to_server, service) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def call(address, key) -> Call:
    """Call a method with bytes and a key."""

    def call(method: str, message: bytes, authorization: str | None = f"Bearer {key}") -> Called:
        metadata = [] if authorization is None else [("authorization", authorization)]
        with grpc.insecure_channel(address) as channel:
            try:
                answer = channel.unary_unary(f"/{SERVICE}/{method}")(
                    message, metadata=metadata, timeout=20
                )
            except grpc.RpcError as error:
                return Called(error.code(), b"", error.details())
        return Called(CODE.OK, answer)

    return call


def infer_message(windows: np.ndarray, **changes: object) -> pb2.ModelInferRequest:
    sent = pb2.ModelInferRequest(model_name="small", raw_input_contents=[windows.tobytes()])
    sent.inputs.add(name="windows", datatype="FP32", shape=windows.shape)
    for name, value in changes.items():
        setattr(sent.inputs[0], name, value)
    return sent


def test_tritonclient_gets_all_that_the_protocol_has(address, key, windows, tmp_path):
    np.save(tmp_path / "windows.npy", windows)
    done = subprocess.run(
        [sys.executable, PROGRAM, address, "small", "windows.npy", "answer.npz"],
        cwd=tmp_path,
        env=os.environ | {"MOTORIC_API_KEY": key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["server"]["name"] == "motoric"
    assert said["model"]["inputs"][0]["shape"] == ["-1", "10", "4"]
    assert said["answered"] == {"id": "7", "version": "4"}
    answer = np.load(tmp_path / "answer.npz")
    sums = windows.sum(axis=1)[:, :3].astype(np.float64)
    expected = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-5)
    assert answer["label"].tolist() == [CLASSES[k] for k in expected.argmax(axis=1)]
    assert {name: status for name, (status, _) in said["refused"].items()} == {
        "no key": "StatusCode.UNAUTHENTICATED",
        "wrong key": "StatusCode.UNAUTHENTICATED",
        "other model": "StatusCode.NOT_FOUND",
        "traversal": "StatusCode.NOT_FOUND",
        "other version": "StatusCode.NOT_FOUND",
    }


def test_malformed_protobuf_is_an_invalid_argument(call, windows):
    good = infer_message(windows).SerializeToString()
    for message in (b"\xff\xff\xff", good[:-1], b"\x0a\x05sm"):
        for method in ("ModelInfer", "ModelReady", "ModelMetadata"):
            if method == "ModelInfer" or message != good[:-1]:
                called = call(method, message)
                assert called.code is CODE.INVALID_ARGUMENT
                assert f"no {method}Request" in called.details


@pytest.mark.parametrize(
    ("changes", "code", "says"),
    [
        ({"datatype": "INT32"}, CODE.INVALID_ARGUMENT, "send FP32 or FP64"),
        ({"datatype": "FP99"}, CODE.INVALID_ARGUMENT, "no datatype 'FP99'"),
        ({"name": "x"}, CODE.INVALID_ARGUMENT, "there is no input 'x'"),
    ],
)
def test_tensors_that_do_not_fit(call, windows, changes, code, says):
    called = call("ModelInfer", infer_message(windows, **changes).SerializeToString())
    assert called.code is code
    assert says in called.details


def test_values_and_numbers_that_do_not_fit(call, windows):
    sent = infer_message(np.concatenate([windows, windows]))
    called = call("ModelInfer", sent.SerializeToString())
    assert called.code is CODE.RESOURCE_EXHAUSTED
    assert "6 examples were sent, and a request may have 5" in called.details
    windows[0, 2, 1] = np.nan
    called = call("ModelInfer", infer_message(windows).SerializeToString())
    assert called.code is CODE.INVALID_ARGUMENT
    assert "sample 2" in called.details
    sent = infer_message(windows)
    sent.raw_input_contents[0] = sent.raw_input_contents[0][:-4]
    assert call("ModelInfer", sent.SerializeToString()).code is CODE.INVALID_ARGUMENT
    sent.raw_input_contents[0] = b"\0" * 20_000
    called = call("ModelInfer", sent.SerializeToString())
    assert called.code is CODE.RESOURCE_EXHAUSTED
    assert "0.015625 MiB" in called.details
    assert call("ModelInfer", b"\0" * (5 * 2**20)).code is CODE.RESOURCE_EXHAUSTED


def test_an_expired_request_is_not_run(call, windows):
    sent = infer_message(windows)
    sent.parameters["timeout"].int64_param = 1
    assert call("ModelInfer", sent.SerializeToString()).code is CODE.DEADLINE_EXCEEDED


@pytest.mark.parametrize("method", ["ServerMetadata", "ModelReady", "ModelMetadata", "ModelInfer"])
@pytest.mark.parametrize("authorization", [None, "Bearer mk_0_wrong", "x"])
def test_without_a_valid_key_even_malformed_messages_are_not_read(call, method, authorization):
    assert call(method, b"\xff", authorization).code is CODE.UNAUTHENTICATED


def test_a_model_without_a_release_is_live_but_not_ready(server, call, windows):
    server.releases.served = None
    ready = call("ModelReady", pb2.ModelReadyRequest(name="small").SerializeToString())
    assert not pb2.ModelReadyResponse.FromString(ready.message).ready
    assert pb2.ServerLiveResponse.FromString(call("ServerLive", b"").message).live
    called = call("ModelInfer", infer_message(windows).SerializeToString())
    assert called.code is CODE.UNAVAILABLE
    assert "no release yet" in called.details


def test_unknown_methods_are_unimplemented(call):
    assert call("RepositoryIndex", b"").code is CODE.UNIMPLEMENTED


def test_an_unexpected_exception_tells_nothing(server, call, windows, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(server.releases.served.batcher, "submit", fail)
    called = call("ModelInfer", infer_message(windows).SerializeToString())
    assert called.code is CODE.INTERNAL
    assert "secret" not in called.details
    assert "a secret of the inside" in caplog.text


def test_a_model_that_is_not_deployed_is_told_apart_from_one_that_is_not_there(front, key):
    def ask(name: str) -> GrpcReply:
        message = pb2.ModelMetadataRequest(name=name).SerializeToString()
        call = GrpcCall(method="ModelMetadata", message=message, authorization=f"Bearer {key}")
        return asyncio.run(front.answer(call))

    assert ask("small").status is CODE.OK
    assert ask("nope").status is CODE.NOT_FOUND
    assert ask("../small").status is CODE.NOT_FOUND


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of Ray's own models, at import
def test_serve_imports_what_its_config_names():
    from ray.serve.config import gRPCOptions

    options = gRPCOptions(grpc_servicer_functions=[SERVICER_FUNCTION])
    assert options.grpc_servicer_func_callable == [add_to_server]
