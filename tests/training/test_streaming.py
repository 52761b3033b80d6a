"""Streams without Ray: what an epoch is planned as, what a node keeps, who may stream."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from motoric.core.errors import CheckpointError, DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.training import example_store
from motoric.training.checkpoint import Checkpoints, identity_of
from motoric.training.data_plan import estimated_bytes, plan_data
from motoric.training.dry_run import dry_run
from motoric.training.loop import fit
from motoric.training.partition import load_split
from motoric.training.progress import EpochReport
from motoric.training.run import Stream, Worker
from motoric.training.stream_reader import Reading, WindowReader
from motoric.training.stream_store import sample_rows
from motoric.training.streaming import plan_epoch
from recordings import SineSource, write_dataset
from trainings import inputs_of, load, recipe_of

GIB = 2**30
TRAIN = {"epochs": 2, "batch_size": 16, "data": "stream"}


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = str(tmp_path_factory.mktemp("sines"))
    write_dataset(folder, SineSource(num_subjects=4, duration_s=12.0))
    return folder


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield tmp_path
    for lock in example_store._held.values():
        lock.close()
    example_store._held.clear()


def places(readings: list[tuple[Reading, ...]]) -> list[int]:
    return [
        place
        for run in readings
        for item in run
        for place in range(item.first, item.first + item.num)
    ]


@given(
    counts=st.lists(st.integers(1, 9), min_size=1, max_size=12),
    num_workers=st.integers(1, 7),
    run_size=st.integers(1, 20),
    epoch=st.integers(0, 3),
)
def test_each_window_is_planned_once_but_to_make_the_shares_even(
    counts: list[int], num_workers: int, run_size: int, epoch: int
) -> None:
    names = [f"r{index}" for index, num in enumerate(counts) for _ in range(num)]
    planned = plan_epoch(names, run_size=run_size, seed=3, epoch=epoch, num_workers=num_workers)
    seen = Counter(places(planned))
    assert set(seen) == set(range(len(names)))
    assert sum(seen.values()) == -(-len(names) // num_workers) * num_workers
    assert sum(seen.values()) < len(names) + num_workers
    for item in (item for run in planned for item in run):
        assert set(names[item.first : item.first + item.num]) == {item.recording_id}
    again = plan_epoch(names, run_size=run_size, seed=3, epoch=epoch, num_workers=num_workers)
    assert planned == again


def test_epochs_come_in_orders_of_their_own_and_neighbours_are_read_together() -> None:
    names = [f"r{index:02d}" for index in range(40) for _ in range(5)]
    first, second = (
        plan_epoch(names, run_size=20, seed=0, epoch=epoch, num_workers=2) for epoch in (0, 1)
    )
    assert first != second
    assert set(first) == set(second)
    assert [len(run) for run in first] == [4] * 10


def test_a_node_keeps_all_but_the_training_windows(uri: str) -> None:
    _, whole = load(uri, train=TRAIN | {"data": "memory"})
    _, streamed = load(uri, train=TRAIN)
    assert streamed.train.windows_BTC is None
    for part in ("validation", "test"):
        one, other = getattr(whole, part), getattr(streamed, part)
        np.testing.assert_array_equal(one.windows_BTC, other.windows_BTC)
        np.testing.assert_array_equal(one.targets_B, other.targets_B)
    for name in ("targets_B", "start_s_B", "end_s_B", "subjects", "recording_ids", "classes"):
        np.testing.assert_array_equal(getattr(whole.train, name), getattr(streamed.train, name))
    assert whole.split == streamed.split
    kept, fitted = whole.signature, streamed.signature
    assert fitted.training_statistics == kept.training_statistics
    mine, theirs = fitted.preprocessing.normaliser, kept.preprocessing.normaliser
    assert mine is not None
    assert theirs is not None
    np.testing.assert_allclose(mine.mean, theirs.mean, rtol=1e-9)
    np.testing.assert_allclose(mine.std, theirs.std, rtol=1e-9)


def test_a_sample_of_the_training_part_is_at_hand(uri: str) -> None:
    _, whole = load(uri, train=TRAIN | {"data": "memory"})
    _, streamed = load(uri, train=TRAIN)
    rows = sample_rows(whole.train, np.arange(len(whole.train)))
    assert streamed.at_hand is streamed.sample
    assert whole.at_hand is whole.train
    np.testing.assert_array_equal(whole.train.take(rows).windows_BTC, streamed.at_hand.windows_BTC)
    assert set(streamed.at_hand.recording_ids) == set(whole.train.recording_ids)


def test_a_sample_comes_from_a_few_recordings_however_many_there_are(uri: str) -> None:
    _, data = load(uri, train=TRAIN | {"data": "memory"})
    names = tuple(f"r{index:04d}" for index in range(1000) for _ in range(100))
    many = replace(data.train, recording_ids=names)
    train = np.arange(100, 100_000)
    chosen = sample_rows(many, train)
    assert len(set(chosen.tolist())) == len(chosen) == 16 * 64
    assert len({names[row] for row in chosen}) == 16
    assert chosen.min() == 100
    assert chosen.max() == 99_999


def test_a_task_reads_the_windows_that_memory_would_hold(uri: str) -> None:
    recipe, whole = load(uri, train=TRAIN | {"data": "memory"})
    assert whole.train.windows_BTC is not None
    digest = open_dataset(uri).card.content_digest
    planned = plan_epoch(
        whole.train.recording_ids, run_size=1, seed=0, epoch=0, num_workers=len(whole.train) - 1
    )
    runs = np.array(
        [json.dumps([(i.recording_id, i.first, i.num) for i in run]) for run in planned]
    )
    seen: Counter[int] = Counter()
    for block in WindowReader(recipe.model_dump_json(), uri, digest)({"run": runs}):
        seen.update(block["place"].tolist())
        np.testing.assert_array_equal(block["window"], whole.train.windows_BTC[block["place"]])
    assert set(seen) == set(range(len(whole.train)))
    assert seen == Counter(places(planned))
    with pytest.raises(DatasetError, match="was changed while a run reads it"):
        next(WindowReader(recipe.model_dump_json(), uri, "another")({"run": runs}))


def stream_of(uri: str, seen: list[list[int]]) -> Stream:
    """The training windows of a dataset, in an order of each epoch's own."""
    train = load(uri, train=TRAIN | {"data": "memory"})[1].train
    assert train.windows_BTC is not None
    windows_BTC = train.windows_BTC

    def batches(
        epoch: int, batch_size: int
    ) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        order = np.random.default_rng(epoch).permutation(len(windows_BTC))
        seen.append(order.tolist())
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size]
            yield chosen, windows_BTC[chosen]

    return batches


class StoppedError(Exception):
    pass


def test_a_streamed_run_goes_on_at_the_end_of_an_epoch(uri: str, tmp_path: Path) -> None:
    recipe, data = load(uri, train=TRAIN | {"epochs": 3})
    seen: list[list[int]] = []
    worker = Worker(stream=stream_of(uri, seen))
    reports: list[EpochReport] = []

    def stop(report: EpochReport, _: object) -> None:
        if report.epoch == 0:
            raise StoppedError

    kept = Checkpoints(str(tmp_path / "run"), identity_of(recipe, open_dataset(uri)))
    with pytest.raises(StoppedError):
        fit(recipe, data, worker=worker, on_epoch=stop, checkpoints=kept)
    kept.wait()
    fit(
        recipe,
        data,
        worker=worker,
        on_epoch=lambda report, _: reports.append(report),
        checkpoints=kept,
    )
    name = kept.newest()
    assert name is not None
    assert kept.read(name).position.streams
    assert [report.epoch for report in reports] == [1, 2]
    assert all(sorted(epoch) == list(range(len(data.train))) for epoch in seen)
    assert len(seen) == 3
    assert all(0 <= report.waiting_share <= 1 for report in reports)
    assert reports[-1].train_loss < 0.7


def test_what_a_run_goes_on_from_says_how_its_windows_came(
    uri: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train = {"epochs": 2, "batch_size": 16}
    recipe, data = load(uri, train=train | {"checkpoint_every_steps": 1})
    streamed, without_windows = load(uri, train=TRAIN)

    def begin(folder: str, *, in_epoch: int, num_steps: int) -> Checkpoints:
        """A run that was stopped when so many checkpoints were written."""
        kept = Stops(str(tmp_path / folder), identity_of(recipe, open_dataset(uri)))
        kept.left = in_epoch * -(-len(data.train) // 16) + num_steps
        with pytest.raises(StoppedError):
            fit(recipe, data, worker=Worker(), on_epoch=lambda *_: None, checkpoints=kept)
        kept.left = -1
        return kept

    worker = Worker(stream=stream_of(uri, []))
    within = begin("within", in_epoch=0, num_steps=2)
    with pytest.raises(CheckpointError, match="is from within epoch 1"):
        fit(streamed, without_windows, worker=worker, on_epoch=lambda *_: None, checkpoints=within)
    between = begin("between", in_epoch=1, num_steps=0)
    with caplog.at_level(logging.WARNING):
        fit(streamed, without_windows, worker=worker, on_epoch=lambda *_: None, checkpoints=between)
    assert "came by the sampler so far, and come in a stream now" in caplog.text


class Stops(Checkpoints):
    """Checkpoints of a run that is stopped when so many were written."""

    left = -1

    def save(self, checkpoint: Any) -> None:
        super().save(checkpoint)
        self.wait()
        self.left -= 1
        if self.left == 0:
            raise StoppedError


def full(monkeypatch: pytest.MonkeyPatch, scratch: Path, free: int) -> None:
    usage = shutil.disk_usage(scratch)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)


def test_auto_streams_what_fits_neither_memory_nor_disk(
    uri: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"memory_gib_per_worker": 1e-6}
    recipe = recipe_of(uri, train=TRAIN | {"data": "auto"}, resources=small)
    dataset, inputs = open_dataset(uri), inputs_of(recipe)
    num_bytes = estimated_bytes(dataset, inputs)
    full(monkeypatch, scratch, round(2.2 * num_bytes))
    assert plan_data(recipe, dataset, inputs, may_stream=True).way == "mapped"
    full(monkeypatch, scratch, num_bytes)
    assert plan_data(recipe, dataset, inputs, may_stream=True).way == "stream"
    with pytest.raises(RecipeError, match=r"or set train\.data to stream$"):
        plan_data(recipe, dataset, inputs)
    elastic = recipe_of(
        uri, train=TRAIN | {"data": "auto"}, resources=small | {"num_workers": [1, 2]}
    )
    with pytest.raises(RecipeError, match=r"to stream \(for which an elastic run"):
        plan_data(elastic, dataset, inputs, may_stream=True)
    streamed = load_split(recipe, dataset, may_stream=True)
    assert streamed.train.windows_BTC is None
    full(monkeypatch, scratch, 1000)
    wider = recipe_of(uri, train=TRAIN, window={"stream": "imu", "length_s": 1.0, "hop_s": 0.5})
    with pytest.raises(RecipeError, match="hold fewer people out"):
        load_split(wider, dataset)


def test_a_dry_run_tries_a_sample(uri: str) -> None:
    streamed, whole = (
        dry_run(
            recipe_of(uri, train=TRAIN | {"data": way}, optimiser={"learning_rate": 1e-3}),
            open_dataset(uri),
        )
        for way in ("stream", "memory")
    )
    assert streamed.data_plan.way == "stream"
    assert streamed.examples_bytes == whole.examples_bytes
    assert streamed.steps_per_epoch == whole.steps_per_epoch
    assert streamed.parts == whole.parts
    assert np.isfinite(streamed.network.loss)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": {"name": "random_kernels"}}, "is solved from all windows at once"),
        ({"strategy": "parameter_server"}, "strategy parameter_server does not take a stream"),
        (
            {"strategy": "tensor", "model": {"name": "patch_transformer"}},
            "strategy tensor does not take a stream",
        ),
        ({"resources": {"num_workers": [1, 2]}}, r"an elastic run \(\[1, 2\] workers\)"),
        ({"split": {"kind": "random_windows_leaking_subjects"}}, "hold whole ones out"),
        ({"train": TRAIN | {"checkpoint_every_steps": 5}}, "from the end of an epoch alone"),
        (
            {"window": None, "clip": {"length_s": 1.0}, "model": {"name": "r2plus1d"}},
            "clips do not stream",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_go_with_a_stream_is_refused(
    uri: str, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        recipe_of(uri, **{"train": TRAIN, **changes})
