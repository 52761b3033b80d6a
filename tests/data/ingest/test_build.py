from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from motoric.core.errors import DatasetError, NoSamplesError, PlatformError
from motoric.data.card import CARD
from motoric.data.dataset import open_dataset
from motoric.data.ingest.build import plan, stopped
from motoric.data.ingest.commit import known_recordings
from motoric.data.ingest.part_writer import UNFINISHED, PartWriter
from motoric.data.ingest.samples import Samples
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, combine
from motoric.data.recording import Channel
from recordings import SineSource, build_here, write_dataset

HEART = (Channel(name="heart_rate", unit="bpm"),)


@dataclass
class Rows:
    """What one recording of `TableSource` yields."""

    samples: list[Samples] = field(default_factory=list)
    error: Exception | None = None
    digest: str = "1"
    label: str = "run"


def heart(
    time_s: list[float], values: list[float], *, stream: str = "workout", unit: str = "bpm"
) -> Samples:
    return Samples(
        stream=stream,
        channels=(Channel(name="heart_rate", unit=unit),),
        time_s=np.array(time_s),
        values_TC=np.array(values)[:, None],
    )


class TableSource:
    name = "tables"
    description = "Tables for tests"
    origin = "made by the tests"

    def __init__(self, **recordings: Rows) -> None:
        self.recordings = recordings
        self.opened: list[str] = []

    def digests(self) -> dict[str, str]:
        return {}

    def settings(self) -> dict[str, str]:
        return {}

    def items(self) -> list[SourceItem]:
        return [SourceItem(recording_id=name, place=name, num_bytes=1) for name in self.recordings]

    def rejected(self) -> list[Quarantined]:
        return []

    def digest(self, index: int) -> str:
        return combine(list(self.recordings.values())[index].digest)

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        name, rows = list(self.recordings.items())[index]
        self.opened.append(name)

        def read() -> Iterator[Samples]:
            yield from rows.samples
            if rows.error is not None:
                raise rows.error

        yield RawRecording(recording_id=name, subject="s1", samples=read(), label=rows.label)


def good(start_bpm: float = 100.0) -> Rows:
    time_s = list(map(float, range(90)))
    return Rows([heart(time_s, [start_bpm + t % 7 for t in time_s])])


def test_only_what_is_new_or_changed_is_read(tmp_path: Path) -> None:
    uri = str(tmp_path)
    first = build_here(TableSource(a=good(), b=good(110)), uri)
    assert (first.num_added, first.num_changed, first.reused) == (2, 0, False)
    changed = good(130)
    changed.digest = "2"
    grown = TableSource(a=good(), b=changed, c=good(120))
    second = build_here(grown, uri)
    assert grown.opened == ["b", "c"]
    assert (second.num_added, second.num_changed, second.num_removed) == (1, 1, 0)
    whole = build_here(TableSource(a=good(), b=changed, c=good(120)), str(tmp_path / "at-once"))
    assert second.card.content_digest == whole.card.content_digest
    values = {item.recording_id: item.streams[0] for item in open_dataset(uri).recordings()}
    assert [values[name].values_TC[0, 0] for name in "abc"] == [100, 130, 120]
    again = TableSource(a=good(), b=changed, c=good(120))
    assert build_here(again, uri).reused
    assert again.opened == []


def test_what_the_source_lost_leaves_the_dataset(tmp_path: Path) -> None:
    build_here(TableSource(a=good(), b=good()), str(tmp_path))
    result = build_here(TableSource(a=good()), str(tmp_path))
    assert result.num_removed == 1
    assert [item.recording_id for item in open_dataset(str(tmp_path)).recordings()] == ["a"]


def test_a_reader_keeps_seeing_the_dataset_it_opened(tmp_path: Path) -> None:
    build_here(TableSource(a=good(100)), str(tmp_path))
    opened = open_dataset(str(tmp_path))
    changed = good(150)
    changed.digest = "2"
    build_here(TableSource(a=changed), str(tmp_path))
    assert opened.recording("a").streams[0].values_TC[0, 0] == 100
    assert open_dataset(str(tmp_path)).recording("a").streams[0].values_TC[0, 0] == 150


def test_a_run_that_was_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    uri = str(tmp_path)
    source = SineSource(num_subjects=15, duration_s=5.0)
    tasks = plan(source, {})
    assert len(tasks) > 1
    # What a killed run leaves: the files and notes of the tasks that were done, and no card.
    PartWriter(source=source, dataset_uri=uri)({"task": json.dumps(tasks[0])})
    assert not (tmp_path / CARD).exists()

    class Counting(SineSource):
        def __init__(self) -> None:
            super().__init__(num_subjects=15, duration_s=5.0)
            self.opened: list[int] = []

        @contextmanager
        def open(self, index: int) -> Iterator[RawRecording]:
            self.opened.append(index)
            with super().open(index) as raw:
                yield raw

    rest = Counting()
    result = build_here(rest, uri)
    done = {item["index"] for item in tasks[0]["items"]}
    assert done.isdisjoint(rest.opened)
    assert len(done) + len(rest.opened) == 45
    whole = write_dataset(str(tmp_path / "whole"), SineSource(num_subjects=15, duration_s=5.0))
    assert result.card.content_digest == whole.content_digest
    assert result.num_resumed == len(done)
    assert not (tmp_path / UNFINISHED).exists()
    assert len(list(open_dataset(uri).recordings())) == 45


def test_an_error_of_any_kind_rejects_one_recording_and_stops_none(tmp_path: Path) -> None:
    broken = Rows(good().samples, error=KeyError("lap"))
    source = TableSource(
        a=good(), b=broken, c=Rows(error=NoSamplesError("settings")), d=Rows(), e=good()
    )
    card = build_here(source, str(tmp_path)).card
    assert (card.num_recordings, card.num_quarantined, card.num_skipped) == (2, 2, 1)
    rows = open_dataset(str(tmp_path)).quarantine_table().to_pylist()
    assert {(row["recording_id"], row["kind"], row["reason"]) for row in rows} == {
        ("b", "rejected", "cannot be read: KeyError: 'lap'"),
        ("c", "skipped", "settings"),
        ("d", "rejected", "holds no samples"),
    }
    found = [item.recording_id for item in open_dataset(str(tmp_path)).recordings()]
    assert found == ["a", "e"]


def test_strict_commits_nothing_and_names_what_is_wrong(tmp_path: Path) -> None:
    infinite = Rows([heart([0, 1, 2], [100, np.inf, 101])])
    source = TableSource(a=good(), b=Rows(error=ValueError("cut off")), c=infinite)
    with pytest.raises(DatasetError, match=r"2 inputs.*b: .*cut off; c: 1 infinite values"):
        build_here(source, str(tmp_path), strict=True)
    assert not (tmp_path / CARD).exists()
    assert build_here(TableSource(a=good()), str(tmp_path), strict=True).card.num_recordings == 1


def test_streams_of_other_rates_and_channels_stand_side_by_side(tmp_path: Path) -> None:
    fast = Samples(
        stream="imu",
        channels=tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz"),
        time_s=np.arange(1000) / 100,
        values_TC=np.ones((1000, 3)),
    )
    position = Samples(
        stream="position",
        channels=(Channel(name="latitude", unit="deg"), Channel(name="longitude", unit="deg")),
        time_s=np.arange(10.0),
        values_TC=np.full((10, 2), 45.123456789012345),
    )
    slow = heart(list(range(10)), [100.0] * 10)
    build_here(TableSource(a=Rows([fast, slow, position]), b=Rows([slow])), str(tmp_path))
    dataset = open_dataset(str(tmp_path))
    rates = {item.name: (item.rate_hz, item.num_recordings) for item in dataset.card.streams}
    assert rates == {"imu": (100, 1), "position": (1, 1), "workout": (1, 2)}
    recording = dataset.recording("a")
    assert recording.stream("imu").values_TC.dtype == np.float32
    assert recording.stream("position").values_TC[0, 0] == 45.123456789012345
    assert dataset.recording("b").streams[0].name == "workout"


def test_a_channel_in_two_units_is_kept_in_both_and_the_card_says_so(tmp_path: Path) -> None:
    other = Rows([heart([0, 1, 2], [1.5, 1.5, 1.5], unit="Hz")])
    card = build_here(TableSource(a=good(), b=other), str(tmp_path)).card
    assert card.streams[0].channels[0].unit == "mixed"
    recordings = open_dataset(str(tmp_path)).recordings()
    assert [item.streams[0].channels[0].unit for item in recordings] == ["bpm", "Hz"]


def test_what_is_odd_is_flagged_and_left_as_it_is(tmp_path: Path) -> None:
    time_s = np.concatenate([np.arange(0, 50, 0.02), np.arange(60, 200, 0.01)])
    values_T = np.sin(time_s)
    values_T[1000] += 50
    imu = Samples(
        stream="imu",
        channels=(Channel(name="acc_x", unit="m/s^2"),),
        time_s=time_s,
        values_TC=values_T[:, None],
    )
    bpm = np.full(100, 120.0)
    bpm[10:14], bpm[50] = 0, np.nan
    pulse = heart(list(range(100)), bpm.tolist())
    build_here(TableSource(a=Rows([imu, pulse])), str(tmp_path))
    recording = open_dataset(str(tmp_path)).recording("a")
    flags = {flag.kind: flag for flag in recording.flags}
    assert set(flags) == {"gap", "spike", "rate_change", "heart_rate_dropout", "missing"}
    assert flags["gap"].count == 1
    assert "10 s at 50.0 s" in flags["gap"].detail
    assert "100 Hz" in flags["rate_change"].detail
    assert flags["spike"].count == 1
    assert flags["heart_rate_dropout"].count == 2
    assert not any(flag.is_repair for flag in recording.flags)
    np.testing.assert_array_equal(
        recording.stream("imu").values_TC[:, 0], values_T.astype(np.float32)
    )
    assert known_recordings(str(tmp_path))["a"]["streams"][0]["gap_s"] == pytest.approx(10, 0.01)


def test_a_rate_that_changes_within_the_first_minute_is_flagged(tmp_path: Path) -> None:
    time_s = np.concatenate([np.arange(1500) / 50, 30 + np.arange(1050) / 35])
    imu = Samples(
        stream="imu",
        channels=(Channel(name="acc_x", unit="m/s^2"),),
        time_s=time_s,
        values_TC=np.sin(time_s)[:, None],
    )
    card = build_here(TableSource(a=Rows([imu])), str(tmp_path)).card
    assert card.streams[0].rate_hz == 50
    (flag,) = open_dataset(str(tmp_path)).recording("a").flags
    assert (flag.kind, flag.count) == ("rate_change", 3)
    assert "at 30.0 s with 35 Hz" in flag.detail


def test_a_label_or_interval_outside_the_recording_is_an_error(tmp_path: Path) -> None:
    class Annotated(TableSource):
        @contextmanager
        def open(self, index: int) -> Iterator[RawRecording]:
            from motoric.data.recording import Annotation

            with super().open(index) as raw:
                raw.annotations = (
                    Annotation(start_s=10, end_s=20, label="sprint"),
                    Annotation(start_s=500 if index else 80, end_s=510, label="rest"),
                )
                yield raw

    build_here(Annotated(a=good(), b=good()), str(tmp_path))
    dataset = open_dataset(str(tmp_path))
    assert [item.label for item in dataset.recording("a").annotations] == ["run", "sprint", "rest"]
    assert [flag.kind for flag in dataset.recording("a").flags] == ["annotation_overhang"]
    (row,) = dataset.quarantine_table().to_pylist()
    assert "'rest' from 500 to 510 s lies outside" in row["reason"]


def test_a_full_disk_stops_the_run_and_quarantines_nothing(tmp_path: Path) -> None:
    # A limit on the size of files fails as a full disk does: while a part is being written.
    code = """
import json, resource, sys
from motoric.core.errors import PlatformError
from motoric.data.ingest.build import plan, stopped
from motoric.data.ingest.part_writer import PartWriter
from recordings import SineSource
source = SineSource(num_subjects=1, duration_s=600.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    PartWriter(source=source, dataset_uri=sys.argv[1])({"task": json.dumps(plan(source, {})[0])})
except PlatformError as error:
    print(error.message)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "dataset")],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2] / "support")},
    )
    assert "the storage failed" in done.stdout
    assert "File too large" in done.stdout


def raised_as_cause(own: PlatformError) -> Exception:
    error = RuntimeError("UDF failed to process a data block.\nTo change retry attempts, see there")
    error.__cause__ = own
    return error


def raised_as_attribute(own: PlatformError) -> Exception:
    error = RuntimeError("To change retry attempts, see there")
    error.cause = own  # type: ignore[attr-defined]
    return error


def raised_as_text(own: PlatformError) -> Exception:
    return RuntimeError(
        f"ray::Map()\n  File x\nmotoric.core.errors.PlatformError: {own.message}\n\nThe above"
        " exception was the direct cause of the following\nTo change retry attempts, see there"
    )


@pytest.mark.parametrize("wrap", [raised_as_cause, raised_as_attribute, raised_as_text])
def test_what_stopped_a_run_is_said_in_the_words_of_its_task(
    wrap: Callable[[PlatformError], Exception],
) -> None:
    message = stopped(wrap(PlatformError("/x: the storage failed: no room"))).message
    assert message.startswith("the ingest stopped: /x: the storage failed: no room.")
    assert "retry" not in message


def test_a_run_that_ray_stopped_says_rays_last_line() -> None:
    assert stopped(RuntimeError("a\nno node left")).message.startswith(
        "the ingest stopped: no node left."
    )
