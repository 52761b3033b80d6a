from __future__ import annotations

import asyncio
import io
import json
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from artefacts import CLASSES, release_small, window_of
from motoric.core.access import AccessSnapshot, KeyGrant, hash_key, snapshot_uri
from motoric.core.documents import write_document
from motoric.serving.config import Limits
from motoric.serving.model_server import ModelServer

MODEL = "small"
ROOT = f"/v1/models/{MODEL}"
Scenario = Callable[[httpx.AsyncClient, ModelServer], Awaitable[Any]]


def drive(server: ModelServer, scenario: Scenario) -> Any:
    """Run a scenario against a server that polled once and does not follow."""

    async def run() -> Any:
        server.access.poll()
        server.releases.poll()
        transport = httpx.ASGITransport(server, root_path=ROOT, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await scenario(client, server)

    return asyncio.run(run())


def request(server: ModelServer, method: str, path: str, **options: Any) -> httpx.Response:
    async def scenario(client: httpx.AsyncClient, _: ModelServer) -> httpx.Response:
        return await client.request(method, ROOT + path, **options)

    response = drive(server, scenario)
    assert isinstance(response, httpx.Response)
    return response


def problem(response: httpx.Response, status: int) -> str:
    """The detail of a problem document, after checking that it is one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document = response.json()
    assert document["status"] == status
    assert document["type"].startswith("urn:motoric:problem:")
    assert document["instance"].startswith(ROOT)
    return str(document["detail"])


@pytest.fixture
def empty(local) -> ModelServer:
    """A server whose model has no release."""
    return ModelServer(
        model=MODEL, storage_uri=local.storage_uri, limits=Limits(max_body_mib=10_000 / 2**20)
    )


@pytest.fixture
def server(local, empty) -> ModelServer:
    """A server whose model is released."""
    release_small(local.storage_uri, MODEL, 1)
    return empty


@pytest.fixture
def auth(key) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_predict_answers_each_window_with_version_and_digest(server, auth):
    body = {"windows": [window_of(2), window_of(0), window_of(1)]}
    response = request(server, "POST", "/predict", json=body, headers=auth)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    answer = response.json()
    assert (answer["model"], answer["version"]) == (MODEL, 1)
    assert answer["digest"].startswith("sha256:")
    assert [each["label"] for each in answer["predictions"]] == [CLASSES[2], CLASSES[0], CLASSES[1]]


def test_many_requests_of_one_moment_get_their_own_answers(server, auth):
    async def scenario(client, server):
        bodies = [{"windows": [window_of(i % 3)] * (1 + i % 2)} for i in range(50)]
        posts = (client.post(ROOT + "/predict", json=body, headers=auth) for body in bodies)
        return await asyncio.gather(*posts), server.releases.served.batcher.num_batches

    responses, num_batches = drive(server, scenario)
    for index, response in enumerate(responses):
        labels = [each["label"] for each in response.json()["predictions"]]
        assert labels == [CLASSES[index % 3]] * (1 + index % 2)
    assert num_batches < 50


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "send an API key"),
        ({"authorization": "Basic abc"}, "must be 'Bearer '"),
        ({"authorization": "Bearer"}, "must be 'Bearer '"),
        ({"authorization": "Bearer mk_0_wrong"}, "not known"),
        ({"authorization": "Bearer \xff"}, "not known"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/predict"),
        ("GET", ""),
        ("GET", "/nothing"),
        ("GET", "/predict"),
        ("GET", "/docs/x"),
    ],
)
def test_without_a_valid_key_there_is_no_answer(server, key, headers, says, method, path):
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    response = request(server, method, path, headers=raw)
    assert says in problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/docs/swagger-ui.css"])
def test_health_and_documentation_are_open(server, key, path):
    assert request(server, "GET", path).status_code == 200


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        (b"{", 400, "not JSON"),
        (b"{}", 400, "lacks the key 'windows'"),
        (b'{"windows": 1, "mode": 2}', 400, "'mode'"),
        (b'{"windows": [[[NaN]]]}', 400, "NaN"),
        (b'{"windows": [[[null]]]}', 422, "null"),
        (b'{"windows": [[[1.0]]]}', 422, "[10, 4]"),
        (b'{"windows": [[[1.0], [1.0, 2.0]]]}', 422, "ragged"),
        (b" " * 10_001, 413, "over the limit"),
    ],
)
def test_a_wrong_body_is_one_clear_problem(server, auth, content, status, says):
    assert says in problem(
        request(server, "POST", "/predict", content=content, headers=auth), status
    )


def test_a_body_over_the_limit_without_a_length_is_not_read_to_its_end(server, auth):
    read = 0

    async def endless():
        nonlocal read
        while True:
            read += 1
            yield b" " * 1000

    response = request(server, "POST", "/predict", content=endless(), headers=auth)
    problem(response, 413)
    assert response.headers["connection"] == "close"
    assert read <= 12


def test_a_body_in_parts_is_put_together(server, auth):
    content = json.dumps({"windows": window_of(1)}).encode()

    async def parts():
        yield content[:50]
        yield content[50:]

    response = request(server, "POST", "/predict", content=parts(), headers=auth)
    assert response.json()["predictions"][0]["label"] == CLASSES[1]


def test_an_unknown_path_is_not_found(server, auth):
    assert "/nothing" in problem(request(server, "GET", "/nothing", headers=auth), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", "POST"),
        ("POST", "", "GET, HEAD"),
        ("DELETE", "/healthz", "GET, HEAD"),
        ("POST", "/docs", "GET, HEAD"),
    ],
)
def test_a_wrong_method_says_which_are_allowed(server, auth, method, path, allowed):
    response = request(server, method, path, headers=auth)
    problem(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "")])
def test_before_the_first_release_the_answer_is_try_again(empty, auth, method, path):
    response = request(empty, method, path, headers=auth)
    assert "no release yet" in problem(response, 503)
    assert int(response.headers["retry-after"]) > 0
    health = request(empty, "GET", "/healthz")
    assert health.status_code == 503
    assert health.json()["status"] == "unavailable"
    assert request(empty, "GET", "/openapi.json").status_code == 200


def publish(storage_uri: str, key: str, age_s: float) -> None:
    grant = KeyGrant(key_id="1", name="tests", sha256=hash_key(key))
    snapshot = AccessSnapshot(issued_at_s=time.time() - age_s, max_age_s=60, keys=(grant,))
    write_document(snapshot_uri(storage_uri), snapshot)


def test_a_stale_snapshot_denies_everybody(server, local):
    publish(local.storage_uri, "mk_1_a", age_s=61)
    headers = {"authorization": "Bearer mk_1_a"}
    response = request(server, "POST", "/predict", json={"windows": window_of(0)}, headers=headers)
    assert "too old" in problem(response, 503)
    assert "retry-after" in response.headers
    assert request(server, "GET", "/healthz").status_code == 503


def test_a_revoked_key_is_refused_after_the_next_look(server, accounts, auth):
    async def scenario(client, server):
        before = await client.get(ROOT, headers=auth)
        (record,) = accounts.list_keys()
        accounts.revoke_key(record.key_id)
        server.access.poll()
        return before.status_code, (await client.get(ROOT, headers=auth)).status_code

    assert drive(server, scenario) == (200, 401)


def test_an_unexpected_exception_is_logged_and_tells_nothing(server, auth, monkeypatch, caplog):
    async def scenario(client, server):
        def fail(*_):
            raise ZeroDivisionError("a secret of the inside")

        monkeypatch.setattr(server.releases.served.decoder, "parse", fail, raising=True)
        return await client.post(ROOT + "/predict", content=b"{}", headers=auth)

    with caplog.at_level(logging.ERROR):
        response = drive(server, scenario)
    assert "secret" not in problem(response, 500)
    assert "a secret of the inside" in caplog.text


def test_the_model_page_holds_the_signature(server, auth):
    info = request(server, "GET", "/", headers=auth).json()
    assert info["signature"]["outputs"][0]["classes"] == list(CLASSES)
    assert (info["version"], info["alias"]) == (1, "champion")
    digest = info["digest"]
    assert info["versions"] == [
        {"version": 1, "digest": digest, "role": "primary", "is_served": True}
    ]
    assert info["metrics"] == {"accuracy": 1.0}
    assert info["limits"]["max_request_windows"] == 1024


def test_the_openapi_example_is_valid_and_is_answered_as_documented(server, auth):
    document = request(server, "GET", "/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": ROOT}]
    predict = document["paths"]["/predict"]["post"]
    content = predict["requestBody"]["content"]["application/json"]
    jsonschema.validate(content["example"], content["schema"])
    answer = request(server, "POST", "/predict", json=content["example"], headers=auth)
    documented = predict["responses"]["200"]["content"]["application/json"]
    jsonschema.validate(answer.json(), documented["schema"])
    jsonschema.validate(documented["example"], documented["schema"])
    wrong = request(server, "POST", "/predict", json={}, headers=auth)
    jsonschema.validate(wrong.json(), document["components"]["schemas"]["Problem"])
    assert "400" in predict["responses"]


def test_the_documentation_page_loads_nothing_from_elsewhere(server):
    page = request(server, "GET", "/docs").text
    assert "http://" not in page
    assert "https://" not in page
    assert f"{ROOT}/docs/swagger-ui-bundle.js" in page
    script = request(server, "GET", "/docs/swagger-ui-bundle.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert len(script.content) > 100_000


def test_the_lifespan_loads_first_and_then_follows(local, accounts, key, auth):
    release_small(local.storage_uri, MODEL, 1)
    server = ModelServer(model=MODEL, storage_uri=local.storage_uri, poll_period_s=0.01)

    async def scenario():
        inbox: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        outbox: asyncio.Queue[Any] = asyncio.Queue()
        inbox.put_nowait({"type": "lifespan.startup"})
        lifespan = asyncio.create_task(server({"type": "lifespan"}, inbox.get, outbox.put))
        assert (await asyncio.wait_for(outbox.get(), 10))["type"] == "lifespan.startup.complete"
        assert server.releases.served.version == 1
        release_small(local.storage_uri, MODEL, 2, bias=(9.0, 0.0, 0.0))
        async with asyncio.timeout(10):
            while server.releases.served.version != 2:  # noqa: ASYNC110 - it has no event to wait for
                await asyncio.sleep(0.01)
        inbox.put_nowait({"type": "lifespan.shutdown"})
        await asyncio.wait_for(lifespan, 10)

    asyncio.run(scenario())


def test_a_websocket_is_closed(server):
    sent = []

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    asyncio.run(server({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]


def test_windows_in_any_type_get_the_same_answer_in_any_type(server, auth):
    windows = np.array([window_of(2), window_of(0)], np.float32)
    buffer = io.BytesIO()
    np.save(buffer, windows)
    bodies = {
        "application/json": json.dumps({"windows": windows.tolist()}).encode(),
        "application/octet-stream": windows.tobytes(),
        "application/x-npy": buffer.getvalue(),
    }
    for content_type, body in bodies.items():
        headers = {**auth, "content-type": content_type, "accept": "application/x-npy"}
        response = request(server, "POST", "/predict", content=body, headers=headers)
        assert response.headers["content-type"] == "application/x-npy"
        probabilities_BK = np.load(io.BytesIO(response.content))
        assert probabilities_BK.argmax(axis=1).tolist() == [2, 0]


def test_windows_at_twice_the_rate_are_resampled(server, auth):
    windows = np.repeat(np.array([window_of(1)], np.float32), 2, axis=1)
    body = json.dumps({"windows": windows.tolist(), "rate_hz": 20}).encode()
    response = request(server, "POST", "/predict", content=body, headers=auth)
    assert response.json()["predictions"][0]["label"] == CLASSES[1]


@pytest.mark.parametrize(
    ("headers", "status", "says"),
    [
        ({"content-type": "text/plain"}, 415, "text/plain"),
        ({"accept": "text/html"}, 406, "application/x-npy"),
        ({"x-timeout-ms": "soon"}, 400, "X-Timeout-Ms"),
        ({"x-timeout-ms": "0.000001"}, 504, "deadline"),
    ],
)
def test_headers_that_cannot_be_met(server, auth, headers, status, says):
    body = {"windows": [window_of(0)]}
    response = request(server, "POST", "/predict", json=body, headers={**auth, **headers})
    assert says in problem(response, status)


def test_a_body_that_does_not_end_is_given_up(server, auth):
    async def trickle():
        yield b'{"windows": ['
        await asyncio.sleep(5)

    server.max_body_s = 0.05
    response = request(server, "POST", "/predict", content=trickle(), headers=auth)
    assert "within 0.05 s" in problem(response, 408)
    assert response.headers["connection"] == "close"
