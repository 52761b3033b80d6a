from __future__ import annotations

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.artefact.signature import (
    Channel,
    Preprocessing,
    SensorInput,
    Signature,
    ValueOutput,
)
from motoric.client.replay import BufferFullError, ReplayBuffer
from motoric.core.errors import InputError
from motoric.data.windows import Windower
from motoric.serving.streams.closing import StreamError
from motoric.serving.streams.limits import StreamLimits
from motoric.serving.streams.messages import End, Resume
from motoric.serving.streams.replies import (
    Acknowledged,
    Ended,
    Opened,
    Prediction,
    parse_reply,
)
from motoric.serving.streams.session import Session, StreamModel, WindowReady

CHANNELS = ("a", "b")
MAX_GAP_S = 0.2
SENSORS = SensorInput(
    channels=tuple(Channel(name=name, unit="1") for name in CHANNELS),
    rate_hz=20.0,
    length_s=1.0,
    hop_s=0.4,
    context_s=0.5,
)
SERVED = StreamModel(
    model="m",
    version=1,
    digest="sha256:0",
    signature=Signature(
        task="regress",
        inputs=(SENSORS,),
        outputs=(ValueOutput(of="a", unit="1"),),
        preprocessing=Preprocessing(max_gap_s=MAX_GAP_S),
    ),
)
WEIGHTS_TC = np.random.default_rng(0).normal(size=(SENSORS.num_input_samples, 2))


def model(window_TC: np.ndarray) -> float:
    return float((window_TC * WEIGHTS_TC).sum())


class World:
    """One client, and a new server for each connection; frames under way are lost with it."""

    def __init__(self, rate_hz: float, timed: bool) -> None:
        self.buffer = ReplayBuffer(
            rate_hz=rate_hz, channels=CHANNELS, timed=timed, max_samples=4000
        )
        self.given: list[tuple[int, float, float]] = []
        self.is_ended = self.has_sent_end = False
        self.connect()

    def connect(self) -> None:
        limits = StreamLimits(max_chunk=64, max_chunk_s=3.0, max_waiting=3)
        self.session = Session(SERVED, now_s=0.0, limits=limits)
        self.up: deque[str | bytes] = deque([self.buffer.open_message().encode()])
        self.down: deque[str] = deque()
        self.windows: list[WindowReady] = []
        self.is_open = self.has_sent_end = False

    def send(self) -> None:
        chunk = self.buffer.next_chunk() if self.is_open else None
        if chunk is not None:
            self.up.append(chunk.encode() if chunk.first % 2 else chunk.encode_json())

    def serve(self) -> None:
        if self.up and not self.session.is_full:
            received = self.session.receive(self.up.popleft(), 0.0)
            self.windows += received.windows
            self.down += received.frames

    def answer(self, which: int) -> None:
        if self.windows:
            window = self.windows.pop(which % len(self.windows))
            values_K = np.array([model(window.values_TC)])
            self.down += self.session.answered(window.number, values_K)

    def take(self) -> None:
        if not self.down:
            return
        reply = parse_reply(self.down.popleft())
        if isinstance(reply, Opened):
            self.buffer.opened(reply)
            self.is_open = True
        elif isinstance(reply, Prediction):
            self.buffer.predicted(reply)
            assert reply.value is not None
            self.given.append((reply.number, reply.start_s, reply.value))
        elif isinstance(reply, Acknowledged):
            self.buffer.acknowledged(reply)
        elif isinstance(reply, Ended):
            self.buffer.ended(reply)
            self.is_ended = True

    def finish(self) -> None:
        while not self.is_ended:
            self.send()
            if self.is_open and not self.buffer.num_unsent and not self.has_sent_end:
                self.up.append(End().encode())
                self.has_sent_end = True
            self.serve()
            self.answer(0)
            self.take()


STEPS = st.lists(
    st.tuples(st.sampled_from("aaassssvvvvwwwwttttd"), st.integers(1, 60), st.integers(1, 4)),
    max_size=120,
)


@settings(max_examples=30, deadline=None)
@given(
    rate_hz=st.sampled_from([20.0, 50.0, 12.5, 33.3]),
    timed=st.booleans(),
    seed=st.integers(0, 2**31),
    steps=STEPS,
)
def test_every_prediction_comes_once_and_in_order_whatever_is_lost(
    rate_hz: float, timed: bool, seed: int, steps: list[tuple[str, int, int]]
) -> None:
    generator = np.random.default_rng(seed)
    values_TC = generator.normal(size=(800, 2)).cumsum(axis=0).astype(np.float32) / 5
    values_TC[generator.integers(0, 800, 4)[:, None] + np.arange(25)[None, :] - 25, 1] = np.nan
    steps_s = generator.uniform(0.7, 1.3, 800) / rate_hz
    steps_s[generator.integers(0, 800, 3)] += 3.0
    time_s = np.cumsum(steps_s) + 5.0 if timed else np.arange(800) / rate_hz
    world, end = World(rate_hz, timed), 0
    for action, size, times in steps:
        for _ in range(times):
            if action == "a":
                stop = min(end + size, 800)
                world.buffer.append(values_TC[end:stop], time_s[end:stop] if timed else None)
                end = stop
            elif action == "s":
                world.send()
            elif action == "v":
                world.serve()
            elif action == "w":
                world.answer(size)
            elif action == "t":
                world.take()
        if action == "d":
            world.connect()
    world.finish()
    windower = Windower(
        native_rate_hz=rate_hz, rate_hz=SENSORS.rate_hz, length_s=SENSORS.length_s,
        hop_s=SENSORS.hop_s, context_s=SENSORS.context_s, max_gap_s=MAX_GAP_S,
    )  # fmt: skip
    windows = windower.push(time_s[:end], values_TC[:end]) + windower.finish()
    assert [number for number, _, _ in world.given] == list(range(len(windows)))
    expected = [(window.start_s, model(window.values_TC)) for window in windows]
    got = [(start_s, value) for _, start_s, value in world.given]
    np.testing.assert_allclose(
        np.reshape(got, (-1, 2)), np.reshape(expected, (-1, 2)), rtol=1e-5, atol=1e-4
    )


def small(**changes: object) -> ReplayBuffer:
    buffer = ReplayBuffer(rate_hz=20.0, channels=CHANNELS, **changes)  # type: ignore[arg-type]
    buffer.open_message()
    return buffer


def welcome(next_sample: int = 0, next_prediction: int = 0, **changes: object) -> Opened:
    known = {"model": "m", "version": 1, "digest": "d", "rate_hz": 20.0, "length_s": 1.0}
    known |= {"hop_s": 0.4, "max_chunk": 64, "max_chunk_s": 60.0, "replay_s": 1.0}
    return Opened.model_validate(
        {"next_sample": next_sample, "next_prediction": next_prediction, **known, **changes}
    )


def resume(replay_from: int, next_prediction: int) -> Resume:
    return Resume(
        replay_from=replay_from,
        next_prediction=next_prediction,
        row=0,
        next_row=0,
        origin_s=0.0,
        windows="w",
    )


def prediction(number: int, replay_from: int) -> Prediction:
    return Prediction(
        number=number, start_s=0.0, end_s=1.0, resume=resume(replay_from, number + 1), value=1.0
    )


def sent(num_samples: int) -> ReplayBuffer:
    buffer = small()
    buffer.append(np.ones((num_samples, 2)))
    buffer.opened(welcome())
    while buffer.next_chunk() is not None:
        pass
    return buffer


def test_a_server_that_acknowledges_what_was_never_sent_is_caught() -> None:
    buffer = sent(50)
    buffer.append(np.ones((10, 2)))
    with pytest.raises(StreamError, match="acknowledges the samples before 51"):
        buffer.predicted(prediction(0, 51))
    buffer.predicted(prediction(0, 50))
    assert (buffer.num_held, buffer.replay_from, buffer.next_prediction) == (10, 50, 1)
    with pytest.raises(StreamError, match="acknowledges the samples before 49"):
        buffer.predicted(prediction(1, 49))


def test_a_prediction_left_out_or_doubled_is_caught() -> None:
    buffer = sent(50)
    with pytest.raises(StreamError, match="sent prediction 1, and 0 is next"):
        buffer.predicted(prediction(1, 0))
    buffer.predicted(prediction(0, 5))
    with pytest.raises(StreamError, match="sent prediction 0, and 1 is next"):
        buffer.predicted(prediction(0, 5))
    with pytest.raises(StreamError, match="goes on with prediction 2"):
        buffer.acknowledged(Acknowledged(resume=resume(6, 2)))
    with pytest.raises(StreamError, match="ended the stream after 2"):
        buffer.ended(Ended(num_predictions=2))
    buffer.ended(Ended(num_predictions=1))


def test_a_new_connection_sends_all_again_that_is_held_and_says_where_it_is() -> None:
    buffer = sent(200)
    buffer.predicted(prediction(0, 30))
    assert buffer.open_message().resume == resume(30, 1)
    with pytest.raises(StreamError, match="the stream is at 30 and 1"):
        buffer.opened(welcome())
    buffer.opened(welcome(30, 1))
    chunk = buffer.next_chunk()
    assert chunk is not None
    assert (chunk.first, len(chunk.values_TC), buffer.num_unsent) == (30, 64, 106)


def test_chunks_keep_to_the_servers_seconds() -> None:
    buffer = small(timed=True)
    buffer.append(np.ones((6, 2)), [0.0, 1.0, 2.0, 50.0, 51.0, 52.0])
    buffer.opened(welcome(max_chunk_s=2.5))
    sizes = []
    while (chunk := buffer.next_chunk()) is not None:
        sizes.append(len(chunk.values_TC))
    assert sizes == [3, 1, 2]


def test_a_full_buffer_takes_nothing_and_loses_nothing() -> None:
    buffer = small(max_samples=30)
    buffer.append(np.ones((20, 2)))
    with pytest.raises(BufferFullError, match="20 samples wait"):
        buffer.append(np.ones((11, 2)))
    assert buffer.append(np.ones((10, 2))) == 20
    with pytest.raises(InputError, match="raise max_samples to 81"):
        buffer.opened(welcome(replay_s=2.0))


@pytest.mark.parametrize(
    ("timed", "values", "times"),
    [
        (False, np.ones((2, 3)), None),
        (False, np.ones(2), None),
        (False, np.ones((2, 2)), [0.0, 1.0]),
        (True, np.ones((2, 2)), None),
        (True, np.ones((2, 2)), [0.0]),
        (True, np.ones((2, 2)), [1.0, 1.0]),
        (True, np.ones((2, 2)), [0.0, np.nan]),
    ],
)
def test_samples_that_do_not_fit_are_refused_at_once(timed, values, times) -> None:
    buffer = small(timed=timed)
    with pytest.raises(InputError):
        buffer.append(values, times)
    assert buffer.num_samples == 0
