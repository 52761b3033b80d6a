from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from artefacts import NUM_CHANNELS, NUM_SAMPLES, release_small
from live import serving
from motoric.serving.config import Limits
from motoric.serving.model_server import ModelServer

MODEL = "small"
ROOT = f"/v1/models/{MODEL}"


@pytest.fixture
def windows() -> np.ndarray:
    """Three windows whose classes are not certain."""
    shape = (3, NUM_SAMPLES, NUM_CHANNELS)
    return np.random.default_rng(3).normal(0, 0.3, shape).astype(np.float32)


@pytest.fixture
def server(local, key) -> ModelServer:
    """A server whose model is released as version 4; a request may have 5 windows and 16 KiB."""
    release_small(local.storage_uri, MODEL, 4)
    limits = Limits(max_body_mib=2**-6, max_request_windows=5)
    return ModelServer(model=MODEL, storage_uri=local.storage_uri, limits=limits)


@pytest.fixture
def address(server) -> Iterator[str]:
    """Where the server answers: `host:port/base`."""
    with serving(server) as live:
        yield f"127.0.0.1:{live.port}{ROOT}"


@pytest.fixture
def auth(key) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}
