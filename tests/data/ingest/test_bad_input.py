from __future__ import annotations

import logging
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bad_files import CASES, FIT, GOOD, GPX, RIDE, TABLES, Case, holding, table, even, write_good
from motoric.core.errors import DatasetError
from motoric.data.card import CARD
from motoric.data.dataset import Dataset, open_dataset
from motoric.data.ingest.build import BuildResult
from motoric.data.ingest.settings import IngestSettings
from motoric.data.sources.manifest_source import ManifestSource
from recordings import build_here

EACH_CASE = pytest.mark.parametrize("kind", CASES)


def build(folder: Path, uri: Path, *, strict: bool = False) -> BuildResult:
    return build_here(ManifestSource(str(folder), IngestSettings()), str(uri), strict=strict)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All cases and the good files, ingested at once."""
    folder = tmp_path_factory.mktemp("bad")
    write_good(folder / "in" if (folder / "in").mkdir() else folder / "in")
    for case in CASES.values():
        case.write(folder / "in" / case.name)
    build(folder / "in", folder / "out")
    return open_dataset(str(folder / "out"))


def test_nothing_is_lost_or_named_twice(together: Dataset) -> None:
    kept = [item.recording_id for item in together.outlines()]
    left_out = together.quarantine_table()["source"].to_pylist()
    assert sorted([*kept, *left_out]) == sorted([*GOOD, *(case.name for case in CASES.values())])
    assert together.card.num_quarantined + together.card.num_skipped == len(left_out)


def test_the_good_files_among_them_are_whole(together: Dataset) -> None:
    for name in GOOD:
        recording = together.recording(name)
        assert recording.flags == ()
        rows = [len(stream.time_s) for stream in recording.streams]
        frames = None if recording.video is None else recording.video.num_frames
        assert (rows, frames) == {
            "good.csv": ([100], None),
            "good.fit": ([40], None),
            "good.mp4": ([], 12),
        }[name]


@EACH_CASE
def test_each_file_ends_as_it_should(together: Dataset, kind: str) -> None:
    case = CASES[kind]
    if case.outcome == "kept":
        check_kept(together, case)
        return
    (row,) = [
        row for row in together.quarantine_table().to_pylist() if row["source"] == case.name
    ]
    assert (row["recording_id"], row["kind"]) == (case.name, case.outcome)
    assert re.search(case.reason, row["reason"])
    assert "\n" not in row["reason"]


def check_kept(dataset: Dataset, case: Case) -> None:
    recording = dataset.recording(case.name)
    assert {flag.kind for flag in recording.flags} == case.flags
    assert any(flag.is_repair for flag in recording.flags) == case.is_repair
    assert not any("\n" in flag.detail for flag in recording.flags)
    if recording.video is not None:
        num_samples = recording.video.num_frames
    else:
        num_samples = len(recording.streams[0].time_s)
        assert (np.diff(recording.streams[0].time_s) > 0).all()
    assert num_samples == case.num_samples
