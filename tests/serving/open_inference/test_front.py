"""The protocol at `/v2` of the platform's application, over HTTP."""

from __future__ import annotations

import pickle
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from artefacts import release_small
from live import serving_app
from motoric.core.errors import PlatformError
from motoric.serving.config import MAX_MESSAGE_MIB
from motoric.serving.open_inference.endpoint import HttpCall, HttpReply
from motoric.serving.platform_server import build_platform

# tritonclient's HTTP client leaves its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def address(local, accounts, server) -> Iterator[str]:
    """A platform with one model behind it, whose calls travel as Ray would send them."""
    server.access.poll()
    server.releases.poll()

    async def forward(model: str, call: HttpCall) -> HttpReply | None:
        if model == "busy":
            raise PlatformError("model 'busy' has as many requests waiting as it may have")
        if model != "small":
            return None
        reply: HttpReply = await server.open_inference.answer(pickle.loads(pickle.dumps(call)))  # noqa: S301
        return reply

    app = build_platform(storage_uri=local.storage_uri, publish=accounts.publish, forward=forward)
    with serving_app(app) as live:
        yield f"127.0.0.1:{live.port}"


@pytest.fixture
def client(address) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


def windows_input(windows: np.ndarray) -> triton.InferInput:
    sent = triton.InferInput("windows", list(windows.shape), "FP32")
    sent.set_data_from_numpy(windows)
    return sent


def test_clients_without_a_base_path_get_the_whole_protocol(client, auth, windows):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.get_server_metadata(headers=auth)["name"] == "motoric"
    assert client.is_model_ready("small", "4", headers=auth)
    assert client.get_model_metadata("small", headers=auth)["versions"] == ["4"]
    for packed in (None, "gzip"):
        result = client.infer(
            "small",
            [windows_input(windows)],
            headers=dict(auth),
            request_compression_algorithm=packed,
        )
        sums = windows.sum(axis=1)[:, :3].astype(np.float64)
        expected = np.exp(sums) / np.exp(sums).sum(axis=1, keepdims=True)
        np.testing.assert_allclose(result.as_numpy("probabilities"), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("model", "status", "says"),
    [
        ("nope", "404", "no model 'nope' is released"),
        ("../platform", "404", ""),
        ("..%2fsmall", "404", ""),
        ("idle", "503", "motoric deploy idle"),
        ("busy", "503", "waiting"),
    ],
)
def test_models_that_do_not_answer(client, auth, local, windows, model, status, says):
    release_small(local.storage_uri, "idle", 1)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(model, [windows_input(windows)], headers=dict(auth))
    assert caught.value.status() == status
    assert says in caught.value.message()


@pytest.mark.parametrize("path", ["/v2", "/v2/models/small", "/v2/models/small/infer", "/v2/x"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer mk_0_wrong"}])
def test_without_a_valid_key_there_is_no_answer(address, path, headers):
    response = httpx.post(f"http://{address}{path}", headers=headers)
    assert response.status_code == 401
    assert "error" in response.json()


def test_wrong_methods_and_large_bodies_are_refused(address, auth):
    infer = f"http://{address}/v2/models/small/infer"
    assert httpx.get(infer, headers=auth).status_code == 405
    assert httpx.post(f"http://{address}/v2/health/live").status_code == 405
    large = b"\0" * (MAX_MESSAGE_MIB * 2**20 + 1)
    assert httpx.post(infer, headers=auth, content=large).status_code == 413
    over_the_models = b"\0" * 20_000
    assert httpx.post(infer, headers=auth, content=over_the_models).status_code == 413


def test_other_paths_are_the_platforms(address, auth):
    response = httpx.get(f"http://{address}/v2x", headers=auth)
    assert response.headers["content-type"] == "application/problem+json"
