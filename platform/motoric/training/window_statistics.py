"""What is fitted to the windows of the training part: at once, or to parts that are joined.

Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from motoric.artefact.preprocessing import NormaliserFit
from motoric.artefact.signature import Normaliser, Preprocessing, SensorInput
from motoric.training.recipe import Recipe


class WindowStatistics(BaseModel):
    """What a signature says of the training windows.

    `normaliser` is None where the recipe wants none; the lowest and highest values are of each raw
    channel.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    normaliser: Normaliser | None
    channel_min: tuple[float, ...]
    channel_max: tuple[float, ...]


class StatisticsFit:
    """Fits `WindowStatistics`.

    Args:
        recipe: Its steps stand before the normaliser, if it wants one.
        sensors: Of the signature.
    """

    def __init__(self, recipe: Recipe, sensors: SensorInput) -> None:
        steps = Preprocessing(steps=recipe.preprocessing.steps)
        self._normaliser = NormaliserFit(steps, sensors) if recipe.preprocessing.normalise else None
        self._low_C = np.full(sensors.num_channels, np.inf)
        self._high_C = np.full(sensors.num_channels, -np.inf)

    def add(self, windows_BTC: NDArray[np.float32]) -> None:
        """Take raw windows."""
        if self._normaliser is not None:
            self._normaliser.add(windows_BTC)
        flat = windows_BTC.reshape(-1, windows_BTC.shape[-1])
        self._low_C = np.minimum(self._low_C, flat.min(axis=0))
        self._high_C = np.maximum(self._high_C, flat.max(axis=0))

    def merge(self, other: StatisticsFit) -> None:
        """Take what another of the same recipe has taken."""
        if self._normaliser is not None and other._normaliser is not None:
            self._normaliser.merge(other._normaliser)
        self._low_C = np.minimum(self._low_C, other._low_C)
        self._high_C = np.maximum(self._high_C, other._high_C)

    def fitted(self) -> WindowStatistics:
        """Of all windows so far."""
        return WindowStatistics(
            normaliser=None if self._normaliser is None else self._normaliser.fitted(),
            channel_min=tuple(self._low_C.tolist()),
            channel_max=tuple(self._high_C.tolist()),
        )
