from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from motoric.cli.dry_run import duration, operations, size
from motoric.cli.main import main
from motoric.training.recipe import load_recipe, parse_recipe
from recordings import SineSource, write_dataset


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTORIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


@pytest.fixture
def uri(tmp_path: Path) -> str:
    found = str(tmp_path / "sines")
    write_dataset(found, SineSource(duration_s=10))
    return found


def test_a_recipe_is_written_with_its_reasons_and_its_dry_run_passes(
    uri: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "deep" / "recipe.yaml"
    assert main(["models", "recommend", uri, "--out", str(out)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"next: motoric train {out} --dry-run" in shown
    assert f"next: motoric evaluate {out} --protocol leave_one_out" in shown
    assert "# model: " in out.read_text()
    assert load_recipe(out).dataset == uri
    assert main(["train", str(out), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    assert "1 worker(s), each with" in " ".join(shown.split())
    assert "nothing was trained or written" in shown
    assert not (tmp_path / "home" / "registry").exists()


def test_json_holds_a_recipe_that_is_valid(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "recommend", uri, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert parse_recipe(document["recipe"], "json").task == "classify"
    assert {item["setting"] for item in document["reasons"]} >= {"model", "window.length_s"}
    assert document["machines"]["num_nodes"] == 1


def test_without_a_file_the_recipe_is_printed(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "recommend", uri]) == 0
    shown = capsys.readouterr().out
    content = shown[shown.index("version: 1") : shown.index("next: motoric train FILE")]
    assert parse_recipe(yaml.safe_load(content), "printed").dataset == uri


def test_a_dataset_of_the_storage_is_named_below_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(
        str(tmp_path / "home" / "storage" / "datasets" / "sines"), SineSource(duration_s=10)
    )
    assert main(["models", "recommend", "sines", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["dataset"] == "datasets/sines"


def test_a_task_that_does_not_fit_is_a_users_mistake(
    uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "recommend", uri, "--task", "forecast"]) == 2
    assert "heart_rate alone" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (size(512), "512 bytes"),
        (size(3 * 2**20), "3 MiB"),
        (size(5000 * 2**30), "5,000 GiB"),
        (operations(999), "999 FLOP"),
        (operations(2_500_000), "2.5 MFLOP"),
        (duration(30), "30.0 s"),
        (duration(3 * 3600), "3.0 h"),
    ],
)
def test_quantities_are_written_for_people(shown: str, expected: str) -> None:
    assert shown == expected
