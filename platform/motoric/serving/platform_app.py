"""The Serve application `platform` at `/`: the edge between Ray and `build_platform`.

It runs on the head node, since it is the one replica that opens the accounts database. No postponed
annotations here: Serve reads the class of `build`'s argument, and passes a dictionary where it
finds a string.
"""

import asyncio

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from motoric.core import settings
from motoric.serving.accounts import open_accounts
from motoric.serving.model_app import log_to_serve
from motoric.serving.platform_server import PUBLISH_PERIOD_S, build_platform

HEAD_NODE = "node:__internal_head__"


class PlatformAppArgs(BaseModel):
    """Arguments of `motoric.serving.platform_app:build`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    publish_period_s: float = Field(
        default=PUBLISH_PERIOD_S, gt=0, le=300, description="between two access snapshots"
    )


@serve.deployment(name="platform")
@serve.ingress()
class PlatformReplica:
    """The one replica of the platform's application.

    Args:
        publish_period_s: Between two access snapshots.
    """

    def __init__(self, publish_period_s: float) -> None:
        log_to_serve()
        self._publish_period_s = publish_period_s

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """What Serve mounts."""
        loaded = settings.load()
        accounts = await asyncio.to_thread(open_accounts, loaded)
        return build_platform(
            storage_uri=loaded.storage_uri,
            publish=accounts.publish,
            publish_period_s=self._publish_period_s,
        )


def build(args: PlatformAppArgs) -> serve.Application:
    """The platform's application; Serve calls it with the `args` of its config."""
    # Serve's decorator has no types: it makes a Deployment of the class.
    deployment: serve.Deployment = PlatformReplica.options(  # type: ignore[attr-defined]
        num_replicas=1,
        ray_actor_options={"num_cpus": 0.1, "resources": {HEAD_NODE: 0.001}},
        max_ongoing_requests=100,
        logging_config={"enable_access_log": False},
    )
    return deployment.bind(args.publish_period_s)
