"""Examples in files: the same values, splits and weights as in memory, made once and bounded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from filmed import fused_content, write_filmed
from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.training import example_store
from motoric.training.data_plan import estimated_bytes, plan_data
from motoric.training.examples import SplitExamples
from motoric.training.inputs import model_inputs
from motoric.training.loading import load_examples
from motoric.training.partition import load_split
from motoric.training.recipe import parse_recipe
from recordings import SineSource, recipe_content, write_dataset
from trainings import inputs_of, load, recipe_of, train_here

GIB = 2**30
FORECAST = {
    "task": "forecast",
    "target": {"channel": "acc_x"},
    "horizon_s": 0.3,
    "window": {"stream": "imu", "length_s": 2.0, "hop_s": 0.5},
}
LEAKING = {"split": {"kind": "random_windows_leaking_subjects"}}


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


def train_of(way: str, **changes: Any) -> dict[str, Any]:
    return {"epochs": 2, "batch_size": 16, "data": way, **changes}


def assert_same(first: SplitExamples, second: SplitExamples) -> None:
    assert first.signature == second.signature
    assert first.split == second.split
    for name in ("train", "validation", "test"):
        for item in fields(getattr(first, name)):
            one, other = (getattr(getattr(data, name), item.name) for data in (first, second))
            np.testing.assert_array_equal(one, other, err_msg=f"{name}.{item.name}")


def is_mapped(values: Any) -> bool:
    while values is not None and not isinstance(values, np.memmap):
        values = values.base
    return values is not None


@pytest.mark.parametrize("changes", [{}, FORECAST, LEAKING], ids=["classes", "forecast", "leaking"])
def test_mapped_windows_are_those_in_memory(uri: str, changes: dict[str, Any]) -> None:
    _, in_memory = load(uri, train=train_of("memory"), **changes)
    _, mapped = load(uri, train=train_of("mapped"), **changes)
    assert is_mapped(mapped.train.windows_BTC)
    assert not is_mapped(in_memory.train.windows_BTC)
    assert_same(in_memory, mapped)


def test_mapped_clips_and_windows_are_those_in_memory(tmp_path: Path) -> None:
    uri = write_filmed(tmp_path, num_subjects=3, duration_s=3.0)
    found = [
        load_split(parse_recipe(fused_content(uri, train=train_of(way)), "r"), open_dataset(uri))
        for way in ("memory", "mapped")
    ]
    assert is_mapped(found[1].train.clips_BTHWC)
    assert_same(*found)


def test_a_run_on_mapped_windows_ends_with_the_same_weights(uri: str) -> None:
    ends = [train_here(*load(uri, train=train_of(way))).weights for way in ("memory", "mapped")]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_files_are_made_once_and_removed_when_nobody_holds_them(
    uri: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(uri, train=train_of("mapped"))
    (folder,) = scratch.glob("motoric-examples-*")
    (first,) = [path for path in folder.iterdir() if path.is_dir()]
    (folder / "abandoned.lock").touch()
    (folder / "abandoned.making").mkdir()

    def no_reading(*_: object) -> None:
        raise AssertionError("the examples are read again")

    with monkeypatch.context() as patch:
        patch.setattr(example_store, "load_by_recording", no_reading)
        load(uri, train=train_of("mapped", batch_size=8))
        example_store._held.popitem()[1].close()
        load(uri, train=train_of("mapped", batch_size=8))
    # Another window: files of its own. The first ones are held, and stay.
    window = {"stream": "imu", "length_s": 1.0, "hop_s": 1.0}
    load(uri, train=train_of("mapped"), window=window)
    assert first.is_dir()
    assert not (folder / "abandoned.making").exists()
    example_store._held.pop(first).close()
    load(uri, train=train_of("mapped"), window=window | {"hop_s": 0.5})
    assert not first.exists()
    assert len([path for path in folder.iterdir() if path.is_dir()]) == 2


def test_what_another_process_maps_can_be_mapped_too(uri: str) -> None:
    _, first = load(uri, train=train_of("mapped"))
    ((folder, lock),) = example_store._held.items()
    del example_store._held[folder]  # as another process, which holds the files while it lives
    try:
        assert_same(first, load(uri, train=train_of("mapped"))[1])
    finally:
        lock.close()


def test_auto_keeps_in_memory_what_fits_its_share(uri: str) -> None:
    recipe = recipe_of(uri, train=train_of("auto"))
    inputs = inputs_of(recipe)
    dataset = open_dataset(uri)
    real = len(load_examples(recipe, dataset, inputs))
    num_bytes = estimated_bytes(dataset, inputs)
    assert real <= num_bytes / (40 * 3 * 4) <= 1.3 * real
    ways = []
    for memory_gib in (2.5 * num_bytes / GIB, 2.4 * num_bytes / GIB):
        limited = recipe_of(
            uri, train=train_of("auto"), resources={"memory_gib_per_worker": memory_gib}
        )
        ways.append(plan_data(limited, dataset, inputs).way)
    assert ways == ["memory", "mapped"]
    whole = recipe_of(
        uri,
        train=train_of("auto", memory_share=1.0),
        resources={"memory_gib_per_worker": 2.4 * num_bytes / GIB},
    )
    assert plan_data(whole, dataset, inputs).way == "memory"


@pytest.mark.parametrize("way", ["auto", "mapped"])
def test_a_disk_without_room_is_said(
    uri: str, way: str, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(scratch)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    recipe = recipe_of(uri, train=train_of(way), resources={"memory_gib_per_worker": 1e-6})
    with pytest.raises(RecipeError, match=r"has 9\.31e-07 GiB free, files of them need"):
        load_split(recipe, open_dataset(uri))


def test_a_dataset_without_an_example_is_refused_alike(uri: str) -> None:
    for way, message in (("memory", "no labelled window"), ("mapped", "no recording gives")):
        window = {"stream": "imu", "length_s": 60.0, "hop_s": 1.0}
        recipe = parse_recipe(recipe_content(uri, train=train_of(way), window=window), "r")
        assert model_inputs(recipe, open_dataset(uri)).outlines
        with pytest.raises(DatasetError, match=message):
            load_split(recipe, open_dataset(uri))
