"""The client against models of every kind, and whole files against the real endpoint.

Axes: B windows or clips, T samples, C channels.
"""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artefacts import CLASSES, release_small
from exported import model_of, values_of
from filmed import write_blinking
from live import LiveServer, serving
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import QuantilesOutput, Signature, ValueOutput
from motoric.client import AsyncClient, Client, Predictions
from motoric.core.errors import AccessError, InputError, MotoricError, TooLargeError
from motoric.core.settings import Settings
from motoric.serving.model_server import ModelServer
from whole_files import CHANNELS, RATE_HZ, columns_of, csv_of, heart_signature, mean_graph
from whole_files import windows_of as cut

MODEL = "any"
Serve = Callable[..., tuple[LiveServer, Predictor]]


@pytest.fixture
def serve(local: Settings, key: str) -> Iterator[Serve]:
    """Releases a model, and serves it; gives its predictor too."""
    with ExitStack() as stack:

        def served(**more: Any) -> tuple[LiveServer, Predictor]:
            released = release_small(local.storage_uri, MODEL, 1, **more)
            server = ModelServer(model=MODEL, storage_uri=local.storage_uri)
            live = stack.enter_context(serving(server))
            return live, Predictor.load(f"{local.storage_uri}/{released.artefact}")

        yield served


@pytest.mark.parametrize("name", ["recurrent", "r2plus1d", "frame_recurrent", "fusion"])
def test_windows_clips_and_both_get_what_the_predictor_gives(
    serve: Serve, key: str, name: str
) -> None:
    live, predictor = serve(**model_of(name))
    values = values_of(name)
    windows, clips = values.get("windows"), values.get("clips")

    async def ask() -> Predictions:
        async with AsyncClient(live.url, key) as client:
            return await client.predict(MODEL, windows, clips=clips)

    with Client(live.url, key) as client:
        found = client.predict(MODEL, windows, clips=clips)
        np.testing.assert_array_equal(asyncio.run(ask()).outputs_BK, found.outputs_BK)
        if name == "fusion":
            with pytest.raises(InputError, match="clips"):
                client.predict(MODEL, windows)
            with pytest.raises(InputError, match="as many"):
                client.predict(MODEL, windows, clips=clips[1:])
    expected_BK = predictor.predict(windows, clips)
    np.testing.assert_allclose(found.outputs_BK, expected_BK, rtol=0, atol=2e-6)
    classes = predictor.signature.classes
    assert found.columns == tuple(classes)
    assert found.labels == tuple(classes[best] for best in expected_BK.argmax(axis=1))


@pytest.mark.parametrize("name", ["a.csv", "b.csv.gz"])
def test_a_file_of_sensors_gives_segments_and_windows(
    serve: Serve, key: str, tmp_path: Path, name: str
) -> None:
    live, predictor = serve()
    values_TC = columns_of([0] * 100 + [1] * 100)
    table = csv_of(values_TC, rate_hz=RATE_HZ)
    (tmp_path / name).write_bytes(gzip.compress(table) if name.endswith("gz") else table)
    with Client(live.url, key) as client:
        found = client.predict_file(MODEL, tmp_path / name, with_windows=True)
        assert client.predict_file(MODEL, str(tmp_path / name)).windows == ()
    assert (found.model, found.version, found.num_windows) == (MODEL, 1, 39)
    assert found.duration_s == pytest.approx(20.0)
    assert [item.label for item in found.segments] == list(CLASSES[:2])
    expected_BK = predictor.predict(cut(values_TC))
    found_BK = [list((item.probabilities or {}).values()) for item in found.windows]
    np.testing.assert_allclose(found_BK, expected_BK, rtol=0, atol=2e-6)

    async def ask() -> Any:
        async with AsyncClient(live.url, key) as client:
            return await client.predict_file(MODEL, tmp_path / name, with_windows=True)

    assert asyncio.run(ask()) == found


def test_a_video_gives_segments_and_a_fused_model_says_what_it_had(
    serve: Serve, key: str, tmp_path: Path
) -> None:
    video = write_blinking(tmp_path / "a.mp4", 1, 6.0)
    live, _ = serve(**model_of("r2plus1d", hop_s=0.3))
    with Client(live.url, key) as client:
        found = client.predict_file(MODEL, video, with_windows=True)
    assert found.num_windows == len(found.windows) > 10
    assert found.segments[-1].end_s == pytest.approx(6.0, abs=0.5)
    live.stop()
    live, _ = serve(**model_of("fusion", optional=True))
    with Client(live.url, key) as client:
        found = client.predict_file(MODEL, video, with_windows=True)
    assert {item.inputs for item in found.windows} == {("clips",)}


def test_a_file_gives_a_series_where_the_model_gives_no_classes(
    serve: Serve, key: str, tmp_path: Path
) -> None:
    inputs = heart_signature().inputs
    table = csv_of(np.full((30, 1), 120.0), "heart_rate", 1.0)
    (tmp_path / "ride.csv").write_bytes(table)
    value = ValueOutput(of="speed", unit="m/s")
    levels = QuantilesOutput(of="heart_rate", unit="bpm", horizon_s=60.0, quantiles=(0.1, 0.9))
    for task, output, num in (("regress", value, 1), ("forecast", levels, 2)):
        signature = Signature.model_validate({"task": task, "inputs": inputs, "outputs": (output,)})
        live, _ = serve(graph=mean_graph(10, num), signature=signature)
        with Client(live.url, key) as client:
            found = client.predict_file(MODEL, tmp_path / "ride.csv")
        live.stop()
        assert (found.of, found.unit, found.segments) == (output.of, output.unit, ())
        assert [item.start_s for item in found.series] == [0.0, 5.0, 10.0, 15.0, 20.0]
        if num == 1:
            assert {item.value for item in found.series} == {120.0}
        else:
            assert found.horizon_s == 60.0
            assert found.series[0].quantiles == {"0.1": 120.0, "0.9": 120.0}


def test_files_that_cannot_be_predicted_are_told_in_the_servers_words(
    serve: Serve, key: str, tmp_path: Path
) -> None:
    live, _ = serve()
    for name, content, says in (
        ("less.csv", b"time_s,acc_x\n0,1\n0.1,1\n", "lacks the channel"),
        ("short.csv", csv_of(columns_of([0] * 4), ",".join(CHANNELS)), "needs 10 samples"),
        ("zip.fit", b"PK\x03\x04 a zip", "FIT file"),
        ("a.mp4", b"no video", "takes no video"),
    ):
        (tmp_path / name).write_bytes(content)
        with Client(live.url, key) as client, pytest.raises(MotoricError, match=says) as caught:
            client.predict_file(MODEL, tmp_path / name)
        assert 400 <= caught.value.status < 500
    with (
        Client(live.url, key) as client,
        pytest.raises(MotoricError, match=r"URI|prefix") as caught,
    ):
        client.predict_file(MODEL, "file:///etc/passwd.csv")
    assert 400 <= caught.value.status < 500


def test_a_large_file_that_is_refused_before_it_is_read_is_told_why(
    serve: Serve, key: str, tmp_path: Path
) -> None:
    live, _ = serve()
    path = tmp_path / "large.csv"
    with path.open("wb") as stream:
        stream.truncate(300 * 2**20)  # takes no place
    with Client(live.url, key, timeout_s=20) as client, pytest.raises(TooLargeError, match="MiB"):
        client.predict_file(MODEL, path)
    with (
        Client(live.url, "mk_0_wrong", timeout_s=20) as client,
        pytest.raises(AccessError, match="not known"),
    ):
        client.predict_file(MODEL, path)
