"""The channels Motoric knows, and what the header of a column means.

In: a column's header, such as `acc_x_g` or `Accelerometer X (m/s^2)`, and the ingest settings. Out:
the channel, its stream, and factor and offset to its standard unit. A unit is taken from the
settings of the column, else from its header, else from what the file declares, else from
`sensors.units`; it is never guessed. Axes: T samples.

    acc_* m/s^2, gyr_* rad/s, mag_* uT                                      -> stream `imu`
    latitude deg, longitude deg, altitude m                                 -> `position`
    heart_rate bpm, speed m/s, cadence 1/min, power W, distance m,
    temperature degC                                                        -> `workout`
    keypoints (nose_x, left_knee_y, kp_12_x, ... in px, m or 1; *_score)    -> `pose`
    anything else, unit as the header has it                                -> `other`
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.formats import units
from motoric.data.formats.units import Quantity, Unit
from motoric.data.ingest.settings import ColumnSettings, SensorSettings
from motoric.data.recording import Channel

OTHER = "other"
_AXES = ("x", "y", "z")
_INERTIAL = {
    "acc": (units.ACCELERATION, ("acc", "accel", "acceleration", "accelerometer", "a")),
    "gyr": (units.ANGULAR_RATE, ("gyr", "gyro", "gyroscope", "angularrate", "g", "w")),
    "mag": (units.MAGNETIC_FIELD, ("mag", "magn", "magnetometer", "magneticfield", "m")),
}
_BASES = {alias: base for base, (_, aliases) in _INERTIAL.items() for alias in aliases}
# Alone, or beside other words, one letter could be anything; `ax` and `gyrox` are clear.
_ATTACHED = re.compile(rf"({'|'.join(sorted(_BASES, key=len, reverse=True))})_?([xyz])")
_TWO_WORDS = {
    "angular_rate": "angularrate",
    "angular_velocity": "angularrate",
    "rotation_rate": "angularrate",
    "magnetic_field": "magneticfield",
}
_SCALARS: dict[str, tuple[str, Quantity, tuple[str, ...]]] = {
    "heart_rate": ("workout", units.HEART_RATE, ("heartrate", "hr", "pulse", "heart")),
    "speed": ("workout", units.SPEED, ("velocity", "gps_speed", "enhanced_speed")),
    "cadence": ("workout", units.CADENCE, ("cad", "run_cadence")),
    "power": ("workout", units.POWER, ("pwr", "watts")),
    "distance": ("workout", units.DISTANCE, ("dist",)),
    "temperature": ("workout", units.TEMPERATURE, ("temp", "atemp")),
    "altitude": ("position", units.ALTITUDE, ("alt", "ele", "elevation", "enhanced_altitude")),
    "latitude": ("position", units.POSITION, ("lat", "position_lat", "gps_lat")),
    "longitude": ("position", units.POSITION, ("lon", "lng", "long", "position_long", "gps_lon")),
}
_SCALAR_NAMES = {
    alias: name for name, (_, _, aliases) in _SCALARS.items() for alias in (name, *aliases)
}
_JOINT = (
    r"(?:nose|neck|head|chin|spine|chest|thorax|torso|pelvis|(?:mid_hip)|root"
    r"|(?:(?:left|right|l|r)_)?(?:eye(?:_(?:inner|outer))?|ear|mouth|shoulder|elbow|wrist|hand"
    r"|pinky|index|thumb|hip|knee|ankle|heel|toe|foot|foot_index|big_toe|small_toe))"
)
_KEYPOINT = re.compile(
    rf"(?:(?:pose|keypoint)_(?P<named>\w+?)|(?P<joint>{_JOINT})|(?P<number>kp_?\d+))"
    r"_(?P<part>x|y|z|score|confidence|visibility|likelihood)"
)
_BRACKETS = re.compile(r"^(?P<name>.*?)[\s_]*[\[(](?P<unit>[^\[\]()]*)[\])]\s*$")


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnMeaning:
    """What one column of a file is.

    Attributes:
        column: Its header in the file.
        channel: The channel it becomes, with the unit after conversion.
        stream: The stream it goes to by default or by the settings.
        prefix: First part of a stream of its own: `gyr` of `gyr_x`, else the channel's name.
        factor: `standard = value * factor + offset`.
        offset: See `factor`.
        is_known: Motoric or the settings know the channel.
    """

    column: str
    channel: Channel
    stream: str
    prefix: str
    factor: float = 1.0
    offset: float = 0.0
    is_known: bool = True

    def convert(self, values_T: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values in the channel's unit, shape (T,)."""
        if self.factor == 1 and self.offset == 0:
            return values_T
        return values_T * self.factor + self.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    name: str
    stream: str
    prefix: str
    quantity: Quantity


def clean_name(text: str) -> str:
    """Lower case with underscores: `Heart Rate` and `heartRate` become `heart_rate`."""
    # Two letters at least, so that `uT` and `kW` stay whole.
    text = re.sub(r"(?<=[a-z0-9][a-z0-9])(?=[A-Z])", "_", text.strip())
    return re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")


def split_unit(header: str) -> tuple[str, str]:
    """Name and unit of a header with its unit in brackets; the unit is empty without."""
    match = _BRACKETS.match(header.strip())
    if match is None or not match["name"].strip():
        return header.strip(), ""
    return match["name"].strip(), match["unit"].strip()


def column_meaning(
    column: str, settings: SensorSettings, *, declared_unit: str = ""
) -> ColumnMeaning | None:
    """What a column means.

    Args:
        column: Its header, or the name of a field.
        settings: Say more about columns and units; they go before what the header says.
        declared_unit: What the format itself says of the unit, if anything.

    Returns:
        The meaning, or None where the settings leave the column out.

    Raises:
        UnreadableError: No unit for a channel that needs one, or one of another quantity.
    """
    chosen = settings.columns.get(column, ColumnSettings())
    if chosen.ignore:
        return None
    header, bracket_unit = split_unit(column)
    cleaned = clean_name(header)
    known, name_unit = _known_with_unit(cleaned)
    if chosen.channel is not None:
        known = _known(chosen.channel)
    said = chosen.unit or bracket_unit or name_unit or declared_unit
    if known is None:
        name = chosen.channel or cleaned or "column"
        return ColumnMeaning(
            column=column,
            channel=Channel(name=name, unit=said or _by_prefix(name, settings)),
            stream=chosen.stream or OTHER,
            prefix=name,
            is_known=chosen.channel is not None,
        )
    name = chosen.channel or known.name
    unit = _unit(column, known, said or _by_prefix(name, settings, stream=known.stream))
    return ColumnMeaning(
        column=column,
        channel=Channel(name=name, unit=unit.standard),
        stream=chosen.stream or known.stream,
        prefix=known.prefix,
        factor=unit.factor,
        offset=unit.offset,
    )


def _known_with_unit(cleaned: str) -> tuple[_Known | None, str]:
    """The channel a cleaned header names, and the unit its last words name."""
    known = _known(cleaned)
    if known is not None:
        return known, ""
    words = cleaned.split("_")
    for num_words in range(1, min(4, len(words))):
        rest, unit = "_".join(words[:-num_words]), "_".join(words[-num_words:])
        known = _known(rest)
        if known is not None and any(one.unit(unit) is not None for one in units.QUANTITIES):
            return known, unit
    return None, ""


def _known(name: str) -> _Known | None:
    if name in _SCALAR_NAMES:
        scalar = _SCALAR_NAMES[name]
        stream, quantity, _ = _SCALARS[scalar]
        return _Known(name=scalar, stream=stream, prefix=scalar, quantity=quantity)
    return _inertial(name) or _keypoint(name)


def _inertial(name: str) -> _Known | None:
    """`acc_x` and its kin; words of placement stand between: `left_acc_x` is `acc_left_x`."""
    attached = _ATTACHED.fullmatch(name)
    if attached is not None:
        return _inertial_channel(_BASES[attached[1]], [attached[2]])
    for two, one in _TWO_WORDS.items():
        name = name.replace(two, one)
    words = name.split("_")
    bases = [word for word in words if len(word) > 1 and word in _BASES]
    axes = [word for word in words if word in _AXES]
    if len(bases) != 1 or len(axes) > 1 or (not axes and len(words) > 1):
        return None
    placement = [word for word in words if word not in {*bases, *axes}]
    if any(unit.unit(word) is not None for unit in units.QUANTITIES for word in placement):
        return None
    return _inertial_channel(_BASES[bases[0]], [*placement, *axes])


def _inertial_channel(base: str, rest: list[str]) -> _Known:
    return _Known(
        name="_".join([base, *rest]), stream="imu", prefix=base, quantity=_INERTIAL[base][0]
    )


def _keypoint(name: str) -> _Known | None:
    match = _KEYPOINT.fullmatch(name)
    if match is None:
        return None
    joint = match["named"] or match["joint"] or match["number"]
    is_axis = match["part"] in _AXES
    return _Known(
        name=f"{joint}_{match['part'] if is_axis else 'score'}",
        stream="pose",
        prefix=joint,
        quantity=units.KEYPOINT if is_axis else units.SCORE,
    )


def _by_prefix(name: str, settings: SensorSettings, *, stream: str = "") -> str:
    """The unit that `sensors.units` has for a channel; the longest beginning wins.

    Keypoints have no common beginning: `pose` stands for all of them that have no score.
    """
    found = [key for key in settings.units if name == key or name.startswith(f"{key}_")]
    if found:
        return settings.units[max(found, key=len)]
    if stream == "pose" and not name.endswith("_score"):
        return settings.units.get("pose", "")
    return ""


def _unit(column: str, known: _Known, text: str) -> Unit:
    quantity = known.quantity
    text = text or quantity.default or ""
    if not text:
        first, second = quantity.examples
        key = "pose" if known.stream == "pose" else known.prefix
        raise UnreadableError(
            f"column {column!r} has no unit: name it {known.name}_{first} or"
            f" {known.name}_{second}, or set sensors.columns.{column}.unit"
            f" (or sensors.units.{key}) in the ingest settings"
        )
    unit = quantity.unit(text)
    if unit is None:
        raise UnreadableError(
            f"column {column!r}: {text!r} is no unit of {quantity.name}; known:"
            f" {', '.join(quantity.units)}. Name it so, or set sensors.columns.{column}.unit in the"
            " ingest settings"
        )
    return unit
