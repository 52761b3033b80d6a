"""What the client answers with.

Axes: B windows or clips that were sent, K classes, quantiles or (one) value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from motoric.artefact.signature import Signature


class _Answer(BaseModel):
    # A newer server may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Segment(_Answer):
    """A span of a recording that bears one label.

    Attributes:
        start_s: From the recording's beginning.
        end_s: Of the segment.
        label: None where the model is not sure.
        probability: Of the label.
        probabilities: Of all classes; of a window, and of a whole movement.
        inputs: Of a fused model, what it had of this window.
    """

    start_s: float
    end_s: float
    label: str | None = None
    probability: float
    probabilities: dict[str, float] | None = None
    inputs: tuple[str, ...] | None = None


class Estimate(_Answer):
    """What a model of values or quantiles says of one window.

    Attributes:
        start_s: From the recording's beginning.
        end_s: Of the window.
        value: Of a model of values.
        quantiles: By level, as "0.1"; of a model of quantiles.
    """

    start_s: float
    end_s: float
    value: float | None = None
    quantiles: dict[str, float] | None = None


class Timeline(_Answer):
    """What a whole recording shows: segments, or a series of a model that gives no classes.

    Attributes:
        model: Its name.
        version: That answered.
        digest: Of its artefact.
        duration_s: Of the recording.
        num_windows: That it was cut into.
        repairs: What was wrong with the file and put right.
        segments: In order.
        windows: In order, where they were asked for.
        of: What the values of the series are.
        unit: Of these values.
        horizon_s: How long after its window a quantile is meant.
        series: In order.
    """

    model: str
    version: int
    digest: str
    duration_s: float
    num_windows: int
    repairs: tuple[str, ...] = ()
    segments: tuple[Segment, ...] = ()
    windows: tuple[Segment, ...] = ()
    of: str | None = None
    unit: str | None = None
    horizon_s: float | None = None
    series: tuple[Estimate, ...] = ()


class ReleasedModel(_Answer):
    """One entry of the catalogue.

    Attributes:
        model: Its name.
        version: That is released.
        digest: Of its artefact.
        alias: That it was released by.
        signature: What it takes and gives; None where it cannot be read, and `error` says why.
        error: What is wrong with it.
    """

    model: str
    version: int | None = None
    digest: str | None = None
    alias: str | None = None
    signature: Signature | None = None
    error: str | None = None


class ServedModel(_Answer):
    """What one model's replicas serve now."""

    model: str
    version: int
    digest: str
    alias: str
    signature: Signature


class Health(_Answer):
    """Whether the platform, or a model, can answer now.

    Attributes:
        status: `ok` or `unavailable`.
        version: Of the model that is served.
        access_age_s: Age of the list of keys in force.
    """

    status: str
    version: int | None = None
    access_age_s: float | None = None

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.status == "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What a model says about windows or clips, one row each, in their order.

    Attributes:
        model: Its name.
        version: That answered.
        digest: Of its artefact.
        columns: Classes; or levels of quantiles, as "0.1"; or "value".
        outputs_BK: Shape (B, K), float64: probabilities, quantiles or values.
        labels: The likeliest class of each; empty where the model gives no classes.
        unit: Of values and quantiles; None of probabilities.
    """

    model: str
    version: int
    digest: str
    columns: tuple[str, ...]
    outputs_BK: NDArray[np.float64]
    labels: tuple[str, ...] = ()
    unit: str | None = None

    def __len__(self) -> int:
        return len(self.outputs_BK)

    @property
    def probabilities_BK(self) -> NDArray[np.float64]:
        """Probabilities of the classes in `columns`.

        Raises:
            ValueError: The model gives no classes.
        """
        if not self.labels:
            raise ValueError(f"model {self.model!r} gives {self.columns}, and no classes")
        return self.outputs_BK
