"""One predictor stands behind all protocols: the same input gives the same output on each.

The model has a context, filters, and classes that are never certain. The server is a real one on
loopback.

Axes: B windows, T samples, C channels, K classes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pytest
from websockets.sync.client import connect

from artefacts import CLASSES, release_small, small_graph
from live import LiveServer, serving
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    GravitySplitStep,
    HampelStep,
    LowPassStep,
    Normaliser,
    Preprocessing,
    SensorInput,
    Signature,
)
from motoric.client import Client
from motoric.core import settings
from motoric.data.windows import Windower
from motoric.serving.accounts import open_accounts
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE, RAW_TYPE
from motoric.serving.model_server import ModelServer
from motoric.serving.open_inference.grpc import grpc_predict_v2_pb2 as pb2
from motoric.serving.open_inference.grpc.endpoint import GrpcCall, GrpcEndpoint
from motoric.serving.open_inference.http import HEADER_LENGTH
from motoric.serving.streams.messages import Chunk, End, Open
from motoric.serving.streams.replies import Ended, Prediction, parse_reply
from whole_files import csv_of

MODEL = "one"
ROOT = f"/v1/models/{MODEL}"
NAMES = ("acc_x", "acc_y", "acc_z")
RATE_HZ = 50.0
LENGTH_S, HOP_S, CONTEXT_S = 2.0, 0.5, 1.0
NUM_SAMPLES, NUM_CONTEXT = 100, 50
G = 9.80665
# JSON has six decimals; onnxruntime adds up batches of other sizes in another order.
TOLERANCE = 2e-6
TYPES = {"json": JSON_TYPE, "raw": RAW_TYPE, "npy": NPY_TYPE, "arrow": ARROW_TYPE}

Windows = np.ndarray
Outputs = np.ndarray


class Site:
    """A server of the model, a key, and the predictor of its artefact."""

    def __init__(self, live: LiveServer, key: str, predictor: Predictor) -> None:
        self.live = live
        self.key = key
        self.predictor = predictor
        self.headers = {"authorization": f"Bearer {key}"}

    def post(
        self, path: str, body: bytes, headers: Mapping[str, str], query: Mapping[str, str]
    ) -> httpx.Response:
        """What is answered to a body below the model's address."""
        response = httpx.post(
            f"{self.live.url}{ROOT}{path}",
            content=body,
            headers={**self.headers, **headers},
            params=query,
            trust_env=False,
            timeout=30,
        )
        assert response.status_code == 200, response.text
        return response


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("one")
    found = settings.load(
        home=folder / "home",
        storage_uri=str(folder / "storage"),
        accounts_uri=f"sqlite:///{folder}/home/accounts/accounts.db",
    )
    sensors = SensorInput(
        channels=tuple(Channel(name=name, unit="m/s^2") for name in NAMES),
        rate_hz=RATE_HZ,
        length_s=LENGTH_S,
        hop_s=HOP_S,
        context_s=CONTEXT_S,
    )
    signature = Signature(
        inputs=(sensors,),
        outputs=(ClassesOutput(classes=CLASSES),),
        preprocessing=Preprocessing(
            steps=(HampelStep(window_s=0.2), LowPassStep(cutoff_hz=15.0), GravitySplitStep()),
            normaliser=Normaliser(mean=(0.1, 0.0, -0.1, 0.0, 0.0, 9.0), std=(60.0,) * 6),
        ),
    )
    graph = small_graph((0.1, 0.0, -0.1), num_samples=NUM_SAMPLES, num_channels=6)
    released = release_small(found.storage_uri, MODEL, 3, graph=graph, signature=signature)
    accounts = open_accounts(found)
    key = accounts.create_key("tests").secret
    accounts.close()
    predictor = Predictor.load(f"{found.storage_uri}/{released.artefact}")
    with serving(ModelServer(model=MODEL, storage_uri=found.storage_uri)) as live:
        yield Site(live, key, predictor)


def recording(rate_hz: float, duration_s: float = 30.0) -> np.ndarray:
    """Swings of changing strength, shape (T, C), with spikes where the rate is the model's."""
    rng = np.random.default_rng(0)
    time_T = np.arange(round(duration_s * rate_hz)) / rate_hz
    phases_C, rates_C = rng.uniform(0, 6, 3), np.array([0.11, 0.17, 0.23])
    swings_TC = 3 * np.sin(2 * np.pi * rates_C * time_T[:, None] + phases_C) + [0, 0, G]
    if rate_hz == RATE_HZ:
        swings_TC += rng.normal(0, 0.5, swings_TC.shape)
        swings_TC[rng.integers(0, len(swings_TC), 20)] += 30
    return swings_TC.astype(np.float32)


def windows_of(values_TC: np.ndarray, rate_hz: float = RATE_HZ) -> Windows:
    """Windows with their context as the platform cuts them, shape (B, T, C)."""
    windower = Windower(
        native_rate_hz=rate_hz,
        rate_hz=RATE_HZ,
        length_s=LENGTH_S,
        hop_s=HOP_S,
        context_s=CONTEXT_S,
    )
    found = windower.push(np.arange(len(values_TC)) / rate_hz, values_TC) + windower.finish()
    return np.stack([window.values_TC for window in found])


def check(found_BK: Outputs, expected_BK: Outputs, tolerance: float = TOLERANCE) -> None:
    assert found_BK.shape == expected_BK.shape
    # Else nothing would be shown.
    assert (expected_BK.std(axis=0) > 0.05).all()
    assert set(expected_BK.argmax(axis=1)) == {0, 1, 2}
    np.testing.assert_allclose(found_BK, expected_BK, rtol=0, atol=tolerance)


def rows_of(predictions: list[dict[str, Any]]) -> Outputs:
    """Probabilities of predictions in JSON, whose labels are theirs."""
    found_BK = np.array([[item["probabilities"][name] for name in CLASSES] for item in predictions])
    assert [item["label"] for item in predictions] == [CLASSES[k] for k in found_BK.argmax(axis=1)]
    return found_BK


def body_of(kind: str, windows_BTC: Windows) -> bytes:
    if kind == "json":
        return orjson.dumps({"windows": windows_BTC}, option=orjson.OPT_SERIALIZE_NUMPY)
    if kind == "raw":
        return windows_BTC.tobytes()
    sink = io.BytesIO()
    if kind == "npy":
        np.save(sink, windows_BTC)
    else:
        batch = pa.record_batch(
            {"windows": pa.FixedShapeTensorArray.from_numpy_ndarray(windows_BTC)}
        )
        with pa.ipc.new_stream(sink, batch.schema) as stream:
            stream.write_batch(batch)
    return sink.getvalue()


def answer_of(kind: str, content: bytes) -> Outputs:
    if kind == "json":
        return rows_of(orjson.loads(content)["predictions"])
    if kind == "raw":
        return np.frombuffer(content, "<f4").reshape(-1, len(CLASSES))
    if kind == "npy":
        found_BK: Outputs = np.load(io.BytesIO(content))
        return found_BK
    table = pa.ipc.open_stream(content).read_all()
    found_BK = np.array(table["probabilities"].to_pylist(), dtype=np.float32)
    assert table["label"].to_pylist() == [CLASSES[k] for k in found_BK.argmax(axis=1)]
    return found_BK


def by_predict(
    site: Site, windows_BTC: Windows, sent: str, wanted: str, query: Mapping[str, str] | None = None
) -> Outputs:
    headers = {"content-type": TYPES[sent].decode(), "accept": TYPES[wanted].decode()}
    response = site.post("/predict", body_of(sent, windows_BTC), headers, query or {})
    assert response.headers["content-type"] == TYPES[wanted].decode()
    return answer_of(wanted, response.content)


def by_open_inference(site: Site, windows_BTC: Windows, *, is_binary: bool) -> Outputs:
    tensor: dict[str, Any] = {
        "name": "windows",
        "datatype": "FP32",
        "shape": list(windows_BTC.shape),
    }
    raw, headers = b"", {"content-type": "application/json"}
    if is_binary:
        raw = windows_BTC.tobytes()
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = windows_BTC.ravel().tolist()
    document = {
        "inputs": [tensor],
        "outputs": [{"name": "probabilities", "parameters": {"binary_data": is_binary}}],
    }
    text = orjson.dumps(document)
    length = HEADER_LENGTH.decode()
    if is_binary:
        headers = {"content-type": "application/octet-stream", length: str(len(text))}
    response = site.post(f"/v2/models/{MODEL}/infer", text + raw, headers, {})
    size = int(response.headers[length]) if is_binary else len(response.content)
    (output,) = orjson.loads(response.content[:size])["outputs"]
    values = np.frombuffer(response.content[size:], "<f4") if is_binary else output["data"]
    found_BK: Outputs = np.asarray(values).reshape(output["shape"])
    return found_BK


def by_grpc(site: Site, windows_BTC: Windows) -> Outputs:
    server = site.live.server
    endpoint = GrpcEndpoint(server.context, server.is_ready)
    sent = pb2.ModelInferRequest(model_name=MODEL, raw_input_contents=[windows_BTC.tobytes()])
    sent.inputs.add(name="windows", datatype="FP32", shape=windows_BTC.shape)
    call = GrpcCall(
        method="ModelInfer",
        message=sent.SerializeToString(),
        authorization=site.headers["authorization"],
    )
    reply = site.live.run(endpoint.answer(call))
    assert not reply.details
    answer = pb2.ModelInferResponse.FromString(reply.message)
    place = [item.name for item in answer.outputs].index("probabilities")
    found = np.frombuffer(answer.raw_output_contents[place], "<f4")
    found_BK: Outputs = found.reshape(tuple(answer.outputs[place].shape))
    return found_BK


def by_client(site: Site, windows_BTC: Windows) -> Outputs:
    with Client(site.live.url, site.key) as client:
        found = client.predict(MODEL, windows_BTC)
    assert found.columns == CLASSES
    return found.probabilities_BK


PROTOCOLS: dict[str, Callable[[Site, Windows], Outputs]] = {
    **{
        f"predict {sent} to {wanted}": lambda site, windows_BTC, sent=sent, wanted=wanted: (
            by_predict(site, windows_BTC, sent, wanted)
        )
        for sent in TYPES
        for wanted in TYPES
    },
    "open inference json": lambda site, windows: by_open_inference(site, windows, is_binary=False),
    "open inference binary": lambda site, windows: by_open_inference(site, windows, is_binary=True),
    "grpc": by_grpc,
    "client": by_client,
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_windows_get_what_the_predictor_gives(site: Site, protocol: str) -> None:
    windows_BTC = windows_of(recording(RATE_HZ))
    assert windows_BTC.shape == (57, NUM_CONTEXT + NUM_SAMPLES, 3)
    check(PROTOCOLS[protocol](site, windows_BTC), site.predictor.predict(windows_BTC))


def by_stream(
    site: Site, values_TC: np.ndarray, size: int, *, is_binary: bool, opening: Open
) -> Outputs:
    url = f"{site.live.url.replace('http', 'ws')}{ROOT}/stream"
    found = []
    with connect(url, additional_headers=site.headers, proxy=None) as socket:
        socket.send(opening.encode())
        for first in range(0, len(values_TC), size):
            chunk = Chunk(first=first, values_TC=values_TC[first : first + size])
            socket.send(chunk.encode() if is_binary else chunk.encode_json())
        socket.send(End().encode())
        while not isinstance(reply := parse_reply(socket.recv(20)), Ended):
            if isinstance(reply, Prediction):
                assert reply.number == len(found)
                assert reply.start_s == pytest.approx(reply.number * HOP_S)
                found.append(reply.model_dump())
    return rows_of(found)


@pytest.mark.parametrize("is_binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("size", [1, 7, 50, 500])
def test_a_live_stream_gets_what_the_predictor_gives(
    site: Site, size: int, is_binary: bool
) -> None:
    values_TC = recording(RATE_HZ)
    opening = Open(rate_hz=RATE_HZ, channels=NAMES)
    found_BK = by_stream(site, values_TC, size, is_binary=is_binary, opening=opening)
    check(found_BK, site.predictor.predict(windows_of(values_TC)))


def stream_by_client(site: Site, values_TC: np.ndarray, rate_hz: float, **more: Any) -> Outputs:
    with (
        Client(site.live.url, site.key) as client,
        client.stream(MODEL, channels=more.pop("channels", NAMES), rate_hz=rate_hz, **more) as live,
    ):
        for first in range(0, len(values_TC), 333):
            live.send(values_TC[first : first + 333])
        live.end()
        return rows_of([item.model_dump() for item in live])


def by_file(site: Site, table: bytes, query: Mapping[str, str]) -> Outputs:
    headers = {"content-type": "text/csv"}
    answer = site.post("/predict", table, headers, {**query, "windows": "true"}).json()
    starts = [item["start_s"] for item in answer["windows"]]
    assert starts == pytest.approx(HOP_S * np.arange(len(starts)))
    return rows_of(answer["windows"])


@pytest.mark.parametrize("has_times", [True, False])
def test_a_file_gets_what_the_predictor_gives(site: Site, tmp_path: Path, has_times: bool) -> None:
    values_TC = recording(RATE_HZ)
    expected_BK = site.predictor.predict(windows_of(values_TC))
    table = csv_of(values_TC, ",".join(NAMES), RATE_HZ if has_times else None)
    check(by_file(site, table, {}), expected_BK)
    (tmp_path / "a.csv").write_bytes(table)
    with Client(site.live.url, site.key) as client:
        found = client.predict_file(MODEL, tmp_path / "a.csv", with_windows=True)
    check(rows_of([item.model_dump() for item in found.windows]), expected_BK)


def test_a_live_stream_of_the_client_gets_what_the_predictor_gives(site: Site) -> None:
    values_TC = recording(RATE_HZ)
    expected_BK = site.predictor.predict(windows_of(values_TC))
    check(stream_by_client(site, values_TC, RATE_HZ), expected_BK)


@pytest.mark.parametrize("rate_hz", [100.0, 64.0])
def test_recordings_of_another_rate_order_and_unit_get_the_same(site: Site, rate_hz: float) -> None:
    values_TC = recording(rate_hz)
    expected_BK = site.predictor.predict(windows_of(values_TC, rate_hz))
    order = [2, 0, 1]
    names, given_TC = [NAMES[place] for place in order], values_TC[:, order] / np.float32(G)
    opening = Open(rate_hz=rate_hz, channels=tuple(names), units=("g",) * 3)
    for size, is_binary in ((64, True), (1000, False)):
        found_BK = by_stream(site, given_TC, size, is_binary=is_binary, opening=opening)
        check(found_BK, expected_BK)
    said = {"channels": names, "units": ["g"] * 3}
    check(stream_by_client(site, given_TC, rate_hz, **said), expected_BK)
    query = {key: ",".join(values) for key, values in said.items()}
    table = csv_of(given_TC, ",".join(names))
    check(by_file(site, table, {**query, "rate_hz": f"{rate_hz:g}"}), expected_BK)
    check(by_file(site, csv_of(given_TC, ",".join(names), rate_hz), query), expected_BK)


@pytest.mark.parametrize("rate_hz", [100.0, 64.0])
def test_windows_of_another_rate_order_and_unit_get_the_same(site: Site, rate_hz: float) -> None:
    values_TC = recording(rate_hz)
    hop, context = round(HOP_S * rate_hz), round(CONTEXT_S * rate_hz)
    length = round(LENGTH_S * rate_hz)
    # Those that have their whole context in the recording.
    starts = range(context, len(values_TC) - length + 1, hop)
    windows_BTC = np.stack([values_TC[start - context : start + length] for start in starts])
    order = [2, 0, 1]
    names = [NAMES[place] for place in order]
    given_BTC = np.ascontiguousarray(windows_BTC[:, :, order] / np.float32(G))
    query = {"rate_hz": f"{rate_hz:g}", "channels": ",".join(names), "units": "g,g,g"}
    found = [by_predict(site, given_BTC, kind, kind, query) for kind in TYPES]
    with Client(site.live.url, site.key) as client:
        said = {"channels": names, "units": ["g"] * 3}
        found.append(client.predict(MODEL, given_BTC, rate_hz=rate_hz, **said).probabilities_BK)
    # A window by itself ends where a recording goes on: at its edges the filter that resamples
    # sees less.
    expected_BK = site.predictor.predict(windows_of(values_TC, rate_hz))[2:][: len(starts)]
    for found_BK in found:
        check(found_BK, expected_BK, tolerance=1e-3)
        np.testing.assert_allclose(found_BK, found[0], rtol=0, atol=TOLERANCE)
