from __future__ import annotations

import itertools

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artefacts import small_signature
from motoric.artefact.signature import Channel, SensorInput
from motoric.core.errors import InputError, MalformedBodyError
from motoric.data.formats.units import QUANTITIES
from motoric.serving.bodies.adaptation import (
    Adapter,
    Given,
    QueryError,
    conversion,
    given_by_keys,
    given_by_query,
)
from motoric.serving.bodies.decoding import JSON_TYPE, RAW_TYPE, BodyDecoder

NAMES = ("acc_x", "acc_y", "acc_z", "gyr_x")


def sensors_of(**changes: object) -> SensorInput:
    units = ("m/s^2", "m/s^2", "m/s^2", "rad/s")
    channels = tuple(Channel(name=n, unit=u) for n, u in zip(NAMES, units, strict=True))
    content = {"channels": channels, "rate_hz": 50.0, "length_s": 4.0, "hop_s": 1.0, **changes}
    return SensorInput.model_validate(content)


SENSORS = sensors_of()


def sine(sensors: SensorInput, *, frequency_hz: float = 0.8, num_windows: int = 2) -> np.ndarray:
    num = sensors.num_input_samples
    time_T = (np.arange(num) - sensors.num_context_samples) / sensors.rate_hz
    phases = np.arange(num_windows * sensors.num_channels).reshape(num_windows, 1, -1)
    return np.sin(2 * np.pi * frequency_hz * time_T[None, :, None] + phases).astype(np.float32)


def test_what_is_not_said_is_as_the_signature_has_it():
    adapter = Adapter(SENSORS, Given())
    windows = sine(SENSORS)
    assert adapter.given_sensors == SENSORS
    np.testing.assert_array_equal(adapter.adapt(windows), windows)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 99))
def test_a_permutation_of_channels_is_undone(order, seed):
    windows = np.random.default_rng(seed).normal(size=(3, 200, 4)).astype(np.float32)
    adapter = Adapter(SENSORS, Given(channels=tuple(NAMES[index] for index in order)))
    np.testing.assert_array_equal(adapter.adapt(windows[:, :, order]), windows)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(QUANTITIES), st.data(), st.floats(-1e4, 1e4))
def test_there_and_back_is_the_same_value(quantity, data, value):
    names = sorted(quantity.units)
    one, other = data.draw(st.sampled_from(names)), data.draw(st.sampled_from(names))
    if quantity.units[one].standard != quantity.units[other].standard:
        return
    factor, offset = conversion(one, Channel(name="c", unit=other))
    back, back_offset = conversion(other, Channel(name="c", unit=one))
    assert (value * factor + offset) * back + back_offset == pytest.approx(value, abs=1e-6)


def test_quantities_that_share_two_units_convert_them_alike():
    for one, other in itertools.combinations(QUANTITIES, 2):
        for name, target in itertools.product({*one.units, *other.units}, repeat=2):
            pairs = [(item.unit(name), item.unit(target)) for item in (one, other)]
            found = [
                (a.factor / b.factor, (a.offset - b.offset) / b.factor)
                for a, b in pairs
                if a is not None and b is not None and a.standard == b.standard
            ]
            assert len({(round(f, 9), round(o, 9)) for f, o in found}) <= 1, (name, target)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from(["g", "mg", "cm/s^2"]), st.sampled_from(["deg/s", "dps", "rpm"]))
def test_windows_in_other_units_and_back_are_the_same(acceleration, rate):
    units = (acceleration,) * 3 + (rate,)
    windows = sine(SENSORS)
    there = Adapter(SENSORS, Given(units=units))
    back = Adapter(there.given_sensors, Given(units=tuple(c.unit for c in SENSORS.channels)))
    np.testing.assert_allclose(there.adapt(back.adapt(windows)), windows, rtol=1e-5, atol=1e-6)


def test_known_units_are_converted_by_their_definition():
    adapter = Adapter(SENSORS, Given(units=("g", "mg", "", "°/s")))
    adapted = adapter.adapt(np.ones((1, 200, 4), np.float32))
    np.testing.assert_allclose(adapted[0, 7], [9.80665, 0.00980665, 1, np.pi / 180], rtol=1e-6)
    assert conversion("degF", Channel(name="t", unit="degC")) == pytest.approx((5 / 9, -160 / 9))


@pytest.mark.parametrize("rate_hz", [100.0, 200.0, 40.0, 62.5, 52.0, 99.7, 50.01])
@pytest.mark.parametrize("context_s", [0.0, 0.53])
def test_a_slow_sine_at_another_rate_is_the_sine_at_the_signatures(rate_hz, context_s):
    sensors = sensors_of(context_s=context_s)
    adapter = Adapter(sensors, Given(rate_hz=rate_hz))
    given_sensors = adapter.given_sensors
    assert given_sensors.num_samples == round(4.0 * rate_hz)
    adapted, expected = adapter.adapt(sine(given_sensors)), sine(sensors)
    assert adapted.shape == expected.shape
    np.testing.assert_allclose(adapted[:, 25:-25], expected[:, 25:-25], atol=6e-3)
    assert np.abs(adapted - expected).max() < 0.3


def test_what_the_signatures_rate_cannot_hold_is_filtered_out():
    adapter = Adapter(SENSORS, Given(rate_hz=200.0))
    adapted = adapter.adapt(sine(adapter.given_sensors, frequency_hz=60.0))
    assert np.abs(adapted[:, 25:-25]).max() < 0.01


def test_windows_of_a_batch_are_resampled_each_by_itself():
    adapter = Adapter(SENSORS, Given(rate_hz=100.0))
    windows = np.random.default_rng(1).normal(size=(3, 400, 4)).astype(np.float32)
    together = adapter.adapt(windows)
    for index, window in enumerate(windows):
        np.testing.assert_allclose(adapter.adapt(window[None])[0], together[index], atol=1e-6)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Given(channels=("acc_x", "acc_y", "acc_z")), "channel gyr_x is missing"),
        (Given(channels=(*NAMES, "mag_x")), "unknown channel 'mag_x'"),
        (Given(channels=(*NAMES, "acc_x")), "channel acc_x is there twice"),
        (Given(units=("g", "g")), "2 units were given for 4 channels"),
        (Given(units=("g", "g", "g", "m/s")), "channel gyr_x cannot be converted from 'm/s'"),
        (Given(units=("g", "g", "g", "furlong")), "rad/s, deg/s, mdeg/s"),
        (Given(rate_hz=1e6), "rates of 0.5 to 5000 Hz"),
        (Given(rate_hz=0.1), "too far from the model's 50 Hz"),
    ],
)
def test_what_cannot_be_adapted_is_refused_with_what_fits(given, says):
    with pytest.raises(InputError) as caught:
        Adapter(SENSORS, given)
    assert says in caught.value.message


def test_a_unit_nobody_knows_fits_itself_alone():
    channel = Channel(name="flex", unit="counts")
    assert conversion("Counts", channel) == (1.0, 0.0)
    with pytest.raises(InputError, match="only 'counts' itself"):
        conversion("V", channel)


def test_windows_too_short_to_hold_a_sample_are_refused():
    with pytest.raises(InputError, match="holds no sample at 1 Hz"):
        Adapter(sensors_of(length_s=0.2), Given(rate_hz=1.0))


def test_a_value_too_large_for_float32_names_its_channel():
    windows = np.zeros((2, 200, 4), np.float32)
    windows[1, 5, 1] = 3e38
    with pytest.raises(InputError, match=r"window 1: a value of channel acc_y is too large"):
        Adapter(SENSORS, Given(units=("g", "g", "g", ""))).adapt(windows)


def test_a_query_is_read():
    assert given_by_query(b"rate_hz=100&channels=acc_x,acc_y&units=g,deg%2Fs") == Given(
        rate_hz=100.0, channels=("acc_x", "acc_y"), units=("g", "deg/s")
    )
    assert given_by_query(b"") == Given()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        (b"rate=100", "unknown query parameter 'rate': there are rate_hz, channels, units"),
        (b"rate_hz=fast", "rate_hz is 'fast'"),
        (b"rate_hz=nan", "a number above 0"),
        (b"rate_hz=-5", "a number above 0"),
        (b"rate_hz=inf", "a number above 0"),
        (b"channels=a&channels=b", "channels twice"),
        (b"units=%ff", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"units=" + b"g," * 20_000, "at most 16384"),
        (b"a=1&" * 40, "cannot be read"),
    ],
)
def test_a_query_that_is_wrong_is_refused(query, says):
    with pytest.raises(QueryError) as caught:
        given_by_query(query)
    assert says in caught.value.message
    assert caught.value.status == 400


def test_keys_are_read():
    content = {"windows": [], "rate_hz": 100, "units": ["g"], "channels": None}
    assert given_by_keys(content) == Given(rate_hz=100.0, units=("g",))


@pytest.mark.parametrize(
    "content",
    [
        {"rate_hz": "100"},
        {"rate_hz": True},
        {"rate_hz": 0},
        {"rate_hz": 10**400},
        {"channels": "acc_x"},
        {"units": ["g", 1]},
    ],
)
def test_keys_that_are_wrong_are_refused(content):
    with pytest.raises(MalformedBodyError, match=next(iter(content))):
        given_by_keys(content)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=80) | st.text("ratechnls_zui=&,%1.eg", max_size=60).map(str.encode))
def test_any_query_is_read_or_refused(query):
    try:
        adapter = Adapter(SENSORS, given_by_query(query))
    except (QueryError, InputError):
        return
    assert adapter.given_sensors.num_input_samples >= 1


def test_query_and_keys_give_the_same_windows():
    decoder = BodyDecoder(SENSORS)
    names, units = NAMES[::-1], ("deg/s", "g", "g", "g")
    adapter = Adapter(SENSORS, Given(rate_hz=100.0, channels=names, units=units))
    windows = sine(adapter.given_sensors)
    query = f"rate_hz=100&channels={','.join(names)}&units={','.join(units)}".encode()
    keys = {"windows": windows.tolist(), "rate_hz": 100, "channels": names, "units": units}
    expected = adapter.adapt(windows)
    by_query = decoder.parse(RAW_TYPE, windows.tobytes(), query)
    by_keys = decoder.parse(JSON_TYPE, orjson.dumps(keys))
    plain = orjson.dumps({"windows": windows.tolist()})
    np.testing.assert_array_equal(by_query, expected)
    np.testing.assert_array_equal(by_keys, expected)
    np.testing.assert_array_equal(decoder.parse(JSON_TYPE, plain, query), expected)
    with pytest.raises(MalformedBodyError, match="both say what the windows are"):
        decoder.parse(JSON_TYPE, orjson.dumps(keys), query)


def test_windows_of_the_wrong_length_are_told_the_length_at_their_rate():
    decoder = BodyDecoder(small_signature().sensors)
    body = orjson.dumps({"windows": [[[0.0] * 4] * 10], "rate_hz": 20})
    with pytest.raises(InputError, match="20 samples at 20 Hz"):
        decoder.parse(JSON_TYPE, body)


def test_unknown_keys_are_still_refused():
    with pytest.raises(MalformedBodyError, match="unknown key"):
        BodyDecoder(SENSORS).parse(JSON_TYPE, b'{"windows": [], "rate_hz": 5, "rate": 5}')
