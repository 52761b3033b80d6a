"""The real client against real servers on loopback, over connections that break."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

from artefacts import CLASSES, release_small, small_signature
from live import LiveServer
from motoric.client import AsyncClient, Backoff, Client
from motoric.core.errors import AccessError, InputError, MotoricError, PlatformError
from motoric.data.windows import Windower
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.replies import Prediction
from proxies import CuttingProxy, Link, random_cuts

MODEL = "small"
CHANNELS = ("acc_x", "acc_y", "acc_z", "acc_w")
RATE_HZ = 10.0
FAST = Backoff(first_s=0.01, most_s=0.1)
TIMEOUT_S = 20.0


def recording(num_samples: int, seed: int = 0) -> np.ndarray:
    values_TC = np.random.default_rng(seed).normal(size=(num_samples, 4)).astype(np.float32)
    if num_samples > 60:
        values_TC[40:55, 1] = np.nan  # two segments
    return values_TC


def expected(values_TC: np.ndarray, rate_hz: float = RATE_HZ) -> list[tuple[float, np.ndarray]]:
    """Start and probabilities of each window of the whole recording."""
    windower = Windower(native_rate_hz=rate_hz, rate_hz=RATE_HZ, length_s=1.0, hop_s=0.5)
    time_s = np.arange(len(values_TC)) / rate_hz
    found = []
    for window in windower.push(time_s, values_TC) + windower.finish():
        scores_K = np.exp(window.values_TC.sum(axis=0)[:3])
        found.append((window.start_s, scores_K / scores_K.sum()))
    return found


def check(predictions: list[Prediction], values_TC: np.ndarray, rate_hz: float = RATE_HZ) -> None:
    windows = expected(values_TC, rate_hz)
    assert [item.number for item in predictions] == list(range(len(windows)))
    for item, (start_s, probabilities_K) in zip(predictions, windows, strict=True):
        assert item.start_s == pytest.approx(start_s, abs=1e-6)
        assert item.probabilities is not None
        assert list(item.probabilities) == list(CLASSES)
        np.testing.assert_allclose(list(item.probabilities.values()), probabilities_K, atol=1e-4)


def client_of(server: LiveServer | CuttingProxy, key: str) -> Client:
    return Client(server.url, key, backoff=FAST)


def wait_for(holds: Callable[[], bool]) -> None:
    until_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert time.monotonic() < until_s, "the time is up"
        time.sleep(0.01)


@pytest.mark.parametrize("size", [1, 7, 10, 999])
def test_a_stream_in_any_pieces_gives_the_predictions_of_the_whole(start, key, size):
    values_TC = recording(200)
    with (
        client_of(start(), key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        for first in range(0, len(values_TC), size):
            stream.send(values_TC[first : first + size])
        stream.end()
        check(list(stream), values_TC)
        assert (stream.version, stream.num_connections) == (1, 1)


def test_another_rate_order_and_unit_are_the_models_when_they_arrive(start, key):
    values_TC = recording(1000, seed=3)
    order = [2, 0, 3, 1]
    with client_of(start(), key) as client:
        names, units = [CHANNELS[place] for place in order], ["g", "", "", ""]
        with client.stream(MODEL, channels=names, rate_hz=50.0, units=units) as stream:
            given_TC = values_TC[:, order]
            given_TC[:, 0] /= 9.80665
            stream.send(given_TC)
            stream.end()
            check(list(stream), values_TC, 50.0)


def test_times_are_sent_where_the_stream_is_timed(start, key):
    values_TC = recording(50)
    with (
        client_of(start(), key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ, timed=True) as stream,
    ):
        stream.send(values_TC[:30], np.arange(30) / RATE_HZ)
        stream.send(values_TC[30], 1000.0)
        stream.send(values_TC[31:], 1000.0 + np.arange(1, 20) / RATE_HZ)
        stream.end()
        starts = [item.start_s for item in stream]
    assert starts[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    assert starts[5:] == pytest.approx([1000.0, 1000.5, 1001.0])


def test_async_sends_and_takes_at_once(start, key):
    values_TC = recording(400)
    url = start().url

    async def run() -> list[Prediction]:
        async with (
            AsyncClient(url, key) as client,
            client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
        ):

            async def send() -> None:
                for first in range(0, 400, 13):
                    await stream.send(values_TC[first : first + 13])
                await stream.end()

            sending = asyncio.create_task(send())
            found = [prediction async for prediction in stream]
            await sending
            return found

    check(asyncio.run(run()), values_TC)


@pytest.mark.parametrize("seed", range(4))
def test_no_prediction_is_lost_or_doubled_however_often_the_network_breaks(start, key, seed):
    values_TC = recording(2500, seed)
    # More than all samples and the handshake, so that every connection can get somewhere.
    with (
        CuttingProxy(start().port, random_cuts(seed, max_bytes=100_000)) as proxy,
        client_of(proxy, key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        sizes = np.random.default_rng(seed)
        first, found = 0, []
        while first < len(values_TC):
            size = int(sizes.integers(1, 60))
            stream.send(values_TC[first : first + size])
            found += stream.received()
            first += size
        stream.end()
        check(found + list(stream), values_TC)
        assert proxy.num_streams > 2


def test_a_stream_goes_on_at_another_replica(start, key):
    values_TC = recording(300)
    first, second = start(), start()
    with (
        CuttingProxy(first.port) as proxy,
        client_of(proxy, key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        stream.send(values_TC[:120])
        found = [next(stream) for _ in range(4)]
        proxy.target = second.port
        first.stop()
        stream.send(values_TC[120:])
        stream.end()
        check(found + list(stream), values_TC)
        assert stream.num_connections == 2
        assert second.server.info()["batching"]["num_windows"] > 20


def test_a_stream_moves_on_to_a_new_release_and_says_so(start, key, local):
    values_TC = recording(40)
    server = start()
    with (
        client_of(server, key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        stream.send(values_TC[:20])
        before = [next(stream) for _ in range(3)]
        release_small(local.storage_uri, MODEL, 2, bias=(0.0, 50.0, 0.0))
        wait_for(lambda: server.server.health()["version"] == 2)
        stream.send(values_TC[20:])
        stream.end()
        after = list(stream)
        assert (stream.version, stream.num_connections) == (2, 1)
    check(before, values_TC[:20])
    assert [item.number for item in after] == [3, 4, 5, 6]
    assert {item.label for item in after} == {CLASSES[1]}


def test_a_release_with_other_windows_ends_the_stream(start, key, local):
    server = start()
    with (
        client_of(server, key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        stream.send(recording(20))
        assert next(stream).number == 0
        release_small(local.storage_uri, MODEL, 2, signature=small_signature(hop_s=1.0))
        wait_for(lambda: server.server.health()["version"] == 2)
        stream.send(recording(20))
        with pytest.raises(StreamError, match="takes other windows") as caught:
            list(stream)
        assert caught.value.code == CloseCode.CHANGED


def test_a_revoked_key_ends_its_streams_within_seconds(start, accounts):
    key = accounts.create_key("short")
    server = start()
    with (
        client_of(server, key.secret) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        stream.send(recording(10))
        assert next(stream).number == 0
        accounts.revoke_key(key.grant.key_id)
        started_s = time.monotonic()
        with pytest.raises(AccessError, match="revoked"):
            next(stream)
        assert time.monotonic() - started_s < 5


def test_an_idle_stream_sleeps_and_goes_on_when_there_are_samples(start, key):
    values_TC = recording(60)
    server = start({"idle_timeout_s": 0.2})
    with (
        client_of(server, key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        stream.send(values_TC[:30])
        found = [next(stream) for _ in range(5)]
        wait_for(lambda: server.server.info()["num_sessions"] == 0)
        stream.send(values_TC[30:])
        stream.end()
        check(found + list(stream), values_TC)
        assert stream.num_connections == 2


def test_a_client_waits_for_a_place_where_there_are_too_many_sessions(start, key):
    server = start({"max_sessions": 1})
    opening: list[float] = []
    with client_of(server, key) as client:

        def wait_for_a_place() -> None:
            with client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ):
                opening.append(time.monotonic())

        with client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ):
            waiting = threading.Thread(target=wait_for_a_place)
            waiting.start()
            time.sleep(0.3)
            left_s = time.monotonic()
            assert opening == []
        waiting.join(TIMEOUT_S)
    assert opening[0] > left_s


def test_what_the_server_refuses_is_raised_at_once_with_its_words(start, key):
    server = start()
    with (
        pytest.raises(AccessError, match="not known here"),
        Client(server.url, "mk_0_wrong").stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ),
    ):
        pass
    with (
        pytest.raises(StreamError, match="acc_q") as caught,
        client_of(server, key).stream(MODEL, channels=["acc_q"], rate_hz=RATE_HZ),
    ):
        pass
    assert caught.value.code == CloseCode.UNFIT
    with (
        pytest.raises(MotoricError, match="other"),
        client_of(server, key).stream("other", channels=CHANNELS, rate_hz=RATE_HZ),
    ):
        pass


def test_samples_that_do_not_fit_are_refused_here(start, key):
    with (
        client_of(start(), key) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        with pytest.raises(InputError, match="needs 4 channels"):
            stream.send(np.ones((3, 2)))
        stream.end()
        assert list(stream) == []
        with pytest.raises(InputError, match="was ended"):
            stream.send(np.ones((3, 4)))


def test_without_a_server_a_stream_gives_up_in_the_end(start, key):
    server = start()
    client = client_of(server, key)
    with client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ, max_offline_s=0.5) as stream:
        stream.send(recording(10))
        assert next(stream).number == 0
        server.stop()
        stream.send(recording(10))
        with pytest.raises(PlatformError, match=r"no server went on with the stream for 0\.5 s"):
            list(stream)


def test_a_client_that_does_not_take_predictions_holds_up_only_itself(start, key):
    """Windows are cheap here, and the answers to this many do not fit into the sockets."""
    num_samples = 200_000
    server = start()
    values_TC = np.zeros((num_samples, 4), np.float32)

    async def run() -> int:
        async with AsyncClient(server.url, key) as client:
            stream = client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ)
            stream._options = replace_predictions(stream._options, 10)
            async with stream:
                sending = asyncio.create_task(stream.send(values_TC))
                await sending
                await stream.end()
                await asyncio.sleep(1.0)
                (connection,) = server.server._streams._connections
                waiting = len(connection._outbox) + connection._session.num_waiting
                assert len(stream._predictions) == 10
                found = [prediction.number async for prediction in stream]
                assert found == list(range(len(found)))
                assert waiting < 64 + 1000
                return len(found)

    assert asyncio.run(run()) == num_samples // 5 - 1


def replace_predictions(options, most):
    import dataclasses

    return dataclasses.replace(options, max_predictions=most)


def test_a_connection_that_is_silently_gone_is_noticed(start, key, monkeypatch):
    monkeypatch.setattr("motoric.client.streams._PING_S", 0.2)
    values_TC = recording(60)
    server = start()
    with (
        SilentProxy(server.port) as silent,
        Client(silent.url, key, backoff=FAST) as client,
        client.stream(MODEL, channels=CHANNELS, rate_hz=RATE_HZ) as stream,
    ):
        stream.send(values_TC[:30])
        found = [next(stream) for _ in range(3)]
        silent.fall_silent()
        stream.send(values_TC[30:])
        stream.end()
        check(found + list(stream), values_TC)
        assert stream.num_connections >= 2


class SilentProxy(CuttingProxy):
    """Swallows what comes on connections that stood when it fell silent, and closes none."""

    def __init__(self, target: int) -> None:
        self._deaf: set[Link] = set()
        super().__init__(target)

    def fall_silent(self) -> None:
        self._deaf = set(self._links)

    async def _pass(self, block, writer, link, *, is_counted) -> bool:
        if link in self._deaf:
            return True
        return await super()._pass(block, writer, link, is_counted=is_counted)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MOTORIC_URL", "MOTORIC_API_KEY"):
        monkeypatch.delenv(name, raising=False)


def test_backoff_grows_to_its_limit_and_no_further():
    waits = Backoff(first_s=1.0, most_s=5.0, draw=lambda: 1.0).waits()
    assert [next(waits) for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert math.isfinite(next(waits))
