"""Every strategy from the command line with two workers; what the parameter server promises."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import ray
import torch
import yaml

import sleeper
from motoric.cli.main import main
from motoric.cluster.session import ray_session
from motoric.cluster.state import PlatformState
from motoric.core.errors import PlatformError, RecipeError
from motoric.core.settings import Settings
from motoric.registry.registry import Registry
from motoric.registry.runs import Runs
from motoric.training.checkpoint import Checkpoint
from motoric.training.progress import EpochReport
from motoric.training.run import State
from motoric.training.strategies.crew import Crew
from motoric.training.strategies.parameter_server import ParameterServer
from motoric.training.trainer import train
from recordings import SineSource, recipe_content, write_dataset
from trainings import Trained, load, train_here

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

TRANSFORMER = {
    "name": "patch_transformer",
    "patch_samples": 10,
    "stride_samples": 5,
    "width": 16,
    "depth": 2,
    "num_heads": 2,
    "stem_channels": 0,
    "dropout": 0.0,
}
RECURRENT = {"name": "recurrent", "hidden_size": 8, "stem_channels": 8, "dropout": 0.0}


@pytest.fixture(scope="module", autouse=True)
def _on_the_platform(platform_state: PlatformState) -> Iterator[None]:
    return


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("strategies")


@pytest.fixture(scope="module")
def uri(folder: Path) -> str:
    write_dataset(str(folder / "sines"), SineSource(num_subjects=4, duration_s=17.0))
    return str(folder / "sines")


@pytest.fixture(scope="module", autouse=True)
def _sleeper_travels() -> Iterator[None]:
    # Workers of Ray do not see tests/support.
    ray.cloudpickle.register_pickle_by_value(sleeper)
    yield
    ray.cloudpickle.unregister_pickle_by_value(sleeper)


@pytest.fixture
def session(platform_settings: Settings) -> Iterator[None]:
    with ray_session(platform_settings):
        yield


def changes_of(**changes: Any) -> dict[str, Any]:
    """A short run of two workers, of which everything is kept."""
    return {
        "strategy": "parameter_server",
        "resources": {"num_workers": 2, "cpus_per_worker": 0.5},
        "model": RECURRENT,
        "train": {"epochs": 3, "batch_size": 16},
        "stopping": {"keep": "last"},
        **changes,
    }


def serve(uri: str, begin: Checkpoint | None = None, **changes: Any) -> list[Checkpoint]:
    """The checkpoints of a run of the parameter server."""
    recipe, _ = load(uri, **changes_of(**changes))
    kept: list[Checkpoint] = []
    server = ParameterServer(
        recipe, dataset_uri=uri, on_checkpoint=kept.append, on_tick=lambda _: None
    )
    assert server.run(begin) is kept[-1]
    return kept


def alone(uri: str, **changes: Any) -> Trained:
    """One process, with as many threads as a worker: sums over more are rounded otherwise."""
    content = changes_of(**changes) | {"strategy": "ddp"}
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return train_here(*load(uri, **content))
    finally:
        torch.set_num_threads(before)


def furthest(first: State, second: State) -> float:
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize(
    "strategy",
    [
        pytest.param("fsdp", marks=pytest.mark.long),
        pytest.param("tensor", marks=pytest.mark.long),
        pytest.param("parameter_server", marks=pytest.mark.long),
    ],
)
def test_a_recipe_is_trained_by_two_from_the_command_line(
    uri: str, folder: Path, platform_settings: Settings, strategy: str
) -> None:
    content = recipe_content(uri, model=TRANSFORMER)
    content["train"] = {"epochs": 2, "batch_size": 16}
    content["tracking"] = {"experiment": strategy}
    path = folder / f"{strategy}.yaml"
    path.write_text(yaml.safe_dump(content))
    sets = [f"strategy={strategy}", "resources={num_workers: 2, cpus_per_worker: 0.5}"]
    assert main(["train", str(path), *(item for change in sets for item in ("--set", change))]) == 0
    registry = Registry(platform_settings.registry_uri, platform_settings.storage_uri)
    (run,) = Runs(registry).list(strategy)
    assert run.status == "finished"
    assert run.metrics["test_accuracy"] > 0.3


def test_without_staleness_two_workers_are_one_process(uri: str, session: None) -> None:
    """Bit for bit, and whoever worked which batch: they come one after the other."""
    found = serve(uri, parameter_server={"num_servers": 2, "max_staleness": 0})
    wanted = alone(uri)
    assert furthest(found[-1].weights, wanted.weights) == 0.0
    for checkpoint, report in zip(found, wanted.epochs, strict=True):
        mine = checkpoint.position.history[-1]
        assert mine.validation_loss == report.validation_loss
        assert mine.train_loss == pytest.approx(report.train_loss)
        assert mine.system["strategy/updates_missed_max"] == 0


def test_with_staleness_two_workers_reach_what_one_process_reaches(uri: str, session: None) -> None:
    """The bound: a validation loss of at most one and a half times the single process's."""
    train = {"epochs": 6, "batch_size": 8}
    found = serve(uri, train=train, parameter_server={"num_servers": 2, "max_staleness": 4})
    wanted = alone(uri, train=train)
    first, last = wanted.epochs[0].validation_loss, wanted.epochs[-1].validation_loss
    reached = found[-1].position.history[-1]
    assert last < 0.5 * first
    assert reached.validation_loss < max(1.5 * last, 0.2 * first)
    missed = [item.system["strategy/updates_missed_max"] for item in found[-1].position.history]
    assert 0 < max(missed) <= 2 * 4


@pytest.mark.long
def test_a_run_goes_on_from_a_checkpoint(uri: str, session: None) -> None:
    """With another number of servers; the states are whole, as those of the other strategies."""
    settings = {"num_servers": 1, "max_staleness": 0}
    whole = serve(uri, parameter_server=settings)
    again = serve(uri, begin=whole[0], parameter_server={**settings, "num_servers": 3})
    assert len(again) == len(whole) - 1
    assert furthest(again[-1].weights, whole[-1].weights) == 0.0
    assert furthest(again[-1].optimiser, whole[-1].optimiser) == 0.0
    assert [item.epoch for item in again[-1].position.history] == [0, 1, 2]


def crew(max_replaced: int, num_cpus: float = 0.1) -> Crew:
    return Crew(
        sleeper.Sleeper,
        ("a note",),
        resources={"CPU": num_cpus},
        num=2,
        max_replaced=max_replaced,
    )


def wait_for(made: Crew, num: int) -> None:
    while len(made.idle) < num:
        made.wait(1.0)


def test_a_worker_that_dies_is_replaced_and_the_others_go_on(session: None) -> None:
    made = crew(max_replaced=1)
    try:
        wait_for(made, 2)
        made.call(0, "work", 0.0)
        event = made.wait(20.0)
        assert event is not None
        pid = event.result
        made.call(0, "work", 100.0)
        os.kill(pid, signal.SIGKILL)
        made.call(1, "work", 0.0)
        events = [made.wait(20.0), made.wait(20.0), made.wait(20.0)]
        assert {(item.seat, item.is_lost) for item in events if item} >= {(0, True), (1, False)}
        wait_for(made, 2)
        made.call(0, "work", 0.0)
        event = made.wait(20.0)
        assert event is not None
        assert event.result not in (None, pid)
    finally:
        made.close()


def test_a_worker_that_there_is_no_room_for_joins_when_there_is(session: None) -> None:
    most = 0.6 * ray.cluster_resources()["CPU"]
    first = crew(max_replaced=0, num_cpus=most)
    try:
        wait_for(first, 1)
        second = crew(max_replaced=0, num_cpus=most)
        try:
            assert first.wait(1.0) is None
            assert (first.num_alive, second.num_alive) == (1, 0)
            first.call(first.idle[0], "work", 0.0)
            event = first.wait(20.0)
            assert event is not None
            assert not event.is_lost
            first.close()
            wait_for(second, 1)
        finally:
            second.close()
    finally:
        first.close()


def test_when_the_last_worker_died_the_run_says_so(session: None) -> None:
    made = crew(max_replaced=0)
    try:
        wait_for(made, 2)
        for seat in (0, 1):
            made.call(seat, "work", 0.0)
        pids = [made.wait(20.0), made.wait(20.0)]
        for event in pids:
            assert event is not None
            os.kill(event.result, signal.SIGKILL)
        for seat in (0, 1):
            made.call(seat, "work", 0.0)
        lost = made.wait(20.0)
        assert lost is not None
        assert lost.is_lost
        with pytest.raises(PlatformError, match=r"all 2 workers died.*resources\.max_restarts"):
            made.wait(20.0)
    finally:
        made.close()


def test_what_a_worker_says_is_wrong_is_said_in_its_words(session: None) -> None:
    made = crew(max_replaced=1)
    try:
        wait_for(made, 1)
        made.call(made.idle[0], "fail", "a wrong recipe")
        with pytest.raises(RecipeError, match=r"^a note: a wrong recipe$"):
            wait_for(made, 3)  # more than there are
    finally:
        made.close()


@pytest.mark.long
def test_a_worker_of_the_parameter_server_is_killed_and_every_batch_still_counts(
    uri: str, session: None
) -> None:
    killed: list[int] = []

    def kill() -> None:
        deadline_s = time.monotonic() + 60
        while not killed and time.monotonic() < deadline_s:
            for process in psutil.process_iter(["cmdline"]):
                line = " ".join(process.info["cmdline"] or [])
                if line.startswith("ray::ServerWorker.work"):
                    process.kill()
                    killed.append(process.pid)
                    break
            time.sleep(0.05)

    thread = threading.Thread(target=kill)
    thread.start()
    train = {"epochs": 4, "batch_size": 4}
    found = serve(uri, train=train, parameter_server={"num_servers": 2, "max_staleness": 0})
    thread.join()
    assert len(killed) == 1
    # Nothing was lost or counted twice: one after the other, so it is still the single process.
    assert furthest(found[-1].weights, alone(uri, train=train).weights) == 0.0
    steps = [value for name, value in found[-1].optimiser.items() if name.endswith(".step")]
    np.testing.assert_array_equal(np.array(steps), 4 * -(-96 // 4))


@pytest.mark.long
def test_a_parameter_server_is_killed_and_the_run_goes_on_from_its_last_checkpoint(
    uri: str, folder: Path, session: None
) -> None:
    changes = {"train": {"epochs": 6, "batch_size": 4}, "parameter_server": {"max_staleness": 0}}
    recipe, _ = load(uri, **changes_of(**changes))
    epochs: list[int] = []
    killed: list[int] = []

    def on_epoch(report: EpochReport) -> None:
        epochs.append(report.epoch)
        if killed or report.epoch < 1:
            return
        for process in psutil.process_iter(["cmdline"]):
            if " ".join(process.info["cmdline"] or []).startswith("ray::ParameterSlice"):
                process.kill()
                killed.append(process.pid)
                return

    trained = train(
        recipe,
        dataset_uri=uri,
        storage_uri=str(folder),
        run_id="lost-server",
        can_grow=False,
        on_epoch=on_epoch,
    )
    assert len(killed) == 1
    assert [report.epoch for report in trained.epochs] == list(range(6))
    assert furthest(trained.weights, alone(uri, train=changes["train"]).weights) == 0.0
