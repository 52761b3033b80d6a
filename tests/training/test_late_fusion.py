from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from filmed import CLIP, CLIP_MODEL, write_filmed
from motoric.data.dataset import open_dataset
from motoric.models.late_fusion import LateFusion
from motoric.training.dry_run import dry_run
from trainings import load, train_here

SOLVED = {"name": "random_kernels", "num_features": 84}
MODEL = {"name": "late_fusion", "sensors": SOLVED, "clip": CLIP_MODEL, "passes": 2}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("filmed")
    return write_filmed(folder, duration_s=6.0, without_sensors=(0,), without_video=(1,))


def changes(**train: Any) -> dict[str, Any]:
    return {
        "clip": CLIP,
        "model": MODEL,
        "augmentation": {"jitter_std": 0.05},
        "train": {"epochs": 2, "batch_size": 8, **train},
    }


def test_the_solved_network_is_that_of_the_windows_whatever_the_clips_learn(uri: str) -> None:
    short = train_here(*load(uri, **changes()))
    long = train_here(*load(uri, **changes(epochs=3, mixup_alpha=0.3)))
    names = [name for name in short.weights if name.startswith("sensors.")]
    assert all(torch.equal(short.weights[name], long.weights[name]) for name in names)
    others = [name for name in short.weights if name.startswith("clip.")]
    assert not all(torch.equal(short.weights[name], long.weights[name]) for name in others)
    network, train = short.network, short.data.train
    assert isinstance(network, LateFusion)
    has_sensors = train.take(train.present_B2[:, 0])
    right_B = short.predicted(has_sensors).argmax(axis=1) == has_sensors.targets_B
    assert right_B.mean() > 0.9


def test_the_exported_graph_gives_the_same_with_either_input_missing(uri: str) -> None:
    trained = train_here(*load(uri, **changes(epochs=1)))
    every = trained.data.train
    assert not every.present_B2.all(axis=0).any()
    found_BK = trained.predictor().predict(every.windows_BTC, every.clips_BTHWC, every.present_B2)
    np.testing.assert_allclose(found_BK, trained.predicted(every), atol=1e-4)


def test_a_dry_run_knows_what_it_costs(uri: str) -> None:
    recipe, _ = load(uri, **changes())
    assert dry_run(recipe, open_dataset(uri)).network.forward_flops > 0
