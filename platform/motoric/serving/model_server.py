"""The ASGI application of one model: what a replica answers, without Ray.

    POST predict        windows in, labels and probabilities out; types: `bodies`
                        a whole file in, a timeline out: `files`
    WS   stream         a live session, and POST stream/tokens for browsers: `streams`
    GET  /              the served version and its signature
    GET  healthz        readiness, open
    GET  docs           Swagger UI, open; `openapi.json` beside it
    ANY  v2/...         the Open Inference Protocol: `open_inference.endpoint`

Paths are below `root_path`. Every other request needs an API key.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
from collections.abc import Sequence
from typing import Any

import orjson

from motoric.core.errors import MotoricError, NotFoundError, PlatformError, UserError
from motoric.serving import pages
from motoric.serving.asgi import (
    ClientGoneError,
    MethodError,
    Receive,
    Scope,
    Send,
    internal_error,
    read_body,
    refuse_websocket,
    respond,
    respond_problem,
)
from motoric.serving.bodies.encoding import choose_type
from motoric.serving.config import Files, Limits
from motoric.serving.context import ServingContext
from motoric.serving.cors import Origins
from motoric.serving.files.endpoint import FileEndpoint, FileRequest
from motoric.serving.files.requests import uris_of
from motoric.serving.following import AccessFollower, ReleaseFollower, follow
from motoric.serving.open_inference.endpoint import OpenInferenceEndpoint, is_protocol_path
from motoric.serving.openapi.model import model_document
from motoric.serving.predict import PredictHead, Waiting, submit
from motoric.serving.served import RunOptions, ServedModel, load_model
from motoric.serving.streams.endpoint import StreamEndpoint

POLL_PERIOD_S = 1.0
_METHODS = {"/predict": "POST", "/stream/tokens": "POST", "/": "GET, HEAD"}


class ModelServer:
    """Answers for one model.

    Args:
        model: Its name.
        storage_uri: Where control documents and artefacts lie.
        options: How to run it.
        limits: What it takes on.
        files: What it takes on of whole files.
        cors_origins: Pages of other origins that may ask.
        poll_period_s: Between two looks at the control documents.
        replica: What to call this replica in `healthz`.
    """

    def __init__(
        self,
        *,
        model: str,
        storage_uri: str,
        options: RunOptions | None = None,
        limits: Limits | None = None,
        files: Files | None = None,
        cors_origins: Sequence[str] = (),
        poll_period_s: float = POLL_PERIOD_S,
        replica: str = "",
    ) -> None:
        self.model = model
        self._limits = limits or Limits()
        self.max_body_bytes = int(self._limits.max_body_mib * 2**20)
        self.max_body_s = self._limits.max_body_s
        # Serve's own limit leaves room for the live sessions too.
        num_queued = self._limits.max_queued_requests
        self._max_requests = (
            self._limits.max_ongoing_requests + num_queued if num_queued >= 0 else math.inf
        )
        self._num_requests = 0
        self._poll_period_s = poll_period_s
        self._replica = replica
        self._options = options or RunOptions()
        self.access = AccessFollower(storage_uri)
        self.releases = ReleaseFollower(
            storage_uri,
            model,
            lambda version: load_model(storage_uri, model, version, self._options),
        )
        self._context = ServingContext(
            model=model,
            storage_uri=storage_uri,
            limits=self._limits,
            check=self.access.gate.check,
            grant=self.access.gate.grant,
            served=self._served,
        )
        self.open_inference = OpenInferenceEndpoint(self._context, self.is_ready)
        self._files = FileEndpoint(self._context, files or Files())
        self._origins = Origins(cors_origins)
        self._streams = StreamEndpoint(self._context, self._origins)
        self._tasks: list[asyncio.Task[None]] = []
        # Counted by `ingress`: requests that went around Serve, and those of a known head.
        self.num_short_requests = 0
        self.num_known_requests = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        kind = scope["type"]
        if kind == "lifespan":
            await self._lifespan(receive, send)
            return
        path: str = scope["path"]
        below = path.removeprefix(scope.get("root_path", ""))
        if kind == "websocket":
            await self._websocket(scope, below, receive, send)
            return
        if self._origins.is_any_allowed:
            if await self._origins.preflight(scope, send):
                return
            send = self._origins.wrap(scope, send)
        self._num_requests += 1
        try:
            if self._num_requests > self._max_requests and below != "/healthz":
                raise PlatformError(
                    f"{self._max_requests} requests are under way, the limit of this replica: try"
                    " again later"
                )
            if below == "/predict" and scope["method"] == "POST":
                await self._predict(scope, receive, send)
            elif is_protocol_path(below):
                await self.open_inference(scope, receive, send, below)
            elif below == "/stream/tokens" and scope["method"] == "POST":
                await self._streams.issue_token(scope, receive, send)
            else:
                await self._other(scope, below, send)
        except MotoricError as error:
            await respond_problem(send, error, path)
        except ClientGoneError:
            return
        except Exception as error:  # noqa: BLE001 - answered as a problem and logged there
            await respond_problem(send, internal_error(error, path), path)
        finally:
            self._num_requests -= 1

    @property
    def context(self) -> ServingContext:
        """What endpoints of other protocols need."""
        return self._context

    async def start(self) -> None:
        """Load what is released, then follow the control documents in the background."""
        await asyncio.to_thread(self.access.poll)
        await asyncio.to_thread(self.releases.poll)
        polls = (self.access.poll, self.releases.poll)
        self._tasks = [asyncio.create_task(follow(poll, self._poll_period_s)) for poll in polls]

    async def stop(self) -> None:
        """Close the live sessions, and stop following."""
        await self._streams.close()
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self._tasks = []
        self._files.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        await self.start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def _websocket(self, scope: Scope, below: str, receive: Receive, send: Send) -> None:
        path: str = scope["path"]
        try:
            if below != "/stream":
                raise NotFoundError(f"no WebSocket lies at {path}; the live one ends in /stream")
            await self._streams.connect(scope, receive, send)
        except MotoricError as error:
            await refuse_websocket(scope, send, error)
        except Exception as error:  # noqa: BLE001 - answered as a problem and logged there
            await refuse_websocket(scope, send, internal_error(error, path))

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        head, context = PredictHead.of(scope), self._context
        context.check(head.authorization)
        timeout_s = head.timeout_s
        request = FileRequest(
            scope=scope, content_type=head.content_type, accept=head.accept, timeout_s=timeout_s
        )
        if head.is_file:
            await respond(send, await self._files.predict(request, receive))
            return
        deadline_s = context.deadline_s(timeout_s)
        answer_type = choose_type(head.accept)
        body = await read_body(scope, receive, self.max_body_bytes, self.max_body_s)
        try:
            waiting = submit(context, head, body, answer_type=answer_type, deadline_s=deadline_s)
        except UserError:
            # Looked at last, so that windows need not be searched for it.
            uris = uris_of(head.content_type, body)
            if uris is None:
                raise
            await respond(send, await self._files.predict_uris(request, uris))
            return
        answer = waiting.answer(await waiting.outputs)
        await respond(send, answer, content_type=answer_type)

    def takes_at_once(self, head: PredictHead) -> bool:
        """Whether `submit` takes requests of predict with this head."""
        return not head.is_file and not self._origins.is_any_allowed

    def submit(self, head: PredictHead, body: bytes) -> Waiting:
        """Begin to answer a request of predict whose body is there; `__call__` in two steps.

        Raises:
            MotoricError: What `__call__` would answer with; it also finds URIs in bodies.
        """
        context = self._context
        context.check(head.authorization)
        return submit(
            context,
            head,
            body,
            answer_type=choose_type(head.accept),
            deadline_s=context.deadline_s(head.timeout_s),
        )

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
            self._context.check_key(scope)
            below = below or "/"
            if is_read and below == "/":
                await respond(send, orjson.dumps(self.info()))
                return
            path = scope["path"]
            if below in _METHODS:
                raise MethodError(method, path, _METHODS[below])
            if below == "/stream":
                raise UserError(f"{path} is a WebSocket: open it by ws:// or wss://, see docs")
            if below in ("/healthz", "/openapi.json", "/docs"):
                raise MethodError(method, path, "GET, HEAD")
            raise NotFoundError(
                f"nothing lies at {path}; model {self.model!r} has predict (POST), stream "
                "(WebSocket), stream/tokens (POST), healthz, docs, openapi.json, v2"
            )

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

    def is_ready(self) -> bool:
        """Whether a version is loaded and keys can be checked."""
        return self.releases.served is not None and self.access.is_fresh()

    def health(self) -> dict[str, Any]:
        """Readiness, without what only key holders may know."""
        served, failure, age_s = self.releases.served, self.releases.failure, self.access.age_s()
        return {
            "status": "ok" if self.is_ready() else "unavailable",
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
            "versions": [
                {
                    "version": item.version,
                    "digest": item.digest,
                    "role": role,
                    "is_served": (item.version, item.digest) == (served.version, served.digest),
                }
                for role, item in (("primary", release.primary), ("candidate", release.candidate))
                if item is not None
            ],
            "metrics": served.metrics,
            "limits": self._limits.model_dump(mode="json"),
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
            "num_sessions": self._streams.num_sessions,
            "num_short_requests": self.num_short_requests,
            "num_known_requests": self.num_known_requests,
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
