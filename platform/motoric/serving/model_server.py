"""The ASGI application of one model: what a replica answers, without Ray.

    POST predict        JSON windows in, labels and probabilities out
    GET  /              the served version and its signature
    GET  healthz        readiness, open
    GET  docs           Swagger UI, open; `openapi.json` beside it

Paths are below `root_path`. Every other request needs an API key.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import Any

import orjson

from motoric.core.errors import MotoricError, NotFoundError, PlatformError
from motoric.serving import pages
from motoric.serving.asgi import (
    ClientGoneError,
    MethodError,
    Receive,
    Scope,
    Send,
    internal_error,
    read_body,
    respond,
    respond_problem,
)
from motoric.serving.following import AccessFollower, ReleaseFollower, follow
from motoric.serving.openapi import model_document
from motoric.serving.served import RunOptions, ServedModel, load_model

MAX_BODY_BYTES = 8 * 2**20
POLL_PERIOD_S = 1.0
_METHODS = {"/predict": "POST", "/": "GET, HEAD"}


class ModelServer:
    """Answers for one model.

    Args:
        model: Its name.
        storage_uri: Where control documents and artefacts lie.
        options: How to run it.
        max_body_bytes: Limit of a request body.
        poll_period_s: Between two looks at the control documents.
        replica: What to call this replica in `healthz`.
    """

    def __init__(
        self,
        *,
        model: str,
        storage_uri: str,
        options: RunOptions | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        poll_period_s: float = POLL_PERIOD_S,
        replica: str = "",
    ) -> None:
        self.model = model
        self._max_body_bytes = max_body_bytes
        self._poll_period_s = poll_period_s
        self._replica = replica
        self._options = options or RunOptions()
        self.access = AccessFollower(storage_uri)
        self.releases = ReleaseFollower(
            storage_uri,
            model,
            lambda version: load_model(storage_uri, model, version, self._options),
        )
        self._check = self.access.gate.check
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
            return
        if kind != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        path: str = scope["path"]
        below = path.removeprefix(scope.get("root_path", ""))
        try:
            if below == "/predict" and scope["method"] == "POST":
                await self._predict(scope, receive, send)
            else:
                await self._other(scope, below, send)
        except MotoricError as error:
            await respond_problem(send, error, path)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - answered as a problem and logged there
            await respond_problem(send, internal_error(error, path), path)

    async def start(self) -> None:
        """Load what is released, then follow the control documents in the background."""
        await asyncio.to_thread(self.access.poll)
        await asyncio.to_thread(self.releases.poll)
        polls = (self.access.poll, self.releases.poll)
        self._tasks = [asyncio.create_task(follow(poll, self._poll_period_s)) for poll in polls]

    async def stop(self) -> None:
        """Stop following."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        authorization = None
        for key, value in scope["headers"]:
            if key == b"authorization":
                authorization = value.decode("latin-1")
                break
        self._check(authorization)
        body = await read_body(scope, receive, self._max_body_bytes)
        served = self._served()
        windows_BTC = served.parser.parse(body)
        probabilities_BK = await served.batcher.submit(windows_BTC)
        await respond(send, served.writer.write(probabilities_BK))

    async def _other(self, scope: Scope, below: str, send: Send) -> None:
        method: str = scope["method"]
        is_read = method in ("GET", "HEAD")
        root: str = scope.get("root_path", "")
        if is_read and below == "/healthz":
            health = self.health()
            status = 200 if health["status"] == "ok" else 503
            await respond(send, orjson.dumps(health), status=status)
        elif is_read and below == "/openapi.json":
            await respond(send, orjson.dumps(self.openapi(root)))
        elif is_read and below == "/docs":
            page = pages.docs_page(f"Motoric: {self.model}", root)
            await respond(send, page, content_type=pages.HTML_TYPE)
        elif is_read and (name := below.removeprefix("/docs/")) in pages.ASSET_TYPES:
            await respond(
                send,
                pages.asset(name),
                content_type=pages.ASSET_TYPES[name],
                extra=pages.ASSET_HEADERS,
            )
        else:
            self._check_key(scope)
            below = below or "/"
            if is_read and below == "/":
                await respond(send, orjson.dumps(self.info()))
                return
            path = scope["path"]
            if below in _METHODS:
                raise MethodError(method, path, _METHODS[below])
            if below in ("/healthz", "/openapi.json", "/docs"):
                raise MethodError(method, path, "GET, HEAD")
            raise NotFoundError(
                f"nothing lies at {path}; model {self.model!r} has predict (POST), healthz, docs, "
                "openapi.json"
            )

    def _check_key(self, scope: Scope) -> None:
        values = [value for key, value in scope["headers"] if key == b"authorization"]
        self._check(values[0].decode("latin-1") if values else None)

    def _served(self) -> ServedModel:
        served = self.releases.served
        if served is None:
            if self.releases.failure is not None:
                raise PlatformError(
                    f"version {self.releases.failure.version} of model {self.model!r} does not "
                    "load; the log of the replica says why"
                )
            raise PlatformError(
                f"model {self.model!r} has no release yet: `motoric deploy {self.model}` makes one"
            )
        return served

    def health(self) -> dict[str, Any]:
        """Readiness, without what only key holders may know."""
        served, failure, age_s = self.releases.served, self.releases.failure, self.access.age_s()
        is_ready = served is not None and self.access.is_fresh()
        return {
            "status": "ok" if is_ready else "unavailable",
            "model": self.model,
            "version": None if served is None else served.version,
            "digest": None if served is None else served.digest,
            "access_age_s": None if age_s is None else round(age_s, 1),
            "failing": None
            if failure is None
            else {
                "version": failure.version,
                "digest": failure.digest,
                "kind": failure.kind,
                "num_tries": failure.num_tries,
            },
            "replica": self._replica,
            "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        }

    def info(self) -> dict[str, Any]:
        """What is served, in full.

        Raises:
            PlatformError: Nothing is.
        """
        served, release, failure = self._served(), self.releases.release, self.releases.failure
        assert release is not None
        return {
            "model": self.model,
            "version": served.version,
            "digest": served.digest,
            "alias": release.alias,
            "signature": served.signature.model_dump(mode="json"),
            "providers": served.providers,
            "batching": {
                "max_windows": self._options.max_windows,
                "max_wait_ms": self._options.max_wait_ms,
                "inline": served.inline,
                "full_batch_ms": round(served.batch_s * 1e3, 3),
                "num_batches": served.batcher.num_batches,
                "num_windows": served.batcher.num_windows,
            },
            "load_s": round(served.load_s, 3),
            "failing": None if failure is None else failure.message,
            "release_error": self.releases.document_error,
        }

    def openapi(self, root: str) -> dict[str, Any]:
        """The OpenAPI document of what is served."""
        served = self.releases.served
        if served is None:
            return model_document(self.model, None, root)
        return model_document(self.model, served.signature, root, served.version)
