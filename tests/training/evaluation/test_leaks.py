from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from motoric.data.dataset import open_dataset
from motoric.data.recording import Annotation, Recording
from motoric.training.evaluation.leaks import Leak, find_leaks, hardware_traits, leaks_among
from recordings import SineSource, write_dataset


def outline(number: int, subject: str, *labels: str, **metadata: str) -> Recording:
    return Recording(
        recording_id=f"r{number}",
        subject=subject,
        annotations=tuple(Annotation(start_s=0, end_s=1, label=label) for label in labels),
        metadata=metadata,
    )


def crossed(
    values: dict[str, str], num_subjects: int = 3, column: str = "device"
) -> list[Recording]:
    """Every subject does everything; `values` gives the column of each label."""
    return [
        outline(number, f"s{number % num_subjects}", label, **({column: value} if value else {}))
        for number, (label, value) in enumerate(
            (label, value) for label, value in values.items() for _ in range(num_subjects)
        )
    ]


def columns(leaks: list[Leak]) -> list[str]:
    return [leak.column for leak in leaks]


def test_a_device_for_some_labels_leaks() -> None:
    (leak,) = leaks_among(
        crossed({"jog": "thigh", "walk": "thigh", "clap": "wrist", "box": "wrist"})
    )
    assert (leak.kind, leak.column) == ("metadata", "device")
    assert "device is wrist for exactly box, clap and thigh for the 2 others" in leak.message
    assert "evaluate one device at a time" in leak.message


def test_a_value_that_is_missing_for_some_labels_leaks() -> None:
    (leak,) = leaks_among(crossed({"jog": "belt", "walk": "", "clap": ""}))
    assert "device is belt for exactly jog and (none) for clap, walk" in leak.message


def test_one_device_for_each_of_two_labels_leaks() -> None:
    assert columns(leaks_among(crossed({"jog": "watch", "walk": "phone"}))) == ["device"]


def test_a_column_that_only_names_the_label_is_no_leak() -> None:
    assert leaks_among(crossed({"jog": "JOG", "walk": "walk 1"}, column="title")) == []
    codes = {f"label{number}": f"A{number:02d}" for number in range(6)}
    assert leaks_among(crossed(codes, column="activity_code")) == []


def test_ids_trials_and_what_is_of_one_person_are_no_leaks() -> None:
    rows = [
        outline(
            number,
            f"s{subject}",
            label,
            file=f"{number}.csv",
            trial=str(trial),
            height_m=f"1.{subject}",
        )
        for number, (subject, label, trial) in enumerate(
            (subject, label, trial)
            for subject in range(3)
            for label in ("jog", "walk", "row")
            for trial in range(2)
        )
    ]
    assert leaks_among(rows) == []


def test_a_column_that_one_label_shares_between_its_values_is_no_leak() -> None:
    rows = crossed({"jog": "thigh", "walk": "wrist"})
    assert leaks_among([*rows, outline(99, "s0", "walk", device="thigh")]) == []


def test_labels_of_one_recording_are_one_group() -> None:
    rows = crossed({"jog": "thigh", "walk": "wrist"})
    assert leaks_among([*rows, outline(99, "s0", "walk", "jog", device="wrist")]) == []


def test_people_with_one_label_and_labels_with_one_person_are_named() -> None:
    rows = [
        outline(0, "s0", "jog"),
        outline(1, "s1", "jog"),
        outline(2, "s1", "walk"),
        outline(3, "s2", "walk"),
        outline(4, "s2", "row"),
        outline(5, "unknown:r5", "row"),
    ]
    one_label, one_person = leaks_among(rows)
    assert (one_label.kind, one_person.kind) == ("subject", "single_subject_label")
    assert "1 of 3 subjects have one label only (s0: jog)" in one_label.message
    assert "1 label(s) have one subject only (row of s2)" in one_person.message


def test_one_label_or_none_has_nothing_to_leak() -> None:
    assert leaks_among([]) == []
    assert leaks_among([outline(0, "s0", "jog", device="x"), outline(1, "s0", device="y")]) == []


class _TwoDevices(SineSource):
    """`walk` comes from a device without its last channel."""

    def recording(self, index: int) -> Recording:
        whole = super().recording(index)
        if whole.annotations[0].label != "walk":
            return whole
        (stream,) = whole.streams
        fewer = type(stream)(
            name=stream.name,
            rate_hz=stream.rate_hz,
            channels=stream.channels[:2],
            time_s=stream.time_s,
            values_TC=stream.values_TC[:, :2],
        )
        return type(whole)(
            recording_id=whole.recording_id,
            subject=whole.subject,
            streams=(fewer,),
            annotations=whole.annotations,
            metadata=whole.metadata,
        )


def test_a_sound_dataset_has_no_leaks(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=4, duration_s=5.0))
    dataset = open_dataset(str(tmp_path))
    assert find_leaks(dataset) == []
    assert hardware_traits(dataset.recordings_table())["r000"] == {
        "streams": "imu",
        "channels of imu": "acc_x (m/s^2), acc_y (m/s^2), acc_z (m/s^2)",
        "rate of imu": "20 Hz",
    }


def test_channels_that_some_labels_lack_leak(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), _TwoDevices(num_subjects=3, duration_s=5.0))
    (leak,) = find_leaks(open_dataset(str(tmp_path)))
    assert (leak.kind, leak.column) == ("hardware", "channels of imu")
    assert "for exactly walk and" in leak.message


@pytest.mark.skipif(
    "MOTORIC_TEST_DATA" not in os.environ, reason="MOTORIC_TEST_DATA is not set: no real recordings"
)
def test_the_placement_of_the_utd_recordings_leaks() -> None:
    manifest = Path(os.environ["MOTORIC_TEST_DATA"]) / "utd_mhad" / "manifest.csv"
    with manifest.open() as file:
        outlines = [
            Recording(
                recording_id=row["recording_id"],
                subject=row["subject"],
                annotations=(Annotation(start_s=0, end_s=3, label=row["label"]),),
                metadata={name: row[name] for name in ("trial", "sensor_placement", "video")},
            )
            for row in csv.DictReader(file)
        ]
    (leak,) = leaks_among(outlines)
    assert leak.column == "sensor_placement"
    assert leak.message.startswith(
        "sensor_placement is right_thigh for exactly jog, lunge, sit_to_stand, squat, stand_to_sit,"
        " walk and right_wrist for the 21 others: a model can tell the two groups apart"
    )
