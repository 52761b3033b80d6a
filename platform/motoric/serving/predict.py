"""Predict over HTTP, but for reading and writing: from a head and a body to rows in a batch.

In: the head and the body of a request. Out: a `Waiting`, whose rows wait for the model, and which
knows how to write the answer.

Axes: B windows of a request, K outputs of a window.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motoric.serving.asgi import Scope
from motoric.serving.batching import Outputs
from motoric.serving.bodies.decoding import BODY_TYPES
from motoric.serving.context import TIMEOUT_HEADER, ServingContext, parse_timeout
from motoric.serving.files.endpoint import takes
from motoric.serving.served import ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictHead:
    """What the head of a request says.

    Attributes:
        authorization: As it was sent.
        content_type: As it was sent.
        accept: As it was sent.
        timeout: The header X-Timeout-Ms, as it was sent.
        query: Of the path.
        is_file: Whether the body is a whole file.
    """

    authorization: str | None
    content_type: bytes | None
    accept: bytes | None
    timeout: bytes | None
    query: bytes
    is_file: bool

    @classmethod
    def of(cls, scope: Scope) -> PredictHead:
        """Read the head of an HTTP request (ASGI)."""
        authorization = content_type = accept = timeout = None
        for key, value in scope["headers"]:
            if key == b"authorization":
                authorization = value.decode("latin-1")
            elif key == b"content-type":
                content_type = value
            elif key == b"accept":
                accept = value
            elif key == TIMEOUT_HEADER:
                timeout = value
        return cls(
            authorization=authorization,
            content_type=content_type,
            accept=accept,
            timeout=timeout,
            query=scope["query_string"],
            is_file=content_type is not None
            and content_type not in BODY_TYPES
            and takes(content_type),
        )

    @property
    def timeout_s(self) -> float | None:
        """How long the client waits, where it says so.

        Raises:
            QueryError: What it says is no time.
        """
        return None if self.timeout is None else parse_timeout(self.timeout)


class Waiting:
    """A request whose rows wait for the model.

    Args:
        served: The version that answers.
        outputs: Gets what the model gives, shape (B, K).
        answer_type: Media type of the answer.
        present_B2: Of a fused model, which inputs each example has.
    """

    __slots__ = ("_present_B2", "_served", "answer_type", "outputs")

    def __init__(
        self,
        served: ServedModel,
        outputs: asyncio.Future[Outputs],
        answer_type: bytes,
        present_B2: NDArray[Any] | None,
    ) -> None:
        self._served = served
        self.outputs = outputs
        self.answer_type = answer_type
        self._present_B2 = present_B2

    def answer(self, outputs_BK: NDArray[np.float32]) -> bytes:
        """The body of the answer.

        Raises:
            MotoricError: The model gave values that are not finite.
        """
        return self._served.encoder.encode(self.answer_type, outputs_BK, self._present_B2)


def submit(
    context: ServingContext,
    head: PredictHead,
    body: bytes,
    *,
    answer_type: bytes,
    deadline_s: float,
) -> Waiting:
    """Read a body and queue its rows; whoever asks has checked the key.

    Args:
        context: Of the model.
        head: Of the request.
        body: Of the request.
        answer_type: See `choose_type`.
        deadline_s: By the clock of the event loop.

    Raises:
        UserError: The body does not fit the model.
        PlatformError: No version is served.
    """
    served = context.served()
    rows = served.decoder.parse(head.content_type, body, head.query)
    outputs = served.batcher.submit(rows, deadline_s)
    return Waiting(served, outputs, answer_type, rows[2] if len(rows) == 3 else None)
