"""Both clients against a real server on loopback."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import numpy as np
import orjson
import pytest

from artefacts import CLASSES, window_of
from live import LOOPBACK
from motoric.client import AsyncClient, Backoff, Client
from motoric.client import requests as calls
from motoric.core.errors import (
    AccessError,
    ContentTypeError,
    DeadlineError,
    InputError,
    NotFoundError,
    PlatformError,
    SettingsError,
    UserError,
)
from proxies import CuttingProxy

MODEL = "small"
FAST = Backoff(first_s=0.01, most_s=0.05)
WINDOWS_BTC = np.array([window_of(index % 3) for index in range(7)], dtype=np.float32)
EXPECTED = tuple(CLASSES[index % 3] for index in range(7))


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOTORIC_URL", "MOTORIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_windows_are_predicted_with_version_and_digest(start, key):
    with Client(start().url, key) as client:
        found = client.predict(MODEL, WINDOWS_BTC)
        assert (found.model, found.version, found.columns) == (MODEL, 1, CLASSES)
        assert found.digest.startswith("sha256:")
        assert found.labels == EXPECTED
        assert found.probabilities_BK.shape == (7, 3)
        np.testing.assert_allclose(found.probabilities_BK.sum(axis=1), 1.0, atol=1e-5)
        assert len(client.predict(MODEL, WINDOWS_BTC[0][None].tolist())) == 1


def test_many_windows_go_in_several_requests_and_come_back_as_one(start, key):
    windows_BTC = np.tile(WINDOWS_BTC, (150, 1, 1))
    with Client(start().url, key) as client:
        found = client.predict(MODEL, windows_BTC)
    assert found.labels == EXPECTED * 150


def test_windows_of_another_rate_order_and_unit_are_adapted(start, key):
    order = [3, 1, 0, 2]
    fast_BTC = np.repeat(WINDOWS_BTC, 5, axis=1)[:, :, order] / np.float32(9.80665)
    with Client(start().url, key) as client:
        found = client.predict(
            MODEL,
            fast_BTC,
            rate_hz=50.0,
            channels=[f"acc_{'xyzw'[place]}" for place in order],
            units=["g"] * 4,
        )
    assert found.labels == EXPECTED


def test_what_is_served_is_told_by_health_and_model(start, key):
    with Client(start().url, key) as client:
        health = client.health(MODEL)
        assert (health.is_ready, health.version) == (True, 1)
        model = client.model(MODEL)
    assert (model.version, model.signature.sensors.rate_hz) == (1, 10.0)


def test_async_says_the_same_and_asks_at_once(start, key):
    url = start().url

    async def run() -> list[tuple[str, ...]]:
        async with AsyncClient(url, key) as client:
            assert (await client.health(MODEL)).is_ready
            assert (await client.model(MODEL)).version == 1
            jobs = [client.predict(MODEL, WINDOWS_BTC[index:]) for index in range(7)]
            return [found.labels for found in await asyncio.gather(*jobs)]

    assert asyncio.run(run()) == [EXPECTED[index:] for index in range(7)]


def test_one_client_serves_several_threads(start, key):
    with Client(start().url, key) as client, concurrent.futures.ThreadPoolExecutor(4) as pool:
        jobs = [pool.submit(client.predict, MODEL, WINDOWS_BTC) for _ in range(40)]
        assert {job.result().labels for job in jobs} == {EXPECTED}


def test_errors_are_typed_and_in_the_servers_words(start, key):
    with Client(start().url, key) as client:
        with pytest.raises(InputError, match="shape"):
            client.predict(MODEL, np.ones((1, 3, 4)))
        with pytest.raises(InputError, match=r"NaN|finite"):
            client.predict(MODEL, np.full((1, 10, 4), np.nan))
        with pytest.raises(NotFoundError):
            client.predict("other", WINDOWS_BTC)
        with pytest.raises(UserError, match="name"):
            client.predict("../healthz", WINDOWS_BTC)
        with pytest.raises(InputError, match="at least one"):
            client.predict(MODEL)
    with Client(start().url, "mk_0_wrong") as client, pytest.raises(AccessError, match="not known"):
        client.predict(MODEL, WINDOWS_BTC)


def test_address_and_key_come_from_the_environment(start, key, monkeypatch):
    with pytest.raises(AccessError, match="MOTORIC_API_KEY"):
        Client()
    monkeypatch.setenv("MOTORIC_URL", start().url + "/")
    monkeypatch.setenv("MOTORIC_API_KEY", key)
    with Client() as client:
        assert client.predict(MODEL, WINDOWS_BTC).labels == EXPECTED
        assert key not in repr(client)
    with pytest.raises(SettingsError, match="http"):
        Client("ftp://x", key)


def test_a_server_that_comes_up_late_is_waited_for(start, key):
    ready = start()
    first = free_port()
    answers: list[tuple[str, ...]] = []
    with Client(f"http://{LOOPBACK}:{first}", key, backoff=FAST) as client:

        def ask() -> None:
            answers.append(client.predict(MODEL, WINDOWS_BTC).labels)

        asking = threading.Thread(target=ask)
        asking.start()
        time.sleep(0.3)
        assert answers == []
        with CuttingProxy(ready.port, port=first):
            asking.join(20)
    assert answers == [EXPECTED]


def test_a_server_that_does_not_answer_costs_the_deadline_and_no_more(key):
    with socket.create_server((LOOPBACK, 0)) as deaf:
        url = f"http://{LOOPBACK}:{deaf.getsockname()[1]}"
        started_s = time.monotonic()
        with (
            Client(url, key, backoff=FAST) as client,
            pytest.raises(DeadlineError, match=r"0\.4 s"),
        ):
            client.predict(MODEL, WINDOWS_BTC, timeout_s=0.4)

        async def run() -> None:
            async with AsyncClient(url, key, timeout_s=0.4) as client:
                await client.predict(MODEL, WINDOWS_BTC)

        with pytest.raises(DeadlineError, match=r"0\.4 s"):
            asyncio.run(run())
        assert time.monotonic() - started_s < 3
    with Client(url, key, backoff=FAST) as client, pytest.raises(PlatformError, match="is the"):
        client.predict(MODEL, WINDOWS_BTC, timeout_s=0.4)


def test_a_file_is_sent_in_a_form_and_a_uri_as_json(tmp_path: Path):
    file = tmp_path / "ride.FIT.gz"
    file.write_bytes(b"\x0e\x10")
    request = calls.predict_file(MODEL, file)
    for _ in range(2):  # tries
        with request.files() as parts:
            name, stream = parts["file"]
            assert (name, stream.read()) == ("ride.FIT.gz", b"\x0e\x10")
        assert stream.closed
    by_uri = calls.predict_file(MODEL, "s3://bucket/ride.fit", with_windows=True)
    assert by_uri.headers["Content-Type"] == "application/json"
    assert orjson.loads(by_uri.content or b"") == {"uri": "s3://bucket/ride.fit"}
    assert by_uri.query == {"windows": "true"}
    with pytest.raises(ContentTypeError, match=r"x\.doc"):
        calls.predict_file(MODEL, tmp_path / "x.doc")
    with pytest.raises(NotFoundError, match=r"none\.csv"):
        calls.predict_file(MODEL, tmp_path / "none.csv")
    file.unlink()
    with pytest.raises(InputError, match="cannot be read"), request.files():
        pass


def test_values_and_quantiles_are_read_too():
    (request,) = calls.predict(MODEL, WINDOWS_BTC, None)
    about = {"model": MODEL, "version": 1, "digest": "d"}
    values = request.read(about | {"predictions": [{"value": 2.5, "unit": "bpm"}]})
    assert (values.columns, values.unit, values.outputs_BK.tolist()) == (
        ("value",),
        "bpm",
        [[2.5]],
    )
    row = {"quantiles": {"0.1": 1.0, "0.9": 3.0}, "unit": "W", "horizon_s": 5.0}
    quantiles = request.read(about | {"predictions": [row]})
    assert (quantiles.columns, quantiles.outputs_BK.tolist()) == (("0.1", "0.9"), [[1.0, 3.0]])
    with pytest.raises(ValueError, match="no classes"):
        _ = quantiles.probabilities_BK


def test_windows_and_clips_go_together_as_arrow():
    import pyarrow as pa

    clips = np.arange(2 * 12, dtype=np.uint8).reshape(2, 1, 2, 2, 3)
    (request,) = calls.predict(MODEL, WINDOWS_BTC[:2], clips)
    table = pa.ipc.open_stream(request.content).read_all()
    assert table["clips"].to_pylist()[1] == list(range(12, 24))
    assert table["windows"].to_pylist()[0] == WINDOWS_BTC[0].ravel().tolist()
    with pytest.raises(InputError, match="as many"):
        list(calls.predict(MODEL, WINDOWS_BTC, clips))


def free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def test_the_servers_limit_of_requests_is_told_with_retry_after(start, key):
    server = start({"max_ongoing_requests": 1, "max_queued_requests": 0})
    server.server._num_requests = 1  # as if one were under way
    answer = httpx.get(
        f"{server.url}/v1/models/{MODEL}", headers={"Authorization": f"Bearer {key}"},
        trust_env=False,
    )  # fmt: skip
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert httpx.get(f"{server.url}/v1/models/{MODEL}/healthz", trust_env=False).status_code == 200
    server.server._num_requests = 0


def test_the_client_needs_neither_ray_nor_what_trains():
    heavy = ("ray", "torch", "scipy", "fastapi", "onnxruntime", "sqlalchemy", "mlflow")
    program = f"import sys, motoric.client; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
