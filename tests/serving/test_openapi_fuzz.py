"""Requests made from the OpenAPI documents, valid and not, never lead to a 5xx."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from artefacts import release_small
from motoric.serving.model_server import ModelServer
from motoric.serving.platform_server import build_platform

MODEL = "small"
ROOT = f"/v1/models/{MODEL}"
NUM_CASES = 40
TIMEOUT = "X-Timeout-Ms"
_SHORT_MS = 2000
# 413 is a refusal too: what is generated may be longer than a body may be.
REFUSALS = ["400", "401", "403", "404", "405", "406", "413", "415", "422"]
CONFIG = SchemathesisConfig.from_dict(
    {"checks": {"negative_data_rejection": {"expected-statuses": REFUSALS}}}
)
# The first asks again without a key, but by the same arguments, which hold one. A schema cannot say
# what bytes must be.
EXCLUDED = [ignored_auth, positive_data_acceptance]


class Mounted:
    """An ASGI application below a path, as Serve mounts it."""

    def __init__(self, app: Any, root: str) -> None:
        self._app, self._root = app, root

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app({**scope, "root_path": self._root}, receive, send)


def may_be_late(case: Any) -> bool:
    """Whether a client waits so shortly that 504 is the right answer on a slow machine."""
    try:
        return 0 < float((case.headers or {}).get(TIMEOUT, "inf")) < _SHORT_MS
    except (TypeError, ValueError):
        return False


def ask_everything(schema: Any, key: str) -> set[str]:
    """Ask each operation with what fits its document and what does not; returns their labels."""
    asked = set()
    for result in schema.get_all_operations():
        operation = result.ok()
        asked.add(operation.label)
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):

            @settings(
                max_examples=NUM_CASES,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                database=None,
            )
            @given(case=operation.as_strategy(generation_mode=mode))
            def check(case: Any) -> None:
                assume(not may_be_late(case))
                case.call_and_validate(
                    headers={"authorization": f"Bearer {key}"}, excluded_checks=EXCLUDED
                )

            try:
                check()
            except Unsatisfiable:  # nothing about it can be wrong
                assert mode is GenerationMode.NEGATIVE
    return asked


def test_a_model_answers_as_its_document_says(local, accounts, key):
    release_small(local.storage_uri, MODEL, 1)
    server = ModelServer(model=MODEL, storage_uri=local.storage_uri)
    schema = schemathesis.openapi.from_asgi(
        f"{ROOT}/openapi.json", Mounted(server, ROOT), config=CONFIG
    )
    assert "POST /predict" in ask_everything(schema, key)


def test_the_platform_answers_as_its_document_says(local, accounts, key):
    release_small(local.storage_uri, MODEL, 1)
    app = build_platform(storage_uri=local.storage_uri, publish=accounts.publish)
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, config=CONFIG)
    assert "GET /v1/models" in ask_everything(schema, key)
