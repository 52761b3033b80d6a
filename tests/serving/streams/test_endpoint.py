"""The live endpoint as a client sees it: a real server on loopback, and plain WebSocket frames."""

from __future__ import annotations

import logging
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from artefacts import release_small
from live import LiveServer, serving
from motoric.core.access import AccessSnapshot, snapshot_uri
from motoric.core.documents import read_document
from motoric.serving.config import Limits
from motoric.serving.model_server import ModelServer
from motoric.serving.streams.closing import CloseCode
from motoric.serving.streams.endpoint import PROTOCOL, TOKEN_PREFIX
from motoric.serving.streams.messages import Chunk, End, Open
from motoric.serving.streams.replies import Ended, Failure, Opened, Prediction, parse_reply
from motoric.serving.streams.tokens import tokens_of

MODEL = "small"
PATH = f"/v1/models/{MODEL}"
OPEN = Open(rate_hz=10.0, channels=("acc_x", "acc_y", "acc_z", "acc_w"))
Start = Callable[..., LiveServer]


@pytest.fixture
def start(local, key) -> Iterator[Start]:
    release_small(local.storage_uri, MODEL, 1)
    with ExitStack() as stack:

        def started(model: str = MODEL, **limits: Any) -> LiveServer:
            options = {name: limits.pop(name) for name in ("cors_origins",) if name in limits}
            server = ModelServer(
                model=model,
                storage_uri=local.storage_uri,
                limits=Limits(**limits),
                poll_period_s=0.05,
                **options,
            )
            return stack.enter_context(serving(server))

        yield started


def dial(server: LiveServer, **options: Any) -> ClientConnection:
    url = f"ws://127.0.0.1:{server.port}/v1/models/{server.server.model}/stream"
    return connect(url, proxy=None, compression=None, **options)


def keyed(server: LiveServer, key: str, **options: Any) -> ClientConnection:
    return dial(server, additional_headers={"Authorization": f"Bearer {key}"}, **options)


def chunk(first: int, num: int) -> bytes:
    return Chunk(first=first, values_TC=np.full((num, 4), 0.25, np.float32)).encode()


def replies(live: ClientConnection) -> tuple[list[Any], int]:
    """What comes until the server closes, and the code it closes with."""
    found = []
    try:
        while True:
            found.append(parse_reply(live.recv(10)))
    except ConnectionClosed as closed:
        return found, closed.rcvd.code if closed.rcvd else CloseCode.ABNORMAL


def refused(server: LiveServer, **options: Any) -> tuple[int, str]:
    """Status and words of a handshake that is refused."""
    with pytest.raises(InvalidStatus) as caught:
        dial(server, **options)
    response = caught.value.response
    assert response.headers["content-type"] == "application/problem+json"
    problem = orjson.loads(response.body)
    assert problem["status"] == response.status_code
    return response.status_code, problem["detail"]


def token_of(server: LiveServer, key: str, **body: Any) -> httpx.Response:
    return httpx.post(
        f"{server.url}{PATH}/stream/tokens",
        headers={"Authorization": f"Bearer {key}"},
        json=body or None,
        trust_env=False,
    )


def test_binary_and_json_samples_are_answered_until_the_end(start, key):
    with keyed(start(), key) as live:
        live.send(OPEN.encode())
        live.send(chunk(0, 12))
        rest = Chunk(first=12, values_TC=np.full((8, 4), 0.25, np.float32))
        live.send(rest.encode_json())
        live.send(End().encode())
        found, code = replies(live)
    assert isinstance(found[0], Opened)
    assert [item.number for item in found[1:-1]] == [0, 1, 2]
    assert found[-1] == Ended(num_predictions=3)
    assert code == CloseCode.NORMAL


@pytest.mark.parametrize(
    ("frames", "code", "says"),
    [
        ([b"MOT1"], CloseCode.MALFORMED, "shorter than its header"),
        (["{"], CloseCode.MALFORMED, "not JSON"),
        ([chunk(0, 5)], CloseCode.MALFORMED, "must be of type open"),
        ([OPEN, chunk(0, 5)[:-3]], CloseCode.MALFORMED, "has 104 bytes, this message 101"),
        ([OPEN, chunk(0, 5) + b"x"], CloseCode.MALFORMED, "this message 105"),
        ([OPEN, b"PK\x03\x04" + chunk(0, 5)[4:]], CloseCode.MALFORMED, "must begin with"),
        (
            [OPEN, struct.pack("<4sIQII", b"MOT1", 0, 0, 2**31, 200)],
            CloseCode.MALFORMED,
            "this message 24",
        ),
        ([OPEN, chunk(3, 5)], CloseCode.WRONG_NUMBER, "0 is next"),
        ([OPEN, chunk(0, 5000)], CloseCode.TOO_LARGE, "over the limit of 4096"),
        ([OPEN, b"x" * (5 * 2**20)], CloseCode.TOO_LARGE, "send smaller chunks"),
        (
            [OPEN, Chunk(first=0, values_TC=np.ones((2, 3), np.float32)).encode()],
            CloseCode.UNFIT,
            "3 values",
        ),
        ([Open(rate_hz=10.0, channels=("acc_x",))], CloseCode.UNFIT, "acc_y"),
        (['{"first": 0, "samples": [[1, 2, 3, "x"]]}'], CloseCode.MALFORMED, "not a number"),
    ],
)
def test_what_is_wrong_with_a_frame_is_said_before_the_close(start, key, frames, code, says):
    server = start()
    with keyed(server, key) as live:
        for frame in frames:
            live.send(frame.encode() if isinstance(frame, Open) else frame)
        found, closed = replies(live)
    assert closed == code
    assert isinstance(found[-1], Failure)
    assert found[-1].code == code
    assert says in found[-1].detail
    with keyed(server, key) as live:  # and the server goes on
        live.send(OPEN.encode())
        assert isinstance(parse_reply(live.recv(10)), Opened)


def test_missing_values_give_no_prediction_and_end_no_session(start, key):
    with keyed(start(), key) as live:
        live.send(OPEN.encode())
        live.send(Chunk(first=0, values_TC=np.full((50, 4), np.nan, np.float32)).encode())
        live.send(chunk(50, 10))
        live.send(End().encode())
        found, code = replies(live)
    predictions = [item for item in found if isinstance(item, Prediction)]
    assert [(item.number, item.start_s) for item in predictions] == [(0, 5.0)]
    assert code == CloseCode.NORMAL


def test_without_a_valid_key_no_stream_is_opened(start, key):
    server = start()
    assert refused(server) == (
        401,
        "send an API key as 'Authorization: Bearer mk_...'; `motoric keys create` makes one",
    )
    status, says = refused(server, additional_headers={"Authorization": "Bearer mk_0_wrong"})
    assert (status, "not known" in says) == (401, True)
    assert server.server.info()["num_sessions"] == 0


def test_a_browser_opens_a_stream_by_a_token(start, key):
    server = start()
    answer = token_of(server, key, lifetime_s=5)
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    given = answer.json()
    with dial(server, subprotocols=given["protocols"], origin=server.url) as live:
        assert live.subprotocol == PROTOCOL
        live.send(OPEN.encode())
        live.send(chunk(0, 10))
        live.send(End().encode())
        found, code = replies(live)
    assert (len(found), code) == (3, CloseCode.NORMAL)


def test_a_token_is_good_on_every_replica_and_in_no_log(start, key, caplog):
    with caplog.at_level(logging.INFO):
        token = token_of(start(), key).json()["token"]
        with dial(start(), subprotocols=[PROTOCOL, TOKEN_PREFIX + token]):
            pass
    assert "/stream" in caplog.text
    assert token not in caplog.text


def test_a_token_that_is_not_good_opens_nothing(start, key, local, accounts):
    release_small(local.storage_uri, "other", 1)
    server, other = start(), start("other")

    def attempt(token: str, server: LiveServer = server) -> tuple[int, str]:
        return refused(server, subprotocols=[PROTOCOL, TOKEN_PREFIX + token])

    good = token_of(server, key).json()["token"]
    status, says = attempt(good, other)
    assert (status, "is for model 'small', not 'other'" in says) == (401, True)
    snapshot = read_document(snapshot_uri(local.storage_uri), AccessSnapshot)
    (grant,) = snapshot.keys
    old = tokens_of(grant).issue(
        key_id=grant.key_id, model=MODEL, now_s=time.time() - 300, lifetime_s=60
    )
    assert attempt(old) == (401, "the stream token has expired: ask for a new one")
    for forged in ("a.b.c", good[:-2] + "xx", "x" * 3000):
        assert attempt(forged)[0] == 401
    accounts.revoke_key(grant.key_id)
    until_s = time.monotonic() + 10
    while "revoked" not in attempt_or_open(server, good):
        assert time.monotonic() < until_s


def attempt_or_open(server: LiveServer, token: str) -> str:
    try:
        with dial(server, subprotocols=[PROTOCOL, TOKEN_PREFIX + token]):
            return "open"
    except InvalidStatus as error:
        return str(orjson.loads(error.response.body)["detail"])


@pytest.mark.parametrize(
    "body", [{"lifetime_s": 601}, {"lifetime_s": 0}, {"lifetime_s": True}, {"model": "x"}]
)
def test_a_token_request_that_asks_too_much_is_refused(start, key, body):
    assert token_of(start(), key, **body).status_code == 400


def test_a_token_makes_no_token_and_no_prediction(start, key):
    server = start()
    token = token_of(server, key).json()["token"]
    assert token_of(server, token).status_code == 401


def test_a_revoked_key_ends_its_sessions_within_seconds(start, accounts):
    made = accounts.create_key("short")
    with keyed(start(), made.secret) as live:
        live.send(OPEN.encode())
        assert isinstance(parse_reply(live.recv(10)), Opened)
        accounts.revoke_key(made.grant.key_id)
        started_s = time.monotonic()
        (failure,), code = replies(live)
        assert time.monotonic() - started_s < 5
    assert code == CloseCode.NO_KEY
    assert "revoked" in failure.detail


def test_pages_of_other_origins_open_no_stream_unless_allowed(start, key):
    authorized = {"Authorization": f"Bearer {key}"}
    closed = start()
    status, says = refused(closed, additional_headers=authorized, origin="https://evil.example")
    assert (status, "cors_origins" in says) == (403, True)
    with keyed(closed, key, origin=closed.url):
        pass
    allowing = start(cors_origins=("https://good.example",))
    with keyed(allowing, key, origin="https://good.example"):
        pass
    assert refused(allowing, additional_headers=authorized, origin="https://evil.example")[0] == 403


def test_sessions_are_limited_and_a_place_is_free_again(start, key):
    server = start(max_sessions=2)
    with keyed(server, key), keyed(server, key):
        with pytest.raises(InvalidStatus) as caught:
            keyed(server, key)
        assert caught.value.response.status_code == 503
        assert caught.value.response.headers["retry-after"]
    wait_for(lambda: server.server.info()["num_sessions"] == 0)
    with keyed(server, key):
        pass


def test_a_silent_session_is_closed_and_may_be_resumed(start, key):
    with keyed(start(idle_timeout_s=0.3), key) as live:
        live.send(OPEN.encode())
        found, code = replies(live)
    assert (len(found), code) == (2, CloseCode.IDLE)
    with keyed(start(idle_timeout_s=0.3), key) as live:  # not even an open message
        (failure,), code = replies(live)
    assert code == CloseCode.IDLE
    assert "no message came" in failure.detail


def test_a_replica_that_stops_says_so(start, key):
    server = start()
    with keyed(server, key) as live:
        live.send(OPEN.encode())
        assert isinstance(parse_reply(live.recv(10)), Opened)
        server.stop()
        _, code = replies(live)
    assert code == CloseCode.RESTART


def test_a_client_that_never_reads_is_held_up_and_then_dropped(start, key):
    server = start(idle_timeout_s=0.5)
    most = 0
    with keyed(server, key, max_queue=1) as live:
        live.socket.settimeout(1.0)
        live.send(OPEN.encode())
        wait_for(lambda: server.server.info()["num_sessions"] == 1)
        (session,) = server.server._streams._connections
        part = np.zeros((400, 4), np.float32)
        with pytest.raises((ConnectionClosed, OSError)):  # noqa: PT012 - whichever stops first
            for first in range(0, 4_000_000, 400):
                live.send(Chunk(first=first, values_TC=part).encode())
                most = max(most, len(session._outbox) + session._session.num_waiting)
        assert most < 64 + 2 * 80
        wait_for(lambda: server.server.info()["num_sessions"] == 0, 20)


def test_connections_that_are_cut_leave_nothing_behind(start, key):
    server = start()
    for _ in range(20):
        with keyed(server, key) as live:
            live.send(OPEN.encode())
            live.send(chunk(0, 30))
            live.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            live.socket.close()
    wait_for(lambda: server.server.info()["num_sessions"] == 0)
    wait_for(lambda: server.call(lambda: server.server._streams._watcher is None))


def test_other_websockets_are_not_found(start, key):
    server = start()
    with pytest.raises(InvalidStatus) as caught:
        connect(f"ws://127.0.0.1:{server.port}{PATH}/predict", proxy=None)
    assert caught.value.response.status_code == 404
    answer = httpx.get(
        f"{server.url}{PATH}/stream", headers={"Authorization": f"Bearer {key}"}, trust_env=False
    )
    assert (answer.status_code, "ws://" in answer.json()["detail"]) == (400, True)


def wait_for(holds: Callable[[], bool], timeout_s: float = 10.0) -> None:
    until_s = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < until_s, "the time is up"
        time.sleep(0.02)
