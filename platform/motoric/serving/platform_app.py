"""The Serve application `platform` at `/`: the edge between Ray and `build_platform`.

It runs on the head node, since it is the one replica that opens the accounts database. No postponed
annotations here: Serve reads the class of `build`'s argument, and passes a dictionary where it
finds a string.
"""

import asyncio
from typing import Annotated

from fastapi import FastAPI
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from ray import serve

from motoric.core import settings
from motoric.serving.accounts import open_accounts
from motoric.serving.cors import check_origin_setting
from motoric.serving.following import AccessFollower
from motoric.serving.forwarding import Forwarder
from motoric.serving.model_app import log_to_serve
from motoric.serving.open_inference.grpc.endpoint import GrpcCall, GrpcReply, GrpcService
from motoric.serving.open_inference.grpc.front import GrpcFront
from motoric.serving.platform_server import PUBLISH_PERIOD_S, Catalogue, build_platform

HEAD_NODE = "node:__internal_head__"


class PlatformAppArgs(BaseModel):
    """Arguments of `motoric.serving.platform_app:build`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publish_period_s: float = Field(
        default=PUBLISH_PERIOD_S, gt=0, le=300, description="between two access snapshots"
    )
    cors_origins: tuple[Annotated[str, AfterValidator(check_origin_setting)], ...] = Field(
        default=(), description="origins of web pages that may ask, as https://host; * is any"
    )


@serve.deployment(name="platform")
@serve.ingress()
class PlatformReplica(GrpcService):
    """The one replica of the platform's application; gRPC by the methods of `GrpcService`.

    Args:
        publish_period_s: Between two access snapshots.
        cors_origins: Pages of other origins that may ask.
    """

    def __init__(self, publish_period_s: float, cors_origins: tuple[str, ...] = ()) -> None:
        log_to_serve()
        self._publish_period_s = publish_period_s
        storage_uri = settings.load().storage_uri
        self._access = AccessFollower(storage_uri)
        self._forwarder = Forwarder()
        self._grpc = GrpcFront(
            check=self._access.gate.check,
            is_ready=self._access.is_fresh,
            forward=self._forwarder.grpc,
            explain=Catalogue(storage_uri).why_missing,
        )
        self._cors_origins = cors_origins

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve mounts."""
        loaded = settings.load()
        accounts = await asyncio.to_thread(open_accounts, loaded)
        return build_platform(
            storage_uri=loaded.storage_uri,
            publish=accounts.publish,
            publish_period_s=self._publish_period_s,
            access=self._access,
            forward=self._forwarder.http,
            cors_origins=self._cors_origins,
        )

    async def open_inference_grpc(self, call: GrpcCall) -> GrpcReply:
        """Answer a call that names no application."""
        return await self._grpc.answer(call)


def build(args: PlatformAppArgs) -> serve.Application:
    """The platform's application; Serve calls it with the `args` of its config."""
    # Serve's decorator has no types: it makes a Deployment of the class.
    deployment: serve.Deployment = PlatformReplica.options(  # type: ignore[attr-defined]
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1, "resources": {HEAD_NODE: 0.001}},
        max_ongoing_requests=100,
        logging_config={"enable_access_log": False},
    )
    return deployment.bind(args.publish_period_s, args.cors_origins)
