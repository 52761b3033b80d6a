from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from motoric.core.errors import DatasetError, NotFoundError
from motoric.data.dataset import open_dataset
from motoric.data.sources import watch_exercises
from motoric.data.sources.catalogue import make_source
from motoric.data.sources.watch_exercises import WatchExercises
from recordings import build_here

needs_seglearn = pytest.mark.skipif(
    importlib.util.find_spec("seglearn") is None,
    reason="the extra `demo` (seglearn) is not installed",
)


@needs_seglearn
def test_the_real_recordings_come_in_si_units(tmp_path: Path) -> None:
    build_here(make_source("watch-exercises"), str(tmp_path))
    recordings = list(open_dataset(str(tmp_path)).recordings())
    assert len(recordings) == 140
    assert {item.streams[0].values_TC.shape[1] for item in recordings} == {6}
    assert len({item.subject for item in recordings}) == 10
    # In the slow rotations the arm hardly accelerates, so what is measured is gravity.
    gravity = [
        np.median(np.linalg.norm(item.streams[0].values_TC[:, :3], axis=1))
        for item in recordings
        if "rotation" in item.annotations[0].label
    ]
    assert np.median(gravity) == pytest.approx(9.81, rel=0.1)


def test_another_file_is_never_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "watch_dataset.npy"
    marker = tmp_path / "ran"
    np.save(path, np.array([{"X": marker}], dtype=object), allow_pickle=True)
    with pytest.raises(DatasetError, match=r"not the file of seglearn 1\.2\.5"):
        WatchExercises(path).items()


def test_without_seglearn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotFoundError, match=r"pip install 'motoric\[demo\]'"):
        watch_exercises.find_file()


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="watch-exercises"):
        make_source("moon-walks")
