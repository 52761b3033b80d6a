"""`motoric tune` from the command line, on a running platform: searched, tracked, gone on with."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
import yaml

from motoric.cli.main import main
from motoric.cluster.state import PlatformState
from motoric.core.settings import Settings
from motoric.registry.registry import Registry
from motoric.registry.runs import Runs, RunSummary
from motoric.training.recipe import load_recipe
from recordings import SineSource, recipe_content, write_dataset

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

NUM_TRIALS, EPOCHS = 6, 9


@pytest.fixture(scope="module", autouse=True)
def _on_the_platform(platform_state: PlatformState) -> Iterator[None]:
    return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tuning")


@pytest.fixture(scope="module")
def recipe(folder: Path) -> Path:
    write_dataset(str(folder / "sines"), SineSource(num_subjects=4, duration_s=16.0))
    content = recipe_content(
        str(folder / "sines"),
        train={"epochs": EPOCHS, "batch_size": 32},
        tracking={"experiment": "searching"},
        search={
            # One of these rates blows the loss up.
            "space": {"optimiser.learning_rate": {"choice": [1e-6, 1e-5, 1e-3, 0.01, 0.03, 1e30]}},
            "num_trials": NUM_TRIALS,
            "max_concurrent": 2,
            "reduction_factor": 2,
        },
    )
    content["optimiser"] = {"learning_rate": 0.02, "max_grad_norm": 1e30}
    content["schedule"] = {"name": "constant"}
    path = folder / "search.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture(scope="module")
def searched(recipe: Path) -> str:
    """What a whole search printed."""
    arguments = ["--name", "whole", "--out", str(recipe.parent / "best.yaml")]
    printed = io.StringIO()
    with redirect_stdout(printed):
        assert main(["tune", str(recipe), *arguments]) == 0
    return printed.getvalue()


def trials_of(settings: Settings, name: str) -> list[dict[str, Any]]:
    folder = Path(settings.storage_uri) / "searches" / name / "trials"
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]


def runs_of(settings: Settings) -> list[RunSummary]:
    registry = Registry(settings.registry_uri, settings.storage_uri)
    return list(Runs(registry).list("searching"))


def test_bad_trials_end_early_and_one_that_fails_does_not_end_the_search(
    searched: str, platform_settings: Settings
) -> None:
    trials = trials_of(platform_settings, "whole")
    assert len(trials) == NUM_TRIALS
    status = {item["values"]["optimiser.learning_rate"]: item["status"] for item in trials}
    assert status[1e30] == "failed"
    assert {status[1e-6], status[1e-5]} & {"stopped"}
    for item in trials:
        num = len(item["epochs"])
        assert {"done": num == EPOCHS, "stopped": 0 < num < EPOCHS, "failed": num < EPOCHS}[
            item["status"]
        ]
    assert "the best" in searched
    assert "of 6 over" in searched
    assert "the loss is" in searched


def test_the_best_recipe_is_written_and_is_one_to_train(
    searched: str, recipe: Path, platform_settings: Settings
) -> None:
    best = load_recipe(recipe.parent / "best.yaml")
    trials = trials_of(platform_settings, "whole")
    losses = {
        item["values"]["optimiser.learning_rate"]: min(
            epoch["validation_loss"] for epoch in item["epochs"]
        )
        for item in trials
        if item["epochs"]
    }
    assert best.optimiser.learning_rate == min(losses, key=lambda rate: losses[rate])
    assert best.search is None
    assert "search" not in yaml.safe_load((recipe.parent / "best.yaml").read_text())
    assert "data:image/png" in (recipe.parent / "best.html").read_text()
    stored = Path(platform_settings.storage_uri) / "searches" / "whole"
    assert (stored / "search_epochs.png").read_bytes().startswith(b"\x89PNG")
    assert main(["train", str(recipe.parent / "best.yaml"), "--dry-run"]) == 0


def test_each_trial_is_a_run_below_the_run_of_the_search(
    searched: str, platform_settings: Settings
) -> None:
    runs = [run for run in runs_of(platform_settings) if run.name.startswith("whole")]
    (parent,) = (run for run in runs if run.kind == "tune")
    assert parent.status == "finished"
    assert parent.metrics["best_validation_loss"] > 0
    registry = Registry(platform_settings.registry_uri, platform_settings.storage_uri)
    children = [run for run in runs if run.kind == "trial"]
    assert len(children) == NUM_TRIALS
    trials = {item["tracking_run_id"]: item for item in trials_of(platform_settings, "whole")}
    for run in children:
        tags = registry.client.get_run(run.run_id).data.tags
        assert tags["mlflow.parentRunId"] == parent.run_id
        known = trials[run.run_id]
        assert run.status == ("failed" if known["status"] == "failed" else "finished")
        assert (run.num_epochs or 0) == len(known["epochs"])
        rate = float(run.parameters["optimiser.learning_rate"])
        assert rate == known["values"]["optimiser.learning_rate"]


def test_a_finished_search_has_nothing_left_and_more_trials_can_be_added(
    searched: str,
    recipe: Path,
    platform_settings: Settings,
    capfd: pytest.CaptureFixture[str],
) -> None:
    before = trials_of(platform_settings, "whole")
    assert main(["tune", "--resume", "whole"]) == 0
    assert "6 trial(s) were finished before" in capfd.readouterr().out
    assert trials_of(platform_settings, "whole") == before
    assert main(["tune", str(recipe), "--name", "whole"]) == 2
    assert "go on with it by --resume whole" in " ".join(capfd.readouterr().err.split())
    assert main(["tune", str(recipe), "--resume", "whole", "--set", "train.epochs=5"]) == 2
    assert "another recipe: train" in capfd.readouterr().err


@pytest.mark.long
def test_trials_of_two_workers_train_by_ray_train(
    recipe: Path, platform_settings: Settings
) -> None:
    sets = [
        "resources.num_workers=2",
        "train.epochs=2",
        "search.space={optimiser.learning_rate: {choice: [0.01, 0.03]}}",
        "search.max_concurrent=1",
    ]
    options = [item for text in sets for item in ("--set", text)]
    assert main(["tune", str(recipe), "--name", "two", *options]) == 0
    trials = trials_of(platform_settings, "two")
    assert len(trials) == 2
    assert [item["status"] for item in trials if item["status"] == "failed"] == []
    assert {len(item["epochs"]) for item in trials} <= {1, 2}
    assert max(len(item["epochs"]) for item in trials) == 2


def test_a_trial_that_fits_no_node_is_refused_before_waiting(
    recipe: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert main(["tune", str(recipe), "--set", "resources.gpus_per_worker=64"]) == 2
    assert "64 GPU; the cluster has room for 0" in " ".join(capfd.readouterr().err.split())


@pytest.mark.long
def test_a_killed_search_goes_on_with_the_trials_not_finished(
    recipe: Path, platform_settings: Settings
) -> None:
    program = "import sys; from motoric.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["tune", str(recipe), "--name", "killed", "--set", "train.epochs=60"]

    def known(is_over: bool) -> list[dict[str, Any]]:
        found = trials_of(platform_settings, "killed")
        return [item for item in found if (item["status"] != "running") == is_over]

    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as search:
        deadline_s = time.monotonic() + 120
        while len(known(True)) < 2 or not any(len(item["epochs"]) > 4 for item in known(False)):
            assert search.poll() is None, "the search ended before it could be killed"
            assert time.monotonic() < deadline_s
            time.sleep(0.02)
        os.kill(search.pid, signal.SIGKILL)
    over, cut = known(True), known(False)
    assert 2 <= len(over) < NUM_TRIALS
    assert cut

    assert main(["tune", "--resume", "killed"]) == 0
    after = {item["number"]: item for item in trials_of(platform_settings, "killed")}
    assert len(after) == NUM_TRIALS
    assert [item for item in after.values() if item["status"] == "running"] == []
    assert [after[item["number"]] for item in over] == over
    for item in cut:
        again = after[item["number"]]
        assert again["values"] == item["values"]
        assert again["tracking_run_id"] == item["tracking_run_id"]
        # It went on from its checkpoint: the epochs it had trained are those it has still, to the
        # memory that its process had. ASHA may stop it earlier than the kill did.
        kept = min(len(item["epochs"]), len(again["epochs"]))
        assert again["epochs"][:kept] == item["epochs"][:kept]
    left = (Path(platform_settings.storage_uri) / "runs").glob("killed-*")
    assert [path.name for path in left] == []
    runs = [run for run in runs_of(platform_settings) if run.name.startswith("killed")]
    assert len(runs) == 1 + NUM_TRIALS
    assert {run.status for run in runs} <= {"finished", "failed"}
    assert [run.status for run in runs if run.kind == "tune"] == ["finished"]
