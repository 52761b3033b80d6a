"""A run whose worker or driver is killed goes on, and ends with the weights of one that was not."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from motoric.core.settings import Settings
from motoric.registry.registry import Registry
from motoric.registry.runs import Runs
from motoric.training.checkpoint import FOLDER
from recordings import SineSource, recipe_content, write_dataset

# Five starts of Ray, each with its end.
pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.timeout(900)]

PROGRAM = "import sys; from motoric.cli.main import main; sys.exit(main(sys.argv[1:]))"
TIMEOUT_S = 180.0
EPOCHS = 60


def train(*arguments: str) -> list[str]:
    return [sys.executable, "-c", PROGRAM, "train", *arguments]


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    write_dataset(str(tmp_path / "sines"), SineSource(num_subjects=4, duration_s=30.0))
    content = recipe_content(
        str(tmp_path / "sines"),
        window={"stream": "imu", "length_s": 2.0, "hop_s": 0.5},
        model={"name": "recurrent", "hidden_size": 32, "stem_channels": 16, "dropout": 0.2},
        train={"epochs": EPOCHS, "batch_size": 32, "checkpoint_every_steps": 4},
        resources={"num_workers": 2, "cpus_per_worker": 1},
        stopping={"keep": "last"},
    )
    path = tmp_path / "sines.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def newest(settings: Settings) -> dict[str, Any] | None:
    """The newest checkpoint of all runs, as its document."""
    folder = Path(settings.storage_uri.removeprefix("file://")) / "runs"
    for path in sorted(folder.glob(f"*/{FOLDER}/*.json"), key=lambda p: p.name, reverse=True):
        try:
            return {"run": path.parents[1].name, **json.loads(path.read_text())}
        except FileNotFoundError:  # removed meanwhile: a newer one took its place
            return newest(settings)
    return None


def wait_for(holds: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while not holds():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


def reached(settings: Settings, epoch: int) -> bool:
    found = newest(settings)
    return found is not None and found["position"]["epoch"] >= epoch


def finish(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, out + err
    return out


def weights_digest(settings: Settings) -> str:
    found = newest(settings)
    assert found is not None
    assert found["position"]["is_finished"]
    digest: str = found["files"]["weights"]["sha256"]
    return digest


@pytest.fixture
def run(recipe: Path, own_settings: Settings) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        train(str(recipe)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()


@pytest.fixture
def uninterrupted(recipe: Path, own_settings: Settings, run: subprocess.Popen[str]) -> str:
    """The digest of the weights of a run that nothing happened to; its folder is moved away."""
    finish(run)
    digest = weights_digest(own_settings)
    runs = Path(own_settings.storage_uri.removeprefix("file://")) / "runs"
    runs.rename(runs.with_name("uninterrupted"))
    return digest


def processes_of(process: subprocess.Popen[str], title: str) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if title in " ".join(child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill_driver(process: subprocess.Popen[str]) -> None:
    """It, and with it its Ray, is gone before it can tidy up."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    for child in children:
        with contextlib.suppress(psutil.NoSuchProcess):
            child.kill()


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        train(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_workers_and_drivers_change_nothing_of_the_result(
    recipe: Path, own_settings: Settings, uninterrupted: str
) -> None:
    with start(str(recipe)) as process:
        wait_for(lambda: reached(own_settings, 10), process)
        workers = processes_of(process, "RayTrainWorker")
        assert len(workers) == 2
        workers[0].kill()
        wait_for(lambda: reached(own_settings, 30), process)
        kill_driver(process)
    left = newest(own_settings)
    assert left is not None
    assert 30 <= left["position"]["epoch"] < EPOCHS
    runs = Runs(Registry(own_settings.registry_uri, own_settings.storage_uri))
    name = left["run"]
    tracked = runs.get(name)

    # A killed driver leaves its run open; `mlflow` and `runs list` show it as running.
    assert tracked.status == "running"
    with start("--resume", name[:-3]) as process:
        out = finish(process)
    assert f"goes on in epoch {left['position']['epoch'] + 1}" in out
    assert weights_digest(own_settings) == uninterrupted
    again = runs.get(name)
    assert (again.run_id, again.status) == (tracked.run_id, "finished")
    losses = runs.history(again, ("train_loss",)).points["train_loss"]
    assert [step for step, _ in losses] == list(range(EPOCHS))

    with start("--resume", name) as process:
        _, err = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert "is finished: there is nothing to go on with" in err


def test_an_interrupted_run_says_how_it_goes_on(
    own_settings: Settings, run: subprocess.Popen[str]
) -> None:
    wait_for(lambda: reached(own_settings, 2), run)
    os.kill(run.pid, signal.SIGINT)
    _, err = run.communicate(timeout=TIMEOUT_S)
    assert run.returncode == 130
    left = newest(own_settings)
    assert left is not None
    assert f"motoric train --resume {left['run']}" in err


def test_a_streamed_run_goes_on_from_the_end_of_an_epoch(
    recipe: Path, own_settings: Settings
) -> None:
    content = yaml.safe_load(recipe.read_text())
    content["train"] = {"epochs": 12, "batch_size": 32, "data": "stream"}
    recipe.write_text(yaml.safe_dump(content))
    with start(str(recipe)) as process:
        wait_for(lambda: reached(own_settings, 2), process)
        processes_of(process, "RayTrainWorker")[0].kill()
        wait_for(lambda: reached(own_settings, 5), process)
        kill_driver(process)
    left = newest(own_settings)
    assert left is not None
    position = left["position"]
    assert 5 <= position["epoch"] < 12
    assert (position["streams"], position["num_drawn"]) == (True, 0)
    with start("--resume", left["run"]) as process:
        out = finish(process)
    assert f"goes on in epoch {position['epoch'] + 1}" in out
    done = newest(own_settings)
    assert done is not None
    assert done["position"]["is_finished"]
    assert [report["epoch"] for report in done["position"]["history"]] == list(range(12))
