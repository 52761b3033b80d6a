from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from motoric.core.errors import DatasetError, NotFoundError
from motoric.data.dataset import open_dataset
from motoric.data.sources import basic_motions
from motoric.data.sources.basic_motions import BasicMotions
from recordings import build_here

HEADER = """\
#Made by a test.
@problemName BasicMotions
@timeStamps false
@missing false
@univariate false
@dimensions 6
@equalLength true
@seriesLength 100
@classLabel true Standing Running Walking Badminton
@data
"""
LABELS = ("Standing", "Running", "Walking", "Badminton")


def series(index: int) -> NDArray[np.float64]:
    return np.random.default_rng(index).standard_normal((6, 100)).round(6)


def line(index: int) -> str:
    channels = [",".join(str(value) for value in row) for row in series(index)]
    return ":".join([*channels, LABELS[index % 4]])


def write(
    folder: Path, *, header: str = HEADER, lines: list[str] | None = None
) -> dict[str, list[str]]:
    """The training part as told, the test part whole."""
    whole = {"TRAIN": [line(i) for i in range(40)], "TEST": [line(i) for i in range(40, 80)]}
    for part, content in whole.items():
        is_told = part == "TRAIN"
        rows = lines if is_told and lines is not None else content
        text = (header if is_told else HEADER) + "\n".join(rows) + "\n"
        (folder / f"BasicMotions_{part}.ts").write_text(text)
    return whole


def test_every_series_becomes_a_recording_of_ten_seconds(tmp_path: Path) -> None:
    write(tmp_path)
    uri = str(tmp_path / "dataset")
    result = build_here(BasicMotions(tmp_path), uri)
    assert result.num_added == 80
    dataset = open_dataset(uri)
    assert dataset.labels() == ["badminton", "running", "standing", "walking"]
    assert all(name.startswith("unknown:") for name in dataset.subjects())
    for recording_id, index, part in (("train-03", 3, "train"), ("test-07", 47, "test")):
        recording = dataset.recording(recording_id)
        stream = recording.stream("imu")
        assert [item.name for item in stream.channels] == [
            "acc_x",
            "acc_y",
            "acc_z",
            "gyr_x",
            "gyr_y",
            "gyr_z",
        ]
        assert {item.unit for item in stream.channels} == {""}
        np.testing.assert_allclose(stream.values_TC, series(index).T.astype(np.float32))
        np.testing.assert_allclose(stream.time_s, np.arange(100) / 10)
        assert recording.duration_s == pytest.approx(10)
        assert recording.annotations[0].label == LABELS[index % 4].lower()
        assert recording.metadata["part"] == part


def test_a_second_build_of_the_same_files_reads_nothing_again(tmp_path: Path) -> None:
    write(tmp_path)
    uri = str(tmp_path / "dataset")
    build_here(BasicMotions(tmp_path), uri)
    assert build_here(pickle.loads(pickle.dumps(BasicMotions(tmp_path))), uri).reused  # noqa: S301


def broken_lines() -> list[tuple[str, str]]:
    channels = line(0).split(":")
    short = ",".join(channels[0].split(",")[:-1])
    return [
        (line(0)[: len(line(0)) // 2], "channels before its label, not 6"),
        (":".join(channels[1:]), "has 5 channels"),
        (":".join([*channels[:-1], "Sleeping"]), "'Sleeping' is none of Standing"),
        (":".join([short, *channels[1:]]), "acc_x has 99 samples, not 100"),
        (line(0).replace(",", ",?,", 1), "acc_x is not all numbers"),
        (":".join([short + ",nan", *channels[1:]]), "acc_x has values that are not finite"),
    ]


@pytest.mark.parametrize(
    ("text", "message"), broken_lines(), ids=["cut", "channel", "label", "short", "text", "nan"]
)
def test_a_broken_line_is_named_and_stops_no_other(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path, lines=[text, *(line(i) for i in range(1, 40))])
    source = BasicMotions(tmp_path)
    with (
        pytest.raises(DatasetError, match=f"BasicMotions_TRAIN.ts, line 11: .*{message}"),
        source.open(0),
    ):
        pass
    uri = str(tmp_path / "dataset")
    assert build_here(source, uri).num_added == 79
    (rejected,) = open_dataset(uri).quarantine_table().to_pylist()
    assert rejected["recording_id"] == "train-00"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("@dimensions 6", "@dimensions 3", "@dimensions is '3', not '6'"),
        ("@seriesLength 100\n", "", "@serieslength is 'missing'"),
        ("@problemName BasicMotions", "@problemName Epilepsy", "is not BasicMotions"),
        ("@missing false", "missing false", "line 4: stands before @data"),
        ("#Made", "#Mäde", "is not the text of a .ts file"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    write(tmp_path, header=HEADER.replace(old, new))
    with pytest.raises(DatasetError, match=message):
        BasicMotions(tmp_path).items()


def test_a_file_that_lost_series_is_refused(tmp_path: Path) -> None:
    write(tmp_path, lines=[line(i) for i in range(37)])
    with pytest.raises(DatasetError, match="holds 37 series, as published it has 40"):
        BasicMotions(tmp_path).items()


def test_a_folder_without_the_files_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no BasicMotions_TRAIN.ts in .*aeon==1\.6\.0"):
        BasicMotions(tmp_path)


def test_without_aeon_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(NotFoundError, match=r"pip install --no-deps aeon==1\.6\.0"):
        basic_motions.find_folder()


@pytest.mark.skipif(
    importlib.util.find_spec("aeon") is None, reason="the package aeon is not installed"
)
def test_the_published_files_are_read_without_importing_aeon(tmp_path: Path) -> None:
    build_here(BasicMotions(), str(tmp_path))
    recordings = list(open_dataset(str(tmp_path)).recordings())
    assert len(recordings) == 80
    labels = [item.annotations[0].label for item in recordings]
    assert {label: labels.count(label) for label in set(labels)} == dict.fromkeys(
        ("standing", "running", "walking", "badminton"), 20
    )
    rest, run = (
        np.median(
            [
                np.linalg.norm(item.streams[0].values_TC[:, :3], axis=1).mean()
                for item, found in zip(recordings, labels, strict=True)
                if found == label
            ]
        )
        for label in ("standing", "running")
    )
    assert run > 5 * rest
    assert "aeon" not in sys.modules
