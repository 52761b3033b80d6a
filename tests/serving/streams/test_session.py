from __future__ import annotations

import numpy as np
import pytest

from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    ClipInput,
    Preprocessing,
    SensorInput,
    Signature,
)
from motoric.data.windows import Windower
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.limits import SessionCount, StreamLimits
from motoric.serving.streams.messages import Chunk, End, Open
from motoric.serving.streams.replies import Acknowledged, Ended, Opened, Prediction, parse_reply
from motoric.serving.streams.session import Received, Session, StreamModel

RATE_HZ = 10.0
CHANNELS = ("acc_x", "acc_y")
CLASSES = ClassesOutput(classes=("a", "b"))
HALF = np.array([0.5, 0.5])


def signature(max_gap_s: float = 0.0, **changes: object) -> Signature:
    sensors = SensorInput.model_validate(
        {
            "channels": tuple(Channel(name=name, unit="m/s^2") for name in CHANNELS),
            "rate_hz": RATE_HZ,
            "length_s": 1.0,
            "hop_s": 0.5,
            **changes,
        }
    )
    preprocessing = Preprocessing(max_gap_s=max_gap_s)
    return Signature(inputs=(sensors,), outputs=(CLASSES,), preprocessing=preprocessing)


def session(of: Signature | None = None, **limits: object) -> Session:
    served = StreamModel(model="m", version=1, digest="sha256:0", signature=of or signature())
    return Session(served, now_s=0.0, limits=StreamLimits(**limits))  # type: ignore[arg-type]


def opened(of: Signature | None = None, limits: dict | None = None, **changes: object) -> Session:
    made = session(of, **(limits or {}))
    made.receive(opening(**changes).encode(), 0.0)
    return made


def opening(**changes: object) -> Open:
    return Open(**{"rate_hz": RATE_HZ, "channels": CHANNELS, **changes})  # type: ignore[arg-type]


def chunk(first: int, num: int, **changes: object) -> bytes:
    values_TC = np.arange(first, first + num)[:, None] * np.array([[1.0, -1.0]])
    return Chunk(first=first, values_TC=values_TC.astype(np.float32), **changes).encode()  # type: ignore[arg-type]


def replies(frames: tuple[str, ...]) -> list[object]:
    return [parse_reply(frame) for frame in frames]


def code_of(made: Session, *frames: str | bytes) -> CloseCode:
    for frame in frames[:-1]:
        made.receive(frame, 0.0)
    with pytest.raises(StreamError) as caught:
        made.receive(frames[-1], 0.0)
    return caught.value.code


def test_a_session_gives_a_prediction_a_hop_and_ends_when_all_were_sent() -> None:
    made = session()
    (reply,) = replies(made.receive(opening().encode(), 0.0).frames)
    assert isinstance(reply, Opened)
    assert (reply.next_sample, reply.next_prediction, reply.hop_s) == (0, 0, 0.5)
    received = made.receive(chunk(0, 20), 1.0)
    assert [window.number for window in received.windows] == [0, 1, 2]
    assert made.receive(End().encode(), 2.0) == Received()
    sent = [reply for number in (1, 0, 2) for reply in replies(made.answered(number, HALF))]
    predictions, ended = sent[:-1], sent[-1]
    assert [(item.number, item.start_s, item.end_s) for item in predictions] == [  # type: ignore[attr-defined]
        (0, 0.0, 1.0),
        (1, 0.5, 1.5),
        (2, 1.0, 2.0),
    ]
    assert ended == Ended(num_predictions=3)
    assert made.is_done


def test_channels_are_ordered_and_units_converted_as_the_model_has_them() -> None:
    made = opened(channels=("acc_y", "acc_x"), units=("g", ""))
    (window, *_) = made.receive(chunk(0, 20), 0.0).windows
    numbers_T = np.arange(10)
    np.testing.assert_allclose(window.values_TC[:, 0], -numbers_T)
    np.testing.assert_allclose(window.values_TC[:, 1], numbers_T * 9.80665, rtol=1e-6)
    assert window.values_TC.dtype == np.float32


def test_times_of_an_irregular_stream_are_heeded() -> None:
    made = opened(timed=True)
    time_s = 100.0 + np.arange(30) / RATE_HZ + np.where(np.arange(30) < 15, 0.0, 7.0)
    received = made.receive(chunk(0, 30, time_s=time_s), 0.0)
    starts = [replies(made.answered(item.number, HALF))[0].start_s for item in received.windows]  # type: ignore[attr-defined]
    windower = Windower(native_rate_hz=RATE_HZ, rate_hz=RATE_HZ, length_s=1.0, hop_s=0.5)
    expected = windower.push(time_s, np.ones((30, 1)))
    np.testing.assert_allclose(starts, [window.start_s for window in expected])
    assert len(starts) == 4


def test_reading_stops_while_too_many_windows_wait() -> None:
    made = opened(limits={"max_waiting": 3})
    windows = made.receive(chunk(0, 25), 0.0).windows
    assert len(windows) == 4
    assert made.is_full
    made.answered(1, HALF)
    assert made.is_full  # nothing can leave before 0
    made.answered(0, HALF)
    assert not made.is_full
    assert made.num_waiting == 2


def test_samples_are_acknowledged_where_no_prediction_comes() -> None:
    made = opened()
    acknowledged = []
    missing = np.full((10, 2), np.nan, dtype=np.float32)
    for first in range(0, 200, 10):
        received = made.receive(Chunk(first=first, values_TC=missing).encode(), 0.0)
        assert received.windows == ()
        acknowledged += replies(received.frames)
    assert len(acknowledged) > 10
    assert all(isinstance(reply, Acknowledged) for reply in acknowledged)
    assert acknowledged[-1].resume.replay_from >= 180  # type: ignore[attr-defined]


def test_an_idle_session_is_told_so() -> None:
    made = opened(limits={"idle_timeout_s": 10.0})
    made.receive(chunk(0, 1), 5.0)
    assert made.check_idle(14.0) == pytest.approx(1.0)
    with pytest.raises(StreamError, match="no message came for 10 s") as caught:
        made.check_idle(15.0)
    assert caught.value.code == CloseCode.IDLE
    made.touch(15.0)
    assert made.check_idle(15.0) == 10.0


def test_the_order_of_messages_is_kept() -> None:
    assert code_of(session(), chunk(0, 1)) == CloseCode.MALFORMED
    assert code_of(session(), End().encode()) == CloseCode.MALFORMED
    assert code_of(opened(), opening().encode()) == CloseCode.MALFORMED
    assert code_of(opened(), End().encode(), chunk(0, 1)) == CloseCode.MALFORMED


@pytest.mark.parametrize("second", [0, 4, 6])
def test_a_number_left_out_or_sent_twice_is_refused(second: int) -> None:
    assert code_of(opened(), chunk(0, 5), chunk(second, 5)) == CloseCode.WRONG_NUMBER


def test_what_is_too_large_is_refused() -> None:
    assert code_of(opened(limits={"max_chunk": 10}), chunk(0, 11)) == CloseCode.TOO_LARGE
    assert code_of(opened(limits={"max_chunk_s": 2.0}), chunk(0, 30)) == CloseCode.TOO_LARGE
    assert code_of(session(max_frame_bytes=10), opening().encode()) == CloseCode.TOO_LARGE


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": ("acc_x",)},
        {"channels": ("acc_x", "acc_z")},
        {"channels": ("acc_x", "acc_x")},
        {"units": ("g",)},
        {"units": ("g", "bpm")},
        {"rate_hz": 1e6},
        {"rate_hz": 1e-6},
        {"rate_hz": 618.0339887},
    ],
)
def test_a_stream_that_does_not_fit_the_model_is_refused(changes: dict[str, object]) -> None:
    assert code_of(session(), opening(**changes).encode()) == CloseCode.UNFIT


def test_chunks_that_do_not_fit_the_open_message_are_refused() -> None:
    three = Chunk(first=0, values_TC=np.ones((1, 3), np.float32)).encode()
    assert code_of(opened(), three) == CloseCode.UNFIT
    assert code_of(opened(), chunk(0, 2, time_s=np.arange(2.0))) == CloseCode.UNFIT
    assert code_of(opened(timed=True), chunk(0, 2)) == CloseCode.UNFIT
    for times in ([0.0, 0.0], [1.0, 0.0], [0.0, np.nan], [0.0, 1e300]):
        bad = chunk(0, 2, time_s=np.array(times))
        assert code_of(opened(timed=True), bad) == CloseCode.UNFIT


def test_a_stream_much_denser_than_its_rate_cannot_fill_memory() -> None:
    made = opened(timed=True, limits={"max_chunk": 500})
    with pytest.raises(StreamError, match="much denser than rate_hz 10") as caught:  # noqa: PT012
        for first in range(0, 10_000, 500):
            time_s = np.arange(first, first + 500) * 1e-7
            made.receive(chunk(first, 500, time_s=time_s), 0.0)
    assert caught.value.code == CloseCode.UNFIT


def test_a_gap_that_would_be_filled_with_too_many_rows_is_refused() -> None:
    made = opened(signature(max_gap_s=5.0), timed=True, limits={"max_chunk_s": 20.0})
    assert code_of(made, chunk(0, 6, time_s=np.arange(6) * 4.9)) == CloseCode.TOO_LARGE
    made = opened(signature(max_gap_s=5.0), timed=True, limits={"max_chunk_s": 20.0})
    assert made.receive(chunk(0, 6, time_s=np.arange(6) * 5000.0), 0.0).windows == ()


def test_a_stream_does_not_go_on_with_other_windows() -> None:
    first = opened()
    (window, *_) = first.receive(chunk(0, 20), 0.0).windows
    (reply,) = replies(first.answered(window.number, HALF))
    assert isinstance(reply, Prediction)
    again = opening(resume=reply.resume).encode()
    assert code_of(session(signature(hop_s=1.0)), again) == CloseCode.CHANGED
    (welcome,) = replies(session().receive(again, 0.0).frames)
    assert (welcome.next_sample, welcome.next_prediction) == (reply.resume.replay_from, 1)  # type: ignore[attr-defined]


def test_models_of_clips_and_of_whole_movements_are_not_asked_live() -> None:
    clip = ClipInput(num_frames=4, height=8, width=8)
    for other in (
        Signature(inputs=(clip,), outputs=(CLASSES,)),
        Signature(inputs=(*signature().inputs, clip), outputs=(CLASSES,)),
        signature(span="annotation"),
    ):
        with pytest.raises(StreamError, match="cannot be asked live") as caught:
            session(other)
        assert caught.value.code == CloseCode.UNFIT


def test_an_answer_nobody_waits_for_is_a_mistake_of_the_caller() -> None:
    made = opened()
    made.receive(chunk(0, 20), 0.0)
    made.answered(1, HALF)
    for number in (1, 3, -1):
        with pytest.raises(ValueError, match="window"):
            made.answered(number, HALF)


def test_sessions_are_limited_in_number() -> None:
    count = SessionCount(2)
    count.enter()
    count.enter()
    with pytest.raises(StreamError) as caught:
        count.enter()
    assert caught.value.code == CloseCode.TOO_MANY
    count.leave()
    count.enter()
    assert count.num_sessions == 2
