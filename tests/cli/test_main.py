from __future__ import annotations

from pathlib import Path

import pytest
import typer
import yaml
from typer.main import get_command

from motoric.cli.main import app, main
from recordings import SineSource, recipe_content, write_dataset


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTORIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("MOTORIC_URL", "http://127.0.0.1:9")  # nobody listens on the discard port
    monkeypatch.delenv("MOTORIC_API_KEY", raising=False)


def commands(command: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = getattr(command, "commands", None)
    if not found:
        return [path]
    return [leaf for name, child in found.items() for leaf in commands(child, (*path, name))]


@pytest.mark.parametrize("path", commands(get_command(app)), ids=" ".join)
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*path, "--help"]) == 0
    assert "Example:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nope.yaml"], "no recipe at nope.yaml"),
        (
            ["datasets", "build", "nope"],
            "no dataset source 'nope' (there are: basic-motions, synthetic-motion",
        ),
        (["datasets", "show", "nope"], "no dataset at"),
        (["models", "show", "nope"], "no model 'nope' is registered (registered: none yet)"),
        (["models", "alias", "nope", "champion", "1"], "no model 'nope'"),
        (["deploy", "nope"], "there is no deployment file"),
        (["predict", "nope", "x.csv"], "no API key for http://127.0.0.1:9"),
        (["predict", "nope", "x.csv", "--local"], "no model 'nope' is released"),
        (["predict", "../nope", "x.csv", "--local"], "is not a model name"),
        (["keys", "revoke", "nope"], "nope"),
        (["cluster", "env"], "no platform is running here"),
        (["cluster", "env", "--profile", "nope"], "nope"),
        (["fly"], "No such command"),
        (["train"], "name a recipe to train, or a run to go on with"),
        (["train", "--resume", "nope"], "no training run 'nope'"),
        (["train", "nope.yaml", "--resume", "nope"], "leave out RECIPE"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    captured = capfd.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.out + captured.err


def test_an_endpoint_that_does_not_answer_is_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOTORIC_API_KEY", "mk_secret_key")
    assert main(["predict", "m", "x.csv"]) == 1
    captured = capfd.readouterr()
    assert "is the platform up?" in captured.err
    assert "mk_secret_key" not in captured.out + captured.err


@pytest.mark.parametrize(
    ("change", "override", "message"),
    [
        ({"trian": {}}, "train.epochs=1", "unknown key trian"),
        ({}, "train.epoch=1", "unknown key train.epoch"),
        ({}, "dataset=/nowhere/at-all", "no dataset at /nowhere/at-all"),
    ],
)
def test_a_wrong_recipe_ends_before_anything_starts(
    tmp_path: Path,
    change: dict[str, object],
    override: str,
    message: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_content("d", **change)))
    assert main(["train", str(path), "--set", override]) == 2
    assert message in capfd.readouterr().err
    assert not (tmp_path / "home" / "registry").exists()


def test_a_dataset_with_one_subject_is_refused_before_anything_starts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write_dataset(str(tmp_path / "d"), SineSource(num_subjects=1, duration_s=5))
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_content(str(tmp_path / "d"))))
    assert main(["train", str(path)]) == 2
    assert "the dataset has 1 known subject(s)" in capfd.readouterr().err
    assert not (tmp_path / "home" / "registry").exists()


def test_datasets_are_shown_and_exported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(str(tmp_path / "d"), SineSource(num_subjects=2, duration_s=5))
    assert main(["datasets", "show", str(tmp_path / "d")]) == 0
    assert "acc_x [m/s^2]" in capsys.readouterr().out
    out = tmp_path / "x.csv"
    assert main(["datasets", "export", str(tmp_path / "d"), "r003", "--out", str(out)]) == 0
    assert out.read_text().splitlines()[0].replace('"', "") == "time_s,acc_x,acc_y,acc_z"
    assert len(out.read_text().splitlines()) == 101
    assert main(["datasets", "export", str(tmp_path / "d"), "r999", "--out", str(out)]) == 2


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("motoric ")
    assert isinstance(app, typer.Typer)
