from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artefacts import release_small, small_signature
from live import LiveServer, serving
from motoric.cli.main import main
from motoric.core.settings import load
from motoric.serving.accounts import open_accounts
from motoric.serving.model_server import ModelServer

MODEL = "movements"
RATE_HZ = 10.0


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTORIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def release(**sensors: Any) -> None:
    signature = small_signature(**sensors)
    release_small(load().storage_uri, MODEL, 1, signature=signature)


def write(path: Path, columns_T: list[int], time_s: np.ndarray | None = None) -> str:
    """A file with 1 in one channel at each time and 0 in the others."""
    rows_TC = np.eye(4)[columns_T]
    header = "acc_x,acc_y,acc_z,acc_w"
    if time_s is not None:
        header, rows_TC = f"time_s,{header}", np.column_stack([time_s, rows_TC])
    np.savetxt(path, rows_TC, delimiter=",", header=header, comments="")
    return str(path)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[LiveServer]:
    """A server of the model, which the command line asks without --local."""
    with closing(open_accounts(load())) as accounts:
        monkeypatch.setenv("MOTORIC_API_KEY", accounts.create_key("tests").secret)
    with serving(ModelServer(model=MODEL, storage_uri=load().storage_uri)) as live:
        monkeypatch.setenv("MOTORIC_URL", live.url)
        yield live


def predictions(file: str, capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    assert main(["predict", MODEL, file, "--local", "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["predictions"]
    return found


@pytest.mark.parametrize("fit", ["pad", "stretch"])
@pytest.mark.parametrize("num_samples", [1, 4, 10, 57])
def test_a_model_of_whole_movements_answers_once_for_a_file_of_any_length(
    tmp_path: Path, fit: str, num_samples: int, capsys: pytest.CaptureFixture[str]
) -> None:
    release(span="annotation", fit=fit)
    (found,) = predictions(write(tmp_path / "m.csv", [1] * num_samples), capsys)
    assert found["label"] == "rotate"


@pytest.mark.parametrize(
    ("fit", "label", "span_s"), [("pad", "rotate", (1.5, 2.5)), ("stretch", "raise", (0.0, 4.0))]
)
def test_the_file_comes_to_the_length_of_the_window_as_in_training(
    tmp_path: Path,
    fit: str,
    label: str,
    span_s: tuple[float, float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    release(span="annotation", fit=fit)
    columns_T = [0] * 12 + [1] * 16 + [0] * 12
    (found,) = predictions(write(tmp_path / "m.csv", columns_T), capsys)
    assert found["label"] == label
    assert (found["start_s"], found["end_s"]) == span_s


def test_a_model_of_short_windows_still_answers_for_each_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release()
    found = predictions(write(tmp_path / "m.csv", [2] * 20), capsys)
    assert [(item["start_s"], item["end_s"]) for item in found] == [(0, 1), (0.5, 1.5), (1, 2)]
    assert main(["predict", MODEL, write(tmp_path / "s.csv", [2] * 4), "--local"]) == 2
    assert "one window of 1 s needs 10 samples" in " ".join(capsys.readouterr().err.split())


def test_a_timeline_of_whole_movements_is_refused_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release(span="annotation")
    file = write(tmp_path / "m.csv", [0] * 30)
    assert main(["predict", MODEL, file, "--local", "--timeline"]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert f"{MODEL} takes whole movements: --timeline needs a model of short windows" in error


def test_a_movement_with_a_gap_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release(span="annotation", fit="stretch")
    time_s = np.arange(20) / RATE_HZ
    time_s[12:] += 3.0
    file = write(tmp_path / "m.csv", [0] * 20, time_s)
    assert main(["predict", MODEL, file, "--local"]) == 2
    assert "one run of them without a gap is needed" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize("more", [(), ("--timeline",)])
@pytest.mark.parametrize("span", ["window", "annotation"])
def test_the_endpoint_says_what_local_says(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    span: str,
    more: tuple[str, ...],
) -> None:
    release(span=span)
    request.getfixturevalue("server")
    file = write(tmp_path / "m.csv", [0] * 30 + [1] * 30)
    said = []
    for where in ((), ("--local",)):
        status = main(["predict", MODEL, file, "--json", *more, *where])
        assert status == (2 if span == "annotation" and more else 0)
        shown = capsys.readouterr()
        said.append(json.loads(shown.out) if status == 0 else shown.err)
    assert said[0] == said[1]
    if more and span == "window":
        assert [item["label"] for item in said[0]["timeline"]] == ["raise", "rotate"]
        assert main(["predict", MODEL, file, *more]) == 0
        assert "rotate" in capsys.readouterr().out


def test_what_the_endpoint_refuses_is_told(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def told(*arguments: str) -> str:
        assert main(["predict", *arguments]) == 2
        return " ".join(capsys.readouterr().err.split())

    file = write(tmp_path / "m.csv", [0] * 30)
    assert "no API key for http://127.0.0.1" in told(MODEL, file)
    release()
    server = request.getfixturevalue("server")
    assert "one window of 1 s needs 10" in told(MODEL, write(tmp_path / "s.csv", [2] * 4))
    assert "no file at" in told(MODEL, str(tmp_path / "none.csv"))
    assert "x.doc" in told(MODEL, str(tmp_path / "x.doc"))
    monkeypatch.setenv("MOTORIC_API_KEY", "mk_0_wrong")
    assert "not known" in told(MODEL, file)
    server.stop()
    assert main(["predict", MODEL, file]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert f"{server.url} does not answer" in error
    assert "is the platform up?" in error
