"""Units: what ingest reads them from, and the one standard unit a quantity is kept in.

In: the text of a unit as people write it (`m/s^2`, `[g]`, `deg_s`, `km/h`). Out: the standard unit
and the factor and offset that lead to it. Conversion factors: BIPM SI brochure, 9th edition; the
knot and the international mile and foot: NIST SP 811; the semicircle: Garmin FIT protocol.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from motoric.data.recording import STANDARD_GRAVITY_M_S2

_DEG = math.pi / 180


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One unit: `standard = value * factor + offset`."""

    standard: str
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """What a channel measures.

    Attributes:
        name: For messages.
        units: By the first spelling of each unit; `aliases` has the others.
        aliases: Other spellings, as `normalised` gives them, to the first.
        default: Unit where none is said, or None where one must be said.
        examples: Two name suffixes for the message that asks for a unit.
    """

    name: str
    units: Mapping[str, Unit]
    aliases: Mapping[str, str]
    default: str | None
    examples: tuple[str, str] = ("", "")

    def unit(self, text: str) -> Unit | None:
        """The unit that a text names, or None where it is none of this quantity."""
        key = normalised(text)
        for name, unit in self.units.items():
            if normalised(name) == key:
                return unit
        alias = self.aliases.get(key)
        return None if alias is None else self.units[alias]


def normalised(text: str) -> str:
    """One spelling of a unit: lower case, `_` between its parts, no other signs."""
    text = text.strip().lower().replace("²", "2").replace("µ", "u").replace("μ", "u")
    text = text.replace("°", "deg").replace("⁻", "-").replace("¹", "1")
    text = re.sub(r"\^|\*\*|\s", "", text).replace(" per ", "/")
    return re.sub(r"[/_.·*-]+", "_", text).strip("_")


def _quantity(
    name: str,
    units: dict[str, tuple[str, float] | tuple[str, float, float]],
    aliases: dict[str, str],
    *,
    default: str | None,
    examples: tuple[str, str] = ("", ""),
) -> Quantity:
    made = {
        key: Unit(standard=value[0], factor=value[1], offset=value[2] if len(value) == 3 else 0.0)
        for key, value in units.items()
    }
    return Quantity(name=name, units=made, aliases=aliases, default=default, examples=examples)


_METRES: dict[str, tuple[str, float] | tuple[str, float, float]] = {
    "m": ("m", 1.0),
    "km": ("m", 1000.0),
    "cm": ("m", 0.01),
    "mm": ("m", 0.001),
    "ft": ("m", 0.3048),
    "mi": ("m", 1609.344),
    "yd": ("m", 0.9144),
}
_METRE_NAMES = {
    "meter": "m",
    "meters": "m",
    "metre": "m",
    "metres": "m",
    "kilometers": "km",
    "kilometres": "km",
    "feet": "ft",
    "foot": "ft",
    "mile": "mi",
    "miles": "mi",
    "yard": "yd",
    "yards": "yd",
}

ACCELERATION = _quantity(
    "acceleration",
    {
        "m/s^2": ("m/s^2", 1.0),
        "g": ("m/s^2", STANDARD_GRAVITY_M_S2),
        "mg": ("m/s^2", STANDARD_GRAVITY_M_S2 / 1000),
        "cm/s^2": ("m/s^2", 0.01),
    },
    {
        "m_s_s": "m/s^2",
        "m_s_2": "m/s^2",
        "ms2": "m/s^2",
        "ms_2": "m/s^2",
        "mps2": "m/s^2",
        "gs": "g",
        "gn": "g",
        "g0": "g",
    },
    default=None,
    examples=("g", "m_s2"),
)
ANGULAR_RATE = _quantity(
    "angular rate",
    {
        "rad/s": ("rad/s", 1.0),
        "deg/s": ("rad/s", _DEG),
        "mdeg/s": ("rad/s", _DEG / 1000),
        "mrad/s": ("rad/s", 0.001),
        "rpm": ("rad/s", 2 * math.pi / 60),
    },
    {"rads": "rad/s", "rad_sec": "rad/s", "rps": "rad/s", "dps": "deg/s", "degs": "deg/s"}
    | {"deg_sec": "deg/s", "degrees_s": "deg/s", "mdps": "mdeg/s"},
    default=None,
    examples=("deg_s", "rad_s"),
)
MAGNETIC_FIELD = _quantity(
    "magnetic field",
    {
        "uT": ("uT", 1.0),
        "nT": ("uT", 0.001),
        "mT": ("uT", 1000.0),
        "T": ("uT", 1e6),
        "gauss": ("uT", 100.0),
        "mgauss": ("uT", 0.1),
    },
    {"microtesla": "uT", "tesla": "T"},
    default=None,
    examples=("ut", "gauss"),
)
SPEED = _quantity(
    "speed",
    {
        "m/s": ("m/s", 1.0),
        "km/h": ("m/s", 1 / 3.6),
        "mph": ("m/s", 0.44704),
        "kn": ("m/s", 1852 / 3600),
        "mm/s": ("m/s", 0.001),
        "cm/s": ("m/s", 0.01),
    },
    {"mps": "m/s", "m_sec": "m/s", "ms": "m/s", "kmh": "km/h", "kph": "km/h", "kmph": "km/h"}
    | {"mi_h": "mph", "miles_h": "mph", "knots": "kn", "kt": "kn", "kts": "kn"},
    default=None,
    examples=("m_s", "kmh"),
)
TEMPERATURE = _quantity(
    "temperature",
    {
        "degC": ("degC", 1.0),
        "degF": ("degC", 5 / 9, -160 / 9),
        "K": ("degC", 1.0, -273.15),
    },
    {
        "c": "degC",
        "deg_c": "degC",
        "deg_f": "degF",
        "celsius": "degC",
        "f": "degF",
        "fahrenheit": "degF",
        "kelvin": "K",
    },
    default=None,
    examples=("degc", "degf"),
)
ALTITUDE = _quantity("altitude", _METRES, _METRE_NAMES, default=None, examples=("m", "ft"))
DISTANCE = _quantity("distance", _METRES, _METRE_NAMES, default=None, examples=("m", "km"))
HEART_RATE = _quantity(
    "heart rate",
    {"bpm": ("bpm", 1.0), "Hz": ("bpm", 60.0)},
    {"1_min": "bpm", "beats_min": "bpm", "min_1": "bpm"},
    default="bpm",
)
POWER = _quantity(
    "power",
    {"W": ("W", 1.0), "kW": ("W", 1000.0)},
    {"watt": "W", "watts": "W"},
    default="W",
)
CADENCE = _quantity(
    "cadence",
    {"1/min": ("1/min", 1.0), "Hz": ("1/min", 60.0)},
    {"rpm": "1/min", "spm": "1/min", "steps_min": "1/min", "revs_min": "1/min"}
    | {"rev_min": "1/min", "strides_min": "1/min", "min_1": "1/min"},
    default="1/min",
)
POSITION = _quantity(
    "position",
    {
        "deg": ("deg", 1.0),
        "semicircles": ("deg", 180 / 2**31),
        "rad": ("deg", 180 / math.pi),
    },
    {"degree": "deg", "degrees": "deg", "semicircle": "semicircles", "radians": "rad"},
    default="deg",
)
KEYPOINT = _quantity(
    "keypoint",
    {
        "px": ("px", 1.0),
        "m": ("m", 1.0),
        "cm": ("m", 0.01),
        "mm": ("m", 0.001),
        "1": ("1", 1.0),
    },
    {"pixel": "px", "pixels": "px", "norm": "1", "normalised": "1", "normalized": "1"},
    default=None,
    examples=("px", "m"),
)
SCORE = _quantity("score", {"1": ("1", 1.0), "%": ("1", 0.01)}, {"percent": "%"}, default="1")
QUANTITIES = (
    *(ACCELERATION, ANGULAR_RATE, MAGNETIC_FIELD, SPEED, TEMPERATURE, ALTITUDE, DISTANCE),
    *(HEART_RATE, POWER, CADENCE, POSITION, KEYPOINT, SCORE),
)
