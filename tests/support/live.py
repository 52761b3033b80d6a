"""Servers of a test on loopback, in a thread with an event loop of its own, for real clients."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import grpc
import uvicorn

from motoric.serving.model_server import ModelServer

LOOPBACK = "127.0.0.1"
TIMEOUT_S = 20.0
Result = TypeVar("Result")


class Background:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, Result]) -> concurrent.futures.Future[Result]:
        """Start a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, Result], timeout_s: float = TIMEOUT_S) -> Result:
        """Run a coroutine there."""
        return self.start(work).result(timeout_s)

    def close(self) -> None:
        """End the loop and its thread."""
        self.run(self.loop.shutdown_default_executor())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(TIMEOUT_S)
        assert not self._thread.is_alive(), "what ran in the background did not stop"
        self.loop.close()


class LiveApp:
    """An ASGI application that listens on loopback, as uvicorn runs it under Serve.

    Args:
        app: The application, with its lifespan.
        root_path: Where Serve mounts it.
    """

    def __init__(self, app: Any, root_path: str = "") -> None:
        self._app = app
        self._root_path = root_path
        self._background = Background()
        self._uvicorn = uvicorn.Server(
            uvicorn.Config(
                self._mounted,
                host=LOOPBACK,
                port=0,
                lifespan="on",
                interface="asgi3",
                log_config=None,
                access_log=False,
                timeout_graceful_shutdown=5,
            )
        )
        self._serving = self._background.start(self._uvicorn.serve())
        while not self._uvicorn.started:
            if self._serving.done():
                self._serving.result()
                raise AssertionError("uvicorn ended")
        self.port: int = self._uvicorn.servers[0].sockets[0].getsockname()[1]

    async def _mounted(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and not scope["path"].startswith(self._root_path):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app({**scope, "root_path": self._root_path}, receive, send)

    @property
    def url(self) -> str:
        """The platform's address, as clients know it."""
        return f"http://{LOOPBACK}:{self.port}"

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the server's loop."""
        return self._background.run(work)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function on the server's loop."""

        async def called() -> Result:
            return function()

        return self.run(called())

    def stop(self) -> None:
        """Stop as Serve stops a replica: listeners and connections are closed."""
        if self._uvicorn.should_exit:
            return
        self._uvicorn.should_exit = True
        self._serving.result(TIMEOUT_S)
        self._background.close()


class LiveServer(LiveApp):
    """One `ModelServer` that listens, where Serve mounts it."""

    def __init__(self, server: ModelServer) -> None:
        self.server = server
        super().__init__(server, f"/v1/models/{server.model}")


@contextlib.contextmanager
def serving(server: ModelServer) -> Iterator[LiveServer]:
    """A model's server that listens."""
    live = LiveServer(server)
    try:
        yield live
    finally:
        live.stop()


@contextlib.contextmanager
def serving_app(app: Any) -> Iterator[LiveApp]:
    """An application that listens."""
    live = LiveApp(app)
    try:
        yield live
    finally:
        live.stop()


@contextlib.contextmanager
def serving_grpc(
    add: Callable[[Any, Any], None], servicer: Any, max_bytes: int = 4 * 2**20
) -> Iterator[int]:
    """A gRPC service; gives its port."""
    background = Background()

    async def start() -> tuple[grpc.aio.Server, int]:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", max_bytes)])
        add(servicer, server)
        port = server.add_insecure_port(f"{LOOPBACK}:0")
        await server.start()
        return server, port

    server, port = background.run(start())
    try:
        yield port
    finally:
        background.run(server.stop(0))
        background.close()
