"""What the server of a live session sends, always as text.

    opened        {"type": "opened", "model", "version", "digest", "next_sample", "next_prediction",
                   "rate_hz", "length_s", "hop_s", "max_chunk", "max_chunk_s", "replay_s"}
    prediction    {"type": "prediction", "number": k, "start_s", "end_s", "resume": {...}, and what
                   the model says: "label", "probability", "probabilities"; or "value"; or
                   "quantiles"}
    acknowledged  {"type": "acknowledged", "resume": {...}}: where no prediction comes for long
    moved         {"type": "moved", "version", "digest"}: of the predictions from here on
    ended         {"type": "ended", "num_predictions"}: the answer to `end`
    error         {"type": "error", "code", "title", "detail"}: the connection closes with `code`

`resume.replay_from` acknowledges: samples before it may be forgotten.

Axes: K classes or quantiles.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from motoric.artefact.signature import ClassesOutput, QuantilesOutput, ValueOutput
from motoric.core.errors import MotoricError
from motoric.core.settings import describe
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.messages import MAX_NUMBER, Resume

_NUM_DECIMALS = 6


class _Reply(BaseModel):
    # A newer server may say more.
    model_config = ConfigDict(frozen=True, extra="ignore")

    def encode(self) -> str:
        """The message as text."""
        return self.model_dump_json(exclude_none=True)


class Opened(_Reply):
    """The session stands.

    Attributes:
        model: Its name.
        version: Of the model.
        digest: Of its artefact.
        next_sample: Number of the sample that is expected first.
        next_prediction: Number of the prediction that comes first.
        rate_hz: Rate of the windows, after resampling.
        length_s: Of a window.
        hop_s: From one window's start to the next.
        max_chunk: Most samples of one chunk.
        max_chunk_s: Most seconds that one chunk may cover.
        replay_s: Most seconds of samples before the latest received that may be needed again.
    """

    type: Literal["opened"] = "opened"
    model: str
    version: int
    digest: str
    next_sample: int
    next_prediction: int
    rate_hz: float
    length_s: float
    hop_s: float
    max_chunk: int = Field(ge=1)
    max_chunk_s: float = Field(gt=0)
    replay_s: float = Field(ge=0)


class Prediction(_Reply):
    """What the model says about one window; classes, a value or quantiles, by the signature."""

    type: Literal["prediction"] = "prediction"
    number: int = Field(ge=0, le=MAX_NUMBER)
    start_s: float
    end_s: float
    resume: Resume
    label: str | None = None
    probability: float | None = None
    probabilities: dict[str, float] | None = None
    value: float | None = None
    quantiles: dict[str, float] | None = None


class Acknowledged(_Reply):
    """Samples before `resume.replay_from` may be forgotten."""

    type: Literal["acknowledged"] = "acknowledged"
    resume: Resume


class Moved(_Reply):
    """Another version of the model was released; the predictions from here on are its own."""

    type: Literal["moved"] = "moved"
    version: int
    digest: str


class Ended(_Reply):
    """All predictions of a stream that the client has ended were sent."""

    type: Literal["ended"] = "ended"
    num_predictions: int


class Failure(_Reply):
    """Why the connection closes."""

    type: Literal["error"] = "error"
    code: int
    title: str
    detail: str


Reply = Opened | Prediction | Acknowledged | Moved | Ended | Failure
_reply: TypeAdapter[Reply] = TypeAdapter(Annotated[Reply, Field(discriminator="type")])


def parse_reply(frame: str | bytes) -> Reply:
    """Read a frame from a server.

    Raises:
        StreamError: It is none of the messages above.
    """
    try:
        return _reply.validate_json(frame)
    except ValidationError as error:
        raise StreamError(f"the server's message is not understood: {describe(error)}") from error


def failure_frame(error: MotoricError, code: CloseCode | None = None) -> tuple[str, CloseCode]:
    """The last message about an error, and the code to close with."""
    if code is None:
        code = error.code if isinstance(error, StreamError) else CloseCode.INTERNAL
    reply = Failure(code=int(code), title=error.title, detail=error.message)
    return reply.encode(), code


def prediction_frame(
    *,
    number: int,
    start_s: float,
    end_s: float,
    resume: Resume,
    output: ClassesOutput | ValueOutput | QuantilesOutput,
    values_K: NDArray[np.floating[Any]],
) -> str:
    """A prediction as text, as `Prediction` reads it.

    Raises:
        MotoricError: The model gave NaN.
    """
    message: dict[str, Any] = {
        "type": "prediction",
        "number": number,
        "start_s": start_s,
        "end_s": end_s,
    }
    values: list[float] = values_K.tolist()
    if not all(map(math.isfinite, values)):
        raise MotoricError(f"the model gave no number for window {number}")
    if isinstance(output, ClassesOutput):
        best = max(range(len(values)), key=values.__getitem__)
        rounded = [round(value, _NUM_DECIMALS) for value in values]
        message["label"] = output.classes[best]
        message["probability"] = rounded[best]
        message["probabilities"] = dict(zip(output.classes, rounded, strict=True))
    elif isinstance(output, ValueOutput):
        (message["value"],) = values
    else:
        names = (f"{item:g}" for item in output.quantiles)
        message["quantiles"] = dict(zip(names, values, strict=True))
    message["resume"] = resume.__dict__  # a flat model: this is what model_dump copies
    return orjson.dumps(message).decode()
