"""The endpoint over HTTP, asked by the unmodified tritonclient and by clients that do it wrong."""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import jsonschema
import numpy as np
import orjson
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from artefacts import CLASSES
from inference_requests import SHAPE, binary, tensor
from motoric.core.errors import ContentTypeError, MalformedBodyError, TooLargeError
from motoric.serving.open_inference.compression import decompress, is_compressed
from motoric.serving.open_inference.http import HEADER_LENGTH

INFER = "/v2/models/small/infer"

# tritonclient's HTTP client leaves its sockets to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture
def client(address) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(address) as client:
        yield client


@pytest.fixture
def ask(address, auth):
    """Ask the endpoint one thing with a key."""

    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        headers = {**auth, **options.pop("headers", {})}
        return httpx.request(method, f"http://{address}{path}", headers=headers, **options)

    return ask


def refused(response: httpx.Response, status: int) -> str:
    """The message of a refusal, after checking that it is the protocol's."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    document = response.json()
    assert set(document) == {"error"}
    return str(document["error"])


def windows_input(windows: np.ndarray, *, is_binary: bool = True) -> triton.InferInput:
    sent = triton.InferInput("windows", list(windows.shape), "FP32")
    sent.set_data_from_numpy(windows, binary_data=is_binary)
    return sent


def test_health_needs_no_key_and_metadata_does(client, auth):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert not client.is_model_ready("small")
    assert client.is_model_ready("small", headers=auth)
    assert client.is_model_ready("small", "4", headers=auth)
    assert not client.is_model_ready("small", "5", headers=auth)
    assert client.get_server_metadata(headers=auth)["extensions"] == ["binary_tensor_data"]
    for version in ("", "4"):
        found = client.get_model_metadata("small", version, headers=auth)
        assert (found["name"], found["versions"]) == ("small", ["4"])
        assert found["inputs"] == [{"name": "windows", "datatype": "FP32", "shape": [-1, *SHAPE]}]
    for get in (client.get_server_metadata, lambda: client.get_model_metadata("small")):
        with pytest.raises(InferenceServerException, match="send an API key") as caught:
            get()
        assert caught.value.status() == "401"


@pytest.mark.parametrize("is_binary", [True, False])
@pytest.mark.parametrize("packed", [None, "gzip", "deflate"])
def test_inference_gives_what_predict_gives(client, ask, auth, windows, is_binary, packed):
    result = client.infer(
        "small",
        [windows_input(windows, is_binary=is_binary)],
        outputs=[
            triton.InferRequestedOutput(name, binary_data=is_binary)
            for name in ("label", "probabilities")
        ],
        request_id="a",
        timeout=10_000_000,
        headers=dict(auth),  # tritonclient adds its own to it
        request_compression_algorithm=packed,
        response_compression_algorithm=packed,
    )
    headers = {"content-type": "application/octet-stream", "accept": "application/x-npy"}
    predicted = ask("POST", "/predict", content=windows.tobytes(), headers=headers)
    expected = np.load(io.BytesIO(predicted.content))
    np.testing.assert_array_equal(result.as_numpy("probabilities"), expected)
    labels = [
        item.decode() if isinstance(item, bytes) else item for item in result.as_numpy("label")
    ]
    assert labels == [CLASSES[k] for k in expected.argmax(axis=1)]
    said = result.get_response()
    assert (said["id"], said["model_version"]) == ("a", "4")


def test_requests_share_batches_with_predict(client, server, auth, windows):
    before = server.releases.served.batcher.num_windows
    client.infer("small", [windows_input(windows)], headers=dict(auth))
    assert server.releases.served.batcher.num_windows == before + 3


@pytest.mark.parametrize("name", ["other", "../small", "..%2Fsmall", "small/../../x", "a b", "é"])
def test_other_names_are_not_found(client, auth, windows, name):
    with pytest.raises(InferenceServerException) as caught:
        client.infer(name, [windows_input(windows)], headers=auth)
    assert caught.value.status() == "404"


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2"), ("GET", "/v2/models/small"), ("GET", "/v2/x"), ("POST", INFER)],
)
@pytest.mark.parametrize("value", [None, "Bearer mk_0_wrong", "Basic abc"])
def test_without_a_valid_key_there_is_no_answer(address, method, path, value):
    headers = {} if value is None else {"authorization": value}
    response = httpx.request(method, f"http://{address}{path}", headers=headers)
    refused(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/repository/index", 404),
        ("GET", "/v2/models", 404),
        ("GET", "/v2/models//infer", 404),
        ("GET", "/v2/models/..%2f..%2fsmall", 404),
        ("GET", INFER, 405),
        ("DELETE", "/v2/health/live", 405),
        ("POST", "/v2", 405),
    ],
)
def test_unknown_paths_and_wrong_methods(ask, method, path, status):
    response = ask(method, path)
    refused(response, status)
    assert ("allow" in response.headers) == (status == 405)


def test_paths_that_only_begin_alike_are_not_the_protocols(ask):
    assert ask("GET", "/v2x").headers["content-type"] == "application/problem+json"


NAN = json.dumps({"inputs": [tensor()]}).replace("0.0", "NaN", 1).encode()


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (NAN, 400, "NaN"),
        (orjson.dumps({"inputs": [tensor(datatype="INT32")]}), 400, "send FP32 or FP64"),
        (orjson.dumps({"inputs": [tensor(shape=[1, 4, 10])]}), 400, "the model takes [-1, 10, 4]"),
        (
            orjson.dumps({"inputs": [tensor(shape=[6, *SHAPE], data=[0] * 240)]}),
            413,
            "6 examples were sent, and a request may have 5",
        ),
        (orjson.dumps({"inputs": [tensor()], "parameters": {"timeout": 1}}), 504, "deadline"),
        (b" " * 20_000, 413, "over the limit"),
    ],
)
def test_a_wrong_body_is_one_clear_refusal(ask, body, status, says):
    assert says in refused(ask("POST", INFER, content=body), status)


@pytest.mark.parametrize("num_cut", [1, 100, 161])
def test_truncated_tensors_are_refused(ask, num_cut):
    text = orjson.dumps({"inputs": [binary(160)]})
    body = (text + b"\0" * 160)[:-num_cut]
    headers = {HEADER_LENGTH.decode(): str(len(text))}
    refused(ask("POST", INFER, content=body, headers=headers), 400)


def test_nan_in_bytes_is_refused_with_its_place(ask, windows):
    windows[1, 2, 3] = np.nan
    raw = windows.tobytes()
    text = orjson.dumps({"inputs": [binary(len(raw), shape=list(windows.shape))]})
    headers = {HEADER_LENGTH.decode(): str(len(text))}
    assert "sample 2" in refused(ask("POST", INFER, content=text + raw, headers=headers), 400)


GOOD = orjson.dumps({"inputs": [tensor()]})


@pytest.mark.parametrize(
    ("encoding", "body", "status", "says"),
    [
        ("gzip", GOOD, 400, "cannot be unpacked"),
        ("gzip", gzip.compress(GOOD)[:-9], 400, "is cut off"),
        ("deflate", zlib.compress(GOOD) + b"more", 400, "goes on behind its end"),
        ("gzip", gzip.compress(b"\0" * 2_000_000), 413, "unpacks to more than the limit"),
        ("br", GOOD, 415, "Content-Encoding 'br'"),
        ("gzip, gzip", gzip.compress(gzip.compress(GOOD)), 415, "'gzip, gzip'"),
    ],
)
def test_compressed_bodies_that_are_refused(ask, encoding, body, status, says):
    response = ask("POST", INFER, content=body, headers={"content-encoding": encoding})
    assert says in refused(response, status)


def test_a_bomb_is_never_unpacked_beyond_the_limit():
    bomb = zlib.compress(b"\0" * 50_000_000)
    with pytest.raises(TooLargeError):
        decompress(bomb, 1000)
    assert decompress(zlib.compress(b"\1" * 1000), 1000) == b"\1" * 1000
    with pytest.raises(MalformedBodyError):
        decompress(b"", 1000)
    assert is_compressed(b" GZIP ")
    assert not is_compressed(None)
    with pytest.raises(ContentTypeError):
        is_compressed(b"zstd")


def test_a_model_without_a_release_is_live_but_not_ready(server, client, ask, auth, windows):
    server.releases.served = None
    server.releases.release = None
    assert client.is_server_live()
    assert not client.is_server_ready()
    assert ask("GET", "/v2/models/small/ready").json() == {"name": "small", "ready": False}
    response = ask("POST", INFER, content=GOOD)
    refused(response, 503)
    assert int(response.headers["retry-after"]) > 0


def test_an_unexpected_exception_tells_nothing(server, ask, monkeypatch, caplog):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(server.releases.served.batcher, "submit", fail)
    assert "secret" not in refused(ask("POST", INFER, content=GOOD), 500)
    assert "a secret of the inside" in caplog.text


def test_the_openapi_document_has_paths_and_an_example_that_work(ask):
    document = ask("GET", "/openapi.json").json()
    paths = {path: methods for path, methods in document["paths"].items() if "/v2" in path}
    assert set(paths) == {
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/small",
        "/v2/models/small/ready",
        INFER,
    }
    for path, methods in paths.items():
        for method, operation in methods.items():
            body = operation.get("requestBody")
            example = None if body is None else body["content"]["application/json"]["example"]
            response = ask(method.upper(), path, json=example)
            assert response.status_code == 200, response.text
            documented = operation["responses"]["200"]["content"]["application/json"]
            jsonschema.validate(response.json(), documented["schema"])
            if "example" in documented:
                assert response.json() == documented["example"]
