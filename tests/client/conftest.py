from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from artefacts import release_small
from live import LiveServer, serving
from motoric.core.settings import Settings
from motoric.serving.config import Limits
from motoric.serving.model_server import ModelServer

MODEL = "small"
Start = Callable[..., LiveServer]


@pytest.fixture
def start(local: Settings, key: str) -> Iterator[Start]:
    """Starts servers of one model, which is released."""
    release_small(local.storage_uri, MODEL, 1)
    with ExitStack() as stack:

        def started(limits: dict[str, Any] | None = None, **options: Any) -> LiveServer:
            server = ModelServer(
                model=MODEL,
                storage_uri=local.storage_uri,
                limits=Limits(**(limits or {})),
                poll_period_s=0.05,
                **options,
            )
            return stack.enter_context(serving(server))

        yield started
