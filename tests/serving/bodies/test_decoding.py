from __future__ import annotations

import ast
import inspect
import io
import struct
import tracemalloc

import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import NUM_CHANNELS, NUM_SAMPLES, small_signature
from motoric.core.errors import InputError, MalformedBodyError, MotoricError, TooLargeError
from motoric.serving.bodies import adaptation, arrow_stream, decoding, encoding
from motoric.serving.bodies.decoding import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE, BodyDecoder

SENSORS = small_signature().sensors
MAX_WINDOWS = 8
DECODER = BodyDecoder(SENSORS, max_windows=MAX_WINDOWS)
SHAPE = (NUM_SAMPLES, NUM_CHANNELS)
NUM_VALUES = NUM_SAMPLES * NUM_CHANNELS


def windows_of(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(num, *SHAPE)).astype(np.float32)


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    sink = io.BytesIO()
    np.lib.format.write_array(sink, array, version=version)
    return sink.getvalue()


def npy_of_header(header: str, values: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + values


def fixed(array: np.ndarray, *sizes: int) -> pa.Array:
    column = pa.array(np.ascontiguousarray(array).ravel())
    for size in reversed(sizes):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


def tensors(array: np.ndarray) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(array))


def arrow(*columns: pa.Array, name: str = "windows", compression: str | None = None) -> bytes:
    batches = [pa.record_batch({name: column}) for column in columns]
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batches[0].schema, options=options) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return sink.getvalue()


def bodies_of(windows: np.ndarray) -> list[tuple[bytes, bytes]]:
    halves = (windows[: len(windows) // 2], windows[len(windows) // 2 :])
    return [
        (JSON_TYPE, orjson.dumps({"windows": windows.astype(np.float64).tolist()})),
        (RAW_TYPE, windows.tobytes()),
        *((NPY_TYPE, npy(windows, version)) for version in ((1, 0), (2, 0), (3, 0))),
        (NPY_TYPE, npy(np.asfortranarray(windows))),
        (NPY_TYPE, npy(windows.astype(np.float64))),
        (ARROW_TYPE, arrow(tensors(windows))),
        (ARROW_TYPE, arrow(tensors(windows), compression="lz4")),
        (ARROW_TYPE, arrow(tensors(windows), compression="zstd")),
        (ARROW_TYPE, arrow(*(fixed(half, NUM_VALUES) for half in halves))),
        (ARROW_TYPE, arrow(fixed(windows, *SHAPE))),
        (ARROW_TYPE, arrow(fixed(windows.astype(np.float64), *SHAPE))),
        (ARROW_TYPE, arrow(pa.array(windows.tolist()), compression="zstd")),
        (ARROW_TYPE, arrow(pa.array(windows.tolist(), pa.large_list(pa.list_(pa.float32()))))),
        (ARROW_TYPE, arrow(pa.array(windows.reshape(len(windows), -1).tolist()))),
    ]


@settings(max_examples=10, deadline=None)
@given(st.integers(1, MAX_WINDOWS), st.integers(0, 9))
def test_the_same_windows_arrive_in_every_form(num, seed):
    windows = windows_of(num, seed)
    for content_type, body in bodies_of(windows):
        parsed = DECODER.parse(content_type, body)
        assert parsed.dtype == np.float32
        assert parsed.flags.c_contiguous
        assert parsed.flags.aligned
        np.testing.assert_array_equal(parsed, windows)


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2"])
def test_npy_of_small_numbers_arrives_as_it_is(dtype):
    windows = (np.arange(2 * NUM_VALUES) % 100).astype(dtype).reshape(2, *SHAPE)
    np.testing.assert_array_equal(DECODER.parse(NPY_TYPE, npy(windows)), windows)


def test_one_npy_window_may_come_without_its_batch_axis():
    window = windows_of(1)[0]
    np.testing.assert_array_equal(DECODER.parse(NPY_TYPE, npy(window))[0], window)


def test_a_slice_of_an_arrow_column_arrives_as_the_slice():
    windows = windows_of(6)
    for column in (tensors(windows), fixed(windows, *SHAPE), pa.array(windows.tolist())):
        parsed = DECODER.parse(ARROW_TYPE, arrow(column.slice(2, 3)))
        np.testing.assert_array_equal(parsed, windows[2:5])


def test_an_arrow_stream_may_end_without_its_mark():
    windows = windows_of(2)
    body = arrow(tensors(windows)).removesuffix(b"\xff\xff\xff\xff\0\0\0\0")
    np.testing.assert_array_equal(DECODER.parse(ARROW_TYPE, body), windows)


def test_the_raw_values_of_one_window_are_not_copied():
    body = windows_of(1).tobytes()
    parsed = DECODER.parse(RAW_TYPE, body)
    assert np.shares_memory(parsed, np.frombuffer(body, np.uint8))


def test_values_whose_sum_overflows_are_finite():
    windows = np.full((1, *SHAPE), 3e38, np.float32)
    np.testing.assert_array_equal(DECODER.parse(RAW_TYPE, windows.tobytes()), windows)


@pytest.mark.parametrize("content_type", [b"Application/JSON; charset=utf-8", None, b""])
def test_json_may_be_named_in_other_ways(content_type):
    windows = windows_of(1)
    body = orjson.dumps({"windows": windows.tolist()})
    if content_type == b"":
        with pytest.raises(MotoricError) as caught:
            DECODER.parse(content_type, body)
        assert caught.value.status == 415
    else:
        np.testing.assert_array_equal(DECODER.parse(content_type, body), windows)


def test_an_unknown_type_is_answered_with_those_there_are():
    with pytest.raises(MotoricError) as caught:
        DECODER.parse(b"application/x-www-form-urlencoded", b"{}")
    assert caught.value.status == 415
    assert "application/x-npy" in caught.value.message
    assert "application/x-www-form-urlencoded" in caught.value.message


def test_too_many_windows_are_refused_in_every_form():
    for content_type, body in bodies_of(windows_of(MAX_WINDOWS + 2)):
        with pytest.raises(TooLargeError, match="a request may have 8"):
            DECODER.parse(content_type, body)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named_by_its_place_in_every_binary_form(value):
    windows = windows_of(4)
    windows[2, 3, 1] = value
    for content_type, body in bodies_of(windows)[1:]:
        with pytest.raises(InputError, match="window 2, sample 3, channel acc_y"):
            DECODER.parse(content_type, body)


@pytest.mark.parametrize("index", range(len(bodies_of(windows_of(2)))))
def test_a_body_that_is_cut_off_anywhere_is_refused(index):
    content_type, body = bodies_of(windows_of(2))[index]
    unmarked = len(body) - 8  # an Arrow stream may lack its end
    for length in range(0, len(body), 1 + len(body) // 60):
        if content_type == ARROW_TYPE and length >= unmarked:
            continue
        if content_type == RAW_TYPE and length == len(body) // 2:
            continue
        with pytest.raises((MalformedBodyError, InputError)):
            DECODER.parse(content_type, body[:length])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "does not start as a .npy"),
        (b"\x93NUMPY\x04\x00" + b"\0" * 80, "version 4.0 is unknown"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "at most 4096"),
        (npy(np.zeros((1, *SHAPE), ">f4")), "'>f4' is not taken"),
        (npy(np.zeros((1, *SHAPE), "<c8")), "'<c8' is not taken"),
        (npy(np.zeros((1, *SHAPE), bool)), "'|b1' is not taken"),
        (npy_of_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"), "'|O'"),
        (npy(np.zeros((1, *SHAPE), [("a", "<f4")])), "structured"),
        (npy_of_header("{'descr': __import__('os'), 'shape': ()}"), "header is not read"),
        (npy_of_header("(" * 4000), "no dictionary"),
        (npy(np.zeros((1, NUM_SAMPLES, 3), "f4")), "10 samples, 4 channels"),
        (npy(np.zeros(NUM_VALUES, "f4")), "the shape is [40]"),
        (npy(np.zeros((0, *SHAPE), "f4")), "no windows were sent"),
        (
            npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (9, 9, 9, 10, 4)}"),
            "the shape is",
        ),
        (
            npy_of_header("{'descr': '<f4', 'fortran_order': False, 'shape': (8, 10, 4)}"),
            "1280 bytes of float32 in shape [8, 10, 4], and 0 follow",
        ),
        (npy(windows_of(1)) + b"more", "and 164 follow"),
    ],
)
def test_an_npy_that_does_not_fit_is_refused_with_the_reason(body, says):
    with pytest.raises((MalformedBodyError, InputError)) as caught:
        DECODER.parse(NPY_TYPE, body)
    assert says in caught.value.message


def nulls() -> pa.Array:
    return pa.array([windows_of(1)[0].ravel().tolist(), None], pa.list_(pa.float32(), NUM_VALUES))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: b"", "holds no schema"),
        (lambda: b"ARROW1\0\0", "this is a file"),
        (lambda: b"{}      ", "no message stands at byte 0"),
        (lambda: arrow(tensors(windows_of(1)), name="samples"), "the columns are ['samples']"),
        (lambda: arrow(pa.array([1.0])), "float in 0 levels of lists"),
        (lambda: arrow(pa.array(["a"])), "holds utf8"),
        (lambda: arrow(fixed(np.zeros((1, *SHAPE), np.int32), *SHAPE)), "holds int in 2 levels"),
        (lambda: arrow(pa.array([[[[1.0]]]])), "holds type 12 in 2 levels"),
        (lambda: arrow(pa.array(["a"]).dictionary_encode()), "Arrow"),
        (lambda: arrow(fixed(np.zeros((1, 10, 3)), 10, 3)), "a window has [10, 4]"),
        (lambda: arrow(tensors(np.zeros((1, 4, 10)))), "tensors of [4, 10]"),
        (lambda: arrow(pa.array([[[1.0, 2, 3, 4]]])), "ragged: each list must have 10 items"),
        (nulls, "nulls"),
        (lambda: arrow(pa.array([[None] * NUM_VALUES], pa.list_(pa.float32()))), "nulls"),
        (lambda: arrow(fixed(windows_of(2), 2 * NUM_VALUES)), "lists of [80]"),
    ],
)
def test_an_arrow_stream_that_does_not_fit_is_refused_with_the_reason(make, says):
    made = make()
    body = made if isinstance(made, bytes) else arrow(made)
    with pytest.raises((MalformedBodyError, InputError)) as caught:
        DECODER.parse(ARROW_TYPE, body)
    assert says in caught.value.message


def test_extension_types_other_than_the_tensor_are_refused_and_never_built():
    column = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16], pa.binary(16)))
    with pytest.raises(InputError, match=r"'arrow\.uuid'"):
        DECODER.parse(ARROW_TYPE, arrow(column))


def test_permuted_tensors_are_refused():
    kind = pa.fixed_shape_tensor(pa.float32(), SHAPE, permutation=[1, 0])
    column = pa.ExtensionArray.from_storage(kind, fixed(windows_of(1), NUM_VALUES))
    with pytest.raises(InputError, match="permuted"):
        DECODER.parse(ARROW_TYPE, arrow(column))


def test_many_empty_batches_are_refused():
    empty = tensors(windows_of(1)).slice(0, 0)
    with pytest.raises(TooLargeError):
        DECODER.parse(ARROW_TYPE, arrow(*[empty] * (MAX_WINDOWS + 3)))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(codec):
    bomb = arrow(fixed(np.zeros((2000, *SHAPE)), NUM_VALUES), compression=codec)
    small = BodyDecoder(SENSORS, max_windows=10_000, max_bytes=1000)
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="a request may have"):
            DECODER.parse(ARROW_TYPE, bomb)
        with pytest.raises(TooLargeError, match="unpacks to too much"):
            small.parse(ARROW_TYPE, bomb)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
@pytest.mark.parametrize("more", [1, 40, 2**40, -5])
def test_a_compressed_buffer_that_lies_about_its_length_is_refused(codec, more):
    body = arrow(fixed(np.zeros((2, *SHAPE)), NUM_VALUES), compression=codec)
    length = 2 * NUM_VALUES * 8
    assert body.count(struct.pack("<q", length)) == 1
    lying = body.replace(struct.pack("<q", length), struct.pack("<q", length + more))
    with pytest.raises(MalformedBodyError, match=r"Arrow: a (compressed )?buffer"):
        DECODER.parse(ARROW_TYPE, lying)


VALID = [(kind, body) for kind, body in bodies_of(windows_of(2)) if kind != JSON_TYPE]
mutations = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from("sdi"), st.binary(max_size=8)),
    min_size=1,
    max_size=4,
)


def mutated(body: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for share, how, content in changes:
        place = int(share * len(body))
        skipped = {"s": len(content), "d": 1 + len(content), "i": 0}[how]
        body = body[:place] + (b"" if how == "d" else content) + body[place + skipped :]
    return body


def assert_windows_or_refusal(content_type: bytes, body: bytes) -> None:
    try:
        parsed = DECODER.parse(content_type, body)
    except (MalformedBodyError, InputError, TooLargeError):
        return
    assert parsed.dtype == np.float32
    assert parsed.shape[1:] == SHAPE
    assert 1 <= len(parsed) <= MAX_WINDOWS
    assert np.isfinite(parsed).all()


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(VALID), mutations)
def test_changed_bodies_give_windows_or_a_refusal(valid, changes):
    content_type, body = valid
    assert_windows_or_refusal(content_type, mutated(body, changes))


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([kind for kind in VALID if kind[0] == ARROW_TYPE]),
    st.integers(0, 199),
    st.sampled_from([0, 1, 4, 16, 0xFF, 0xFFFF, 2**31, 2**32 - 1, 2**32 - 8]),
)
def test_changed_offsets_of_arrow_metadata_give_windows_or_a_refusal(valid, word, value):
    content_type, body = valid
    place = 4 * word % (len(body) - 4)
    body = body[:place] + struct.pack("<I", value) + body[place + 4 :]
    assert_windows_or_refusal(content_type, body)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([RAW_TYPE, NPY_TYPE, ARROW_TYPE]),
    st.sampled_from([b"", b"\x93NUMPY\x01\x00", b"\xff\xff\xff\xff", b"ARROW1"]),
    st.binary(max_size=400),
)
def test_any_bytes_give_windows_or_a_refusal(content_type, start, rest):
    assert_windows_or_refusal(content_type, start + rest)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(VALID), mutations)
def test_no_changed_body_takes_more_memory_than_the_limits_say(valid, changes):
    content_type, body = valid
    body = mutated(body, changes)
    tracemalloc.start()
    try:
        assert_windows_or_refusal(content_type, body)
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("module", [adaptation, arrow_stream, decoding, encoding])
def test_pyarrow_and_scipy_are_loaded_where_they_are_needed_only(module):
    tree = ast.parse(inspect.getsource(module))
    names = [
        alias.name
        for node in tree.body
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    ]
    modules = [node.module for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert names
    assert not [name for name in (*names, *modules) if name and name.startswith(("pyarrow", "sci"))]
