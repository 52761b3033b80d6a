from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from motoric.cli.main import main
from motoric.cli.runs import text_plot
from motoric.registry.environment import Environment
from motoric.registry.registry import Registry
from motoric.registry.runs import run_tags

SUBJECTS = [{"subject": "anna", "num_windows": 12, "accuracy": 0.75, "by_class": {"a": 1}}]


def add(registry: Registry, name: str, *, rate: float, accuracy: float, digest: str) -> str:
    environment = Environment(
        platform="Linux", versions={"torch": "2.13"}, packages=(), code=None, recipe=None
    )
    run_id = registry.start_run(
        "watch",
        name,
        {"model": {"name": "cnn"}, "optimiser": {"learning_rate": rate}, "classes": "[red]"},
        run_tags(kind="train", dataset_digest=digest, environment=environment),
    )
    for epoch, loss in enumerate((1.5, 0.5, rate)):
        registry.log_metrics(run_id, {"validation_loss": loss}, step=epoch)
    low_high = {"test_accuracy_low": accuracy - 0.05, "test_accuracy_high": accuracy + 0.04}
    registry.log_metrics(run_id, {"test_accuracy": accuracy, **low_high})
    return run_id


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("runs")
    made = Registry(f"sqlite:///{folder}/mlflow.db", str(folder / "storage"))
    first = add(made, "watch-gru-11112222", rate=0.25, accuracy=0.875, digest="sha256:a")
    made.log_text(first, "metrics.json", json.dumps({"subjects": SUBJECTS}))
    made.log_text(first, "report.html", "<p>")
    made.end_run(first)
    made.end_run(add(made, "watch-cnn-33334444", rate=0.75, accuracy=0.8, digest="sha256:b"))
    failed = made.start_run("watch", "watch-bad-55556666", {"horizon_s": 1})
    made.log_metrics(failed, {"validation_loss": math.nan, "test_mae": 0.125})
    made.end_run(failed, failed=True, error="the loss is [not] a number")
    return made


@pytest.fixture(autouse=True)
def _place(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTORIC_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOTORIC_REGISTRY_URI", registry.registry_uri)
    monkeypatch.setattr("motoric.cli.runs.console.width", 160)
    monkeypatch.chdir(tmp_path)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["runs", *arguments]) == 0
    return capsys.readouterr().out


def line(text: str, start: str) -> str:
    return next(found for found in text.splitlines() if found.strip().startswith(start))


def test_the_list_shows_scores_with_their_interval(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "list")
    row = line(text, "watch-gru-11112222")
    assert "87.5% (82.5-91.5)" in row
    assert row.split()[1:4] == ["train", "cnn", "finished"]
    assert "MAE 0.125" in line(text, "watch-bad")
    assert "failed" in line(text, "watch-bad")


def test_the_list_says_when_it_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    assert "`--limit` shows more" in printed(capsys, "list", "--limit", "1")
    assert "`--limit`" not in printed(capsys, "list")


def test_the_list_as_json_is_valid_and_whole(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(printed(capsys, "list", "--json"), parse_constant=pytest.fail)
    by_name = {item["name"]: item for item in content}
    assert by_name["watch-gru-11112222"]["metrics"]["test_accuracy"] == 0.875
    assert by_name["watch-bad-55556666"]["metrics"]["validation_loss"] is None
    assert by_name["watch-bad-55556666"]["num_epochs"] == 1


def test_a_run_is_shown_with_facts_metrics_people_and_curve(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = printed(capsys, "show", "watch-gru")
    assert "sha256:a" in line(text, "dataset")
    assert line(text, "report").endswith("report.html")
    assert "[red]" in line(text, "classes")
    assert "learning_rate 0.25" in line(text, "optimiser")
    assert line(text, "test_accuracy").split(maxsplit=1)[1].startswith("0.875 (0.825 to 0.915)")
    assert "0.25 (epoch 3)" in line(text, "validation_loss")
    assert line(text, "anna").split() == ["anna", "12", "0.750"]
    assert "validation loss by epoch" in text
    assert "└" in text


def test_a_failed_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert "the loss is [not] a number" in line(printed(capsys, "show", "watch-bad"), "error")


def test_a_run_as_json_has_its_history_and_files(capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(printed(capsys, "show", "watch-gru", "--json"))
    assert content["history"]["validation_loss"] == [[0, 1.5], [1, 0.5], [2, 0.25]]
    assert content["files"] == ["metrics.json", "report.html"]


def test_runs_are_compared_with_the_best_marked_and_a_picture(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = printed(capsys, "compare", "watch-gru", "watch-cnn", "--plot", "curves.png")
    assert line(text, "optimiser.learning_rate").split()[1:] == ["0.25", "0.75"]
    assert "model.name" not in text
    best = line(text, "best validation_loss")
    assert "0.25 (epoch 3)*" in best
    assert "0.5 (epoch 2)" in best
    assert "0.5 (epoch 2)*" not in best
    assert line(text, "test_accuracy").count("*") == 1
    assert "careful: they read different data" in text
    assert str(tmp_path / "curves.png") in text
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_picture_lies_in_the_current_folder_by_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    printed(capsys, "compare", "watch-gru", "watch-bad", "--metric", "test_accuracy")
    assert (tmp_path / "runs-compare.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "watch"], "'watch' fits several runs; give more of its name"),
        (["show", "gru-1111"], "near to it: watch-gru-11112222"),
        (["list", "--experiment", "nope"], "no experiment 'nope' (there are: Default, watch)"),
        (["list", "--limit", "0"], "--limit"),
        (["compare", "watch-gru"], "at least two runs"),
        (["compare", "watch-gru", "watch-gru-1"], "each named once"),
        (["compare", "watch-gru", "watch-cnn", "--metric", "nope"], "(they have: test_accuracy"),
        (["compare", "watch-gru", "watch-cnn", "--plot", "x.pdf"], "--plot x.pdf: name a .png"),
        (["compare", "watch-gru", "watch-cnn", "--plot", "no/x.png"], "in a folder that exists"),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(
    arguments: list[str], message: str, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["runs", *arguments]) == 2
    captured = capfd.readouterr()
    assert message in " ".join(captured.err.split())
    assert not list(tmp_path.glob("*.png"))


def test_a_text_plot_falls_from_the_upper_left_to_the_lower_right() -> None:
    lines = text_plot([(0, 2.0), (9, 1.0)], width=10, height=3, utf8=False)
    assert lines == ["2 |****", "  |   ****", "1 |      ****", "  +----------", "   1       10"]


@pytest.mark.parametrize(
    "points", [[(0, 1.0)], [(0, 1.0), (1, 1.0)], [(3, -1e9), (7, 1e9), (8, math.nan)]]
)
def test_every_line_of_a_text_plot_fits_its_width(points: list[tuple[int, float]]) -> None:
    lines = text_plot(points, width=12, height=4)
    axis = lines[0].index("│") if "│" in lines[0] else 0
    assert len(lines) == 6
    assert max(map(len, lines)) <= axis + 1 + 12


def test_a_curve_without_a_finite_value_is_said_to_have_none() -> None:
    assert text_plot([(0, math.nan)]) == ["(no finite values)"]
