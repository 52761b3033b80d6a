import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from motoric.cluster.serve_api import ServeApi
from motoric.core.errors import MotoricError, PlatformError


@contextmanager
def dashboard(answers: list[dict[str, object]], token: str = "secret") -> Iterator[str]:
    """A dashboard whose applications go through `answers`; the last one stays."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.headers["Authorization"] == f"Bearer {token}"
            answer = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(200 if allowed else 401)
            self.end_headers()
            self.wfile.write(json.dumps({"applications": answer} if allowed else {}).encode())

        def log_message(self, *_):
            return

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def token_path(tmp_path):
    path = tmp_path / "token"
    path.write_text("secret\n")
    return path


def test_waiting_tells_each_change_and_ends_when_all_run(token_path):
    answers: list[dict[str, object]] = [
        {},
        {"a": {"status": "DEPLOYING"}},
        {"a": {"status": "DEPLOYING"}},
        {"a": {"status": "RUNNING"}},
    ]
    changes: list[str] = []
    with dashboard(answers) as url, ServeApi(url, token_path) as api:
        api.wait_running(["a"], 10.0, changes.append)
    assert changes == ["a: NOT_STARTED", "a: DEPLOYING", "a: RUNNING"]


def test_a_failed_application_ends_the_wait_with_serves_message(token_path):
    failed = {"a": {"status": "DEPLOY_FAILED", "message": "no module named x"}}
    expected = pytest.raises(MotoricError, match="DEPLOY_FAILED: no module named x")
    with dashboard([failed]) as url, ServeApi(url, token_path) as api, expected:
        api.wait_running(["a"], 10.0)


def test_the_wait_is_bounded_and_names_what_is_missing(token_path):
    answer = {
        "a": {"status": "RUNNING"},
        "b": {
            "status": "DEPLOYING",
            "deployments": {"d": {"status": "UPDATING", "message": "no GPU is free"}},
        },
    }
    expected = pytest.raises(PlatformError, match=r"'b' is DEPLOYING.*no GPU is free")
    with dashboard([answer]) as url, ServeApi(url, token_path) as api, expected:
        api.wait_running(["a", "b"], 0.0)


def test_another_rays_dashboard_is_told_from_a_missing_one(token_path):
    refused = pytest.raises(PlatformError, match="refuses this platform's token")
    with dashboard([{}], token="another") as url, ServeApi(url, token_path) as api, refused:
        api.applications()
    with ServeApi(url, token_path) as api, pytest.raises(PlatformError, match="does not answer"):
        api.applications()
