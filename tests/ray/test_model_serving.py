"""The endpoints as users get them: a local platform with HAProxy, keys, and replicas."""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import artefacts
from motoric.client import Client
from motoric.cluster.serve_api import ServeApi
from motoric.cluster.state import PlatformState
from motoric.core.settings import Settings
from motoric.serving.accounts import open_accounts
from motoric.serving.config import ModelAppArgs, config_of, merge
from motoric.serving.streams.messages import Chunk, Open
from whole_files import columns_of, csv_of

pytestmark = pytest.mark.ray

MODEL = "small"
PREDICT = f"/v1/models/{MODEL}/predict"
TIMEOUT_S = 40.0


class Platform:
    """A running platform with a client that has a key."""

    def __init__(self, settings: Settings, api: ServeApi, client: httpx.Client) -> None:
        self.settings = settings
        self.api = api
        self.client = client

    @property
    def key(self) -> str:
        return self.client.headers["authorization"].removeprefix("Bearer ")

    def deploy(self, **args: Any) -> None:
        """As `motoric deploy` does: read, merge, put, wait until HTTP gets there.

        An application that runs is not yet a route: until HAProxy has it, the platform's own
        application answers 404.
        """
        model = ModelAppArgs.model_validate({"model": MODEL, "cpu": 0.1, **args})
        self.api.put(merge(config_of(self.api.details()), model))
        self.api.wait_running([model.model], TIMEOUT_S)
        health = f"/v1/models/{model.model}/healthz"
        self.wait(lambda: self.client.get(health).status_code != 404)

    def health(self, model: str = MODEL) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/v1/models/{model}/healthz").json()
        return found

    def wait(self, holds: Callable[[], bool], timeout_s: float = TIMEOUT_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline_s, "the time is up"
            time.sleep(0.1)

    def wait_version(self, version: int, model: str = MODEL) -> None:
        self.wait(lambda: self.health(model).get("version") == version)

    def num_short_requests(self, model: str = MODEL) -> int:
        return int(self.client.get(f"/v1/models/{model}").json()["num_short_requests"])

    def wait_direct(self, model: str = MODEL) -> None:
        """Until HAProxy knows the replicas: before, Serve's own proxy stands between."""

        def is_direct() -> bool:
            before = self.num_short_requests(model)
            self.client.post(f"/v1/models/{model}/predict", json=body())
            return self.num_short_requests(model) > before

        self.wait(is_direct)

    def num_replicas(self, model: str = MODEL) -> int:
        deployment = self.api.applications()[model]["deployments"]["model"]
        return sum(each["state"] == "RUNNING" for each in deployment["replicas"])

    def replica_pids(self, model: str = MODEL) -> list[int]:
        deployment = self.api.applications()[model]["deployments"]["model"]
        return [each["pid"] for each in deployment["replicas"] if each["state"] == "RUNNING"]


@pytest.fixture(scope="module")
def platform(platform_settings: Settings, platform_state: PlatformState) -> Iterator[Platform]:
    accounts = open_accounts(platform_settings)
    key = accounts.create_key("tests").secret
    accounts.close()
    headers = {"authorization": f"Bearer {key}"}
    client = httpx.Client(
        base_url=platform_state.http_url, headers=headers, timeout=20, trust_env=False
    )
    with client, ServeApi(platform_state.dashboard_url, platform_state.token_path) as api:
        yield Platform(platform_settings, api, client)


@pytest.fixture(scope="module")
def deployed(platform: Platform) -> Platform:
    """A platform that serves version 1 of a model with one replica."""
    artefacts.release_small(platform.settings.storage_uri, MODEL, 1)
    platform.deploy()
    platform.wait_version(1)
    platform.wait(lambda: platform.client.get(f"/v1/models/{MODEL}").status_code == 200)
    return platform


def body(class_index: int = 0) -> dict[str, Any]:
    return {"windows": [artefacts.window_of(class_index)]}


def test_a_prediction_takes_a_key_and_nothing_else(deployed: Platform):
    answer = deployed.client.post(PREDICT, json=body(2))
    assert answer.status_code == 200
    assert answer.json()["predictions"][0]["label"] == artefacts.CLASSES[2]
    refused = deployed.client.post(PREDICT, json=body(), headers={"authorization": ""})
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    too_large = deployed.client.post(PREDICT, content=b" " * (9 * 2**20))
    assert too_large.status_code == 413


def test_short_requests_take_a_short_way(deployed: Platform):
    deployed.wait_direct()
    before = deployed.num_short_requests()
    short = deployed.client.post(PREDICT, json=body(1), headers={"x-request-id": "mine"})
    assert short.headers["x-request-id"] == "mine"
    assert deployed.num_short_requests() == before + 1
    long = {"windows": [artefacts.window_of(1)] * 2000}
    refused = deployed.client.post(PREDICT, json=long, headers={"x-request-id": "other"})
    assert (refused.status_code, refused.headers["x-request-id"]) == (413, "other")
    assert deployed.num_short_requests() == before + 1


def test_the_head_of_a_request_is_parsed_once(deployed: Platform):
    deployed.wait_direct()
    path, headers = f"/v1/models/{MODEL}", {"x-mine": "of this test"}
    first = deployed.client.post(PREDICT, json=body(1), headers=headers)
    before = deployed.client.get(path).json()["num_known_requests"]
    again = [deployed.client.post(PREDICT, json=body(1), headers=headers) for _ in range(3)]
    assert all(answer.content == first.content for answer in again)
    assert {answer.status_code for answer in again} == {200}
    assert deployed.client.get(path).json()["num_known_requests"] == before + 3


def test_the_catalogue_and_unknown_models_are_the_platforms(deployed: Platform):
    models = deployed.client.get("/v1/models").json()["models"]
    assert [model["version"] for model in models if model["model"] == MODEL] == [1]
    unknown = deployed.client.post(f"/v1/models/{MODEL}-2/predict", json=body())
    assert unknown.status_code == 404
    (released,) = re.findall(r"\(released: (.*)\)", unknown.json()["detail"])
    assert MODEL in released.split(", ")
    docs = httpx.get(f"{deployed.settings.base_url}/v1/models/{MODEL}/docs", trust_env=False)
    assert "swagger-ui" in docs.text


CHANNELS = [f"acc_{name}" for name in "xyzw"]


def test_a_live_stream_outlives_its_replica(deployed: Platform):
    (pid,) = deployed.replica_pids()
    values_TC = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    found = []
    with (
        Client(deployed.settings.base_url, deployed.key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=10.0) as stream,
    ):
        for start in range(0, 600, 10):
            stream.send(values_TC[start : start + 10])
            found.append(next(stream))
            if start == 200:
                os.kill(pid, signal.SIGKILL)
        stream.end()
        found += list(stream)
        assert stream.num_connections >= 2
    assert pid not in deployed.replica_pids()
    assert [item.number for item in found] == list(range(119))
    for item in found:
        scores_K = np.exp(values_TC[5 * item.number :][:10, :3].sum(axis=0))
        assert item.probabilities is not None
        probabilities_K = np.array(list(item.probabilities.values()))
        np.testing.assert_allclose(probabilities_K, scores_K / scores_K.sum(), atol=1e-4)


def test_a_client_that_reads_no_prediction_does_not_fill_a_replica(deployed: Platform):
    url = f"ws{deployed.settings.base_url.removeprefix('http')}/v1/models/{MODEL}/stream"
    keyed = {"Authorization": f"Bearer {deployed.key}"}
    values_TC = np.zeros((4000, 4), np.float32)
    deployed.wait_direct()
    (pid,) = deployed.replica_pids()
    replica = psutil.Process(pid)
    before, most, num_bytes = replica.memory_info().rss, 0, 0
    options = {"compression": None, "max_queue": 1, "proxy": None, "close_timeout": 0.5}
    with connect(url, additional_headers=keyed, **options) as live:
        live.socket.settimeout(3)
        live.send(Open(rate_hz=10.0, channels=tuple(CHANNELS)).encode())
        with contextlib.suppress(OSError, ConnectionClosed):
            for first in range(0, 40_000_000, 400):
                frame = Chunk(first=first, values_TC=values_TC[:400]).encode()
                live.send(frame)
                num_bytes += len(frame)
                if first % 400_000 == 0:
                    most = max(most, replica.memory_info().rss)
    assert num_bytes > 2**20
    assert most - before < 150 * 2**20


class Loop:
    """Asks again and again from a few threads, and counts the answers by status and version."""

    def __init__(self, platform: Platform, num_clients: int = 2) -> None:
        self.answers: Counter[tuple[int, int | None]] = Counter()
        self._platform = platform
        self._stop = threading.Event()
        self._executor = concurrent.futures.ThreadPoolExecutor(num_clients)
        self._num_clients = num_clients

    def __enter__(self) -> Loop:
        self._jobs = [self._executor.submit(self._ask) for _ in range(self._num_clients)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for job in self._jobs:
            job.result(30)
        self._executor.shutdown()

    def _ask(self) -> None:
        content = body()
        while not self._stop.is_set():
            answer = self._platform.client.post(PREDICT, json=content)
            version = answer.json()["version"] if answer.status_code == 200 else None
            self.answers[answer.status_code, version] += 1


def test_a_release_is_swapped_without_a_failed_request(deployed: Platform):
    with Loop(deployed) as loop:
        for version in (2, 3):
            bias = (0.0, 50.0 * version, 0.0)
            artefacts.release_small(deployed.settings.storage_uri, MODEL, version, bias=bias)
            deployed.wait_version(version)
            seen = sum(loop.answers.values())
            deployed.wait(lambda seen=seen: sum(loop.answers.values()) > seen + 20)
    assert {status for status, _ in loop.answers} == {200}
    assert {3, 2} <= {version for _, version in loop.answers}
    label = deployed.client.post(PREDICT, json=body(0)).json()["predictions"][0]["label"]
    assert label == artefacts.CLASSES[1]


def test_a_broken_release_keeps_the_old_version_and_is_reported(deployed: Platform):
    before = deployed.health()["version"]
    storage_uri = deployed.settings.storage_uri
    with Loop(deployed, 1) as loop:
        artefacts.release_small(storage_uri, MODEL, 90, graph=b"no graph")
        deployed.wait(lambda: deployed.health()["failing"] is not None)
        seen = sum(loop.answers.values())
        deployed.wait(lambda: sum(loop.answers.values()) > seen + 20)
    assert set(loop.answers) == {(200, before)}
    health = deployed.health()
    assert (health["status"], health["failing"]["version"]) == ("ok", 90)
    artefacts.release_small(storage_uri, MODEL, 91)
    deployed.wait_version(91)
    assert deployed.health()["failing"] is None


def test_a_new_key_is_accepted_and_a_revoked_one_refused_within_seconds(deployed: Platform):
    accounts = open_accounts(deployed.settings)
    key = accounts.create_key("short-lived")
    headers = {"authorization": f"Bearer {key.secret}"}

    def status() -> int:
        return deployed.client.post(PREDICT, json=body(), headers=headers).status_code

    deployed.wait(lambda: status() == 200, 10)
    accounts.revoke_key(key.grant.key_id)
    deployed.wait(lambda: status() == 401, 10)
    accounts.close()


@pytest.mark.long
def test_replicas_grow_under_load_and_shrink_again(deployed: Platform):
    # A target below one request in flight, so that a few clients are a load.
    deployed.deploy(
        replicas={
            "min": 1,
            "max": 2,
            "target_ongoing_requests": 0.05,
            "upscale_delay_s": 1,
            "downscale_delay_s": 1,
        }
    )
    with Loop(deployed, 3) as loop:
        deployed.wait(lambda: deployed.num_replicas() == 2)
    deployed.wait(lambda: deployed.num_replicas() == 1)
    assert {status for status, _ in loop.answers} == {200}


def test_four_replicas_with_a_quarter_of_a_gpu_share_one(deployed: Platform):
    name = "quarter"
    artefacts.release_small(deployed.settings.storage_uri, name, 1)
    deployed.deploy(model=name, gpu=0.25, replicas={"min": 4, "max": 4})
    seen: dict[str, str] = {}

    def all_seen() -> bool:
        health = deployed.health(name)
        seen[health["replica"]] = health["gpus"]
        return len(seen) == 4

    deployed.wait(all_seen)
    assert len(set(seen.values())) == 1
    assert set(seen.values()) <= {"0", "1"}
    assert MODEL in deployed.api.applications()


def test_a_model_without_a_release_answers_503_until_it_has_one(deployed: Platform):
    name = "unreleased"
    deployed.deploy(model=name)
    answer = deployed.client.post(f"/v1/models/{name}/predict", json=body())
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert "no release yet" in answer.json()["detail"]
    artefacts.release_small(deployed.settings.storage_uri, name, 1)
    deployed.wait_version(1, name)
    assert deployed.client.post(f"/v1/models/{name}/predict", json=body()).status_code == 200


def test_a_whole_file_is_answered_through_the_proxy(deployed: Platform) -> None:
    rows = csv_of(columns_of([1] * 30_000), rate_hz=10.0)
    table = rows.replace(b"\n", b" " * 200 + b"\n")  # some 6 MiB
    answer = deployed.client.post(PREDICT, files={"file": ("walk.csv", table)}, timeout=60)
    assert answer.status_code == 200, answer.text
    (segment,) = answer.json()["segments"]
    assert (segment["label"], segment["start_s"]) == (artefacts.CLASSES[1], 0.0)
    assert answer.json()["num_windows"] == 5999
    headers = {"content-type": "application/vnd.ant.fit"}
    refused = deployed.client.post(PREDICT, content=b"PK\x03\x04" * 99, headers=headers)
    assert refused.status_code == 400
    assert "is not a FIT file" in refused.json()["detail"]
    too_large = deployed.client.post(PREDICT, content=b"0" * (65 * 2**20), headers=headers)
    assert too_large.status_code == 413
