"""A model's server that is asked with whole files, and files of sensors to ask with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from artefacts import release_small, small_graph
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    Normaliser,
    Preprocessing,
    SensorInput,
    Signature,
)
from motoric.serving.config import Files, Limits
from motoric.serving.files.reading import Readers
from motoric.serving.model_server import ModelServer

MODEL = "small"
ROOT = f"/v1/models/{MODEL}"
RATE_HZ = 10.0
CHANNELS = ("acc_x", "acc_y", "acc_z", "acc_w")

Scenario = Callable[[httpx.AsyncClient], Awaitable[Any]]


class FileServer:
    """One model behind its ASGI application, with a key.

    Args:
        storage_uri: Where it is released.
        key: That is valid.
        readers: The processes that read files; those that wait are handed from test to test, since
            one takes a second to start.
    """

    def __init__(self, storage_uri: str, key: str, readers: Readers) -> None:
        self.storage_uri = storage_uri
        self.headers = {"authorization": f"Bearer {key}"}
        self._readers = readers
        self.server: ModelServer
        self.set_files()

    def set_files(self, *, limits: Limits | None = None, **files: Any) -> None:
        """Start anew with other limits."""
        self.server = ModelServer(
            model=MODEL,
            storage_uri=self.storage_uri,
            limits=limits,
            files=Files(**files),
        )
        self.server._files._readers = self._readers

    def release(self, **more: Any) -> Predictor:
        """Release a model; gives the predictor of its artefact."""
        released = release_small(self.storage_uri, MODEL, 1, **more)
        return Predictor.load(f"{self.storage_uri}/{released.artefact}")

    def run(self, scenario: Scenario) -> Any:
        """Run a scenario with a client."""

        async def run() -> Any:
            self.server.access.poll()
            self.server.releases.poll()
            transport = httpx.ASGITransport(self.server, root_path=ROOT, raise_app_exceptions=False)
            async with httpx.AsyncClient(
                transport=transport,
                base_url="http://test",
                headers=self.headers,
                timeout=60,
            ) as client:
                return await scenario(client)

        return asyncio.run(run())

    def post(
        self, content: Any = None, content_type: str | None = None, query: str = "", **more: Any
    ) -> httpx.Response:
        """Ask for a prediction."""
        headers = {**more.pop("headers", {})}
        if content_type is not None:
            headers["content-type"] = content_type

        async def scenario(client: httpx.AsyncClient) -> httpx.Response:
            return await client.post(
                f"{ROOT}/predict{query}", content=content, headers=headers, **more
            )

        response = self.run(scenario)
        assert isinstance(response, httpx.Response)
        return response

    def answer(self, *args: Any, **more: Any) -> dict[str, Any]:
        """Ask for a prediction that is given."""
        response = self.post(*args, **more)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    def problem(self, status: int, *args: Any, **more: Any) -> str:
        """Ask for a prediction that is refused; gives the detail."""
        response = self.post(*args, **more)
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        return str(response.json()["detail"])


def columns_of(labels: list[int]) -> np.ndarray:
    """Half in the channel of a label and 0 in the others, one row a label, shape (T, 4)."""
    return 0.5 * np.eye(4, dtype=np.float32)[labels]


def csv_of(
    values_TC: np.ndarray, header: str = ",".join(CHANNELS), rate_hz: float | None = None
) -> bytes:
    """A table of values, with times where there is a rate."""
    if rate_hz is not None:
        header = f"time_s,{header}"
        values_TC = np.column_stack([np.arange(len(values_TC)) / rate_hz, values_TC])
    rows = [",".join(f"{value:.9g}" for value in row) for row in values_TC]
    return "\n".join([header, *rows, ""]).encode()


def windows_of(values_TC: np.ndarray, length: int = 10, hop: int = 5) -> np.ndarray:
    """Windows of rows that have no gap, shape (B, length, C)."""
    starts = range(0, len(values_TC) - length + 1, hop)
    return np.stack([values_TC[start : start + length] for start in starts]).astype(np.float32)


def mean_graph(num_samples: int, num_quantiles: int = 1) -> bytes:
    """A graph that gives the mean of one channel, once or (for quantiles) several times."""
    axes = numpy_helper.from_array(np.array([1]), "axes")
    repeats = numpy_helper.from_array(np.array([1, num_quantiles]), "repeats")
    nodes = [
        helper.make_node("ReduceMean", ["windows", "axes"], ["mean"], keepdims=0),
        helper.make_node("Tile", ["mean", "repeats"], ["value"]),
    ]
    windows = helper.make_tensor_value_info("windows", TensorProto.FLOAT, ["B", num_samples, 1])
    value = helper.make_tensor_value_info("value", TensorProto.FLOAT, ["B", num_quantiles])
    graph = helper.make_graph(nodes, "mean", [windows], [value], [axes, repeats])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def heart_signature(**changes: Any) -> Signature:
    """Windows of 10 s of heart rate at 1 Hz, every 5 s; `changes` are of their input."""
    sensors = SensorInput.model_validate(
        {
            "name": "workout",
            "channels": (Channel(name="heart_rate", unit="bpm"),),
            "rate_hz": 1.0,
            "length_s": 10.0,
            "hop_s": 5.0,
            **changes,
        }
    )
    return Signature(
        inputs=(sensors,),
        outputs=(ClassesOutput(classes=("hard", "easy")),),
        preprocessing=Preprocessing(normaliser=Normaliser(mean=(120.0,), std=(15.0,))),
    )


def heart_model(**changes: Any) -> dict[str, Any]:
    """What `release` needs for a model that tells hard from easy by the heart rate."""
    graph = small_graph((0.0, 0.0), num_samples=10, num_channels=1)
    return {"graph": graph, "signature": heart_signature(**changes)}


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
