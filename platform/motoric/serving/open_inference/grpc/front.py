"""The protocol over gRPC at the platform: calls without the metadata key `application` come here.

The model is the one that the message names; the message is passed on as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from motoric.core.access import KeyGrant
from motoric.serving.open_inference.front import Explain, is_model_name
from motoric.serving.open_inference.grpc.endpoint import (
    OPEN_METHODS,
    GrpcCall,
    GrpcReply,
    describe_server,
    model_of,
    refusal,
    reply_of,
)

# Passes a call on to the model of that name; None where no application of it runs.
Forward = Callable[[str, GrpcCall], Awaitable[GrpcReply | None]]


class GrpcFront:
    """Answers for the server, and passes on what asks of a model.

    Args:
        check: Gives the grant of an `Authorization` header.
        is_ready: Whether keys can be checked now.
        forward: Passes a call on.
        explain: Why no application of a name runs (blocking).
    """

    def __init__(
        self,
        *,
        check: Callable[[str | None], KeyGrant],
        is_ready: Callable[[], bool],
        forward: Forward,
        explain: Explain,
    ) -> None:
        self._check = check
        self._is_ready = is_ready
        self._forward = forward
        self._explain = explain

    async def answer(self, call: GrpcCall) -> GrpcReply:
        """Answer a call; what is wrong with it becomes the status of the reply."""
        try:
            if call.method not in OPEN_METHODS:
                self._check(call.authorization)
            message = describe_server(call.method, self._is_ready)
            if message is not None:
                return reply_of(message)
            model = model_of(call)
            reply = await self._forward(model, call) if is_model_name(model) else None
            if reply is None:
                raise await asyncio.to_thread(self._explain, model)
            return reply
        except Exception as error:  # noqa: BLE001 - answered, and logged there
            return refusal(error, call.method)
