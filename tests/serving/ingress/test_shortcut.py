"""What Serve reads ahead of a live stream: nothing by its replicas, and little by its proxies."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import numpy as np
import pytest

from artefacts import release_small
from motoric.cluster.environment import SERVE_OPTIONS
from motoric.serving.model_server import ModelServer
from motoric.serving.streams.closing import CloseCode
from motoric.serving.streams.messages import Chunk, Open

PATH = SERVE_OPTIONS["RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH"]


@pytest.mark.parametrize(("kind", "is_read_ahead"), [("websocket", False), ("http", True)])
@pytest.mark.parametrize("sent", [(), ((b"x-request-disconnect-disabled", b"?0"),)])
def test_serve_reads_requests_ahead_and_live_streams_not(kind, is_read_ahead, sent):
    with warnings.catch_warnings():  # of Ray's own settings
        warnings.simplefilter("ignore")
        from ray.serve._private import http_util, utils
    found: dict[bytes, bytes] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.update(scope["headers"])

    made = http_util.validate_http_proxy_callback_return(utils.call_function_from_import_path(PATH))
    scope = {"type": kind, "headers": list(sent)}
    asyncio.run(http_util._apply_middlewares(app, made)(scope, None, None))
    assert http_util.parse_disconnect_disabled_header(found) is not is_read_ahead


def test_what_serves_own_proxy_reads_ahead_is_bounded(local, key):
    """Serve's proxies give a `receive` that has read everything already."""

    class ReadAhead:
        def __init__(self) -> None:
            self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

        async def __call__(self) -> dict[str, Any]:
            return await self.queue.get()

    receive, sent = ReadAhead(), []
    server = ModelServer(model="small", storage_uri=local.storage_uri)
    release_small(local.storage_uri, "small", 1)
    scope = {
        "type": "websocket",
        "path": "/stream",
        "headers": [(b"authorization", f"Bearer {key}".encode())],
        "subprotocols": [],
    }

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)
        if len(sent) == 20:  # a client that takes no more
            await asyncio.sleep(2.0)

    async def run() -> None:
        server.access.poll()
        server.releases.poll()
        opening = Open(rate_hz=10.0, channels=("acc_x", "acc_y", "acc_z", "acc_w"))
        receive.queue.put_nowait({"type": "websocket.connect"})
        receive.queue.put_nowait({"type": "websocket.receive", "text": opening.encode()})
        for first in range(0, 2_000_000, 400):
            chunk = Chunk(first=first, values_TC=np.zeros((400, 4), np.float32))
            receive.queue.put_nowait({"type": "websocket.receive", "bytes": chunk.encode()})
        await server(scope, receive, send)

    asyncio.run(run())
    assert sent[-1] == {"type": "websocket.close", "code": CloseCode.TRY_LATER}
    assert "16 MiB wait to be read" in sent[-2]["text"]
    assert receive.queue.empty()
