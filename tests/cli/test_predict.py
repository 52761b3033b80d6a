from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artefacts import release_small, small_signature
from motoric.cli.main import main
from motoric.core.settings import load

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
    assert "has 4 samples; one window of 1 s needs 10" in capsys.readouterr().err


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
    assert "one movement without a gap is needed" in " ".join(capsys.readouterr().err.split())
