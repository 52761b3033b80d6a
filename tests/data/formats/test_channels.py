from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import UnreadableError
from motoric.data.formats.channels import ColumnMeaning, clean_name, column_meaning
from motoric.data.formats.units import QUANTITIES, Quantity
from motoric.data.ingest.settings import SensorSettings

NONE = SensorSettings()


def meaning(column: str, settings: SensorSettings = NONE) -> ColumnMeaning:
    found = column_meaning(column, settings)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("header", "channel", "unit", "stream", "one"),
    [
        ("acc_x_g", "acc_x", "m/s^2", "imu", 9.80665),
        ("acc_x [g]", "acc_x", "m/s^2", "imu", 9.80665),
        ("Accelerometer X (m/s^2)", "acc_x", "m/s^2", "imu", 1),
        ("accY [mg]", "acc_y", "m/s^2", "imu", 0.00980665),
        ("ax_g", "acc_x", "m/s^2", "imu", 9.80665),
        ("left_wrist_acc_z_m_s2", "acc_left_wrist_z", "m/s^2", "imu", 1),
        ("gyro_x_dps", "gyr_x", "rad/s", "imu", math.pi / 180),
        ("gyr_x_deg_s", "gyr_x", "rad/s", "imu", math.pi / 180),
        ("rotationRate.z (rad/s)", "gyr_z", "rad/s", "imu", 1),
        ("mag_x_uT", "mag_x", "uT", "imu", 1),
        ("Magnetometer Y (µT)", "mag_y", "uT", "imu", 1),
        ("heart_rate_bpm", "heart_rate", "bpm", "workout", 1),
        ("hr", "heart_rate", "bpm", "workout", 1),
        ("speed_kmh", "speed", "m/s", "workout", 1 / 3.6),
        ("Speed [mph]", "speed", "m/s", "workout", 0.44704),
        ("lat", "latitude", "deg", "position", 1),
        ("position_long_semicircles", "longitude", "deg", "position", 180 / 2**31),
        ("ele_ft", "altitude", "m", "position", 0.3048),
        ("cad", "cadence", "1/min", "workout", 1),
        ("Power", "power", "W", "workout", 1),
        ("nose_x_px", "nose_x", "px", "pose", 1),
        ("pose_left_hip_z_mm", "left_hip_z", "m", "pose", 0.001),
        ("kp_12_x_m", "kp_12_x", "m", "pose", 1),
        ("left_knee_confidence", "left_knee_score", "1", "pose", 1),
        ("Blood Lactate [mmol/l]", "blood_lactate", "mmol/l", "other", 1),
    ],
)
def test_a_header_says_channel_unit_and_stream(
    header: str, channel: str, unit: str, stream: str, one: float
) -> None:
    found = meaning(header)
    assert (found.channel.name, found.channel.unit, found.stream) == (channel, unit, stream)
    assert found.convert(np.ones(1))[0] == pytest.approx(one)


def test_temperatures_have_an_offset() -> None:
    assert meaning("temp (°F)").convert(np.array([32.0, 212.0])) == pytest.approx([0, 100])
    assert meaning("temperature_k").convert(np.array([273.15])) == pytest.approx([0])


@pytest.mark.parametrize(
    ("header", "names"),
    [
        ("acc_x", ["'acc_x' has no unit", "acc_x_g or acc_x_m_s2", "sensors.units.acc"]),
        ("gyro_y", ["gyr_y_deg_s", "sensors.columns.gyro_y.unit"]),
        ("speed", ["speed_m_s or speed_kmh"]),
        ("ele", ["altitude_m"]),
        ("nose_x", ["nose_x_px or nose_x_m", "sensors.units.pose"]),
    ],
)
def test_a_missing_unit_is_an_error_that_names_the_mend(header: str, names: list[str]) -> None:
    with pytest.raises(UnreadableError) as failure:
        column_meaning(header, NONE)
    for name in names:
        assert name in failure.value.message


def test_a_unit_of_another_quantity_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(UnreadableError, match=r"'V' is no unit of acceleration; known: m/s\^2, g"):
        column_meaning("acc_x [V]", NONE)


def test_settings_go_before_the_header_and_the_prefix_comes_last() -> None:
    units = {"acc": "g", "acc_left": "mg", "pose": "px"}
    chosen = SensorSettings.model_validate(
        {
            "units": units,
            "columns": {
                "acc_y_g": {"unit": "m/s^2"},
                "s1": {"channel": "gyr_x", "unit": "deg/s", "stream": "shoe"},
                "junk": {"ignore": True},
            },
        }
    )
    assert meaning("acc_y_g", chosen).factor == 1
    assert meaning("acc_x", chosen).factor == pytest.approx(9.80665)
    assert meaning("acc_x_m_s2", chosen).factor == 1
    assert meaning("left_acc_x", chosen).factor == pytest.approx(0.00980665)
    assert meaning("nose_x", chosen).channel.unit == "px"
    assert meaning("nose_score", chosen).channel.unit == "1"
    shoe = meaning("s1", chosen)
    assert (shoe.channel.name, shoe.channel.unit, shoe.stream) == ("gyr_x", "rad/s", "shoe")
    assert column_meaning("junk", chosen) is None


def test_an_unknown_column_keeps_its_cleaned_name_and_says_so() -> None:
    found = meaning("Foot-Pod Ωmega")
    assert (found.channel.name, found.channel.unit, found.is_known) == ("foot_pod_mega", "", False)
    assert not meaning("acc_norm_g").is_known


@pytest.mark.parametrize("quantity", QUANTITIES, ids=lambda one: one.name)
def test_every_unit_is_found_by_its_own_name_and_every_alias_leads_to_one(
    quantity: Quantity,
) -> None:
    for name, unit in quantity.units.items():
        assert quantity.unit(name) is unit
    for alias in quantity.aliases:
        assert quantity.unit(alias) is not None


@given(text=st.text(max_size=40))
@settings(max_examples=60, deadline=None)
def test_any_header_has_a_meaning_or_an_error_for_people(text: str) -> None:
    try:
        found = meaning(text)
    except UnreadableError:
        return
    assert clean_name(found.channel.name) == found.channel.name
