"""The six methods of the protocol over gRPC for one model: messages as bytes in and out.

A call comes straight from the client, or through the platform's application, which has no model of
its own; its key is checked here in either case. ServerLive and ServerReady are open, as they are
over HTTP.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import Message

import grpc
from motoric.core.errors import MotoricError, NotFoundError, PlatformError
from motoric.serving.asgi import internal_error, too_large
from motoric.serving.context import ServingContext
from motoric.serving.open_inference.grpc import grpc_predict_v2_pb2 as pb2
from motoric.serving.open_inference.grpc.messages import (
    model_metadata,
    parse,
    parse_message,
    read_request,
    server_metadata,
    status_of,
    write_answer,
)
from motoric.serving.open_inference.inference import infer
from motoric.serving.open_inference.metadata import check_model

OPEN_METHODS = ("ServerLive", "ServerReady")


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcCall:
    """A call; `message` is as it came from the wire."""

    method: str
    message: bytes
    authorization: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GrpcReply:
    """What to answer: a message as it goes onto the wire, or a status with its reason."""

    message: bytes = b""
    status: grpc.StatusCode = grpc.StatusCode.OK
    details: str = ""

    def SerializeToString(self) -> bytes:
        """What Serve asks of a message."""
        return self.message


class GrpcEndpoint:
    """Answers for one model.

    Args:
        context: Of its replica.
        is_ready: Whether requests can be answered now.
    """

    def __init__(self, context: ServingContext, is_ready: Callable[[], bool]) -> None:
        self._context = context
        self._is_ready = is_ready
        self._max_bytes = int(context.limits.max_body_mib * 2**20)

    async def answer(self, call: GrpcCall) -> GrpcReply:
        """Answer a call; what is wrong with it becomes the status of the reply."""
        try:
            if call.method not in OPEN_METHODS:
                self._context.check(call.authorization)
            if len(call.message) > self._max_bytes:
                raise too_large(self._max_bytes)
            if call.method == "ModelInfer":
                return reply_of(await self._infer(call.message))
            return reply_of(self._describe(call))
        except Exception as error:  # noqa: BLE001 - answered, and logged there
            return refusal(error, call.method)

    def _describe(self, call: GrpcCall) -> Message:
        common = describe_server(call.method, self._is_ready)
        if common is not None:
            return common
        if call.method == "ModelReady":
            return self._ready(parse(pb2.ModelReadyRequest, call.message))
        asked = parse(pb2.ModelMetadataRequest, call.message)
        spec = self._context.served().spec
        check_model(spec, asked.name, asked.version)
        return model_metadata(spec)

    def _ready(self, asked: pb2.ModelReadyRequest) -> Message:
        try:
            check_model(self._context.served().spec, asked.name, asked.version)
        except PlatformError:
            return pb2.ModelReadyResponse(ready=False)
        return pb2.ModelReadyResponse(ready=True)

    async def _infer(self, content: bytes) -> Message:
        served = self._context.served()
        request = read_request(parse_message(content), served.spec)
        return write_answer(await infer(self._context, served, request))


def describe_server(method: str, is_ready: Callable[[], bool]) -> Message | None:
    """The answer of a method that asks of no model; None for the others."""
    if method == "ServerLive":
        return pb2.ServerLiveResponse(live=True)
    if method == "ServerReady":
        return pb2.ServerReadyResponse(ready=is_ready())
    if method == "ServerMetadata":
        return server_metadata()
    return None


def model_of(call: GrpcCall) -> str:
    """The model that a call names.

    Raises:
        MalformedBodyError: The message is not what the method takes.
        NotFoundError: The protocol has no such method, or it asks of no model.
    """
    if call.method == "ModelInfer":
        return str(parse_message(call.message).model_name)
    if call.method == "ModelReady":
        return str(parse(pb2.ModelReadyRequest, call.message).name)
    if call.method == "ModelMetadata":
        return str(parse(pb2.ModelMetadataRequest, call.message).name)
    raise NotFoundError(f"the method {call.method} asks of no model")


def reply_of(message: Message) -> GrpcReply:
    """A message as a reply."""
    return GrpcReply(message=message.SerializeToString())


def refusal(error: Exception, method: str) -> GrpcReply:
    """An error as a reply; one that nobody meant to raise is logged and tells nothing."""
    known = error if isinstance(error, MotoricError) else internal_error(error, method)
    return GrpcReply(status=status_of(known), details=known.message)


class GrpcService:
    """The methods of the protocol as Ray Serve calls them: base of a deployment's class.

    The messages are bytes, since `servicer` registers the methods so; `grpc_context` is Serve's and
    gets the status.
    """

    async def open_inference_grpc(self, call: GrpcCall) -> GrpcReply:
        """Answer a call."""
        raise NotImplementedError

    async def ServerLive(self, request: bytes, grpc_context: Any) -> GrpcReply:
        """Whether the process answers."""
        return await self._serve("ServerLive", request, grpc_context)

    async def ServerReady(self, request: bytes, grpc_context: Any) -> GrpcReply:
        """Whether requests can be answered now."""
        return await self._serve("ServerReady", request, grpc_context)

    async def ServerMetadata(self, request: bytes, grpc_context: Any) -> GrpcReply:
        """Name, version and extensions."""
        return await self._serve("ServerMetadata", request, grpc_context)

    async def ModelReady(self, request: bytes, grpc_context: Any) -> GrpcReply:
        """Whether a model can be asked now."""
        return await self._serve("ModelReady", request, grpc_context)

    async def ModelMetadata(self, request: bytes, grpc_context: Any) -> GrpcReply:
        """The tensors that a model takes and gives."""
        return await self._serve("ModelMetadata", request, grpc_context)

    async def ModelInfer(self, request: bytes, grpc_context: Any) -> GrpcReply:
        """Tensors in, tensors out."""
        return await self._serve("ModelInfer", request, grpc_context)

    async def _serve(self, method: str, request: bytes, grpc_context: Any) -> GrpcReply:
        values = (
            value for key, value in grpc_context.invocation_metadata() if key == "authorization"
        )
        call = GrpcCall(method=method, message=request, authorization=next(values, None))
        reply = await self.open_inference_grpc(call)
        if reply.status is not grpc.StatusCode.OK:
            grpc_context.set_code(reply.status)
            grpc_context.set_details(reply.details)
        return reply
