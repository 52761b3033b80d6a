from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import motoric.data
from motoric.core.errors import DatasetError
from motoric.data.card import CARD
from motoric.data.ingest.build import plan, unchanged
from recordings import SineSource, build_here, write_dataset


def test_what_was_written_is_read(tmp_path: Path) -> None:
    source = SineSource(num_subjects=3, duration_s=130.0)
    card = write_dataset(str(tmp_path), source)
    dataset = motoric.data.open(str(tmp_path))
    assert dataset.card == card
    assert dataset.labels() == ["jump", "squat", "walk"]
    assert card.recordings_by_subject == {"s0": 3, "s1": 3, "s2": 3}
    read = list(dataset.recordings())
    written = [source.recording(index) for index in range(9)]
    assert [item.recording_id for item in read] == [item.recording_id for item in written]
    for found, original in zip(read, written, strict=True):
        assert found.annotations == original.annotations
        assert found.metadata == original.metadata
        np.testing.assert_array_equal(found.streams[0].values_TC, original.streams[0].values_TC)
        np.testing.assert_array_equal(found.streams[0].time_s, original.streams[0].time_s)


def test_chunks_are_at_most_a_minute_and_sorted(tmp_path: Path) -> None:
    card = write_dataset(str(tmp_path), SineSource(num_subjects=2, duration_s=130.0))
    table = pq.read_table(tmp_path / card.tables.streams[0].path)
    keys = list(zip(table["recording_id"].to_pylist(), table["chunk"].to_pylist(), strict=True))
    assert keys == sorted(keys)
    assert {chunk for _, chunk in keys} == {0, 1, 2}
    for times in table["time_s"].to_pylist():
        assert times[-1] - times[0] < 60


def test_some_subjects_only(tmp_path: Path) -> None:
    write_dataset(str(tmp_path))
    found = motoric.data.open(str(tmp_path)).recordings(["s1", "s3"])
    assert {recording.subject for recording in found} == {"s1", "s3"}


def test_the_digest_does_not_depend_on_the_order_of_the_work(tmp_path: Path) -> None:
    source = SineSource(num_subjects=15, duration_s=5.0)
    assert len(plan(source, {})) > 1
    one = write_dataset(str(tmp_path / "a"), source)
    other = build_here(source, str(tmp_path / "b"), backwards=True).card
    assert one.content_digest == other.content_digest
    changed = write_dataset(str(tmp_path / "c"), SineSource(num_subjects=15, duration_s=5.05))
    assert changed.content_digest != one.content_digest


def test_a_broken_recording_is_quarantined_and_stops_nothing(tmp_path: Path) -> None:
    card = write_dataset(str(tmp_path), SineSource(broken=(4,)))
    dataset = motoric.data.open(str(tmp_path))
    assert (card.num_recordings, card.num_quarantined) == (14, 1)
    assert dataset.quarantine_table().to_pylist() == [
        {
            "recording_id": "r004",
            "source": "sines/4",
            "kind": "rejected",
            "reason": "r004 is cut off",
        }
    ]


def test_nothing_readable_is_an_error_and_commits_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no recording of sines could be read"):
        write_dataset(str(tmp_path), SineSource(num_subjects=1, broken=(0, 1, 2)))
    assert not (tmp_path / CARD).exists()


def test_an_unchanged_source_is_recognised(tmp_path: Path) -> None:
    card = write_dataset(str(tmp_path), SineSource())
    assert unchanged(SineSource(), str(tmp_path)) == card
    assert unchanged(SineSource(num_subjects=6), str(tmp_path)) is None
    assert unchanged(SineSource(), str(tmp_path / "nowhere")) is None


def test_no_dataset_and_a_broken_card_are_clear_errors(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no dataset at .*motoric datasets build"):
        motoric.data.open(str(tmp_path))
    (tmp_path / CARD).write_text('{"schema_version": 99}')
    with pytest.raises(DatasetError, match="schema_version"):
        motoric.data.open(str(tmp_path))
