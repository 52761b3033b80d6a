"""The ASGI application at `/`, without Ray: the catalogue, health, and why a model has no answer.

GET  /v1/models                 released models with their signatures
ANY  /v1/models/<name>/...      reached only where no application of that model runs: says why
ANY  /v2/...                    the Open Inference Protocol: `open_inference.front`
GET  /healthz, /docs, /openapi.json   open
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from motoric.artefact.files import SIGNATURE, read_file, read_sums
from motoric.artefact.signature import Signature, parse_signature
from motoric.core import storage
from motoric.core.errors import (
    ArtefactError,
    MotoricError,
    NotFoundError,
    PlatformError,
)
from motoric.core.releases import MODEL_NAME, Release, list_released, read_release
from motoric.serving import pages
from motoric.serving.asgi import (
    MethodError,
    internal_error,
    refuse_websocket,
    respond_problem,
)
from motoric.serving.config import MAX_MESSAGE_MIB
from motoric.serving.cors import CorsMiddleware, Origins
from motoric.serving.following import AccessFollower, follow
from motoric.serving.open_inference.endpoint import HttpCall
from motoric.serving.open_inference.front import Forward, OpenInferenceFront
from motoric.serving.openapi.platform import platform_document

logger = logging.getLogger(__name__)

POLL_PERIOD_S = 1.0
PUBLISH_PERIOD_S = 60.0


class Catalogue:
    """Released models, from their control documents; signatures are kept by digest."""

    def __init__(self, storage_uri: str) -> None:
        self._storage_uri = storage_uri
        self._signatures: dict[str, Signature] = {}

    def names(self) -> list[str]:
        """Names of released models."""
        return list_released(self._storage_uri)

    def entries(self) -> list[dict[str, Any]]:
        """All released models (blocking); one that cannot be read says so and hides no other."""
        return [self._entry(name) for name in self.names()]

    def why_missing(self, name: str) -> MotoricError:
        """Why no application of a model runs (blocking)."""
        released = self.names()
        if MODEL_NAME.fullmatch(name) and name in released:
            return PlatformError(
                f"model {name!r} is released, but no application of it runs here: `motoric deploy "
                f"{name}` starts one; where it was started, try again"
            )
        known = ", ".join(released) or "none yet"
        return NotFoundError(f"no model {name!r:.80} is released (released: {known})")

    def _entry(self, name: str) -> dict[str, Any]:
        try:
            release = read_release(self._storage_uri, name)
        except MotoricError:
            logger.exception("the release of %s cannot be read", name)
            return {
                "model": name,
                "error": "its release cannot be read; the platform's log says why",
            }
        entry: dict[str, Any] = {
            "model": name,
            "version": release.primary.version,
            "digest": release.primary.digest,
            "alias": release.alias,
            "url": f"/v1/models/{name}",
        }
        try:
            entry["signature"] = self._signature(release).model_dump(mode="json")
        except MotoricError:
            logger.exception("the signature of %s cannot be read", name)
            entry.update(
                signature=None, error="its artefact cannot be read; the platform's log says why"
            )
        return entry

    def _signature(self, release: Release) -> Signature:
        primary = release.primary
        if primary.digest not in self._signatures:
            uri = storage.resolve(primary.artefact, self._storage_uri)
            by_name, digest = read_sums(uri)
            if digest != primary.digest:
                raise ArtefactError(
                    f"{uri} has digest {digest}, the release names {primary.digest}"
                )
            content = read_file(uri, SIGNATURE, by_name)
            self._signatures[digest] = parse_signature(content, f"{uri}/{SIGNATURE}")
        return self._signatures[primary.digest]


def build_platform(
    *,
    storage_uri: str,
    publish: Callable[[], object],
    poll_period_s: float = POLL_PERIOD_S,
    publish_period_s: float = PUBLISH_PERIOD_S,
    access: AccessFollower | None = None,
    forward: Forward | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """The platform's application.

    Args:
        storage_uri: Where control documents lie.
        publish: Writes the access snapshot anew (blocking).
        poll_period_s: Between two looks at the access snapshot.
        publish_period_s: Between two writes of it, well below its maximum age.
        access: Checks keys; shared where other protocols check them too.
        forward: Passes calls of the Open Inference Protocol on to models; by default to none.
        cors_origins: Pages of other origins that may ask.
    """
    access = access or AccessFollower(storage_uri)
    catalogue = Catalogue(storage_uri)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        try:
            await asyncio.to_thread(publish)
        except Exception:
            logger.exception("the access snapshot was not published; trying again")
        await asyncio.to_thread(access.poll)
        tasks = [
            asyncio.create_task(follow(access.poll, poll_period_s)),
            asyncio.create_task(follow(publish, publish_period_s)),
        ]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = FastAPI(
        title="Motoric", openapi_url=None, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.add_middleware(KeyMiddleware, access=access)
    app.add_middleware(
        OpenInferenceFront,
        check=access.gate.check,
        is_ready=access.is_fresh,
        forward=forward or _to_none,
        explain=catalogue.why_missing,
        max_bytes=MAX_MESSAGE_MIB * 2**20,
    )
    if cors_origins:  # around the keys: a preflight has none
        app.add_middleware(CorsMiddleware, origins=Origins(cors_origins))
    app.add_exception_handler(MotoricError, _problem_of_motoric)
    app.add_exception_handler(HTTPException, _problem_of_http)
    _add_open_routes(app, access)
    _add_catalogue(app, catalogue)
    return app


async def _to_none(_model: str, _call: HttpCall) -> None:
    return None


class KeyMiddleware:
    """Lets open paths pass, and everything else with a valid key; answers unexpected exceptions."""

    def __init__(self, app: ASGIApp, access: AccessFollower) -> None:
        self._app = app
        self._check = access.gate.check

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] == "websocket":
            missing = NotFoundError(
                f"no live stream runs at {scope['path']}: a model that is deployed has one at"
                " /v1/models/NAME/stream"
            )
            await receive()
            await refuse_websocket(scope, send, missing)
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        is_started = False

        async def watched(message: Any) -> None:
            nonlocal is_started
            is_started = True
            await send(message)

        try:
            if not is_open(path):
                found = [value for key, value in scope["headers"] if key == b"authorization"]
                self._check(found[0].decode("latin-1") if found else None)
            await self._app(scope, receive, watched)
        except MotoricError as error:
            await respond_problem(send, error, path)
        except Exception as error:
            if is_started:
                raise
            await respond_problem(send, internal_error(error, path), path)


def is_open(path: str) -> bool:
    """Whether a path answers without a key."""
    return path in ("/healthz", "/docs", "/openapi.json") or (
        path.startswith("/docs/") and path.removeprefix("/docs/") in pages.ASSET_TYPES
    )


async def _problem_of_motoric(request: Request, error: Exception) -> Response:
    assert isinstance(error, MotoricError)
    return _Problem(error, request.url.path)


async def _problem_of_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path
    if error.status_code == 405:
        allowed = (error.headers or {}).get("Allow", "")
        return _Problem(MethodError(request.method, path, allowed), path)
    return _Problem(
        NotFoundError(f"nothing lies at {path}; models are at /v1/models, the API at /docs"), path
    )


class _Problem(Response):
    """A problem document as a Starlette response."""

    def __init__(self, error: MotoricError, path: str) -> None:
        super().__init__(status_code=error.status)
        self._error = error
        self._path = path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await respond_problem(send, self._error, self._path)


def _add_open_routes(app: FastAPI, access: AccessFollower) -> None:
    @app.get("/healthz")
    async def health() -> Response:
        age_s = access.age_s()
        is_ready = access.is_fresh()
        content = {
            "status": "ok" if is_ready else "unavailable",
            "access_age_s": None if age_s is None else round(age_s, 1),
        }
        return JSONResponse(content, status_code=200 if is_ready else 503)

    @app.get("/openapi.json")
    async def openapi() -> dict[str, Any]:
        return platform_document()

    @app.get("/docs")
    async def docs() -> Response:
        return Response(pages.docs_page("Motoric", ""), media_type=pages.HTML_TYPE.decode())

    @app.get("/docs/{name}")
    def docs_asset(name: str) -> Response:
        if name not in pages.ASSET_TYPES:
            raise NotFoundError(f"nothing lies at /docs/{name}")
        headers = {key.decode(): value.decode() for key, value in pages.ASSET_HEADERS}
        return Response(
            pages.asset(name), media_type=pages.ASSET_TYPES[name].decode(), headers=headers
        )


def _add_catalogue(app: FastAPI, catalogue: Catalogue) -> None:
    @app.get("/v1/models")
    def models() -> dict[str, Any]:
        return {"models": catalogue.entries()}

    methods = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]

    @app.api_route("/v1/models/{name}", methods=methods)
    @app.api_route("/v1/models/{name}/{rest:path}", methods=methods)
    def undeployed(name: str) -> Response:
        raise catalogue.why_missing(name)
