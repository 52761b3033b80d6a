"""`motoric stream` against a real server on loopback."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import orjson
import pytest

from artefacts import CLASSES, release_small
from live import LiveServer, serving
from motoric.cli.main import main
from motoric.core import settings
from motoric.serving.accounts import open_accounts
from motoric.serving.model_server import ModelServer

MODEL = "small"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOTORIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)
    local = settings.load()
    accounts = open_accounts(local)
    monkeypatch.setenv("MOTORIC_API_KEY", accounts.create_key("tests").secret)
    accounts.close()
    release_small(local.storage_uri, MODEL, 1)
    with serving(ModelServer(model=MODEL, storage_uri=local.storage_uri)) as live:
        monkeypatch.setenv("MOTORIC_URL", live.url)
        yield live


def write_recording(folder: Path, rate_hz: float, seconds: float) -> Path:
    """Three parts, of one class each."""
    num = round(seconds * rate_hz)
    values_TC = np.zeros((num, 4))
    for part in range(3):
        values_TC[part * num // 3 : (part + 1) * num // 3, part] = 2.0
    lines = ["time_s,acc_x,acc_y,acc_z,acc_w"]
    lines += [
        ",".join(f"{value:.6g}" for value in (index / rate_hz, *row))
        for index, row in enumerate(values_TC)
    ]
    file = folder / "three.csv"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.mark.parametrize("rate_hz", [10.0, 50.0])
def test_a_file_is_played_and_summed_up(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], rate_hz: float
):
    file = write_recording(tmp_path, rate_hz, 30)
    assert main(["stream", MODEL, str(file)]) == 0
    shown = capsys.readouterr().out
    assert "0.0 to 1.0 s" in shown
    assert f"three.csv: {MODEL} version 1" in shown
    assert "59 predictions of" in shown
    segments = shown[shown.index("three.csv") :]
    places = [segments.index(label) for label in CLASSES]
    assert places == sorted(places)


def test_at_its_own_pace_predictions_come_as_they_fall_due(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = write_recording(tmp_path, 10.0, 12)
    started_s = time.monotonic()
    assert main(["stream", MODEL, str(file), "--realtime", "--speed", "8", "--json"]) == 0
    assert time.monotonic() - started_s >= 11.8 / 8
    lines = [orjson.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["number"] for line in lines] == list(range(23))
    assert lines[0]["label"] == CLASSES[0]
    assert lines[0]["end_s"] == 1.0


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.csv", None, "no file at"),
        ("odd.doc", "x", "its name must end in"),
        ("odd.mp4", "x", "is a video"),
        ("few.csv", "time_s,acc_x\n0,1\n0.1,1\n", "acc_y"),
        ("fake.fit", "PK\x03\x04 a zip", "fake.fit"),
    ],
)
def test_files_that_cannot_be_played_are_refused(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name, content, says
):
    if content is not None:
        (tmp_path / name).write_text(content)
    assert main(["stream", MODEL, str(tmp_path / name)]) == 2
    assert says in capsys.readouterr().err.replace("\n", " ")


def test_speed_without_realtime_is_refused(
    server: LiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    file = write_recording(tmp_path, 10.0, 3)
    assert main(["stream", MODEL, str(file), "--speed", "2"]) == 2
    assert "--realtime" in capsys.readouterr().err
