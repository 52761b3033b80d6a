from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.artefact.signature import ClassesOutput, QuantilesOutput, ValueOutput
from motoric.core.errors import MotoricError
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.messages import Chunk, End, Open, Resume, parse_client_message
from motoric.serving.streams.replies import (
    Failure,
    Prediction,
    failure_frame,
    parse_reply,
    prediction_frame,
)

RESUME = Resume(
    replay_from=7, next_prediction=3, row=10, next_row=12, origin_s=0.5, windows="10 samples"
)


@settings(max_examples=40, deadline=None)
@given(
    first=st.integers(0, 2**53 - 1),
    rows=st.integers(1, 4).flatmap(
        lambda n: st.lists(
            st.lists(st.none() | st.floats(width=32, allow_nan=False, allow_infinity=False),
                     min_size=n, max_size=n),
            min_size=1, max_size=5,
        )
    ),
    is_timed=st.booleans(),
)  # fmt: skip
def test_a_chunk_is_the_same_in_binary_and_in_json(
    first: int, rows: list[list[float | None]], is_timed: bool
) -> None:
    values_TC = np.array(rows, dtype=np.float64).astype(np.float32)
    times = np.arange(len(rows)) / 3 if is_timed else None
    chunk = Chunk(first=first, values_TC=values_TC, time_s=times)
    for frame in (chunk.encode(), chunk.encode_json()):
        back = parse_client_message(frame)
        assert isinstance(back, Chunk)
        assert back.first == first
        np.testing.assert_array_equal(back.values_TC, values_TC)
        if times is None:
            assert back.time_s is None
        else:
            np.testing.assert_array_equal(back.time_s, times)


def test_open_and_end_come_back_as_they_were_sent() -> None:
    message = Open(rate_hz=50.0, channels=("a", "b"), units=("g", ""), timed=True, resume=RESUME)
    assert parse_client_message(message.encode()) == message
    assert parse_client_message(End().encode()) == End()


GOOD = Chunk(first=1, values_TC=np.ones((2, 3), np.float32)).encode()


@pytest.mark.parametrize(
    "frame",
    [
        b"", b"MOT1", GOOD[:-1], GOOD + b"\0", b"MOT2" + GOOD[4:],
        GOOD[:4] + b"\x02\0\0\0" + GOOD[8:],
        GOOD[:8] + b"\xff" * 8 + GOOD[16:],
        GOOD[:16] + b"\xff" * 8 + GOOD[24:],
        GOOD[:16] + b"\0" * 8,
        "", "[]", "null", "{", '{"type":"hello"}', '{"type":"end","x":1}', '{"type":[1]}',
        '{"first":0,"samples":[[NaN]]}', '{"first":0,"samples":[]}', '{"first":0,"samples":[[]]}',
        '{"first":0,"samples":[[1],[1,2]]}', '{"first":0,"samples":[["1"]]}',
        '{"first":0,"samples":[[true]]}', '{"first":0,"samples":[[1e39]]}',
        '{"first":0,"samples":[[[1]]]}', '{"first":0,"samples":[1]}', '{"samples":[[1]]}',
        '{"first":-1,"samples":[[1]]}', '{"first":0.0,"samples":[[1]]}',
        '{"first":true,"samples":[[1]]}', '{"first":0,"samples":[[1]],"times":[null]}',
        '{"first":0,"samples":[[1]],"times":[1,2]}', '{"first":0,"samples":[[1]],"sum":1}',
        '{"type":"open"}', '{"type":"open","rate_hz":0,"channels":["a"]}',
        '{"type":"open","rate_hz":"50","channels":["a"]}',
        '{"type":"open","rate_hz":50,"channels":[]}',
        '{"type":"open","rate_hz":50,"channels":["a"],"more":1}',
        '{"type":"open","rate_hz":50,"channels":["a"],"resume":{"replay_from":1}}',
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused_with_its_code(frame: str | bytes) -> None:
    with pytest.raises(StreamError) as caught:
        parse_client_message(frame)
    assert caught.value.code == CloseCode.MALFORMED


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=64)
    | st.binary(max_size=80).map(lambda tail: b"MOT1" + tail)
    | st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)).map(
        lambda change: GOOD[: change[0]] + bytes([change[1]]) + GOOD[change[0] + 1 :]
    )
)
def test_no_bytes_do_more_than_be_refused(frame: bytes) -> None:
    try:
        message = parse_client_message(frame)
    except StreamError:
        return
    assert isinstance(message, Chunk)
    assert message.values_TC.size <= len(frame)


@pytest.mark.parametrize(
    ("output", "values", "said"),
    [
        (ClassesOutput(classes=("a", "b")), [0.25, 0.75], {"label": "b", "probability": 0.75}),
        (ValueOutput(of="hr", unit="bpm"), [70.5], {"value": 70.5}),
        (
            QuantilesOutput(of="hr", unit="bpm", horizon_s=5, quantiles=(0.1, 0.9)),
            [60.0, 80.0],
            {"quantiles": {"0.1": 60.0, "0.9": 80.0}},
        ),
    ],
)
def test_a_prediction_says_what_the_model_gives(output, values, said) -> None:
    frame = prediction_frame(
        number=2, start_s=1.0, end_s=2.0, resume=RESUME, output=output, values_K=np.array(values)
    )
    reply = parse_reply(frame)
    assert isinstance(reply, Prediction)
    assert (reply.number, reply.resume) == (2, RESUME)
    assert said.items() <= reply.model_dump().items()


def test_a_model_that_gives_nan_is_not_silent() -> None:
    with pytest.raises(MotoricError, match="no number for window 2"):
        prediction_frame(
            number=2,
            start_s=1.0,
            end_s=2.0,
            resume=RESUME,
            output=ClassesOutput(classes=("a", "b")),
            values_K=np.array([np.nan, 0.5]),
        )


def test_an_error_becomes_the_last_message_and_the_close_code() -> None:
    frame, code = failure_frame(StreamError("no", CloseCode.IDLE))
    assert (parse_reply(frame), code) == (
        Failure(code=4408, title="Stream closed", detail="no"),
        CloseCode.IDLE,
    )
    assert failure_frame(MotoricError("no"))[1] == CloseCode.INTERNAL
    assert failure_frame(MotoricError("going"), CloseCode.RESTART)[1] == 1012


@pytest.mark.parametrize("frame", ["", "{}", '{"type":"hello"}', '{"type":"acknowledged"}'])
def test_what_no_server_says_is_refused(frame: str) -> None:
    with pytest.raises(StreamError, match="is not understood"):
        parse_reply(frame)
