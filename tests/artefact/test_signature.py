from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    ClipInput,
    Normaliser,
    QuantilesOutput,
    SensorInput,
    Signature,
    ValueOutput,
    parse_signature,
)
from motoric.core.errors import ArtefactError

ACC = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")
SENSORS = SensorInput(channels=ACC, rate_hz=50.0, length_s=2.0, hop_s=1.0, context_s=0.5)
CLIP = ClipInput(num_frames=8, height=16, width=24, length_s=2.0, hop_s=1.0)
CLASSES = ClassesOutput(classes=("a", "b"))
VALUE = ValueOutput(of="speed", unit="m/s")
QUANTILES = QuantilesOutput(of="acc_x", unit="m/s^2", horizon_s=5, quantiles=(0.1, 0.5, 0.9))


@pytest.mark.parametrize(
    ("task", "inputs", "output"),
    [
        ("classify", (SENSORS,), CLASSES),
        ("classify", (CLIP,), CLASSES),
        ("classify", (SENSORS, CLIP), CLASSES),
        ("regress", (SENSORS,), VALUE),
        ("forecast", (SENSORS,), QUANTILES),
    ],
)
def test_a_signature_comes_back_from_its_file(task: Any, inputs: Any, output: Any) -> None:
    signature = Signature(task=task, inputs=inputs, outputs=(output,))
    assert parse_signature(signature.model_dump_json().encode(), "s.json") == signature
    assert signature.sensor_input == (SENSORS if SENSORS in inputs else None)
    assert signature.clip_input == (CLIP if CLIP in inputs else None)
    assert signature.output == output


def test_what_is_asked_of_the_wrong_kind_of_model_is_an_error() -> None:
    clips = Signature(inputs=(CLIP,), outputs=(CLASSES,))
    with pytest.raises(ArtefactError, match="no sensor windows"):
        _ = clips.sensors
    values = Signature(task="regress", inputs=(SENSORS,), outputs=(VALUE,))
    with pytest.raises(ArtefactError, match="gives value, and no classes"):
        _ = values.classes


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "regress"}, "task regress gives value, not classes"),
        ({"inputs": [SENSORS.model_dump()] * 2}, "at most one sensor input and one clip"),
        ({"inputs": []}, "inputs"),
        ({"outputs": [VALUE.model_dump()]}, "task classify gives classes, not value"),
        ({"more": 1}, "unknown key more"),
        (
            {"preprocessing": {"steps": [{"step": "low_pass", "cutoff_hz": 25.0}]}},
            "below half the rate",
        ),
        (
            {"preprocessing": {"normaliser": {"mean": [0, 0], "std": [1, 1]}}},
            "the normaliser has 2 channels, the steps give 3",
        ),
        (
            {
                "preprocessing": {
                    "steps": [{"step": "gravity_split"}],
                    "normaliser": {"mean": [0] * 3, "std": [1] * 3},
                }
            },
            "the normaliser has 3 channels, the steps give 6",
        ),
        ({"preprocessing": {"normaliser": {"mean": [0], "std": [0]}}}, "above 0"),
    ],
)
def test_a_signature_that_contradicts_itself_is_refused(
    change: dict[str, Any], message: str
) -> None:
    content = Signature(inputs=(SENSORS,), outputs=(CLASSES,)).model_dump() | change
    text = repr_json(content)
    with pytest.raises(ArtefactError, match=f"s.json: .*{message}"):
        parse_signature(text, "s.json")


def repr_json(content: dict[str, Any]) -> bytes:
    return json.dumps(content).encode()


def test_old_signatures_without_new_fields_are_read() -> None:
    text = b"""{"inputs": [{"kind": "sensor", "name": "imu", "channels": [{"name": "x",
        "unit": "g"}], "rate_hz": 10, "length_s": 2, "hop_s": 1}],
        "outputs": [{"kind": "classes", "classes": ["a", "b"]}]}"""
    signature = parse_signature(text, "s.json")
    assert signature.task == "classify"
    assert signature.sensors.span == "window"
    assert not signature.sensors.optional
    assert signature.sensors.num_context_samples == 0


@settings(max_examples=30, deadline=None)
@given(
    rate_hz=st.floats(0.5, 1000),
    length_s=st.floats(0.1, 60),
    context_s=st.floats(0, 10),
)
def test_samples_of_context_and_window_add_up(
    rate_hz: float, length_s: float, context_s: float
) -> None:
    sensors = SensorInput(
        channels=ACC, rate_hz=rate_hz, length_s=length_s, hop_s=1, context_s=context_s
    )
    assert sensors.num_input_samples == sensors.num_samples + sensors.num_context_samples
    assert abs(sensors.num_samples - length_s * rate_hz) <= 0.5 + 1e-9


def test_grey_clips_have_one_channel() -> None:
    assert CLIP.shape == (8, 16, 24, 3)
    assert CLIP.model_copy(update={"colour": "grey"}).shape == (8, 16, 24, 1)


def test_a_normaliser_never_divides_by_zero() -> None:
    with pytest.raises(ValueError, match="every std must be above 0"):
        Normaliser(mean=(0.0,), std=(0.0,))
