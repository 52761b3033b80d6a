"""The service of the protocol as Ray Serve registers it: six methods that take messages as bytes.

The generated code would read a message before anybody is asked, and gRPC answers UNKNOWN where that
fails. As bytes, a message is looked at after its key, what is malformed gets a refusal that says
why, and the platform's application passes it on as it came.
"""

from __future__ import annotations

from typing import Any

import grpc
from motoric.serving.open_inference.grpc import METHODS, SERVICE


def add_to_server(servicer: Any, server: Any) -> None:
    """Register the methods; Serve puts its own handlers in the place of the servicer's.

    Args:
        servicer: Has the methods; see `endpoint.GrpcService`.
        server: Of `grpc.aio`, or Serve's.
    """
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, name), response_serializer=_serialize
        )
        for name in METHODS
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def _serialize(reply: Any) -> bytes:
    content: bytes = reply.SerializeToString()
    return content
