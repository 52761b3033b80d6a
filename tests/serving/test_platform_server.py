from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import httpx
import pytest

from artefacts import release_small
from motoric.core import storage
from motoric.core.releases import release_uri
from motoric.serving import platform_server
from motoric.serving.platform_server import build_platform


def drive(local, publish, scenario, **options: Any) -> Any:
    """Run a scenario against a started platform application."""

    async def run() -> Any:
        app = build_platform(storage_uri=local.storage_uri, publish=publish, **options)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return await scenario(client)

    return asyncio.run(run())


@pytest.fixture
def ask(local, accounts, key):
    """Ask the platform one thing."""

    def ask(method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"} if options.pop("with_key", True) else {}
        response = drive(
            local,
            accounts.publish,
            lambda client: client.request(method, path, headers=headers, **options),
        )
        assert isinstance(response, httpx.Response)
        return response

    return ask


def problem(response: httpx.Response, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == status
    return str(response.json()["detail"])


def test_the_catalogue_names_released_models_with_their_signatures(ask, local):
    release_small(local.storage_uri, "one", 1)
    release_small(local.storage_uri, "two", 7)
    models = ask("GET", "/v1/models").json()["models"]
    assert [(each["model"], each["version"], each["url"]) for each in models] == [
        ("one", 1, "/v1/models/one"),
        ("two", 7, "/v1/models/two"),
    ]
    assert models[0]["signature"]["inputs"][0]["rate_hz"] == 10.0


def test_a_broken_release_hides_no_other(ask, local):
    released = release_small(local.storage_uri, "gone", 1)
    (Path(local.storage_uri) / released.artefact / "signature.json").unlink()
    storage.write_bytes(release_uri(local.storage_uri, "odd"), b"{}")
    release_small(local.storage_uri, "whole", 1)
    gone, odd, whole = ask("GET", "/v1/models").json()["models"]
    assert gone["signature"] is None
    assert "cannot be read" in gone["error"]
    assert "cannot be read" in odd["error"]
    assert whole["signature"] is not None


@pytest.mark.parametrize(
    "path", ["/v1/models/nope/predict", "/v1/models/nope", "/v1/models/..%2F/x"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_unknown_model_is_not_found_and_the_known_ones_are_named(ask, local, method, path):
    release_small(local.storage_uri, "one", 1)
    assert "released: one" in problem(ask(method, path), 404)


def test_a_released_model_without_an_application_says_how_to_start_one(ask, local):
    release_small(local.storage_uri, "one", 1)
    response = ask("POST", "/v1/models/one/predict")
    assert "motoric deploy one" in problem(response, 503)
    assert "retry-after" in response.headers


def test_unknown_paths_and_wrong_methods_are_problems(ask):
    assert "/nothing" in problem(ask("GET", "/nothing"), 404)
    response = ask("POST", "/v1/models")
    problem(response, 405)
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize("path", ["/", "/v1/models", "/v1/models/x/predict", "/nothing", "/docs/x"])
def test_without_a_key_there_is_no_answer(ask, path):
    response = ask("GET", path, with_key=False)
    problem(response, 401)
    assert response.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", ["/healthz", "/docs", "/openapi.json", "/docs/swagger-ui.css"])
def test_health_and_documentation_are_open(ask, path):
    assert ask("GET", path, with_key=False).status_code == 200


def test_the_documented_paths_exist(ask):
    document = ask("GET", "/openapi.json").json()
    for path, methods in document["paths"].items():
        for method in methods:
            assert ask(method.upper(), path).status_code == 200


def test_an_unexpected_exception_tells_nothing(ask, monkeypatch, caplog):
    def fail(_uri):
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(platform_server, "list_released", fail)
    assert "secret" not in problem(ask("GET", "/v1/models"), 500)
    assert "a secret of the inside" in caplog.text


def test_the_snapshot_is_published_at_the_start_and_again_and_again(local, accounts, key):
    count = 0

    async def scenario(client):
        async with asyncio.timeout(10):
            while count < 3:  # noqa: ASYNC110 - counted in a thread
                await asyncio.sleep(0.01)
        return (await client.get("/healthz")).status_code

    def publish():
        nonlocal count
        count += 1
        if count == 2:
            raise OSError("the storage is away for once")
        return accounts.publish()

    assert drive(local, publish, scenario, publish_period_s=0.01, poll_period_s=0.01) == 200
