"""Training, cross-validation and tracked runs, from the command line, on a running platform."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from filmed import fused_content, write_filmed
from motoric.artefact.predictor import Predictor
from motoric.cli.main import main
from motoric.cluster.state import PlatformState
from motoric.core.settings import Settings
from motoric.data.dataset import open_dataset
from motoric.registry.registry import Registry
from motoric.registry.runs import Runs
from motoric.training.partition import load_split
from motoric.training.recipe import parse_recipe
from recordings import SineSource, recipe_content, write_dataset

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

# As few as leaving one out takes, with one to validate.
PEOPLE = ["s0", "s1", "s2"]


@pytest.fixture(scope="module", autouse=True)
def _on_the_platform(platform_state: PlatformState) -> Iterator[None]:
    return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    write_dataset(str(folder / "sines"), SineSource(num_subjects=len(PEOPLE), duration_s=16.0))
    content = recipe_content(
        str(folder / "sines"), model={"name": "random_kernels", "num_features": 168}
    )
    content["train"] = {"epochs": 1}
    content["tracking"] = {"experiment": "cross-validation"}
    path = folder / "sines.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def evaluated(recipe: Path) -> dict[str, Any]:
    """The figures of a cross-validation that leaves out everybody in turn."""
    out = recipe.with_suffix(".json")
    arguments = ["--protocol", "leave_one_out", "--timelines", "--out", str(out)]
    assert main(["evaluate", str(recipe), *arguments]) == 0
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def runs_of(settings: Settings) -> Runs:
    return Runs(Registry(settings.registry_uri, settings.storage_uri))


def test_everybody_is_tested_once_by_a_model_that_never_saw_them(
    evaluated: dict[str, Any], platform_settings: Settings
) -> None:
    assert evaluated["num_subjects"] == len(PEOPLE)
    assert [item["subject"] for item in evaluated["subjects"]] == PEOPLE
    assert evaluated["accuracy"] > 0.8
    (run,) = runs_of(platform_settings).list("cross-validation")
    assert run.kind == "evaluate"
    assert run.status == "finished"
    assert run.metrics["test_accuracy"] == pytest.approx(evaluated["accuracy"])
    assert 0 < run.metrics["timeline_f1_50"] <= 1
    files = runs_of(platform_settings).files(run)
    wanted = {"predictions.parquet", "recipe.yaml", "report.html", "timelines.png"}
    assert wanted <= set(files)


def test_folds_that_were_done_are_not_done_again(
    evaluated: dict[str, Any], recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert main(["evaluate", str(recipe), "--protocol", "leave_one_out"]) == 0
    assert f"{len(PEOPLE)} fold(s) were done before" in capfd.readouterr().out


def test_two_runs_are_compared_window_by_window(
    evaluated: dict[str, Any],
    recipe: Path,
    platform_settings: Settings,
    capfd: pytest.CaptureFixture[str],
    folder: Path,
) -> None:
    model = "model={name: recurrent, hidden_size: 8, stem_channels: 8}"
    assert main(["evaluate", str(recipe), "--set", model]) == 0
    names = [run.name for run in runs_of(platform_settings).list("cross-validation")]
    capfd.readouterr()
    picture = folder / "compared.png"
    assert main(["runs", "compare", names[0], names[-1], "--plot", str(picture)]) == 0
    shown = capfd.readouterr().out
    assert "random_kernels" in shown
    assert "windows that both predicted" in shown


def test_a_loss_that_is_no_number_ends_the_run_and_says_where(
    recipe: Path, platform_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    changes = [
        "model={name: recurrent, hidden_size: 8, stem_channels: 8}",
        "optimiser={learning_rate: 1.0e+30, max_grad_norm: 1.0e+30}",
        "train={epochs: 3, batch_size: 4}",
        "tracking={experiment: diverging}",
    ]
    capfd.readouterr()
    sets = [item for change in changes for item in ("--set", change)]
    assert main(["train", str(recipe), *sets]) == 2
    said = capfd.readouterr().err
    assert "the loss is" in said
    assert "epoch 0, step" in said
    assert "optimiser.learning_rate" in said
    (run,) = runs_of(platform_settings).list("diverging")
    assert run.status == "failed"
    assert "epoch 0" in run.error


def test_a_fold_that_fails_says_why(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    little = ["--set", "resources.memory_gib_per_worker=0.01", "--fresh"]
    assert main(["evaluate", str(recipe), *little]) == 2
    assert "resources.memory_gib_per_worker" in capfd.readouterr().err


@pytest.mark.long
def test_a_fused_model_trains_and_its_artefact_takes_either_input(
    folder: Path, platform_settings: Settings
) -> None:
    uri = write_filmed(folder, num_subjects=3, duration_s=3.0)
    content = fused_content(uri, train={"epochs": 1, "batch_size": 16})
    path = folder / "fused.yaml"
    path.write_text(yaml.safe_dump(content | {"registry": {"model": "fused", "alias": None}}))
    assert main(["train", str(path)]) == 0
    registry = Registry(platform_settings.registry_uri, platform_settings.storage_uri)
    predictor = Predictor.load(registry.versions("fused")[0].artefact_uri)
    test = load_split(parse_recipe(content, "r"), open_dataset(uri)).test
    both = predictor.predict(test.windows_BTC, test.clips_BTHWC)
    for alone in (
        predictor.predict(windows=test.windows_BTC),
        predictor.predict(clips=test.clips_BTHWC),
    ):
        assert alone.shape == both.shape
        np.testing.assert_allclose(alone.sum(axis=1), 1, atol=1e-5)
        assert not np.allclose(alone, both, atol=1e-4)
