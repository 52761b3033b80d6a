"""Training windows that stream from Ray Data to two workers of Ray Train."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import ray.train
import yaml
from ray.train.torch import TorchTrainer

from motoric.cli.main import main
from motoric.cluster.session import ray_session
from motoric.cluster.state import PlatformState
from motoric.core.errors import DatasetError
from motoric.core.settings import Settings
from motoric.data.dataset import open_dataset
from motoric.registry.registry import Registry
from motoric.registry.runs import Runs
from motoric.training.checkpoint import Checkpoints, identity_of
from motoric.training.partition import load_split
from motoric.training.recipe import Recipe, load_recipe
from motoric.training.streaming import WindowStream
from recordings import SineSource, recipe_content, write_dataset

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    # Ray Data reads settings of its own that it deprecates.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

BATCH = 10


@pytest.fixture(scope="module", autouse=True)
def _on_the_platform(platform_state: PlatformState) -> Iterator[None]:
    return


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streaming")
    write_dataset(str(folder / "sines"), SineSource(num_subjects=5, duration_s=14.0))
    content = recipe_content(
        str(folder / "sines"),
        train={"epochs": 3, "batch_size": 2 * BATCH, "data": "stream", "shuffle_buffer": 40},
        resources={"num_workers": 2},
        tracking={"experiment": "streaming"},
    )
    path = folder / "sines.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def record(config: dict[str, Any]) -> None:
    """What a worker gets in two epochs, as files."""
    content = Recipe.model_validate(config["recipe"])
    dataset = open_dataset(content.dataset)
    context = ray.train.get_context()
    rank = context.get_world_rank()
    data = load_split(content, dataset)
    place: dict[str, Any] = {"rank": rank, "num_workers": context.get_world_size()}
    stream = WindowStream(content, dataset, data, **place, device="cpu")
    for epoch in range(2):
        found = list(stream(epoch, BATCH))
        np.savez(
            f"{config['folder']}/{epoch}-{rank}.npz",
            sizes=[len(places) for places, _ in found],
            places=np.concatenate([places for places, _ in found]),
            windows=np.concatenate([windows for _, windows in found]),
        )
    dataset.card = dataset.card.model_copy(update={"content_digest": "of another"})
    try:
        next(WindowStream(content, dataset, data, **place, device="cpu")(2, BATCH))
    except DatasetError as error:
        Path(config["folder"], f"error-{rank}").write_text(error.message)


@pytest.mark.long
def test_each_window_comes_once_an_epoch_and_each_worker_gets_as_many(
    recipe: Path, platform_settings: Settings, tmp_path: Path
) -> None:
    content = load_recipe(recipe)
    in_memory = load_recipe(recipe, ["train.data=memory", "resources.num_workers=1"])
    train = load_split(in_memory, open_dataset(content.dataset)).train
    assert train.windows_BTC is not None
    # Workers of Ray do not see the modules of tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with ray_session(platform_settings):
        TorchTrainer(
            record,
            train_loop_config={"recipe": content.model_dump(mode="json"), "folder": str(tmp_path)},
            scaling_config=ray.train.ScalingConfig(num_workers=2),
            run_config=ray.train.RunConfig(name="record", storage_path=str(tmp_path / "ray")),
        ).fit()
    ray.cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    share = -(-len(train) // 2)
    orders = []
    for epoch in range(2):
        found = [np.load(tmp_path / f"{epoch}-{rank}.npz") for rank in range(2)]
        for shard in found:
            assert len(shard["places"]) == share
            assert set(shard["sizes"][:-1].tolist()) == {BATCH}
            np.testing.assert_array_equal(shard["windows"], train.windows_BTC[shard["places"]])
        seen = Counter(np.concatenate([shard["places"] for shard in found]).tolist())
        assert set(seen) == set(range(len(train)))
        assert sum(seen.values()) == 2 * share
        orders.append(found[0]["places"].tolist())
        classes = train.targets_B[found[0]["places"][:BATCH]]
        assert len(set(classes.tolist())) > 1
    assert orders[0] != orders[1]
    for rank in range(2):
        assert "was changed while a run reads it" in (tmp_path / f"error-{rank}").read_text()


@pytest.mark.long
def test_a_streamed_run_trains_tests_and_says_how_long_it_waited(
    recipe: Path, platform_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    capfd.readouterr()
    assert main(["train", str(recipe)]) == 0
    assert "streamed from the dataset" in capfd.readouterr().out
    runs = Runs(Registry(platform_settings.registry_uri, platform_settings.storage_uri))
    (run,) = runs.list("streaming")
    assert run.metrics["test_accuracy"] > 0.8
    assert 0 < run.metrics["waiting_share"] < 1
    content = load_recipe(recipe)
    kept = Checkpoints(
        f"{platform_settings.storage_uri}/runs/{run.name}",
        identity_of(content, open_dataset(content.dataset)),
    )
    name = kept.newest()
    assert name is not None
    position = kept.read(name).position
    assert (position.streams, position.is_finished, position.num_workers) == (True, True, 2)
    assert [report.epoch for report in position.history] == [0, 1, 2]


def test_a_cluster_without_a_cpu_beside_the_workers_is_refused_before_waiting(
    recipe: Path, platform_settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with ray_session(platform_settings):
        num_cpus = ray.cluster_resources()["CPU"]
    capfd.readouterr()
    all_of_them = ["resources.num_workers=1", f"resources.cpus_per_worker={num_cpus}"]
    assert main(["train", str(recipe), *(f"--set={item}" for item in all_of_them)]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert f"they take {num_cpus:g} of {num_cpus:g}" in said


def test_a_search_reads_no_streams(recipe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    space = "search={space: {optimiser.learning_rate: {loguniform: [1.0e-4, 1.0e-2]}}}"
    assert main(["tune", str(recipe), "--set", space]) == 2
    assert "the trials of a search read no streams" in " ".join(capfd.readouterr().err.split())
