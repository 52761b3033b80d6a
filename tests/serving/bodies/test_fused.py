from __future__ import annotations

from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import small_signature
from motoric.artefact.signature import ClipInput, Signature
from motoric.core.errors import InputError, MalformedBodyError, TooLargeError
from motoric.serving.bodies.encoding import AnswerEncoder
from motoric.serving.bodies.requests import RequestDecoder
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE

WINDOW, CLIP = (10, 4), (3, 4, 5, 3)


def signature(*, may_lack_windows: bool = True, may_lack_clips: bool = True) -> Signature:
    small = small_signature(optional=may_lack_windows)
    clip = ClipInput(num_frames=3, height=4, width=5, optional=may_lack_clips)
    return small.model_copy(update={"inputs": (small.sensors, clip)})


DECODER = RequestDecoder(signature(), max_windows=4, max_bytes=20_000)
BOTH = RequestDecoder(signature(may_lack_windows=False, may_lack_clips=False), max_windows=4)
RNG = np.random.default_rng(0)
WINDOWS = RNG.normal(size=(3, *WINDOW)).astype(np.float32)
CLIPS = RNG.integers(0, 256, (3, *CLIP)).astype(np.uint8)


def body(**keys: Any) -> bytes:
    return orjson.dumps(keys, option=orjson.OPT_SERIALIZE_NUMPY)


def stream(columns: dict[str, pa.Array], compression: str | None = None) -> bytes:
    batch = pa.record_batch(columns)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def fixed(rows: list[Any], kind: pa.DataType, size: int) -> pa.Array:
    flat = [None if row is None else np.ravel(row).tolist() for row in rows]
    return pa.array(flat, pa.list_(kind, size))


def tensor(rows: list[Any], kind: pa.DataType, shape: tuple[int, ...]) -> pa.Array:
    storage = fixed(rows, kind, int(np.prod(shape)))
    return pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(kind, shape), storage)


def lists(rows: list[Any], kind: pa.DataType) -> pa.Array:
    return pa.array(
        [None if row is None else np.ravel(row).tolist() for row in rows], pa.list_(kind)
    )


FORMS = {
    "json": lambda w, c: (JSON_TYPE, body(windows=w, clips=c)),
    "tensors": lambda w, c: (
        ARROW_TYPE,
        stream({"windows": tensor(w, pa.float32(), WINDOW), "clips": tensor(c, pa.uint8(), CLIP)}),
    ),
    "fixed lists": lambda w, c: (
        ARROW_TYPE,
        stream({"clips": fixed(c, pa.uint8(), 180), "windows": fixed(w, pa.float64(), 40)}, "zstd"),
    ),
    "lists": lambda w, c: (
        ARROW_TYPE,
        stream({"clips": lists(c, pa.uint8()), "windows": lists(w, pa.float32())}, "lz4"),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=15, deadline=None)
@given(present=st.lists(st.sampled_from([(1, 0), (0, 1), (1, 1)]), min_size=1, max_size=4))
def test_examples_with_either_or_both_arrive_in_every_form(
    form: str, present: list[tuple[int, int]]
) -> None:
    windows = [WINDOWS[i % 3] if has else None for i, (has, _) in enumerate(present)]
    clips = [CLIPS[i % 3] if has else None for i, (_, has) in enumerate(present)]
    windows_BTC, clips_BTHWC, present_B2 = DECODER.parse(*FORMS[form](windows, clips))
    np.testing.assert_array_equal(present_B2, np.array(present, bool))
    assert windows_BTC.dtype == np.float32
    assert clips_BTHWC.dtype == np.uint8
    for index in range(len(present)):
        expected = 0 if windows[index] is None else windows[index]
        np.testing.assert_array_equal(windows_BTC[index], np.broadcast_to(expected, WINDOW))
        expected = 0 if clips[index] is None else clips[index]
        np.testing.assert_array_equal(clips_BTHWC[index], np.broadcast_to(expected, CLIP))


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        (JSON_TYPE, body(windows=WINDOWS)),
        (None, body(windows=WINDOWS[0])),
        (RAW_TYPE, WINDOWS.tobytes()),
        (ARROW_TYPE, stream({"windows": tensor(list(WINDOWS), pa.float32(), WINDOW)})),
    ],
)
def test_windows_alone_are_taken_where_clips_may_be_missing(
    content_type: bytes | None, content: bytes
) -> None:
    windows_BTC, _, present_B2 = DECODER.parse(content_type, content)
    np.testing.assert_array_equal(windows_BTC, WINDOWS[: len(windows_BTC)])
    assert present_B2.tolist() == [[True, False]] * len(windows_BTC)
    with pytest.raises(InputError, match="needs clips"):
        BOTH.parse(content_type, content)


def test_clips_alone_are_taken_where_windows_may_be_missing() -> None:
    content = body(clips=CLIPS)
    assert DECODER.parse(JSON_TYPE, content)[2].tolist() == [[False, True]] * 3
    with pytest.raises(InputError, match="needs windows"):
        BOTH.parse(JSON_TYPE, content)


def test_present_leaves_out_what_was_sent() -> None:
    said = [[True, True], [False, True], [True, False]]
    found = DECODER.parse(JSON_TYPE, body(windows=WINDOWS, clips=CLIPS, present=said))
    assert found[2].tolist() == said


def test_windows_in_other_units_and_rates_are_adapted() -> None:
    doubled = np.repeat(WINDOWS, 2, axis=1)
    by_key = DECODER.parse(JSON_TYPE, body(windows=doubled, clips=CLIPS, rate_hz=20))
    by_query = DECODER.parse(JSON_TYPE, body(windows=doubled, clips=CLIPS), b"rate_hz=20")
    columns = {"windows": tensor(list(doubled), pa.float32(), (20, 4))}
    by_arrow = DECODER.parse(ARROW_TYPE, stream(columns), b"rate_hz=20")
    assert by_key[0].shape == (3, *WINDOW)
    for other in (by_query, by_arrow):
        np.testing.assert_array_equal(by_key[0], other[0])


@pytest.mark.parametrize(
    ("content", "error", "says"),
    [
        (b"{", MalformedBodyError, "not JSON"),
        (b"[]", MalformedBodyError, "JSON object"),
        (b"{}", InputError, "neither windows nor clips"),
        (body(windows=[], clips=[]), InputError, "neither windows nor clips"),
        (body(windows=None), InputError, "neither windows nor clips"),
        (body(windows=WINDOWS, more=1), MalformedBodyError, "unknown key 'more'"),
        (body(windows=WINDOWS, clips=CLIPS[:2]), InputError, "2 and 3 windows and clips"),
        (body(windows=[None], clips=[None]), InputError, "example 0 has neither"),
        (body(windows=WINDOWS, clips=7), InputError, "'clips' must be a list"),
        (body(windows=WINDOWS, present=[[1, 0]] * 3), InputError, "pairs of true and false"),
        (body(windows=WINDOWS, present=[[True, True]] * 3), InputError, "that was not sent"),
        (body(windows=WINDOWS, present=[[True, False]]), InputError, "3 pairs"),
        (body(windows=WINDOWS, present=[[False, False]] * 3), InputError, "example 0 has neither"),
        (body(clips=[np.ones(CLIP, bool).tolist()]), InputError, "true or false"),
        (body(windows=[[[1.0]]]), InputError, "[10, 4]"),
        (body(windows=[None] * 5, clips=[None] * 5), TooLargeError, "a request may have 4"),
    ],
)
def test_bodies_that_do_not_fit_are_refused_with_the_reason(
    content: bytes, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        DECODER.parse(JSON_TYPE, content)
    assert says in str(caught.value)


def test_a_null_in_the_middle_of_ragged_lists_is_refused() -> None:
    columns = {"windows": pa.array([[1.0] * 40, None, [1.0] * 39], pa.list_(pa.float32()))}
    with pytest.raises(InputError, match="ragged"):
        DECODER.parse(ARROW_TYPE, stream(columns))


def test_windows_that_are_not_finite_are_named_by_their_place() -> None:
    windows = WINDOWS.copy()
    windows[1, 2, 3] = np.nan
    columns = {"windows": tensor(list(windows), pa.float32(), WINDOW)}
    with pytest.raises(InputError, match="window 1, sample 2, channel acc_w"):
        DECODER.parse(ARROW_TYPE, stream(columns))


VALID = [FORMS[form]([WINDOWS[0], None, WINDOWS[1]], [None, CLIPS[0], CLIPS[1]]) for form in FORMS]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([each for each in VALID if each[0] == ARROW_TYPE]),
    st.integers(0, 299),
    st.sampled_from([0, 1, 2, 3, 4, 16, 0xFF, 0xFFFF, 2**31, 2**32 - 1, 2**32 - 8]),
    st.integers(0, 40),
)
def test_changed_streams_give_examples_or_a_refusal(
    valid: tuple[bytes, bytes], word: int, value: int, num_cut: int
) -> None:
    content_type, content = valid
    place = 4 * word % (len(content) - 4)
    content = content[:place] + value.to_bytes(4, "little") + content[place + 4 :]
    if num_cut > 20:
        content = content[: -(num_cut - 20)]
    try:
        windows_BTC, clips_BTHWC, present_B2 = DECODER.parse(content_type, content)
    except (MalformedBodyError, InputError, TooLargeError):
        return
    assert len(windows_BTC) == len(clips_BTHWC) == len(present_B2) <= 4
    assert present_B2.any(axis=1).all()
    assert np.isfinite(windows_BTC).all()


def test_answers_of_a_fused_model_name_the_inputs_of_each_example() -> None:
    encoder = AnswerEncoder(model="m", version=1, digest="d", output=signature().output)
    outputs_BK = np.full((3, 3), 1 / 3, np.float32)
    present_B2 = np.array([[True, True], [True, False], [False, True]])
    answer = orjson.loads(encoder.encode(JSON_TYPE, outputs_BK, present_B2))
    found = [item["inputs"] for item in answer["predictions"]]
    assert found == [["windows", "clips"], ["windows"], ["clips"]]
    alone = orjson.loads(encoder.encode(JSON_TYPE, outputs_BK))
    assert all("inputs" not in item for item in alone["predictions"])
    assert encoder.encode(NPY_TYPE, outputs_BK, present_B2)[:6] == b"\x93NUMPY"
