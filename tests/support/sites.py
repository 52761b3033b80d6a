"""A whole site in this process: the platform and models behind one port, as Serve routes them."""

from __future__ import annotations

import queue
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from motoric.serving.accounts import Accounts
from motoric.serving.config import Files
from motoric.serving.model_server import ModelServer
from motoric.serving.platform_server import build_platform

Send = Callable[[Any], Awaitable[None]]
_POLL_PERIOD_S = 0.1


class Site:
    """The ASGI application of everything.

    Args:
        storage_uri: Where control documents lie.
        accounts: Where keys are.
        models: Names of the models that have an application of their own.
        files: What they take on of whole files.

    Attributes:
        statuses: Of each answer, as it is sent, with the name of its model.
    """

    def __init__(
        self,
        storage_uri: str,
        accounts: Accounts,
        models: Sequence[str],
        *,
        files: Files | None = None,
    ) -> None:
        self._platform = build_platform(storage_uri=storage_uri, publish=accounts.publish)
        self._servers = {
            name: ModelServer(
                model=name, storage_uri=storage_uri, files=files, poll_period_s=_POLL_PERIOD_S
            )
            for name in models
        }
        self.statuses: queue.SimpleQueue[tuple[str, int]] = queue.SimpleQueue()

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        parts = scope["path"].split("/")
        name = parts[3] if parts[:3] == ["", "v1", "models"] and len(parts) > 3 else ""

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                self.statuses.put((name, message["status"]))
            await send(message)

        if name in self._servers:
            scope["root_path"] = f"/v1/models/{name}"
            await self._servers[name](scope, receive, noted)
        else:
            await self._platform(scope, receive, noted)

    async def _lifespan(self, receive: Any, send: Send) -> None:
        await receive()
        for server in self._servers.values():
            await server.start()
        async with self._platform.router.lifespan_context(self._platform):
            await send({"type": "lifespan.startup.complete"})
            await receive()
        for server in self._servers.values():
            await server.stop()
        await send({"type": "lifespan.shutdown.complete"})
