from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
import orjson
import pytest

from artefacts import release_small
from exported import model_of, values_of
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import QuantilesOutput, Signature, ValueOutput
from motoric.serving.model_server import ModelServer
from whole_files import heart_signature, mean_graph

MODEL = "any"


def ask(local: Any, key: str, *bodies: bytes, content_type: str) -> list[dict[str, Any]]:
    """Answers of a server to some bodies, after its pages were asked for too."""
    server = ModelServer(model=MODEL, storage_uri=local.storage_uri)

    async def run() -> list[dict[str, Any]]:
        server.access.poll()
        server.releases.poll()
        transport = httpx.ASGITransport(server, root_path="/m")
        headers = {"authorization": f"Bearer {key}", "content-type": content_type}
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            for path in ("/m/", "/m/openapi.json", "/m/healthz"):
                assert (await client.get(path, headers=headers)).status_code == 200
            found = []
            for body in bodies:
                response = await client.post("/m/predict", content=body, headers=headers)
                assert response.status_code == 200, response.text
                found.append(response.json())
            return found

    return asyncio.run(run())


@pytest.mark.parametrize("name", ["recurrent", "r2plus1d", "frame_recurrent", "fusion"])
def test_models_of_windows_clips_and_both_answer_as_the_predictor(
    local: Any, key: str, name: str
) -> None:
    made = model_of(name, optional=name == "fusion")
    released = release_small(local.storage_uri, MODEL, 1, **made)
    predictor = Predictor.load(f"{local.storage_uri}/{released.artefact}")
    values = values_of(name)
    present = values.pop("present", None)
    if present is not None:
        present = present.astype(bool)
        present[~present.any(axis=1)] = True
    keys: dict[str, Any] = dict(values)
    if present is not None:
        keys["present"] = present.tolist()
    body = orjson.dumps(keys, option=orjson.OPT_SERIALIZE_NUMPY)
    (answer,) = ask(local, key, body, content_type="application/json")
    found_BK = [list(item["probabilities"].values()) for item in answer["predictions"]]
    expected_BK = predictor.predict(values.get("windows"), values.get("clips"), present)
    np.testing.assert_allclose(found_BK, expected_BK, atol=2e-6)
    if present is not None:
        inputs_of = [item["inputs"] for item in answer["predictions"]]
        names = np.array(["windows", "clips"])
        assert inputs_of == [names[row].tolist() for row in present]


def test_models_of_values_and_quantiles_answer_with_their_units(local: Any, key: str) -> None:
    inputs = heart_signature().inputs
    outputs = (
        ("regress", ValueOutput(of="speed", unit="m/s"), 1),
        (
            "forecast",
            QuantilesOutput(of="heart_rate", unit="bpm", horizon_s=60.0, quantiles=(0.1, 0.9)),
            2,
        ),
    )
    body = orjson.dumps({"windows": [[[120.0]] * 10]})
    answers = []
    for version, (task, output, num) in enumerate(outputs, start=1):
        signature = Signature.model_validate({"task": task, "inputs": inputs, "outputs": (output,)})
        graph = mean_graph(10, num)
        release_small(local.storage_uri, MODEL, version, graph=graph, signature=signature)
        (answer,) = ask(local, key, body, content_type="application/json")
        answers.append(answer["predictions"])
    assert answers == [
        [{"value": 120.0, "unit": "m/s"}],
        [{"quantiles": {"0.1": 120.0, "0.9": 120.0}, "unit": "bpm", "horizon_s": 60.0}],
    ]
