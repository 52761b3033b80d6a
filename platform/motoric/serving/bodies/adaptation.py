"""Windows of another rate, in other units or another order of channels, to those of a signature.

In: what a client says of its windows, by the query (`?rate_hz=100&channels=acc_x,...&units=g,...`)
or by keys beside `windows` in JSON; then the windows. Out: windows as the signature has them.
What is not said is as the signature has it. Pure functions; scipy is loaded by the first request
at another rate.

Axes: B windows of a request, T samples of a window with its context, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.preprocessing import Windows
from motoric.artefact.signature import Channel, SensorInput
from motoric.core.errors import InputError, MalformedBodyError, QueryError
from motoric.data.formats.units import QUANTITIES, Unit, normalised
from motoric.data.resampling import Resampler

RATE_HZ, CHANNELS, UNITS = "rate_hz", "channels", "units"
KEYS = (RATE_HZ, CHANNELS, UNITS)
# Beyond it the rates are a mistake rather than a device, and the filter grows with the ratio.
MAX_RATE_RATIO = 100.0
_RATE_TOLERANCE_HZ = 1e-6
_MAX_QUERY_BYTES = 16_384
_MAX_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What a client says of its windows; None is as the signature has it.

    Attributes:
        rate_hz: Their rate. A window spans as many seconds as the signature says.
        channels: Names of their channels, in their order.
        units: Of these channels; an empty one is the signature's.
    """

    rate_hz: float | None = None
    channels: tuple[str, ...] | None = None
    units: tuple[str, ...] | None = None


def given_by_query(query: bytes) -> Given:
    """Read what the query of a request says.

    Args:
        query: As ASGI gives it: percent-encoded, without the question mark.

    Raises:
        QueryError: A parameter is unknown, is there twice, or is no rate or list.
    """
    if len(query) > _MAX_QUERY_BYTES:
        raise QueryError(
            f"the query has {len(query)} bytes, and at most {_MAX_QUERY_BYTES} are read"
        )
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16
        )
    except ValueError as error:  # of decoding, too
        raise QueryError(f"the query cannot be read: {error}") from error
    said: dict[str, str] = {}
    for name, text in pairs:
        if name not in KEYS:
            raise QueryError(f"unknown query parameter {_shown(name)}: there are {', '.join(KEYS)}")
        if name in said:
            raise QueryError(f"the query has {name} twice: give one list, as {name}=a,b,c")
        said[name] = text
    rate_hz = None
    if RATE_HZ in said:
        try:
            rate_hz = _rate(float(said[RATE_HZ]))
        except ValueError as error:
            raise QueryError(
                f"rate_hz is {_shown(said[RATE_HZ])}: give a number above 0, such as 100"
            ) from error
    return Given(
        rate_hz=rate_hz,
        channels=_split(said[CHANNELS]) if CHANNELS in said else None,
        units=_split(said[UNITS]) if UNITS in said else None,
    )


def given_by_keys(content: Mapping[str, Any]) -> Given:
    """Read what the keys beside `windows` in a JSON body say; other keys are not looked at.

    Raises:
        MalformedBodyError: A key is no rate or list of strings.
    """
    rate_hz = content.get(RATE_HZ)
    if rate_hz is not None:
        try:
            if isinstance(rate_hz, bool) or not isinstance(rate_hz, (int, float)):
                raise ValueError
            rate_hz = _rate(float(rate_hz))
        except (ValueError, OverflowError) as error:
            raise MalformedBodyError(
                f"'rate_hz' is {_shown(rate_hz)}: give a number above 0, such as 100"
            ) from error
    return Given(rate_hz=rate_hz, channels=_names(content, CHANNELS), units=_names(content, UNITS))


class Adapter:
    """Brings windows of one kind to the signature's.

    Args:
        sensors: The input of the signature.
        given: What the client says of its windows.

    Attributes:
        given_sensors: The input as the client has it: its rate, and its channels with their units.

    Raises:
        InputError: A channel is missing, unknown or there twice, a unit does not fit its channel,
            or the rate is too far from the signature's.
    """

    def __init__(self, sensors: SensorInput, given: Given) -> None:
        self.sensors = sensors
        by_name = {channel.name: channel for channel in sensors.channels}
        names = tuple(by_name) if given.channels is None else given.channels
        _check_names(names, sensors)
        units = given.units or ("",) * len(names)
        if len(units) != len(names):
            raise InputError(
                f"{len(units)} units were given for {len(names)} channels: give one a channel, in"
                f" the order of {', '.join(names)}"
            )
        channels = tuple(
            Channel(name=name, unit=unit or by_name[name].unit)
            for name, unit in zip(names, units, strict=True)
        )
        rate_hz = sensors.rate_hz if given.rate_hz is None else given.rate_hz
        _check_rate(rate_hz, sensors)
        self._is_resampled = abs(rate_hz - sensors.rate_hz) > _RATE_TOLERANCE_HZ
        self.given_sensors = sensors.model_copy(
            update={
                "channels": channels,
                "rate_hz": rate_hz if self._is_resampled else sensors.rate_hz,
            }
        )
        self._order_C = np.array([names.index(name) for name in by_name])
        factors = [
            conversion(channels[index].unit, wanted)
            for index, wanted in zip(self._order_C, sensors.channels, strict=True)
        ]
        self._factor_C, self._offset_C = np.array(factors, dtype=np.float64).T

    def adapt(self, windows_BTC: Windows) -> Windows:
        """Convert, order and resample windows.

        Args:
            windows_BTC: As `given_sensors` says, finite.

        Returns:
            As `sensors` says, finite. At other rates the first and the last samples, within the
            reach of the filter, are those of a signal that stays as it is at the edges.

        Raises:
            InputError: A value is too large for float32 in the signature's unit.
        """
        values_BTC = windows_BTC[:, :, self._order_C] * self._factor_C + self._offset_C
        if self._is_resampled:
            values_BTC = self._resampled(values_BTC)
        with np.errstate(over="ignore"):
            adapted_BTC: Windows = np.ascontiguousarray(values_BTC, dtype=np.float32)
        if not np.isfinite(adapted_BTC).all():
            window, _, channel = np.argwhere(~np.isfinite(adapted_BTC))[0].tolist()
            wanted = self.sensors.channels[channel]
            raise InputError(
                f"window {window}: a value of channel {wanted.name} is too large for float32 in"
                f" {wanted.unit}: check the unit that was given"
            )
        return adapted_BTC

    def _resampled(self, values_BTC: NDArray[np.float64]) -> NDArray[np.float64]:
        given, sensors = self.given_sensors, self.sensors
        num_windows, num_given, num_channels = values_BTC.shape
        # All windows share their times, so they go through the filter as channels of one stream.
        columns_TN = values_BTC.transpose(1, 0, 2).reshape(num_given, -1)
        # Time 0, which both grids have, is the start of the window after its context.
        time_T = (np.arange(num_given) - given.num_context_samples) / given.rate_hz
        resampler = Resampler(
            native_rate_hz=given.rate_hz, target_rate_hz=sensors.rate_hz, origin_s=0.0
        )
        parts = [*resampler.push(time_T, columns_TN), *resampler.finish()]
        assert len({part.segment for part in parts}) == 1, "evenly spaced times have no gap"
        rows_RN = np.concatenate([part.values_TC for part in parts])
        wanted_T = np.arange(-sensors.num_context_samples, sensors.num_samples)
        # Where the client's grid ends a part of a sample early, its outermost sample is repeated.
        inside_T = np.clip(wanted_T - parts[0].first_row, 0, len(rows_RN) - 1)
        shape = (len(wanted_T), num_windows, num_channels)
        return rows_RN[inside_T].reshape(shape).transpose(1, 0, 2)


def conversion(unit: str, wanted: Channel) -> tuple[float, float]:
    """Factor and offset that lead from a unit to that of a channel: `value * factor + offset`.

    Args:
        unit: As people write it; see `data.formats.units`.
        wanted: A channel of the signature.

    Raises:
        InputError: The unit is unknown, or measures something else.
    """
    if normalised(unit) == normalised(wanted.unit):
        return 1.0, 0.0
    fitting: list[str] = []
    for quantity in QUANTITIES:
        target = quantity.unit(wanted.unit)
        if target is None:
            continue
        source = quantity.unit(unit)
        if source is not None and source.standard == target.standard:
            return _between(source, target)
        fitting += [
            name
            for name, other in quantity.units.items()
            if other.standard == target.standard and name not in fitting
        ]
    fits = ", ".join(fitting) if fitting else f"only {wanted.unit!r} itself"
    raise InputError(
        f"channel {wanted.name} cannot be converted from {_shown(unit)} to the model's"
        f" {wanted.unit!r}: what fits is {fits}"
    )


def _between(source: Unit, target: Unit) -> tuple[float, float]:
    return source.factor / target.factor, (source.offset - target.offset) / target.factor


def _check_names(names: tuple[str, ...], sensors: SensorInput) -> None:
    wanted = [channel.name for channel in sensors.channels]
    have = f"the model has {', '.join(wanted)}"
    unknown = [name for name in names if name not in wanted]
    if unknown:
        raise InputError(f"unknown channel {_shown(unknown[0])}: {have}; send these, in any order")
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InputError(f"channel {missing[0]} is missing: {have}; send all, in any order")
    if len(names) > len(wanted):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"channel {twice} is there twice: {have}; send each once")


def _check_rate(rate_hz: float, sensors: SensorInput) -> None:
    low_hz, high_hz = sensors.rate_hz / MAX_RATE_RATIO, sensors.rate_hz * MAX_RATE_RATIO
    if not low_hz <= rate_hz <= high_hz:
        raise InputError(
            f"rate_hz {rate_hz:g} is too far from the model's {sensors.rate_hz:g} Hz: rates of"
            f" {low_hz:g} to {high_hz:g} Hz can be resampled"
        )
    if round(sensors.length_s * rate_hz) < 1:
        raise InputError(
            f"a window of {sensors.length_s:g} s holds no sample at {rate_hz:g} Hz: send"
            f" {1 / sensors.length_s:g} Hz or more"
        )


def _rate(rate_hz: float) -> float:
    if not (math.isfinite(rate_hz) and rate_hz > 0):
        raise ValueError
    return rate_hz


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(","))


def _names(content: Mapping[str, Any], key: str) -> tuple[str, ...] | None:
    names = content.get(key)
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise MalformedBodyError(f"{key!r} is {_shown(names)}: give a list of strings")
    return tuple(name.strip() for name in names)


def _shown(value: object) -> str:
    return f"{value!r:.{_MAX_SHOWN}}"
