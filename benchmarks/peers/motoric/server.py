"""Motoric as `serve.yaml` deploys it: the platform's application, and one model."""

import os

from ray import serve
from ray_process import serve_until_closed

from motoric.serving.config import Batching, Limits, ModelAppArgs, Replicas
from motoric.serving.model_app import build
from motoric.serving.platform_app import PlatformAppArgs
from motoric.serving.platform_app import build as build_platform


def prepare() -> None:
    """What runs before any model is deployed."""
    serve.run(build_platform(PlatformAppArgs()), name="platform", route_prefix="/")


def deploy() -> None:
    """The model, with room for the connections of the load."""
    model, num_replicas = os.environ["BENCH_NAME"], int(os.environ["BENCH_REPLICAS"])
    args = ModelAppArgs(
        model=model,
        cpu=0.5,
        replicas=Replicas(min=num_replicas, max=num_replicas),
        batching=Batching(max_windows=int(os.environ["BENCH_MAX_BATCH"])),
        limits=Limits(
            max_ongoing_requests=int(os.environ["BENCH_MAX_ONGOING"]),
            max_sessions=int(os.environ["BENCH_MAX_SESSIONS"]),
        ),
    )
    serve.run(build(args), name=model, route_prefix=f"/v1/models/{model}")


if __name__ == "__main__":
    serve_until_closed(deploy, prepare)
