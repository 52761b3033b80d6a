"""Gradient descent's settings: parts of a batch, precision, the compiler."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from motoric.training.loop import fit
from motoric.training.progress import EpochReport, Tick
from motoric.training.run import State, Worker
from recordings import SineSource, write_dataset
from trainings import load

# Without statistics over a batch, which its parts would not share.
TRANSFORMER = {"name": "patch_transformer", "dropout": 0.0, "stem_channels": 0}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=12.0))
    return folder


def run(uri: str, **changes: Any) -> tuple[State, list[EpochReport], list[Tick]]:
    recipe, data = load(uri, **changes)
    reports: list[EpochReport] = []
    ticks: list[Tick] = []
    weights = fit(
        recipe,
        data,
        worker=Worker(on_tick=ticks.append),
        on_epoch=lambda report, _: reports.append(report),
    )
    return weights, reports, ticks


def test_a_batch_in_parts_is_the_same_step(uri: str) -> None:
    losses = [
        [
            report.train_loss
            for report in run(
                uri,
                model=TRANSFORMER,
                train={"epochs": 2, "batch_size": 32, "accumulate": parts},
                optimiser={"learning_rate": 1e-3},
            )[1]
        ]
        for parts in (1, 3, 100)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)
    assert losses[0] == pytest.approx(losses[2], rel=1e-3)


def test_bf16_is_of_the_step_alone(uri: str) -> None:
    exact, _, _ = run(uri, model=TRANSFORMER, train={"epochs": 2, "batch_size": 32})
    train = {"epochs": 2, "batch_size": 32, "precision": "bf16"}
    weights, reports, _ = run(uri, model=TRANSFORMER, train=train)
    assert {value.dtype for value in weights.values()} == {value.dtype for value in exact.values()}
    assert reports[1].train_loss < reports[0].train_loss
    assert not all(torch.equal(exact[name], weights[name]) for name in exact)


def test_figures_say_who_trained_and_how_long_data_was_waited_for(uri: str) -> None:
    _, reports, ticks = run(uri)
    assert {report.num_workers for report in reports} == {1}
    assert all(0 <= report.waiting_share <= 1 for report in reports)
    assert ticks[0].is_start
    assert (ticks[0].epoch, ticks[0].share, ticks[0].left_s) == (0, 0.0, None)


@pytest.mark.long
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore")
def test_a_compiled_network_learns_the_same(uri: str) -> None:
    changes = {"model": TRANSFORMER, "optimiser": {"learning_rate": 1e-3}}
    _, plain, _ = run(uri, **changes, train={"epochs": 2, "batch_size": 32})
    compiled = {"epochs": 2, "batch_size": 32, "compile": True}
    weights, reports, _ = run(uri, **changes, train=compiled)
    assert [r.train_loss for r in reports] == pytest.approx([r.train_loss for r in plain], rel=1e-2)
    assert not any("_orig_mod" in name for name in weights)
