"""A run that was stopped ends with the weights, bit by bit, of one that never was. Without Ray."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from motoric.core.errors import CheckpointError
from motoric.data.dataset import open_dataset
from motoric.training.checkpoint import FOLDER, Checkpoints, identity_of
from motoric.training.loop import fit
from motoric.training.progress import EpochReport, Tick
from motoric.training.run import State, Worker
from recordings import SineSource, write_dataset
from trainings import load

CHANGES: dict[str, Any] = {
    "augmentation": {"rotation_deg": 10, "scale_std": 0.1, "jitter_std": 0.1},
    "model": {"name": "recurrent", "hidden_size": 4, "stem_channels": 4, "dropout": 0.3},
    "train": {"epochs": 4, "batch_size": 8, "checkpoint_every_steps": 2},
}


class StoppedError(Exception):
    pass


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=12.0))
    return folder


class StopsAfter(Checkpoints):
    """Checkpoints of a run that is stopped when so many were written."""

    left = 10_000

    def save(self, checkpoint: Any) -> None:
        super().save(checkpoint)
        self.wait()
        self.left -= 1
        if self.left == 0:
            raise StoppedError


def train(
    uri: str,
    run_uri: str,
    stops_after: int | None = None,
    worker: Worker = Worker(),  # noqa: B008 - frozen
    **changes: Any,
) -> tuple[State, list[EpochReport]]:
    recipe, data = load(uri, **(CHANGES | changes))
    kept = StopsAfter(run_uri, identity_of(recipe, open_dataset(uri)))
    if stops_after is not None:
        kept.left = stops_after
    reports: list[EpochReport] = []
    weights = fit(
        recipe,
        data,
        worker=worker,
        on_epoch=lambda report, _: reports.append(report),
        checkpoints=kept,
    )
    return weights, reports


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def figures(report: EpochReport) -> dict[str, Any]:
    """What does not depend on the time."""
    content = asdict(report)
    return {k: content[k] for k in content if k not in ("windows_per_s", "waiting_share", "system")}


@pytest.fixture(scope="module")
def whole(uri: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list[EpochReport]]:
    return train(uri, str(tmp_path_factory.mktemp("whole")))


# Some within an epoch, some after one.
@pytest.mark.parametrize("stops_after", [1, 4, 6, 13])
def test_a_run_that_goes_on_ends_as_one_that_was_never_stopped(
    uri: str, tmp_path: Path, whole: tuple[State, list[EpochReport]], stops_after: int
) -> None:
    with pytest.raises(StoppedError):
        train(uri, str(tmp_path), stops_after)
    weights, reports = train(uri, str(tmp_path))
    assert same(weights, whole[0])
    expected = [figures(report) for report in whole[1]][-len(reports) :]
    assert [figures(report) for report in reports] == expected
    assert len(reports) < 4 or stops_after < 5, "it began anew"


def test_a_run_that_is_stopped_again_and_again_ends_the_same(
    uri: str, tmp_path: Path, whole: tuple[State, list[EpochReport]]
) -> None:
    for _ in range(5):
        with pytest.raises(StoppedError):
            train(uri, str(tmp_path), 3)
    assert same(train(uri, str(tmp_path))[0], whole[0])


def test_keeping_no_checkpoints_changes_nothing(
    uri: str, whole: tuple[State, list[EpochReport]]
) -> None:
    recipe, data = load(uri, **CHANGES)
    assert same(fit(recipe, data, worker=Worker(), on_epoch=lambda *_: None), whole[0])


def test_early_stopping_counts_over_the_stop(uri: str, tmp_path: Path) -> None:
    changes = {
        "optimiser": {"learning_rate": 0.5},
        "schedule": {"name": "constant"},
        "train": {"epochs": 40, "batch_size": 32},
        "stopping": {"patience": 3},
    }
    expected, reports = train(uri, str(tmp_path / "a"), **changes)
    assert 4 < len(reports) < 40
    with pytest.raises(StoppedError):
        train(uri, str(tmp_path / "b"), len(reports) - 1, **changes)
    weights, rest = train(uri, str(tmp_path / "b"), **changes)
    assert len(rest) == 1
    assert same(weights, expected)
    again, none = train(uri, str(tmp_path / "b"), **changes)  # it is over, so nothing is trained
    assert none == []
    assert same(again, expected)


def test_a_damaged_checkpoint_is_passed_over(
    uri: str, tmp_path: Path, whole: tuple[State, list[EpochReport]]
) -> None:
    with pytest.raises(StoppedError):
        train(uri, str(tmp_path), 6)
    documents = sorted((tmp_path / FOLDER).glob("*.json"))
    assert len(documents) == 2
    newest = documents[-1].with_name(documents[-1].stem + ".weights.safetensors")
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    weights, reports = train(uri, str(tmp_path))
    assert same(weights, whole[0])
    assert len(reports) == 3


def test_a_checkpoint_of_another_recipe_or_other_data_is_refused(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(uri, str(tmp_path), 2)
    with pytest.raises(CheckpointError, match=r"recipe.model.hidden_size is 4 there and 5 here"):
        train(uri, str(tmp_path), model={**CHANGES["model"], "hidden_size": 5})
    with pytest.raises(CheckpointError, match=r"recipe.train.epochs is 4 there and 9 here"):
        train(uri, str(tmp_path), train={**CHANGES["train"], "epochs": 9})
    other = tmp_path / "other"
    write_dataset(str(other), SineSource(num_subjects=5, duration_s=12.0))
    with pytest.raises(CheckpointError, match=r"dataset is 'sha256:"):
        train(str(other), str(tmp_path))


def test_by_whom_a_run_is_trained_may_change(uri: str, tmp_path: Path) -> None:
    with pytest.raises(StoppedError):
        train(uri, str(tmp_path), 2)
    weights, _ = train(uri, str(tmp_path), name="other", resources={"num_workers": [1, 4]})
    assert all(value.isfinite().all() for value in weights.values())


def test_another_number_of_workers_goes_on_where_the_run_stood(uri: str, tmp_path: Path) -> None:
    # The other of these two is not there, so this one counts what both would have drawn.
    with pytest.raises(StoppedError):
        train(uri, str(tmp_path), 6, worker=Worker(rank=0, world_size=2))
    opened = Checkpoints(str(tmp_path), {})
    ticks: list[Tick] = []
    weights, reports = train(uri, str(tmp_path), worker=Worker(on_tick=ticks.append))
    first = ticks[0]
    assert first.is_start
    assert first.epoch + first.share > 0
    assert [report.epoch for report in reports] == list(range(first.epoch, 4))
    assert {report.num_workers for report in reports} == {1}
    assert all(value.isfinite().all() for value in weights.values())
    assert len(opened.names()) == 2


def test_a_solved_network_is_not_solved_again(uri: str, tmp_path: Path) -> None:
    solved = {"model": {"name": "random_kernels", "num_features": 168}, "train": {"epochs": 1}}
    weights, reports = train(uri, str(tmp_path), **solved)
    again, none = train(uri, str(tmp_path), **solved)
    assert same(weights, again)
    assert (len(reports), len(none)) == (1, 0)
