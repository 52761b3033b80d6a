"""When a request is tried again, and what its errors are, without a network or a clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import orjson
import pytest

from motoric.client.exchange import Backoff, Send, Wait, error_of, exchange, retry_after_s
from motoric.client.requests import Request
from motoric.core.errors import (
    AccessError,
    DeadlineError,
    InputError,
    MotoricError,
    NotFoundError,
    PlatformError,
    UserError,
)

GOOD = httpx.Response(200, json={"answer": 42})
Outcomes = list[httpx.Response | httpx.HTTPError]


def problem(status: int, kind: str, detail: str, **headers: str) -> httpx.Response:
    content = {"type": f"urn:motoric:problem:{kind}", "title": "t", "status": status}
    return httpx.Response(status, json=content | {"detail": detail}, headers=headers)


BUSY = problem(503, "unavailable", "busy")


class World:
    """Plays the outcomes, and a clock on which a try takes `try_s`."""

    def __init__(self, outcomes: Outcomes, try_s: float = 0.0, **options: Any) -> None:
        self.now_s, self.try_s = 0.0, try_s
        self.outcomes = outcomes
        self.sends: list[Send] = []
        self.waits: list[float] = []
        known = {"url": "http://here", "timeout_s": 10.0, "backoff": Backoff(draw=lambda: 1.0)}
        self.options = known | options

    def run(self, read: Callable[[Any], Any] = lambda content: content["answer"]) -> Any:
        request: Request[Any] = Request(method="GET", path="/x", read=read)
        steps = exchange(request, clock=lambda: self.now_s, **self.options)
        outcome: Any = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                return done.value
            if isinstance(step, Wait):
                self.waits.append(step.wait_s)
                self.now_s += step.wait_s
                outcome = None
            else:
                self.sends.append(step)
                self.now_s += self.try_s
                outcome = self.outcomes.pop(0)


def test_a_good_answer_is_read_at_once():
    world = World([GOOD])
    assert world.run() == 42
    assert world.waits == []


def test_busy_and_missing_servers_are_asked_again_later_and_later():
    world = World([BUSY, httpx.ConnectError("no"), BUSY, httpx.RemoteProtocolError("cut"), GOOD])
    assert world.run() == 42
    assert world.waits == [0.1, 0.2, 0.4, 0.8]


def test_the_server_says_how_long_to_wait():
    world = World([problem(503, "unavailable", "busy", **{"Retry-After": "3"}), GOOD])
    assert world.run() == 42
    assert world.waits == [3.0]


def test_each_try_tells_the_server_what_is_left():
    world = World([BUSY, BUSY, GOOD], try_s=1.0, timeout_s=5.0)
    assert world.run() == 42
    assert [send.headers["X-Timeout-Ms"] for send in world.sends] == ["5000", "3900", "2700"]
    assert [send.left_s for send in world.sends] == pytest.approx([5.0, 3.9, 2.7])


def test_nothing_is_tried_past_the_deadline():
    world = World([BUSY] * 99, try_s=1.0, timeout_s=5.0)
    with pytest.raises(PlatformError, match="busy"):
        world.run()
    assert world.now_s <= 5.0
    patient = World([problem(503, "unavailable", "busy", **{"Retry-After": "60"})])
    with pytest.raises(PlatformError, match="busy"):
        patient.run()
    assert (patient.now_s, patient.waits) == (0.0, [])


def test_a_time_out_is_a_deadline_that_passed():
    world = World([httpx.ReadTimeout("slow")], try_s=10.0)
    with pytest.raises(DeadlineError, match="within 10 s"):
        world.run()


@pytest.mark.parametrize("timeout_s", [0, -1, float("inf"), float("nan")])
def test_a_time_out_must_be_one(timeout_s):
    with pytest.raises(UserError, match="timeout_s"):
        World([GOOD], timeout_s=timeout_s).run()


@pytest.mark.parametrize("status", [400, 401, 404, 413, 422, 500, 504])
def test_what_will_not_change_is_not_tried_again(status):
    world = World([httpx.Response(status, text="no"), GOOD])
    with pytest.raises(MotoricError, match=f"answered {status}: no"):
        world.run()
    assert len(world.sends) == 1


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (problem(422, "input", "wrong shape"), InputError),
        (problem(401, "access", "wrong shape"), AccessError),
        (problem(404, "not-found", "wrong shape"), NotFoundError),
        (problem(504, "deadline", "wrong shape"), DeadlineError),
        (problem(418, "of-the-future", "wrong shape"), UserError),
        (problem(599, "of-the-future", "wrong shape"), PlatformError),
    ],
)
def test_a_problem_is_raised_as_what_it_is_with_the_servers_words(response, kind):
    error = error_of(response.status_code, response.content)
    assert type(error) is kind
    assert (error.message, str(error)) == ("wrong shape", "wrong shape")


@pytest.mark.parametrize("content", [b"", b"[]", b'"x"', b"{", b"<html>", b"\xff" * 9999])
def test_a_body_that_is_no_problem_is_an_error_still(content):
    assert isinstance(error_of(502, content), PlatformError)
    assert len(error_of(502, content).message) < 2100


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"other": 1}', b"null"])
def test_an_answer_that_is_not_understood_is_no_crash(content):
    with pytest.raises(PlatformError, match="not understood"):
        World([httpx.Response(200, content=content)]).run()


@pytest.mark.parametrize(
    ("value", "expected"), [(None, 0), ("2", 2), ("-1", 0), ("x", 0), ("inf", 0), ("nan", 0)]
)
def test_retry_after_is_read_with_care(value, expected):
    assert retry_after_s(value) == expected
    assert 3500 < retry_after_s(in_an_hour()) <= 3600


def in_an_hour() -> str:
    import email.utils
    import time

    return email.utils.formatdate(time.time() + 3600, usegmt=True)


def test_the_wait_has_chance_in_it():
    waits = Backoff().waits()
    drawn = [next(waits) for _ in range(8)]
    assert len(set(drawn)) == 8
    assert orjson.dumps(drawn)
