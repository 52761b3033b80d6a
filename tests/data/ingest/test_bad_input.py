from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bad_files import CASES, GOOD, SOUND, Case, write_good, write_good_table
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
    folder = tmp_path_factory.mktemp("in")
    uri = tmp_path_factory.mktemp("out")
    write_good(folder)
    for case in CASES.values():
        case.write(folder / case.name)
    build(folder, uri)
    return open_dataset(str(uri))


def test_every_file_is_either_in_the_dataset_or_in_quarantine(together: Dataset) -> None:
    kept = [item.recording_id for item in together.outlines()]
    left_out = together.quarantine_table()["source"].to_pylist()
    assert sorted([*kept, *left_out]) == sorted([*GOOD, *(case.name for case in CASES.values())])
    outcomes = [case.outcome for case in CASES.values()]
    assert together.card.num_quarantined == outcomes.count("rejected")
    assert together.card.num_skipped == outcomes.count("skipped")
    assert together.card.num_repaired == sum(case.is_repair for case in CASES.values())


@pytest.mark.parametrize("name", GOOD)
def test_the_good_files_among_broken_ones_are_whole(together: Dataset, name: str) -> None:
    recording = together.recording(name)
    assert recording.flags == ()
    assert num_samples(together, name) == GOOD[name]


@EACH_CASE
def test_each_file_ends_as_it_should(together: Dataset, kind: str) -> None:
    case = CASES[kind]
    if case.outcome == "kept":
        check_kept(together, case)
        return
    rows = together.quarantine_table().to_pylist()
    (row,) = [row for row in rows if row["source"] == case.name]
    assert (row["recording_id"], row["kind"]) == (case.name, case.outcome)
    assert re.search(case.reason, row["reason"])
    assert "\n" not in row["reason"]


def check_kept(dataset: Dataset, case: Case) -> None:
    flags = dataset.recording(case.name).flags
    assert {flag.kind for flag in flags} == case.flags
    assert any(flag.is_repair for flag in flags) == case.is_repair
    assert not any("\n" in flag.detail for flag in flags)
    assert num_samples(dataset, case.name) == case.num_samples


def num_samples(dataset: Dataset, name: str) -> int:
    """Rows of its first stream, in order of time, or frames of its video."""
    recording = dataset.recording(name)
    if recording.video is not None:
        return recording.video.num_frames
    time_s = recording.streams[0].time_s
    assert (np.diff(time_s) > 0).all()
    return len(time_s)


@EACH_CASE
def test_strict_stops_at_one_broken_file_and_commits_nothing(tmp_path: Path, kind: str) -> None:
    case = CASES[kind]
    folder, uri = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_good_table(folder)
    case.write(folder / case.name)
    if not case.stops_strict:
        assert build(folder, uri, strict=True).card.num_quarantined == 0
        return
    with pytest.raises(DatasetError, match=re.escape(case.name)) as caught:
        build(folder, uri, strict=True)
    assert "1 inputs are broken or needed repair" in caught.value.message
    assert "\n" not in caught.value.message
    assert re.search(case.reason, caught.value.message)
    assert not (uri / CARD).exists()


def test_strict_leaves_the_dataset_that_stands_there(tmp_path: Path) -> None:
    folder, uri = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_good_table(folder)
    build(folder, uri)
    before = (uri / CARD).read_bytes()
    (folder / "empty.fit").write_bytes(b"")
    with pytest.raises(DatasetError, match="nothing was committed"):
        build(folder, uri, strict=True)
    assert (uri / CARD).read_bytes() == before
    assert len(list(open_dataset(str(uri)).recordings())) == 1


def test_a_folder_of_broken_files_alone_is_one_error_that_says_why(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for kind in ("fit empty", "gpx without times", "video text"):
        CASES[kind].write(folder / CASES[kind].name)
    with pytest.raises(DatasetError, match="no recording of in could be read") as caught:
        build(folder, tmp_path / "out")
    for kind in ("fit empty", "gpx without times", "video text"):
        assert f"{CASES[kind].name}: " in caught.value.message
    assert not (tmp_path / "out" / CARD).exists()


@given(
    name=st.sampled_from(sorted(SOUND)),
    place=st.floats(0, 1),
    junk=st.binary(max_size=40),
    is_cut=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_damage_anywhere_has_a_reason_or_a_flag_and_harms_no_other(
    tmp_path_factory: pytest.TempPathFactory, name: str, place: float, junk: bytes, is_cut: bool
) -> None:
    folder, uri = tmp_path_factory.mktemp("in"), tmp_path_factory.mktemp("out")
    write_good_table(folder)
    content = SOUND[name]
    start = int(place * len(content))
    rest = b"" if is_cut else content[start + len(junk) :]
    (folder / name).write_bytes(content[:start] + junk + rest)
    build(folder, uri)
    dataset = open_dataset(str(uri))
    left_out = {row["source"]: row["reason"] for row in dataset.quarantine_table().to_pylist()}
    kept = {item.recording_id for item in dataset.outlines()}
    assert kept ^ set(left_out) == {"good.csv", name}
    assert kept >= {"good.csv"}
    # Errors that a reader did not foresee are caught too, but nobody understands them.
    assert not any(reason.startswith("cannot be read: ") for reason in left_out.values())
