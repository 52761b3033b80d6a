from __future__ import annotations

import json

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import CLASSES, NUM_CHANNELS, NUM_SAMPLES, small_signature, window_of
from motoric.core.errors import InputError, MalformedBodyError, MotoricError
from motoric.serving.bodies.json_windows import AnswerWriter, WindowParser

PARSER = WindowParser(small_signature().sensors)
numbers = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32), st.integers(-(2**40), 2**40)
)


def body_of(windows) -> bytes:
    return orjson.dumps({"windows": windows})


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(
            st.lists(numbers, min_size=NUM_CHANNELS, max_size=NUM_CHANNELS),
            min_size=NUM_SAMPLES,
            max_size=NUM_SAMPLES,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_windows_arrive_as_they_were_sent(windows):
    parsed = PARSER.parse(body_of(windows))
    assert parsed.dtype == np.float32
    np.testing.assert_array_equal(parsed, np.array(windows, dtype=np.float64).astype(np.float32))


def test_one_window_may_come_without_its_batch_axis():
    window = window_of(1)
    np.testing.assert_array_equal(PARSER.parse(body_of(window)), PARSER.parse(body_of([window])))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "the body is empty"),
        (b"{", "not JSON"),
        (b'{"windows": [[[NaN]]]}', "NaN or Infinity, which JSON does not have"),
        (b'{"windows": [[[-Infinity]]]}', "NaN or Infinity, which JSON does not have"),
        (b"[1]", "must be a JSON object, not a list"),
        (b'"windows"', "must be a JSON object, not a string"),
        (b"{}", "lacks the key 'windows'"),
        (b'{"window": 1}', "lacks the key 'windows' (it has 'window')"),
        (b'{"windows": [], "model": "x"}', "unknown key 'model'"),
    ],
)
def test_a_body_that_is_not_the_protocol_is_malformed(body, says):
    with pytest.raises(MalformedBodyError) as caught:
        PARSER.parse(body)
    assert says in caught.value.message


def changed(value) -> list[list[list[object]]]:
    window: list[list[object]] = [list(sample) for sample in window_of(0)]
    window[2][3] = value
    return [window]


@pytest.mark.parametrize(
    ("windows", "says"),
    [
        ([], "is empty"),
        ("abc", "not a string"),
        (None, "not null"),
        ([window_of(0)[:-1]], "must have shape [10, 4]"),
        ([[[1.0] * 5] * 10], "got [10, 5]"),
        ([[]], "must have shape [10, 4]"),
        ([1.0, 2.0], "must have shape [10, 4]"),
        ([window_of(0), window_of(0)[:-1]], "ragged"),
        ([[*window_of(0)[:-1], [1.0]]], "ragged"),
        (changed(None), "windows[0][2][3] is null"),
        (changed("1.5"), "windows[0][2][3] is a string"),
        (changed(True), "windows[0][2][3] is true or false"),
        (changed({}), "windows[0][2][3] is an object"),
        (changed([1.0]), "windows[0][2][3] is a list"),
        (changed(1e39), "sample 2, channel acc_w"),
        ([["abcd"] * 10], "windows[0][0] is a string"),
        ([[{"a": 1, "b": 2, "c": 3, "d": 4}] * 10], "windows[0][0] is an object"),
    ],
)
def test_windows_that_do_not_fit_are_refused_with_the_reason(windows, says):
    with pytest.raises(InputError) as caught:
        PARSER.parse(body_of(windows))
    assert says in caught.value.message


def test_deep_nesting_is_refused():
    with pytest.raises(InputError, match="nested"):
        PARSER.parse(b'{"windows":' + b"[" * 900 + b"]" * 900 + b"}")


@given(
    st.recursive(st.one_of(numbers, st.none(), st.booleans(), st.text()), st.lists, max_leaves=20)
)
def test_any_json_is_parsed_or_refused_as_a_user_error(value):
    try:
        parsed = PARSER.parse(body_of(value))
    except (InputError, MalformedBodyError):
        return
    assert parsed.shape[1:] == (NUM_SAMPLES, NUM_CHANNELS)


def writer() -> AnswerWriter:
    return AnswerWriter(model="m", version=3, digest="sha256:0", classes=CLASSES)


def test_an_answer_names_model_version_digest_and_all_classes():
    rows = np.array([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]], dtype=np.float32)
    assert json.loads(writer().write(rows)) == {
        "model": "m",
        "version": 3,
        "digest": "sha256:0",
        "predictions": [
            {
                "label": "rotate",
                "probability": 0.7,
                "probabilities": {"raise": 0.2, "rotate": 0.7, "rest": 0.1},
            },
            {
                "label": "raise",
                "probability": 0.5,
                "probabilities": {"raise": 0.5, "rotate": 0.25, "rest": 0.25},
            },
        ],
    }


def test_the_label_is_the_class_of_the_highest_probability_before_rounding():
    rows = np.array([[0.33333330, 0.33333336, 0.33333334]], dtype=np.float32)
    (prediction,) = json.loads(writer().write(rows))["predictions"]
    assert len(set(prediction["probabilities"].values())) == 1
    assert prediction["label"] == "rotate"


def test_a_model_that_gives_nan_gives_an_error_and_no_answer():
    with pytest.raises(MotoricError, match="NaN"):
        writer().write(np.array([[np.nan, 0, 0]], dtype=np.float32))
