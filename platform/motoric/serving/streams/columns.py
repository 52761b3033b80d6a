"""Which models can be asked live, and how a stream's channels and rate fit them.

Axes: T samples, C channels as the client orders them or as the model does.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import SensorInput, Signature
from motoric.core.errors import InputError
from motoric.serving.bodies.adaptation import Adapter, Given, conversion
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.messages import Open

# The resampling filter has 20 times as many taps, and a client chooses the rate.
_MAX_RATIO_TERM = 5000
# As the resampler takes the ratio of two rates.
_MAX_DENOMINATOR = 1000


def live_sensors(signature: Signature, model: str) -> SensorInput:
    """The input of a model that can be asked live.

    Raises:
        StreamError: It takes clips of video, or whole movements.
    """
    sensors, clip = signature.sensor_input, signature.clip_input
    reason = ""
    if sensors is None or (clip is not None and not clip.optional):
        reason = "it needs clips of video"
    elif sensors.span == "annotation":
        reason = "it judges whole movements, whose ends a live stream does not know"
    if sensors is None or reason:
        raise StreamError(
            f"model {model!r} cannot be asked live: {reason}; use predict", CloseCode.UNFIT
        )
    return sensors


class Columns:
    """The channels of a stream, in the model's order and units.

    Args:
        sensors: What the model takes.
        message: What the client says.

    Raises:
        StreamError: Channels, units or the rate do not fit the model.
    """

    def __init__(self, sensors: SensorInput, message: Open) -> None:
        names, rate_hz = message.channels, message.rate_hz
        try:
            given = Given(rate_hz=rate_hz, channels=names, units=message.units)
            adapter = Adapter(sensors, given)
            units = {item.name: item.unit for item in adapter.given_sensors.channels}
            factors = [conversion(units[item.name], item) for item in sensors.channels]
        except InputError as error:
            raise StreamError(error.message, CloseCode.UNFIT) from error
        ratio = Fraction(max(rate_hz, sensors.rate_hz) / min(rate_hz, sensors.rate_hz))
        if ratio.limit_denominator(_MAX_DENOMINATOR).numerator > _MAX_RATIO_TERM:
            raise StreamError(
                f"rate_hz {rate_hz!r} has no simple ratio to the model's {sensors.rate_hz:g} Hz:"
                f" round it, as to {rate_hz:.2g}, and send times if it drifts",
                CloseCode.UNFIT,
            )
        self.num_given = len(names)
        self._order_C = np.array([names.index(item.name) for item in sensors.channels])
        self._factor_C, self._offset_C = np.array(factors, dtype=np.float64).T
        self._is_same = (
            np.array_equal(self._order_C, np.arange(self.num_given))
            and not self._offset_C.any()
            and bool((self._factor_C == 1.0).all())
        )

    def convert(self, values_TC: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples as the model has them; what float32 cannot hold becomes missing."""
        if self._is_same:
            return values_TC
        converted_TC = values_TC[:, self._order_C] * self._factor_C + self._offset_C
        with np.errstate(over="ignore"):
            kept_TC: NDArray[np.float32] = converted_TC.astype(np.float32)
        return kept_TC
