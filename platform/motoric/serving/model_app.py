"""The Serve application of one model: the edge between Ray and `ModelServer`.

Its ingress replica runs the model itself, so a prediction costs one hop. No postponed
annotations here: Serve reads the class of `build`'s argument, and passes a dictionary where it
finds a string.
"""

import logging
from typing import Any

from ray import serve
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from motoric.core import settings
from motoric.serving.asgi import RETRY_AFTER_S
from motoric.serving.config import MODEL_DEPLOYMENT, ModelAppArgs, Replicas
from motoric.serving.model_server import ModelServer
from motoric.serving.open_inference.endpoint import HttpCall, HttpReply
from motoric.serving.open_inference.grpc.endpoint import (
    GrpcCall,
    GrpcEndpoint,
    GrpcReply,
    GrpcService,
)
from motoric.serving.served import RunOptions


@serve.deployment(name=MODEL_DEPLOYMENT)
@serve.ingress()
class ModelReplica(GrpcService):
    """One replica of a model: HTTP by `ModelServer`, gRPC by the methods of `GrpcService`.

    Args:
        args: `ModelAppArgs` as JSON.
    """

    def __init__(self, args: dict[str, Any]) -> None:
        log_to_serve()
        parsed = ModelAppArgs.model_validate(args)
        self._server = ModelServer(
            model=parsed.model,
            storage_uri=parsed.storage_uri or settings.load().storage_uri,
            options=RunOptions(
                num_threads=parsed.num_threads,
                gpu_fraction=parsed.gpu,
                max_windows=parsed.batching.max_windows,
                max_wait_ms=parsed.batching.max_wait_ms,
                max_request_windows=parsed.limits.max_request_windows,
                max_body_bytes=int(parsed.limits.max_body_mib * 2**20),
            ),
            limits=parsed.limits,
            files=parsed.files,
            cors_origins=parsed.cors_origins,
            replica=serve.get_replica_context().replica_id.unique_id,
        )
        self._grpc = GrpcEndpoint(self._server.context, self._server.is_ready)

    def __serve_build_asgi_app__(self) -> ModelServer:
        """What Serve mounts."""
        return self._server

    async def open_inference_http(self, call: HttpCall) -> HttpReply:
        """Answer a call that the platform's application passes on."""
        return await self._server.open_inference.answer(call)

    async def open_inference_grpc(self, call: GrpcCall) -> GrpcReply:
        """Answer a call over gRPC, from the client or passed on by the platform's application."""
        return await self._grpc.answer(call)


def build(args: ModelAppArgs) -> serve.Application:
    """The application of one model; Serve calls it with the `args` of its config."""
    options: dict[str, Any] = {"num_cpus": args.cpu, "num_gpus": args.gpu}
    if args.resources:
        options["resources"] = args.resources
    # Serve's decorator has no types: it makes a Deployment of the class.
    deployment: serve.Deployment = ModelReplica.options(  # type: ignore[attr-defined]
        ray_actor_options=options,
        # Serve counts a live session as a request that goes on.
        max_ongoing_requests=args.limits.max_ongoing_requests + args.limits.max_sessions,
        max_queued_requests=args.limits.max_queued_requests,
        backpressure_config=BackpressureConfig(status_code=503, retry_after_s=RETRY_AFTER_S),
        logging_config={"enable_access_log": False},
        **_scaling(args.replicas),
    )
    return deployment.bind(args.model_dump(mode="json"))


def _scaling(replicas: Replicas) -> dict[str, Any]:
    if replicas.min == replicas.max:
        return {"num_replicas": replicas.min}
    # Serve averages the load over the look-back period; it must not be longer than the wait a
    # person asked for.
    look_back_s = min(30.0, max(2.0, replicas.upscale_delay_s))
    return {
        "autoscaling_config": AutoscalingConfig(
            min_replicas=replicas.min,
            max_replicas=replicas.max,
            target_ongoing_requests=replicas.target_ongoing_requests,
            upscale_delay_s=replicas.upscale_delay_s,
            downscale_delay_s=replicas.downscale_delay_s,
            look_back_period_s=look_back_s,
            metrics_interval_s=look_back_s / 4,
        )
    }


def log_to_serve() -> None:
    """Send what `motoric` logs to the replica's own log file."""
    logger = logging.getLogger("motoric")
    logger.parent = logging.getLogger("ray.serve")
    logger.setLevel(logging.INFO)
