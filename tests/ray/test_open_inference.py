"""The Open Inference Protocol as clients meet it: the unmodified tritonclient on a platform."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import artefacts
from motoric.cluster import local, processes
from motoric.cluster.serve_api import ServeApi
from motoric.cluster.state import PlatformState
from motoric.core.settings import Settings
from motoric.serving.accounts import open_accounts
from motoric.serving.config import MAX_MESSAGE_MIB, ModelAppArgs, config_of, merge
from motoric.serving.open_inference.grpc import SERVICE

# tritonclient's HTTP client leaves its sockets to the garbage collector.
pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]

MODEL = "inferred"
PROGRAM = Path(__file__).parents[1] / "support" / "triton_grpc.py"
TIMEOUT_S = 60.0
SHAPE = (3, artefacts.NUM_SAMPLES, artefacts.NUM_CHANNELS)
WINDOWS = np.random.default_rng(3).normal(0, 0.3, SHAPE).astype(np.float32)
CODE = grpc.StatusCode


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A running platform with one model; addresses are `host:port`."""

    http: str
    grpc: str
    key: str
    state: PlatformState

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    @property
    def bases(self) -> tuple[str, str]:
        """Where tritonclient may be pointed over HTTP: the platform, and the model's own base."""
        return self.http, f"{self.http}/v1/models/{MODEL}"

    def call(self, message: bytes, application: str = "", authorization: str | None = None) -> Any:
        """Send bytes as a ModelInferRequest; gives the status and its details."""
        metadata = [("authorization", authorization or f"Bearer {self.key}")]
        if application:
            metadata.append(("application", application))
        with grpc.insecure_channel(self.grpc) as channel:
            try:
                channel.unary_unary(f"/{SERVICE}/ModelInfer")(
                    message, metadata=metadata, timeout=20
                )
            except grpc.RpcError as error:
                return error.code(), error.details()
        return CODE.OK, ""


@pytest.fixture(scope="module")
def served(platform_settings: Settings, platform_state: PlatformState) -> Iterator[Served]:
    accounts = open_accounts(platform_settings)
    key = accounts.create_key("triton").secret
    accounts.close()
    artefacts.release_small(platform_settings.storage_uri, MODEL, 1)
    found = Served(
        http=f"127.0.0.1:{platform_settings.ports.http}",
        grpc=f"127.0.0.1:{platform_settings.ports.grpc}",
        key=key,
        state=platform_state,
    )
    with ServeApi(platform_state.dashboard_url, platform_state.token_path) as api:
        before = config_of(api.details())
        api.put(merge(before, ModelAppArgs(model=MODEL, cpu=0.1)))
        api.wait_running([MODEL], TIMEOUT_S)
        # An application that runs is not yet a route, and a new key not yet known to all.
        for base in found.bases:
            url = f"http://{base}/v2/models/{MODEL}/ready"
            wait(lambda url=url: httpx.get(url, headers=found.headers).status_code == 200)
        for application in ("", MODEL):
            wait(lambda name=application: found.call(b"\xff", name)[0] is CODE.INVALID_ARGUMENT)
        yield found
        api.put(before)


def wait(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < deadline_s, "the time is up"
        time.sleep(0.1)


def windows_input(*, is_binary: bool = True) -> triton.InferInput:
    sent = triton.InferInput("windows", list(WINDOWS.shape), "FP32")
    sent.set_data_from_numpy(WINDOWS, binary_data=is_binary)
    return sent


def predicted(served: Served) -> np.ndarray:
    """What `predict` says of the windows, probabilities (B, K)."""
    response = httpx.post(
        f"http://{served.http}/v1/models/{MODEL}/predict",
        content=WINDOWS.tobytes(),
        headers={
            **served.headers,
            "content-type": "application/octet-stream",
            "accept": "application/x-npy",
        },
    )
    assert response.status_code == 200, response.text
    found: np.ndarray = np.load(io.BytesIO(response.content))
    return found


def run_triton_grpc(served: Served, folder: Path, *application: str) -> tuple[dict[str, Any], Any]:
    np.save(folder / "windows.npy", WINDOWS)
    done = subprocess.run(
        [sys.executable, PROGRAM, served.grpc, MODEL, "windows.npy", "answer.npz", *application],
        cwd=folder,
        env=os.environ | {"MOTORIC_API_KEY": served.key},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), np.load(folder / "answer.npz")


@pytest.mark.parametrize("base", [0, 1], ids=["platform", "model"])
def test_tritonclient_over_http(served: Served, base: int):
    expected = predicted(served)
    with triton.InferenceServerClient(served.bases[base]) as client:
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready(MODEL, headers=served.headers)
        assert client.get_server_metadata(headers=served.headers)["name"] == "motoric"
        metadata = client.get_model_metadata(MODEL, headers=served.headers)
        assert metadata["inputs"][0]["shape"] == [-1, *SHAPE[1:]]
        for is_binary in (True, False):
            result = client.infer(
                MODEL,
                [windows_input(is_binary=is_binary)],
                outputs=[triton.InferRequestedOutput("probabilities", binary_data=is_binary)],
                headers=served.headers,
            )
            np.testing.assert_array_equal(result.as_numpy("probabilities"), expected)
        for name in ("nope", "../platform", "..%2f" + MODEL):
            with pytest.raises(InferenceServerException) as caught:
                client.infer(name, [windows_input()], headers=served.headers)
            assert caught.value.status() == "404"
        for headers in ({}, {"authorization": "Bearer mk_0_wrong"}):
            with pytest.raises(InferenceServerException) as caught:
                client.infer(MODEL, [windows_input()], headers=headers)
            assert caught.value.status() == "401"


@pytest.mark.parametrize("application", [(), (MODEL,)], ids=["default", "application"])
def test_tritonclient_over_grpc(served: Served, application: tuple[str, ...], tmp_path: Path):
    said, answer = run_triton_grpc(served, tmp_path, *application)
    assert (said["live"], said["ready"], said["model_ready"]) == (True, True, True)
    assert said["server"]["extensions"] == ["binary_tensor_data"]
    assert said["model"]["versions"] == ["1"]
    assert said["answered"] == {"id": "7", "version": "1"}
    expected = predicted(served)
    np.testing.assert_array_equal(answer["probabilities"], expected)
    labels = [artefacts.CLASSES[k] for k in expected.argmax(axis=1)]
    assert answer["label"].tolist() == labels
    statuses = {name: status for name, (status, _) in said["refused"].items()}
    assert statuses == {
        "no key": "StatusCode.UNAUTHENTICATED",
        "wrong key": "StatusCode.UNAUTHENTICATED",
        "other model": "StatusCode.NOT_FOUND",
        "traversal": "StatusCode.NOT_FOUND",
        "other version": "StatusCode.NOT_FOUND",
    }


@pytest.mark.parametrize("application", ["", MODEL])
def test_malformed_and_oversized_messages_over_grpc(served: Served, application: str):
    code, details = served.call(b"\xff\xff\xff", application)
    assert code is CODE.INVALID_ARGUMENT
    assert "no ModelInferRequest" in details
    large = b"\0" * (MAX_MESSAGE_MIB * 2**20 + 1)
    assert served.call(large, application)[0] is CODE.RESOURCE_EXHAUSTED
    # Malformed too, and not looked at without a key.
    assert served.call(b"\xff", application, "Bearer mk_0_wrong")[0] is CODE.UNAUTHENTICATED


def test_an_application_that_is_not_there_is_not_found(served: Served):
    assert served.call(b"", "nope")[0] is CODE.NOT_FOUND


def test_the_servers_of_grpc_are_on_loopback(served: Served, platform_settings: Settings):
    listening = {
        connection.laddr.port
        for process in processes.find(served.state.instance_id)
        for connection in process.net_connections(kind="tcp")
        if connection.status == "LISTEN"
    }
    assert platform_settings.ports.grpc in listening
    assert local.open_sockets(served.state) == []
