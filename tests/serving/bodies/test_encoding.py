from __future__ import annotations

import io
import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import CLASSES
from motoric.artefact.signature import ClassesOutput, QuantilesOutput, ValueOutput
from motoric.core.errors import MotoricError
from motoric.serving.bodies.encoding import (
    ANSWER_TYPES,
    ARROW_TYPE,
    JSON_TYPE,
    NPY_TYPE,
    RAW_TYPE,
    AnswerEncoder,
    NotAcceptableError,
    choose_type,
)
from motoric.serving.bodies.json_windows import AnswerWriter

ABOUT = {"model": "m", "version": 3, "digest": "sha256:0"}
OF_CLASSES = AnswerEncoder(**ABOUT, output=ClassesOutput(classes=CLASSES))
OF_VALUE = AnswerEncoder(**ABOUT, output=ValueOutput(of="heart_rate", unit="bpm"))
OF_QUANTILES = AnswerEncoder(
    **ABOUT,
    output=QuantilesOutput(of="heart_rate", unit="bpm", horizon_s=30.0, quantiles=(0.1, 0.5, 0.9)),
)
ROWS = np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]], dtype=np.float32)


def table_of(body: bytes) -> pa.Table:
    with pa.ipc.open_stream(body) as stream:
        return stream.read_all()


def test_json_is_that_of_the_protocol():
    expected = AnswerWriter(**ABOUT, classes=CLASSES).write(ROWS)
    assert OF_CLASSES.encode(JSON_TYPE, ROWS) == expected


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 12000), st.integers(1, 4))
def test_binary_answers_hold_the_numbers_of_the_model(num_windows, num_outputs):
    rows = np.random.default_rng(0).random((num_windows, num_outputs), np.float32)
    loaded = np.load(io.BytesIO(OF_CLASSES.encode(NPY_TYPE, rows)), allow_pickle=False)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, rows)
    raw = np.frombuffer(OF_CLASSES.encode(RAW_TYPE, rows), "<f4").reshape(rows.shape)
    np.testing.assert_array_equal(raw, rows)


def test_npy_is_what_numpy_writes():
    sink = io.BytesIO()
    np.save(sink, ROWS)
    assert OF_CLASSES.encode(NPY_TYPE, ROWS) == sink.getvalue()


def test_rows_in_fortran_order_are_written_in_c_order():
    fortran = np.asfortranarray(ROWS)
    for content_type in ANSWER_TYPES:
        expected = OF_CLASSES.encode(content_type, ROWS)
        assert OF_CLASSES.encode(content_type, fortran) == expected


def test_arrow_has_labels_probabilities_and_says_of_what():
    table = table_of(OF_CLASSES.encode(ARROW_TYPE, ROWS))
    assert table.schema.types == [pa.string(), pa.float32(), pa.list_(pa.float32(), 3)]
    assert table["label"].to_pylist() == ["rotate", "raise"]
    np.testing.assert_array_equal(table["probability"].to_numpy(), ROWS.max(axis=1))
    assert np.array_equal(np.array(table["probabilities"].to_pylist(), np.float32), ROWS)
    metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert metadata["model"] == "m"
    assert metadata["version"] == "3"
    assert metadata["digest"] == "sha256:0"
    assert json.loads(metadata["classes"]) == list(CLASSES)


def test_values_are_written_with_their_unit_in_every_form():
    rows = np.array([[3.2], [71.0]], np.float32)
    assert json.loads(OF_VALUE.encode(JSON_TYPE, rows)) == {
        **ABOUT,
        "predictions": [{"value": 3.2, "unit": "bpm"}, {"value": 71.0, "unit": "bpm"}],
    }
    table = table_of(OF_VALUE.encode(ARROW_TYPE, rows))
    assert table["value"].to_pylist() == rows[:, 0].tolist()
    assert table.schema.metadata[b"unit"] == b"bpm"


def test_quantiles_are_written_by_level_with_unit_and_horizon():
    rows = np.array([[60.1, 70.2, 80.3]], np.float32)
    (prediction,) = json.loads(OF_QUANTILES.encode(JSON_TYPE, rows))["predictions"]
    assert prediction == {
        "quantiles": {"0.1": 60.1, "0.5": 70.2, "0.9": 80.3},
        "unit": "bpm",
        "horizon_s": 30.0,
    }
    table = table_of(OF_QUANTILES.encode(ARROW_TYPE, rows))
    assert table["quantiles"].to_pylist() == rows.tolist()
    assert json.loads(table.schema.metadata[b"quantiles"]) == ["0.1", "0.5", "0.9"]
    assert table.schema.metadata[b"horizon_s"] == b"30.0"


@pytest.mark.parametrize("content_type", ANSWER_TYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_that_gives_no_number_gives_an_error_and_no_answer(content_type, value):
    for encoder, num in ((OF_CLASSES, 3), (OF_VALUE, 1), (OF_QUANTILES, 3)):
        rows = np.zeros((2, num), np.float32)
        rows[1, -1] = value
        with pytest.raises(MotoricError, match="NaN"):
            encoder.encode(content_type, rows)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, JSON_TYPE),
        (b"", JSON_TYPE),
        (b"*/*", JSON_TYPE),
        (b"application/*", JSON_TYPE),
        (b"Application/JSON; charset=utf-8", JSON_TYPE),
        (b"application/x-npy", NPY_TYPE),
        (b"application/octet-stream", RAW_TYPE),
        (b"application/vnd.apache.arrow.stream", ARROW_TYPE),
        (b"application/json;q=0.5, application/x-npy", NPY_TYPE),
        (b"application/json;q=0.5, application/x-npy;q=0.4", JSON_TYPE),
        (b"application/x-npy, */*;q=0.1", NPY_TYPE),
        (b"*/*, application/x-npy", NPY_TYPE),
        (b"application/octet-stream, application/x-npy", RAW_TYPE),
        (b"application/json;q=0, */*", NPY_TYPE),
        (b"text/html, application/xhtml+xml, */*;q=0.8", JSON_TYPE),
        (b"text/html, application/x-npy;q=0.2", NPY_TYPE),
        (b"application/x-npy;q=nonsense, application/json;q=0.3", JSON_TYPE),
        (b",, application/x-npy ; q=1.000 ,", NPY_TYPE),
    ],
)
def test_the_answer_is_what_the_client_likes_best(accept, chosen):
    assert choose_type(accept) == chosen


@pytest.mark.parametrize(
    "accept",
    [b"text/html", b"*/*;q=0", b"application/json;q=0", b"image/*, text/*", b"a/b," * 2000],
)
def test_what_cannot_be_had_is_answered_with_what_there_is(accept):
    with pytest.raises(NotAcceptableError) as caught:
        choose_type(accept)
    assert caught.value.status == 406
    assert all(name.decode() in caught.value.message for name in ANSWER_TYPES)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=60) | st.text("aplicton/*;q=01., jsx-", max_size=60).map(str.encode))
def test_any_accept_header_is_answered_or_refused(accept):
    try:
        chosen = choose_type(accept)
    except NotAcceptableError:
        return
    assert chosen in ANSWER_TYPES
