from __future__ import annotations

import gzip
import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fit_writer import (
    ACCELEROMETER,
    DEVELOPER,
    FIELD,
    GYROSCOPE,
    SETTINGS,
    Field,
    field,
    file_id,
    fit_file,
    message,
    record,
)
from motoric.core.errors import NoSamplesError, UnreadableError
from reading import read_file

START_S = 1_700_000_000
SEMICIRCLES = 2**31 / 180


def ride(num_records: int = 20) -> list[bytes]:
    records = [
        record(
            START_S + index,
            field(0, "sint32", round(48.1 * SEMICIRCLES)),
            field(1, "sint32", round(-11.5 * SEMICIRCLES)),
            field(6, "uint16", 5000 + index),
            field(2, "uint16", (500 + 100) * 5),
            heart_rate=100 + index,
        )
        for index in range(num_records)
    ]
    return [file_id(), *records]


def written(tmp_path: Path, content: bytes, name: str = "a.fit") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def test_records_become_position_and_workout_in_standard_units(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, fit_file(*ride())))
    assert read.streams == ["position", "workout"]
    assert read.is_unix_time
    assert read.times("workout").tolist() == [START_S + index for index in range(20)]
    assert read.values("position", "latitude") == pytest.approx(np.full(20, 48.1), abs=1e-6)
    assert read.values("position", "longitude") == pytest.approx(np.full(20, -11.5), abs=1e-6)
    assert read.values("position", "altitude") == pytest.approx(np.full(20, 100))
    assert read.values("workout", "speed")[3] == pytest.approx(5.003)
    assert read.values("workout", "heart_rate").tolist() == list(range(100, 120))
    assert read.notes.flags == []


def test_enhanced_fields_are_preferred(tmp_path: Path) -> None:
    one = record(START_S, field(6, "uint16", 1000), field(73, "uint32", 7000))
    read = read_file(written(tmp_path, fit_file(file_id(), one)))
    assert read.values("workout", "speed").tolist() == [7.0]


def test_the_serial_number_of_the_device_is_not_kept(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, fit_file(*ride())))
    assert read.notes.metadata["manufacturer"] == "garmin"
    assert "987654321" not in " ".join(read.notes.metadata.values())


def test_fields_the_profile_does_not_know_are_noted_once_with_a_count(tmp_path: Path) -> None:
    records = [record(START_S + index, field(221, "uint8", 1), heart_rate=60) for index in range(5)]
    read = read_file(written(tmp_path, fit_file(file_id(), *records)))
    (flag,) = read.notes.flags
    assert (flag.kind, flag.channel, flag.count) == ("unknown_column", "unknown_221", 5)


def test_developer_fields_are_kept_with_their_unit_beside_the_devices_own(tmp_path: Path) -> None:
    declared = [
        message(DEVELOPER, [field(3, "uint8", 0)]),
        *(
            message(
                FIELD,
                [
                    field(0, "uint8", 0),
                    field(1, "uint8", number),
                    field(2, "uint8", 0x84),
                    field(3, "string", name),
                    field(8, "string", unit),
                ],
            )
            for number, name, unit in ((0, "Heart Rate", "bpm"), (1, "Form Power", "Watts"))
        ),
    ]
    more = [Field(number=n, type="uint16", value=90 + n, developer=0) for n in (0, 1)]
    both = [record(START_S + index, *more, heart_rate=60) for index in range(4)]
    read = read_file(written(tmp_path, fit_file(file_id(), *declared, *both)))
    assert read.values("workout", "heart_rate").tolist() == [60] * 4
    assert read.channels("other") == {"form_power": "Watts", "heart_rate_dev": "bpm"}
    alone = [record(START_S + index, *more) for index in range(4)]
    read = read_file(written(tmp_path, fit_file(file_id(), *declared, *alone)))
    assert read.values("workout", "heart_rate").tolist() == [90] * 4


def inertial(number: int, start_s: int, offset_ms: int, values: list[float]) -> bytes:
    offsets = [offset_ms + 20 * index for index in range(len(values))]
    axes = [(5, 5), (6, 6), (7, 7)]
    return message(
        number,
        [
            field(253, "uint32", start_s - 631_065_600),
            field(0, "uint16", 500),
            field(1, "uint16", offsets),
            *(field(axis, "float32", values) for axis, _ in axes),
        ],
    )


@pytest.mark.parametrize(("offset_ms", "streams"), [(0, ["imu"]), (7, ["imu", "imu_gyr"])])
def test_inertial_arrays_share_a_stream_only_where_they_share_their_times(
    tmp_path: Path, offset_ms: int, streams: list[str]
) -> None:
    messages = [
        one
        for second in range(4)
        for one in (
            inertial(ACCELEROMETER, START_S + second, 0, [1.0] * 25),
            inertial(GYROSCOPE, START_S + second, offset_ms, [180.0] * 25),
        )
    ]
    read = read_file(written(tmp_path, fit_file(file_id(), *messages)))
    assert read.streams == streams
    assert read.times("imu")[:3] == pytest.approx([START_S + 0.5, START_S + 0.52, START_S + 0.54])
    assert read.values("imu", "acc_x") == pytest.approx(np.full(100, 9.80665))
    assert read.values(streams[-1], "gyr_z") == pytest.approx(np.full(100, math.pi))


def test_wrong_checksums_are_noted_and_the_samples_kept(tmp_path: Path) -> None:
    content = bytearray(fit_file(*ride()))
    content[-1] ^= 0xFF
    read = read_file(written(tmp_path, bytes(content)))
    assert read.repairs() == {"wrong_crc"}
    assert len(read.times("workout")) == 20


@given(cut=st.integers(0, len(fit_file(*ride()))))
@settings(max_examples=25, deadline=None)
def test_a_file_cut_anywhere_keeps_what_came_before(tmp_path_factory, cut: int) -> None:
    content = fit_file(*ride())
    path = written(tmp_path_factory.mktemp("cut"), content[:cut])
    try:
        read = read_file(path)
    except UnreadableError:
        assert cut < len(fit_file(*ride(2)))
        return
    assert read.repairs() == (set() if cut == len(content) else {"truncated"})
    heart_rate = read.values("workout", "heart_rate")
    assert heart_rate.tolist() == list(range(100, 100 + len(heart_rate)))


@given(place=st.integers(0, len(fit_file(*ride(5))) - 1), bits=st.integers(1, 255))
@settings(max_examples=30, deadline=None)
def test_one_wrong_byte_gives_samples_or_an_error_for_people(
    tmp_path_factory, place: int, bits: int
) -> None:
    content = bytearray(fit_file(*ride(5)))
    content[place] ^= bits
    path = written(tmp_path_factory.mktemp("byte"), bytes(content))
    try:
        read = read_file(path)
    except (UnreadableError, NoSamplesError):
        return
    assert read.batches


def test_a_header_that_was_never_written_is_put_right(tmp_path: Path) -> None:
    content = bytearray(fit_file(*ride()))
    content[4:12] = bytes(8)
    read = read_file(written(tmp_path, bytes(content)))
    assert "corrupt_header" in read.repairs()
    assert len(read.times("workout")) == 20


def test_chained_files_are_read_through(tmp_path: Path) -> None:
    later = record(START_S + 100, heart_rate=150)
    content = fit_file(*ride()) + fit_file(file_id(), later) + fit_file(file_id(SETTINGS))
    read = read_file(written(tmp_path, content))
    assert read.times("workout")[-1] == START_S + 100
    assert len(read.times("workout")) == 21


def test_a_settings_file_holds_no_samples(tmp_path: Path) -> None:
    with pytest.raises(NoSamplesError, match="FIT settings file"):
        read_file(written(tmp_path, fit_file(file_id(SETTINGS))))


def test_an_activity_without_records_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="without a single record"):
        read_file(written(tmp_path, fit_file(file_id())))


def test_records_without_times_are_unreadable(tmp_path: Path) -> None:
    records = [message(20, [field(3, "uint8", 60)])] * 3
    with pytest.raises(UnreadableError, match="3 records but no times"):
        read_file(written(tmp_path, fit_file(file_id(), *records)))


def test_a_device_that_does_not_know_the_date_has_a_clock_of_its_own(tmp_path: Path) -> None:
    records = [record(631_065_600 + 10 + index, heart_rate=60) for index in range(3)]
    read = read_file(written(tmp_path, fit_file(file_id(), *records)))
    assert not read.is_unix_time
    assert read.times("workout").tolist() == [10, 11, 12]


@pytest.mark.parametrize("content", [b"", b"\x0e", b"PK\x03\x04" * 20, bytes(500)])
def test_what_is_no_fit_file_is_unreadable(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableError):
        read_file(written(tmp_path, content))


def test_gzipped_files_are_read_as_they_are(tmp_path: Path) -> None:
    content = gzip.compress(fit_file(*ride()))
    assert len(read_file(written(tmp_path, content, "a.fit.gz")).times("workout")) == 20
    read = read_file(written(tmp_path, content[:-60], "b.fit.gz"))
    assert read.repairs() == {"truncated"}


# Samples of `workout` and `position`, or the error.
REAL: dict[str, tuple[int, int] | str] = {
    "2013-02-06-12-11-14.fit": (590, 590),
    "2015-10-13-08-43-15.fit": (221, 221),
    "Activity.fit": (14, 14),
    "DeveloperData.fit": "3 records but no times",
    "MonitoringFile.fit": "FIT monitoring_b file",
    "Settings.fit": "FIT settings file",
    "Settings2.fit": "FIT settings file",
    "WeightScaleMultiUser.fit": "FIT weight file",
    "WeightScaleSingleUser.fit": "FIT weight file",
    "WorkoutCustomTargetValues.fit": "FIT workout file",
    "WorkoutIndividualSteps.fit": "FIT workout file",
    "WorkoutRepeatGreaterThanStep.fit": "FIT workout file",
    "WorkoutRepeatSteps.fit": "FIT workout file",
    "activity-settings.fit": (14, 14),
    "antfs-dump.63.fit": (685, 0),
    "compressed-speed-distance.fit": (754, 0),
    "garmin-edge-820-bike.fit": (15, 15),
    "garmin-fenix-5-bike.fit": (19, 19),
    "garmin-fenix-5-run.fit": (21, 21),
    "garmin-fenix-5-walk.fit": (17, 17),
    "sample-activity-indoor-trainer.fit": (2263, 2263),
    "invalid/activity-activity-filecrc.fit": (28, 28),
    "invalid/activity-filecrc.fit": (14, 14),
    "invalid/activity-settings-corruptheader.fit": (14, 14),
    "invalid/activity-settings-nodata.fit": (14, 14),
    "invalid/activity-unexpected-eof.fit": (14, 14),
    "invalid/elemnt-bolt-no-application-id-inside-developer-data-id.fit": (132, 131),
}
LARGE: dict[str, tuple[int, int] | str] = {
    "20170518-191602-1740899583.fit": (1641, 1641),
    "event_timestamp.fit": (166, 0),
    "sample-activity.fit": (3098, 3098),
    "developer-types-sample.fit": (3424, 3424),
    "activity-small-fenix2-run.fit": (2809, 2809),
    "null_compressed_speed_dist.fit": (1808, 1808),
    "2019-02-17-062644-ELEMNT-297E-195-0.fit": (13470, 13402),
    "activity-large-fenxi2-multisport.fit": (24239, 24239),
    "garmin-edge-500-activity.fit": (10686, 10686),
}
DAMAGED = {
    "activity-activity-filecrc.fit": {"wrong_crc"},
    "activity-filecrc.fit": {"wrong_crc"},
    "activity-settings-corruptheader.fit": {"truncated"},
    "activity-settings-nodata.fit": {"truncated"},
    "activity-unexpected-eof.fit": {"truncated"},
}


def real_folder() -> Path:
    folder = os.environ.get("MOTORIC_TEST_DATA")
    if folder is None:
        pytest.skip("MOTORIC_TEST_DATA names no folder of real recordings")
    return Path(folder) / "workouts" / "fit"


def test_every_real_file_is_expected() -> None:
    folder = real_folder()
    found = {str(path.relative_to(folder)) for path in folder.rglob("*.fit")}
    assert found == {*REAL, *LARGE}


@pytest.mark.parametrize("name", REAL)
def test_real_files_give_what_they_hold(name: str) -> None:
    check_real(name, REAL[name])


@pytest.mark.long
@pytest.mark.parametrize("name", LARGE)
def test_large_real_files_give_what_they_hold(name: str) -> None:
    check_real(name, LARGE[name])


PLAUSIBLE = {
    "heart_rate": (0, 220),
    "speed": (0, 30),
    "latitude": (-90, 90),
    "longitude": (-180, 180),
    "altitude": (-100, 4000),
    "cadence": (0, 255),
    "power": (0, 2000),
    "temperature": (-30, 50),
}


def check_real(name: str, expected: tuple[int, int] | str) -> None:
    path = real_folder() / name
    if isinstance(expected, str):
        with pytest.raises((NoSamplesError, UnreadableError), match=expected):
            read_file(path)
        return
    read = read_file(path)
    for stream, num_samples in zip(("workout", "position"), expected, strict=True):
        found = len(read.times(stream)) if stream in read.streams else 0
        assert found == num_samples
    assert read.repairs() == DAMAGED.get(path.name, set())
    for batch in read.batches:
        if batch.is_unix_time:
            assert 1.2e9 < batch.time_s.min() <= batch.time_s.max() < 1.7e9
        for index, channel in enumerate(batch.channels):
            low, high = PLAUSIBLE.get(channel.name, (-1e9, 1e9))
            values = batch.values_TC[:, index]
            values = values[~np.isnan(values)]
            assert ((values >= low) & (values <= high)).all(), channel.name
