"""An elastic run grows when a node comes, shrinks when one is lost, and a lost node is no end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from motoric.core.errors import RecipeError
from motoric.training.progress import EpochReport, Tick
from motoric.training.recipe import parse_recipe
from motoric.training.trainer import TrainedRun, train
from recordings import SineSource, recipe_content, write_dataset
from two_nodes import HEAD_IP, WORKER_IP

pytestmark = [pytest.mark.ray, pytest.mark.long, pytest.mark.filterwarnings("ignore")]

EPOCHS = 4_000
NODE: dict[str, Any] = {
    "num_cpus": 1,
    "resources": {"trains": 1},
    "object_store_memory": 100 * 2**20,
}
TIMEOUT_S = 200.0


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch, short_folder: Path) -> Iterator[Cluster]:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_TMPDIR", str(short_folder))
    (short_folder / "ray").mkdir()
    made = Cluster(shutdown_at_exit=False)
    made.add_node(node_ip_address=HEAD_IP, include_dashboard=False, **NODE)
    ray.init(address=made.address, log_to_driver=False, namespace="motoric")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def test_a_run_grows_and_shrinks_with_its_cluster(cluster: Cluster, tmp_path: Path) -> None:
    uri = str(tmp_path / "sines")
    write_dataset(uri, SineSource(num_subjects=4, duration_s=20.0))
    recipe = parse_recipe(
        recipe_content(
            uri,
            train={"epochs": EPOCHS, "batch_size": 16},
            resources={
                "num_workers": [1, 2],
                "cpus_per_worker": 0.5,
                "labels": {"trains": 1},
                "resize_interval_s": 5,
                "max_restarts": 3,
            },
            stopping={"keep": "last"},
        ),
        "r",
    )
    starts: list[Tick] = []
    epochs: list[EpochReport] = []
    done: list[TrainedRun] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            done.append(
                train(
                    recipe,
                    dataset_uri=uri,
                    storage_uri=str(tmp_path / "storage"),
                    run_id="elastic",
                    can_grow=False,
                    on_epoch=epochs.append,
                    on_tick=lambda tick: starts.append(tick) if tick.is_start else None,
                )
            )
        except BaseException as error:  # noqa: BLE001 - shown by the test
            failures.append(error)

    def wait_for_start(number: int, num_workers: int) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(starts) < number:
            assert not failures, failures
            assert not done, "the run ended first"
            assert time.monotonic() < deadline_s, starts
            time.sleep(0.1)
        assert starts[number - 1].num_workers == num_workers

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    wait_for_start(1, 1)
    node = cluster.add_node(node_ip_address=WORKER_IP, **NODE)
    wait_for_start(2, 2)
    grown_at = len(epochs)
    while len(epochs) < grown_at + 5:
        time.sleep(0.1)
    cluster.remove_node(node, allow_graceful=False)
    wait_for_start(3, 1)
    places = [tick.epoch + tick.share for tick in starts]
    assert places == sorted(places)
    assert places[1] > 0
    assert {report.num_workers for report in epochs} == {1, 2}


def test_more_workers_than_there_can_be_are_refused_before_waiting(
    cluster: Cluster, tmp_path: Path
) -> None:
    uri = str(tmp_path / "sines")
    write_dataset(uri, SineSource(num_subjects=4, duration_s=10.0))
    recipe = parse_recipe(recipe_content(uri, resources={"num_workers": [3, 5]}), "r")
    began_s = time.monotonic()
    with pytest.raises(RecipeError, match=r"3 worker\(s\) need 3 CPU, the cluster has 1"):
        train(
            recipe,
            dataset_uri=uri,
            storage_uri=str(tmp_path),
            run_id="wide",
            can_grow=False,
            on_epoch=lambda _: None,
        )
    assert time.monotonic() - began_s < 10
