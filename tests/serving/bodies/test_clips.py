from __future__ import annotations

import io

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.artefact.signature import ClassesOutput, ClipInput, Signature
from motoric.core.errors import (
    InputError,
    MalformedBodyError,
    MotoricError,
    QueryError,
    TooLargeError,
)
from motoric.serving.bodies.requests import RequestDecoder
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE

SHAPE = (3, 4, 5, 3)
CLIP = ClipInput(num_frames=3, height=4, width=5)
SIGNATURE = Signature(inputs=(CLIP,), outputs=(ClassesOutput(classes=("a", "b")),))
DECODER = RequestDecoder(SIGNATURE, max_windows=4, max_bytes=10_000)


def clips_of(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE)).astype(np.uint8)


def npy(array: np.ndarray) -> bytes:
    sink = io.BytesIO()
    np.save(sink, array)
    return sink.getvalue()


def arrow(column: pa.Array, name: str = "clips", compression: str | None = None) -> bytes:
    batch = pa.record_batch({name: column})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as stream:
        stream.write_batch(batch)
    return sink.getvalue()


def fixed(array: np.ndarray, *sizes: int) -> pa.Array:
    column = pa.array(array.ravel())
    for size in reversed(sizes):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def bodies_of(clips: np.ndarray) -> list[tuple[bytes, bytes]]:
    return [
        (JSON_TYPE, orjson.dumps({"clips": clips.tolist()})),
        (RAW_TYPE, clips.tobytes()),
        (NPY_TYPE, npy(clips)),
        (NPY_TYPE, npy(np.asfortranarray(clips))),
        (ARROW_TYPE, arrow(pa.FixedShapeTensorArray.from_numpy_ndarray(clips))),
        (ARROW_TYPE, arrow(fixed(clips, clips[0].size), compression="lz4")),
        (ARROW_TYPE, arrow(fixed(clips, *SHAPE), compression="zstd")),
        (ARROW_TYPE, arrow(pa.array(clips.tolist(), _nested(pa.uint8())))),
        (
            ARROW_TYPE,
            arrow(pa.array([clip.ravel().tolist() for clip in clips], pa.list_(pa.uint8()))),
        ),
    ]


def _nested(kind: pa.DataType) -> pa.DataType:
    for _ in SHAPE:
        kind = pa.large_list(kind)
    return kind


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(0, 9))
def test_the_same_clips_arrive_in_every_form(num: int, seed: int) -> None:
    clips = clips_of(num, seed)
    for content_type, body in bodies_of(clips):
        (found,) = DECODER.parse(content_type, body)
        assert found.dtype == np.uint8
        assert found.flags.c_contiguous
        np.testing.assert_array_equal(found, clips)


def test_one_clip_needs_no_batch_axis() -> None:
    clip = clips_of(1)[0]
    for content_type, body in (
        (JSON_TYPE, orjson.dumps({"clips": clip.tolist()})),
        (NPY_TYPE, npy(clip)),
    ):
        (found,) = DECODER.parse(content_type, body)
        np.testing.assert_array_equal(found, clip[None])


def test_too_many_clips_are_refused_in_every_form() -> None:
    for content_type, body in bodies_of(clips_of(5)):
        with pytest.raises(TooLargeError, match="a request may have 4"):
            DECODER.parse(content_type, body)


def changed(place: tuple[int, ...], value: object) -> bytes:
    content = clips_of(2).tolist()
    inner = content
    for index in place[:-1]:
        inner = inner[index]
    inner[place[-1]] = value
    return orjson.dumps({"clips": content})


@pytest.mark.parametrize(
    ("content_type", "body", "error", "says"),
    [
        (JSON_TYPE, b"{", MalformedBodyError, "not JSON"),
        (JSON_TYPE, b"{}", MalformedBodyError, "not the one key 'clips'"),
        (JSON_TYPE, b'{"clips": [], "more": 1}', MalformedBodyError, "not the one key"),
        (JSON_TYPE, b'{"clips": 1}', InputError, "must be a list"),
        (JSON_TYPE, b'{"clips": []}', InputError, "no clips"),
        (JSON_TYPE, changed((0, 0, 0, 0, 0), 256), InputError, "0 to 255"),
        (JSON_TYPE, changed((0, 0, 0, 0, 0), -1), InputError, "0 to 255"),
        (JSON_TYPE, changed((1, 2, 3, 4, 2), 1.5), InputError, "0 to 255"),
        (JSON_TYPE, changed((1, 2, 3, 4, 2), None), InputError, "0 to 255"),
        (JSON_TYPE, changed((1, 2, 3, 4, 2), "7"), InputError, "0 to 255"),
        (JSON_TYPE, changed((1, 2, 3, 4, 2), True), InputError, "true or false"),
        (JSON_TYPE, changed((1, 2, 3, 4), [1, 2]), InputError, "5 deep"),
        (JSON_TYPE, changed((1, 2), "abcd"), InputError, "no list"),
        (JSON_TYPE, changed((1,), {"a": 1, "b": 2, "c": 3}), InputError, "no list"),
        (RAW_TYPE, b"", MalformedBodyError, "a clip has 180"),
        (RAW_TYPE, b"\0" * 181, MalformedBodyError, "a clip has 180"),
        (NPY_TYPE, npy(clips_of(1).astype("f4")), InputError, "send uint8"),
        (NPY_TYPE, npy(clips_of(1)[..., :1]), InputError, "frames x height x width x colours"),
        (NPY_TYPE, npy(clips_of(1))[:-1], MalformedBodyError, "cut off"),
        (ARROW_TYPE, arrow(fixed(clips_of(1), 180), "windows"), InputError, "columns are"),
        (ARROW_TYPE, arrow(fixed(clips_of(1).astype("i1"), 180)), InputError, "holds int"),
        (ARROW_TYPE, arrow(fixed(clips_of(1).astype("u2"), 180)), InputError, "holds int"),
        (ARROW_TYPE, arrow(fixed(clips_of(1).astype("f4"), 180)), InputError, "of uint8"),
        (ARROW_TYPE, arrow(fixed(clips_of(2), 360)), InputError, "lists of [360]"),
        (ARROW_TYPE, arrow(fixed(clips_of(1), 60, 3)), InputError, "2 levels"),
        (ARROW_TYPE, arrow(pa.array([None], pa.list_(pa.uint8(), 180))), InputError, "nulls"),
    ],
)
def test_clips_that_do_not_fit_are_refused_with_the_reason(
    content_type: bytes, body: bytes, error: type[MotoricError], says: str
) -> None:
    with pytest.raises(error) as caught:
        DECODER.parse(content_type, body)
    assert says in caught.value.message


def test_clips_have_no_query() -> None:
    with pytest.raises(QueryError, match="no query"):
        DECODER.parse(RAW_TYPE, clips_of(1).tobytes(), b"rate_hz=5")


def test_an_unknown_type_is_answered_with_those_there_are() -> None:
    with pytest.raises(MotoricError, match="text/plain") as caught:
        DECODER.parse(b"text/plain", b"")
    assert caught.value.status == 415


VALID = [each for each in bodies_of(clips_of(2)) if each[0] != JSON_TYPE]


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(VALID),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.binary(max_size=8)), max_size=4),
    st.integers(0, 8),
)
def test_changed_bodies_give_clips_or_a_refusal(
    valid: tuple[bytes, bytes], changes: list[tuple[float, bytes]], num_cut: int
) -> None:
    content_type, body = valid
    for share, content in changes:
        place = int(share * len(body))
        body = body[:place] + content + body[place + len(content) :]
    body = body[: len(body) - num_cut]
    try:
        (found,) = DECODER.parse(content_type, body)
    except (MalformedBodyError, InputError, TooLargeError):
        return
    assert found.shape[1:] == SHAPE
    assert 1 <= len(found) <= 4
