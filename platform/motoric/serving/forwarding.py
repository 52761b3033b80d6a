"""Calls of the platform's application to the applications of models, over Ray Serve's handles."""

import asyncio
import time
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from motoric.core.errors import DeadlineError, PlatformError
from motoric.serving.config import MODEL_DEPLOYMENT, REQUEST_TIMEOUT_S
from motoric.serving.open_inference.endpoint import HttpCall, HttpReply
from motoric.serving.open_inference.grpc.endpoint import GrpcCall, GrpcReply

# How long a removed application may go on being asked.
_LOOKUP_S = 2.0
_MAX_KNOWN = 256


class Forwarder:
    """Finds the application of a model, and calls it.

    Args:
        timeout_s: Longest wait for an answer.
    """

    def __init__(self, timeout_s: float = REQUEST_TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        self._known: dict[str, tuple[DeploymentHandle[Any], float]] = {}

    async def http(self, model: str, call: HttpCall) -> HttpReply | None:
        """Pass a call over HTTP on; None where no application of the model runs.

        Raises:
            PlatformError: The application cannot answer now.
        """
        reply: HttpReply | None = await self._call(model, "open_inference_http", call)
        return reply

    async def grpc(self, model: str, call: GrpcCall) -> GrpcReply | None:
        """Pass a call over gRPC on; as `http`."""
        reply: GrpcReply | None = await self._call(model, "open_inference_grpc", call)
        return reply

    async def _call(self, model: str, method: str, call: HttpCall | GrpcCall) -> Any:
        handle = await self._find(model)
        if handle is None:
            return None
        try:
            async with asyncio.timeout(self._timeout_s):
                return await getattr(handle, method).remote(call)
        except TimeoutError as error:
            raise DeadlineError(
                f"model {model!r} did not answer within {self._timeout_s:g} s: send fewer windows a"
                " request, or give it more replicas"
            ) from error
        except BackPressureError as error:
            raise PlatformError(
                f"model {model!r} has as many requests waiting as it may have: try again"
            ) from error
        except (RayError, RayServeException) as error:
            raise PlatformError(
                f"the application of model {model!r} does not answer ({type(error).__name__}):"
                " try again"
            ) from error

    async def _find(self, model: str) -> DeploymentHandle[Any] | None:
        now_s = time.monotonic()
        handle, until_s = self._known.get(model, (None, 0.0))
        if handle is not None and now_s < until_s:
            return handle
        try:
            # Serve keeps one handle for each deployment; this asks whether it still is there.
            handle = await asyncio.to_thread(serve.get_app_handle, model)
        except RayServeException:
            handle = None
        if handle is None or handle.deployment_name != MODEL_DEPLOYMENT:
            self._known.pop(model, None)
            return None
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[model] = (handle, now_s + _LOOKUP_S)
        return handle
