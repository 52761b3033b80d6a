"""The short way of a replica's HTTP server answers as the long one does, and to nothing else."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from artefacts import NUM_CHANNELS, NUM_SAMPLES, release_small
from motoric.core.access import AccessSnapshot, snapshot_uri
from motoric.core.documents import write_document
from motoric.serving.batching import Outputs, Rows, _Thread
from motoric.serving.config import Limits
from motoric.serving.ingress.protocol import PredictProtocol
from motoric.serving.model_server import ModelServer
from short_way import Answer, ShortWay, post

MODEL = "small"
PATH = f"/v1/models/{MODEL}/predict"
WINDOWS = np.linspace(0, 1, 3 * NUM_SAMPLES * NUM_CHANNELS, dtype="<f4").reshape(
    3, NUM_SAMPLES, NUM_CHANNELS
)
RAW, JSON = WINDOWS.tobytes(), orjson.dumps({"windows": WINDOWS.tolist()})
RAW_TYPE = ("content-type", "application/octet-stream")
JSON_TYPE = ("content-type", "application/json")


@pytest.fixture
def server(local, key) -> ModelServer:
    release_small(local.storage_uri, MODEL, 1)
    return ModelServer(
        model=MODEL, storage_uri=local.storage_uri, limits=Limits(max_body_mib=0.1, max_body_s=1)
    )


@pytest.fixture
def way(server) -> Iterator[ShortWay]:
    way = ShortWay(server, PredictProtocol)
    yield way
    way.stop()


@pytest.fixture
def auth(key) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


def warm(way: ShortWay, *requests: bytes) -> list[Answer]:
    """Send requests one by one, so that their heads are known; gives the answers of the first."""
    with way.connect() as connection:
        answers = []
        for request in requests:
            connection.send(request)
            answers.append(connection.receive())
        return answers


@pytest.mark.parametrize("accept", ["application/json", "application/octet-stream", None])
@pytest.mark.parametrize(("kind", "body"), [(RAW_TYPE, RAW), (JSON_TYPE, JSON), (None, JSON)])
def test_a_known_head_gives_the_same_answer(way, auth, kind, body, accept):
    headers = [auth, *([kind] if kind else []), *([("accept", accept)] if accept else [])]
    request = post(PATH, body, headers)
    with way.connect() as connection:
        connection.send(request)
        first = connection.receive()
        assert (first.status, way.num_short) == (200, 1)  # by `Shortcut`
        for num in range(2, 5):
            connection.send(request)
            assert connection.receive() == first
            assert (way.num_short, way.server.num_known_requests) == (num, num - 1)
    assert way.replica.num_long == 0
    assert way.settled().num_answered == 4
    (by_labels,) = way.metrics._cached_ingress_request_counter.values()
    assert sum(by_labels.values()) == 4


def test_the_length_of_a_body_may_differ(way, auth):
    warm(way, post(PATH, RAW, [auth, RAW_TYPE]))
    known = dict(way.shortcut.heads._known)
    one = WINDOWS[:1].tobytes()
    (answer,) = warm(
        way,
        post(
            PATH,
            one,
            [
                auth,
                RAW_TYPE,
            ],
        ),
    )
    assert len(orjson.loads(answer.body)["predictions"]) == 1
    assert way.shortcut.heads._known == known
    assert len(known) == 1


@pytest.mark.parametrize("size", [1, 7, 64, 200, 600])
def test_a_request_may_come_in_pieces(way, auth, size):
    request = post(PATH, RAW, [auth, RAW_TYPE])
    (first,) = warm(way, request)
    with way.connect() as connection:
        for _ in range(2):
            for start in range(0, len(request), size):
                connection.send(request[start : start + size])
                time.sleep(0.002 if size > 50 else 0)
            assert connection.receive() == first


def test_requests_may_follow_each_other_at_once(way, auth):
    known, other = post(PATH, RAW, [auth, RAW_TYPE]), post(PATH, JSON, [auth, JSON_TYPE])
    first, second = warm(way, known, other)
    with way.connect() as connection:
        connection.send(known + other + known + b"".join([known] * 5))
        assert [connection.receive() for _ in range(8)] == [first, second, *[first] * 6]
        assert connection.is_silent()


@pytest.mark.parametrize(
    ("body", "status"),
    [(RAW[:-4], 422), (RAW[:-1], 400), (b"", 400), (np.full_like(WINDOWS, np.nan).tobytes(), 422)],
)
def test_what_is_refused_is_refused_alike(way, auth, body, status):
    head = [auth, RAW_TYPE]
    (before,) = warm(way, post(PATH, body, head))
    warm(way, post(PATH, RAW, head))
    (after,) = warm(way, post(PATH, body, head))
    assert before == after
    assert before.status in (400, 422)
    way.settled()


def test_a_key_is_checked_with_each_request(way, auth, local):
    request = post(PATH, RAW, [auth, RAW_TYPE])
    assert [answer.status for answer in warm(way, request, request)] == [200, 200]
    snapshot = AccessSnapshot(issued_at_s=time.time(), keys=())
    write_document(snapshot_uri(local.storage_uri), snapshot)
    way.server.access.poll()
    assert warm(way, request)[0].status == 401


def test_a_body_that_was_refused_is_not_taken_for_a_request(way, auth):
    """The answer may go out before the body has come, which holds a request that is known."""
    inner = post(PATH, RAW, [auth, RAW_TYPE])
    warm(way, inner)
    outer = post(PATH, b"", [RAW_TYPE], length=len(inner))  # no key
    with way.connect() as connection:
        connection.send(outer)
        assert connection.receive().status == 401
        connection.send(inner)
        assert connection.is_silent()
        connection.send(inner)
        assert connection.receive().status == 200


@pytest.mark.parametrize(
    "line",
    [
        b"connection: close",
        b"Connection: keep-alive",
        b"transfer-encoding: chunked",
        b"expect: 100-continue",
        b"x-request-id: 5",
        b"content-length: 480",
        b"upgrade: h2c",
    ],
)
def test_heads_with_a_meaning_for_the_connection_are_not_kept(way, auth, line):
    head, _, body = post(PATH, RAW, [auth, RAW_TYPE]).partition(b"\r\n\r\n")
    with way.connect() as connection:
        connection.send(head + b"\r\n" + line + b"\r\n\r\n" + body)
        connection.receive()
    assert way.shortcut.heads._known == {}


def test_a_head_in_another_place_is_not_kept(way, auth):
    for path in (f"/v1/models/{MODEL}", f"{PATH}/", f"http://test{PATH}", f"/x/../{PATH[1:]}"):
        with way.connect() as connection:
            connection.send(post(path, RAW, [auth, RAW_TYPE]))
            connection.receive()
    assert way.shortcut.heads._known == {}


def test_the_query_belongs_to_the_head(way, auth):
    plain = post(PATH, RAW, [auth, RAW_TYPE])
    faster = post(f"{PATH}?rate_hz=20", RAW, [auth, RAW_TYPE])
    warm(way, plain)
    (before,) = warm(way, faster)
    (after,) = warm(way, faster)
    assert before == after
    assert before.status != 200 or before.body != warm(way, plain)[0].body
    assert len(way.shortcut.heads._known) == 2


def test_the_number_of_known_heads_is_bounded(way, auth):
    for number in range(300):
        warm(way, post(PATH, RAW, [auth, RAW_TYPE, ("x-number", str(number))]))
    assert 0 < len(way.shortcut.heads._known) <= 256


def test_without_a_free_slot_serve_decides(server, auth):
    way = ShortWay(server, PredictProtocol, max_ongoing=0)
    try:
        request = post(PATH, RAW, [auth, RAW_TYPE])
        assert [answer.status for answer in warm(way, request, request)] == [200, 200]
        assert (way.num_short, way.replica.num_long) == (0, 2)
    finally:
        way.stop()


def test_a_body_that_does_not_come_to_its_end_is_given_up(way, auth):
    warm(way, post(PATH, RAW, [auth, RAW_TYPE]))
    with way.connect() as connection:
        connection.send(post(PATH, RAW[:100], [auth, RAW_TYPE], length=len(RAW)))
        answer = connection.receive()
        assert answer.status == 408
        assert answer.headers["connection"] == "close"
        assert connection.is_closed()


def test_idle_connections_are_closed(server, auth):
    way = ShortWay(server, PredictProtocol, keep_alive_s=1)
    try:
        request = post(PATH, RAW, [auth, RAW_TYPE])
        with way.connect() as connection:
            for _ in range(4):  # longer than the limit in all
                connection.send(request)
                connection.receive()
                time.sleep(0.4)
            started_s = time.monotonic()
            assert connection.is_closed()
            assert time.monotonic() - started_s < 3
    finally:
        way.stop()


class Gate:
    """Holds a model's runs up."""

    def __init__(self, server: ModelServer) -> None:
        served = server.releases.served
        assert served is not None
        self.batcher, self._run = served.batcher, served.batcher._run
        self.is_open, self.is_reached = threading.Event(), threading.Event()

    def run(self, rows: Rows) -> Outputs:
        self.is_reached.set()
        assert self.is_open.wait(10)
        return self._run(rows)


def in_thread(way: ShortWay) -> Gate:
    """The model runs in a thread, as large ones do, when the gate opens."""
    gate = Gate(way.server)
    gate.batcher._thread = _Thread(gate.run)
    return gate


def test_a_client_that_leaves_frees_its_slot(way, auth):
    request = post(PATH, RAW, [auth, RAW_TYPE])
    warm(way, request)
    gate = in_thread(way)
    with way.connect() as connection:
        connection.send(request)
        assert gate.is_reached.wait(5)
        assert way.metrics.num_ongoing == 1
    way.settled()
    assert not way.replica._semaphore.locked()
    gate.is_open.set()
    assert warm(way, request)[0].status == 200


def test_what_comes_while_the_model_runs_is_answered_next(way, auth):
    request, other = post(PATH, RAW, [auth, RAW_TYPE]), post(PATH, JSON, [auth, JSON_TYPE])
    first, second = warm(way, request, other)
    gate = in_thread(way)
    with way.connect() as connection:
        connection.send(request)
        assert gate.is_reached.wait(5)
        connection.send(other[:300])
        time.sleep(0.05)
        connection.send(other[300:] + request)
        gate.is_open.set()
        assert [connection.receive() for _ in range(3)] == [first, second, first]


def test_a_server_that_stops_answers_what_it_has_begun(way, auth):
    request = post(PATH, RAW, [auth, RAW_TYPE])
    warm(way, request)
    gate = in_thread(way)
    with way.connect() as connection:
        connection.send(request)
        assert gate.is_reached.wait(5)
        way.uvicorn.should_exit = True
        time.sleep(0.3)
        gate.is_open.set()
        answer = connection.receive()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert connection.is_closed()
    way._serving.result(10)
    way.background.close()


def test_an_error_of_the_model_is_a_problem_document(way, auth):
    request = post(PATH, RAW, [auth, RAW_TYPE])
    warm(way, request)
    served = way.server.releases.served
    assert served is not None

    def fail(_: Rows) -> Outputs:
        raise RuntimeError("secret of the server")

    served.batcher._run = fail
    (answer,) = warm(way, request)
    assert answer.status == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert b"secret" not in answer.body
    way.settled()


REQUESTS = st.sampled_from(
    [
        ("raw", RAW, RAW_TYPE),
        ("one", WINDOWS[:1].tobytes(), RAW_TYPE),
        ("cut", RAW[:-2], RAW_TYPE),
        ("json", JSON, JSON_TYPE),
        ("not json", JSON[:-1], JSON_TYPE),
        ("empty", b"", RAW_TYPE),
    ]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    requests=st.lists(REQUESTS, min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 2000), max_size=12),
)
def test_any_stream_of_requests_is_answered_as_uvicorn_does(ways, key, requests, cuts):
    stream = b"".join(
        post(PATH, body, [("authorization", f"Bearer {key}"), kind]) for _, body, kind in requests
    )
    parts, start = [], 0
    for cut in cuts:
        parts.append(stream[start : start + cut])
        start += cut
    parts.append(stream[start:])
    answers = []
    for way in ways:
        with way.connect() as connection:
            connection.send(*parts)
            answers.append([connection.receive() for _ in requests])
    assert answers[0] == answers[1]


@pytest.fixture
def ways(server, local) -> Iterator[tuple[ShortWay, ShortWay]]:
    plain = ModelServer(model=MODEL, storage_uri=local.storage_uri, limits=server._limits)
    both = ShortWay(server, PredictProtocol), ShortWay(plain, HttpToolsProtocol)
    yield both
    assert both[0].server.num_known_requests > 0
    for way in both:
        way.stop()
