from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from motoric.core.errors import DatasetError, NotFoundError
from motoric.data import watch_exercises
from motoric.data.sources import make_source
from motoric.data.watch_exercises import WatchExercises

needs_seglearn = pytest.mark.skipif(
    importlib.util.find_spec("seglearn") is None,
    reason="the extra `demo` (seglearn) is not installed",
)


@needs_seglearn
def test_the_real_recordings_come_in_si_units() -> None:
    source = make_source("watch-exercises")
    ids = source.recording_ids()
    assert len(ids) == 140
    recordings = source.load(range(140))
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
        WatchExercises(path).recording_ids()


def test_without_seglearn_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotFoundError, match=r"pip install 'motoric\[demo\]'"):
        watch_exercises.find_file()


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(NotFoundError, match="watch-exercises"):
        make_source("moon-walks")
