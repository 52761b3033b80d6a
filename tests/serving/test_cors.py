from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from motoric.core.errors import SettingsError
from motoric.serving.config import load_deployment
from motoric.serving.cors import Origins
from motoric.serving.model_server import ModelServer
from motoric.serving.platform_server import build_platform

GOOD, EVIL = "https://app.example", "https://evil.example"
PREFLIGHT = {"access-control-request-method": "POST"}


def ask(app: Any, method: str, path: str, **headers: str) -> httpx.Response:
    async def run() -> httpx.Response:
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(run())


@pytest.fixture(params=["model", "platform"])
def app_of(request, local, key):
    def made(*origins: str) -> Any:
        if request.param == "model":
            return ModelServer(model="m", storage_uri=local.storage_uri, cors_origins=origins)
        return build_platform(
            storage_uri=local.storage_uri, publish=lambda: None, cors_origins=origins
        )

    return made


def cors(response: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if "access-control" in name}


def test_nothing_is_allowed_by_default(app_of):
    assert cors(ask(app_of(), "GET", "/healthz", origin=GOOD)) == {}
    response = ask(app_of(), "OPTIONS", "/predict", origin=GOOD, **PREFLIGHT)
    assert response.status_code in (401, 404, 405)
    assert cors(response) == {}


def test_an_allowed_page_may_ask_with_a_key_and_no_other_page(app_of):
    app = app_of(GOOD)
    response = ask(app, "OPTIONS", "/v1/models", origin=GOOD, **PREFLIGHT)
    assert response.status_code == 204
    allowed = cors(response)
    assert allowed["access-control-allow-origin"] == GOOD
    assert "Authorization" in allowed["access-control-allow-headers"]
    assert "POST" in allowed["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in allowed
    refused = ask(app, "OPTIONS", "/v1/models", origin=EVIL, **PREFLIGHT)
    assert (refused.status_code, cors(refused)) == (403, {})


@pytest.mark.parametrize("path", ["/healthz", "/v1/models", "/nothing"])
def test_answers_and_problems_can_be_read_by_allowed_pages(app_of, path):
    response = ask(app_of(GOOD), "GET", path, origin=GOOD)
    assert response.headers["access-control-allow-origin"] == GOOD
    assert "origin" in response.headers["vary"].lower()
    assert cors(ask(app_of(GOOD), "GET", path, origin=EVIL)) == {}
    assert cors(ask(app_of(GOOD), "GET", path)) == {}


def test_any_page_may_ask_where_the_settings_say_so(app_of):
    response = ask(app_of("*"), "GET", "/healthz", origin=EVIL)
    assert response.headers["access-control-allow-origin"] == EVIL


@pytest.mark.parametrize(
    "origin", ["app.example", "https://app.example/", "https://App.example", "null", "file://"]
)
def test_a_setting_that_is_no_origin_is_refused(tmp_path, origin):
    file = tmp_path / "m.yaml"
    file.write_text(f"model: m\ncors_origins: ['{origin}']\n")
    with pytest.raises(SettingsError, match="is no origin"):
        load_deployment(file)


def test_origins_are_compared_whole():
    origins = Origins([GOOD])
    assert origins.allows(GOOD.encode())
    for other in ("https://app.example.evil", "https://app.exampl", "http://app.example", "null"):
        assert not origins.allows(other.encode())
