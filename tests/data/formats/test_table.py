from __future__ import annotations

import csv
import gzip
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import UnreadableError
from motoric.data.formats.catalogue import READERS, VIDEO_SUFFIXES, reader_for
from motoric.data.formats.table_time import time_columns
from motoric.data.ingest.samples import BATCH_ROWS
from motoric.data.ingest.settings import SensorSettings
from reading import read_file

G = 9.80665


def chosen(**settings: Any) -> SensorSettings:
    return SensorSettings.model_validate(settings)


def written(tmp_path: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_table_becomes_streams_in_standard_units(tmp_path: Path) -> None:
    content = "time_s,acc_x_g,gyro_x_dps,hr\n0,1,180,60\n0.02,-1,90,61\n"
    read = read_file(written(tmp_path, content))
    assert read.channels("imu") == {"acc_x": "m/s^2", "gyr_x": "rad/s"}
    assert read.values("imu", "acc_x") == pytest.approx([G, -G])
    assert read.values("imu", "gyr_x") == pytest.approx([np.pi, np.pi / 2])
    assert read.times("workout").tolist() == [0, 0.02]
    assert not read.is_unix_time
    assert read.notes.flags == []


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_encodings_delimiters_and_line_ends_are_found(
    tmp_path: Path, encoding: str, delimiter: str, line_end: str
) -> None:
    rows = [["Time (ms)", '"Acc X [g]"', "Größe", ""], ["0", "1.5", "7", ""], ["20", "2", "8", ""]]
    text = line_end.join(delimiter.join(row) for row in rows) + line_end
    bom = "\ufeff" if encoding == "utf-16-be" else ""
    read = read_file(written(tmp_path, (bom + text).encode(encoding)))
    assert read.times("imu").tolist() == [0, 0.02]
    assert read.values("imu", "acc_x") == pytest.approx([1.5 * G, 2 * G])
    assert ("encoding" in read.remarks()) == (encoding == "cp1252")


def test_decimal_commas_comments_and_separator_lines_are_read(tmp_path: Path) -> None:
    content = "# watch 7\nsep=;\nt;acc_x_g\n# on\n0;1,5\n0,02;+2,5\n# off\n"
    read = read_file(written(tmp_path, content))
    assert read.times("imu").tolist() == [0, 0.02]
    assert read.values("imu", "acc_x") == pytest.approx([1.5 * G, 2.5 * G])


def test_values_and_times_stay_as_they_are(tmp_path: Path) -> None:
    content = "time_s,hr,speed_m_s\n1,60,inf\n1,60,1\n0.5,nan,2\n,70,3\n"
    read = read_file(written(tmp_path, content))
    assert read.times("workout").tolist()[:3] == [1, 1, 0.5]
    assert np.isnan(read.times("workout")[3])
    assert read.values("workout", "speed").tolist() == [np.inf, 1, 2, 3]


def test_cells_that_are_no_numbers_are_missing_and_counted(tmp_path: Path) -> None:
    content = "time_s,hr,power\n0,60,1\n1,abc,2\n2,,3\n3,0x10,4\n4,65,5\n5,66,6\n"
    read = read_file(written(tmp_path, content))
    assert np.isnan(read.values("workout", "heart_rate")).tolist() == [0, 1, 1, 1, 0, 0]
    (flag,) = read.notes.flags
    assert (flag.kind, flag.channel, flag.count) == ("not_numeric", "heart_rate", 2)


def test_text_and_unknown_and_ignored_columns(tmp_path: Path) -> None:
    content = "time_s,hr,label,mystery,junk\n0,60,walk,5,x\n1,61,run,6,y\n"
    read = read_file(written(tmp_path, content), chosen(columns={"junk": {"ignore": True}}))
    assert read.channels("other") == {"mystery": ""}
    assert [(flag.kind, flag.channel) for flag in read.notes.flags] == [
        ("text_column", "label"),
        ("unknown_column", "mystery"),
    ]


def test_channels_of_other_rates_become_streams_of_their_own(tmp_path: Path) -> None:
    rows = "".join(
        f"{index / 100},{index},{'' if index % 2 else 7},{60 if index % 50 == 0 else ''}\n"
        for index in range(400)
    )
    read = read_file(written(tmp_path, f"time_s,acc_x_g,gyr_x_dps,hr\n{rows}"))
    assert read.streams == ["imu", "imu_gyr", "workout"]
    assert read.times("imu_gyr")[:3] == pytest.approx([0, 0.02, 0.04])
    assert len(read.times("workout")) == 8


def test_a_dropout_is_no_other_rate(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n},{'' if 100 < n < 300 else 7}\n" for n in range(400))
    assert read_file(written(tmp_path, f"time_s,power,hr\n{rows}")).streams == ["workout"]


def test_sensors_that_never_fill_the_same_row_are_apart(tmp_path: Path) -> None:
    rows = "".join(f"{n},,{n}\n" if n % 2 else f"{n},{n},\n" for n in range(100))
    read = read_file(written(tmp_path, f"time_s,acc_x_g,gyr_x_dps\n{rows}"))
    assert read.streams == ["imu", "imu_gyr"]
    assert not np.isnan(read.values("imu", "acc_x")).any()


def test_a_last_row_that_is_cut_is_dropped_and_noted(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, "time_s,hr,power\n0,60,1\n1,61,2\n2,6"))
    assert read.times("workout").tolist() == [0, 1]
    assert read.repairs() == {"truncated"}
    zeros = read_file(written(tmp_path, b"time_s,hr\n0,60\n1,6" + bytes(100)))
    assert zeros.times("workout").tolist() == [0]
    assert zeros.repairs() == {"truncated"}


def test_a_last_row_without_a_line_end_is_whole(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, "time_s,hr\n0,60\n1,61"))
    assert read.times("workout").tolist() == [0, 1]
    assert read.repairs() == set()


def test_rows_with_other_numbers_of_cells_are_left_out_and_counted(tmp_path: Path) -> None:
    read = read_file(written(tmp_path, "time_s,hr\n0,60\n1,61,9,9\n2\n3,63\n"))
    assert read.times("workout").tolist() == [0, 3]
    (flag,) = read.notes.flags
    assert (flag.kind, flag.count, flag.is_repair) == ("malformed_row", 2, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", r"is empty \(0 bytes\)"),
        ("\n\n", "no line with names"),
        ("time_s,hr\n", "has a header but no rows"),
        ("time_s,hr,hr\n0,1,2\n", "more than one column named 'hr'"),
        ("time_s,hr,heart_rate\n0,1,2\n", "are both channel heart_rate"),
        ("0,1,2\n1,2,3\n", "has no header"),
        ("hr\n60\n", "has no time column .* sensors.time.rate_hz"),
        ("time_s,acc_x\n0,1\n", "column 'acc_x' has no unit"),
        ("time_s,label\n0,run\n", "no column of numbers"),
        ("time,hr\nnoon,60\n", "holds no times that can be read, such as 'noon'"),
        ("time_s,hr\n1\n2\n", "none of its 2 rows has as many cells"),
        (b"t\0i\0m\0e\0,\0h\0r\0\n\0", "set sensors.encoding"),
    ],
)
def test_tables_that_give_nothing_say_why(tmp_path: Path, content: str | bytes, says: str) -> None:
    with pytest.raises(UnreadableError, match=says):
        read_file(written(tmp_path, content))


def test_settings_that_fit_nothing_say_so(tmp_path: Path) -> None:
    path = written(tmp_path, "time_s,hr\n0,60\n")
    with pytest.raises(UnreadableError, match=r"no column 'clock'.*it has: time_s, hr"):
        read_file(path, chosen(time={"column": "clock"}))
    with pytest.raises(UnreadableError, match="no encoding 'klingon'"):
        read_file(path, chosen(encoding="klingon"))
    with pytest.raises(UnreadableError, match="no times that can be read"):
        read_file(path, chosen(time={"unit": "iso8601"}))
    assert read_file(path, chosen(columns={"gone": {"unit": "g"}})).remarks() == {"unused_setting"}


@pytest.mark.parametrize(
    ("header", "cells", "times", "is_unix"),
    [
        ("time_s", ["0.5", "1.5"], [0.5, 1.5], False),
        ("Time (ms)", ["500", "1500"], [0.5, 1.5], False),
        ("timestamp_us", ["500000", "1500000"], [0.5, 1.5], False),
        ("timestamp", ["1700000000", "1700000001"], [1.7e9, 1.7e9 + 1], True),
        ("timestamp", ["1700000000500", "1700000001000"], [1.7e9 + 0.5, 1.7e9 + 1], True),
        ("t", ["1700000000500000", "1700000001000000"], [1.7e9 + 0.5, 1.7e9 + 1], True),
        ("ts", ["1700000000500000000", "1700000001000000000"], [1.7e9 + 0.5, 1.7e9 + 1], True),
        ("datetime", ["2023-11-14T22:13:20Z", "2023-11-14T23:13:21+01:00"], [1.7e9] * 2, True),
        ("datetime", ["2023-11-14 22:13:20.25", "2023-11-14 22:13:21"], [0, 0.75], False),
    ],
)
def test_the_clock_of_a_table_is_found(
    tmp_path: Path, header: str, cells: list[str], times: list[float], is_unix: bool
) -> None:
    content = f"{header},hr\n" + "".join(f"{cell},60\n" for cell in cells)
    read = read_file(written(tmp_path, content))
    assert read.is_unix_time == is_unix
    assert read.times("workout") == pytest.approx(times, abs=1.01 if "+01" in cells[1] else 1e-6)


def test_bad_cells_of_several_blocks_are_counted_once(tmp_path: Path) -> None:
    hr = np.full(40_000, "60", dtype="U4")
    hr[[1, 39_999]] = "oops"
    np.savez(tmp_path / "a.npz", time_s=np.arange(40_000) / 10, hr=hr)
    (flag,) = read_file(tmp_path / "a.npz").notes.flags
    assert (flag.kind, flag.count) == ("not_numeric", 2)


def test_a_guess_about_time_is_noted(tmp_path: Path) -> None:
    assert read_file(written(tmp_path, "t,hr\n1,60\n2,61\n")).remarks() == {"time_unit_assumed"}
    read = read_file(written(tmp_path, "t,hr\n20,60\n40,61\n"), chosen(time={"unit": "ms"}))
    assert read.times("workout").tolist() == [0.02, 0.04]
    assert read.notes.flags == []
    read = read_file(written(tmp_path, "datetime,hr\n2024-05-01T10:00:00,60\n"))
    assert read.remarks() == {"time_without_zone"}


def test_rows_at_a_rate_need_no_time(tmp_path: Path) -> None:
    rows = "".join(f"{index}\n" for index in range(40_000))
    read = read_file(written(tmp_path, f"acc_x_g\n{rows}"), chosen(time={"rate_hz": 50}))
    assert read.times("imu") == pytest.approx(np.arange(40_000) / 50)
    assert {batch.rate_hz for batch in read.batches} == {50}


def test_the_best_of_several_time_columns_comes_first() -> None:
    assert list(time_columns(["date", "timestamp", "hr", "time_ms"])) == [
        *("time_ms", "timestamp", "date")
    ]


def test_a_later_block_of_another_type_changes_nothing(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n if n < 600_000 else f'{n}.5'}\n" for n in range(600_001))
    read = read_file(written(tmp_path, f"time_s,power\n{rows}800000,broken\n"))
    assert len(read.times("workout")) == 600_001
    assert read.values("workout", "power")[-1] == 600_000.5
    assert read.repairs() == {"not_numeric"}
    assert max(len(batch.time_s) for batch in read.batches) <= BATCH_ROWS


@given(
    values=st.lists(
        st.one_of(st.none(), st.floats(-1e6, 1e6, allow_nan=False)), min_size=1, max_size=50
    )
)
@settings(max_examples=25, deadline=None)
def test_what_csv_writes_is_read_back(tmp_path_factory, values: list[float | None]) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="") as stream:
        rows = [[index, "" if value is None else value, 1] for index, value in enumerate(values)]
        csv.writer(stream).writerows([["time_s", "power", "hr"], *rows])
    read = read_file(path)
    if "workout_power" in read.streams:
        assert read.values("workout_power", "power") == pytest.approx(
            [value for value in values if value is not None]
        )
        return
    expected = [np.nan if value is None else value for value in values]
    assert read.values("workout", "power") == pytest.approx(expected, nan_ok=True)


def test_gzipped_tables_are_read_up_to_a_cut(tmp_path: Path) -> None:
    rows = "".join(f"{n},{n * 7919 % 200}\n" for n in range(30_000))
    content = gzip.compress(f"time_s,power\n{rows}".encode())
    assert len(read_file(written(tmp_path, content, "a.csv.gz")).times("workout")) == 30_000
    cut = read_file(written(tmp_path, content[: len(content) // 2], "b.csv.gz"))
    assert 1000 < len(cut.times("workout")) < 30_000
    assert cut.repairs() == {"truncated"}
    with pytest.raises(UnreadableError, match="gzip"):
        read_file(written(tmp_path, f"time_s,power\n{rows}", "c.csv.gz"))


def parquet(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path, row_group_size=10_000)
    return path


def test_parquet_is_read_by_its_types(tmp_path: Path) -> None:
    time = pa.array(np.arange(40_000) * 10_000, pa.timestamp("us", tz="UTC"))
    path = parquet(tmp_path, when=time, acc_x_g=np.ones(40_000, np.float32), note=["a"] * 40_000)
    read = read_file(path)
    assert read.is_unix_time
    assert read.times("imu") == pytest.approx(np.arange(40_000) / 100)
    assert read.values("imu", "acc_x") == pytest.approx(np.full(40_000, G))
    assert read.remarks() == {"text_column"}


def test_parquet_lists_are_refused_unless_ignored(tmp_path: Path) -> None:
    path = parquet(tmp_path, time_s=[0.0, 1.0], hr=[60, None], parts=[[1, 2], [3]])
    with pytest.raises(UnreadableError, match=r"'parts' holds list<.*sensors.columns.parts.ignore"):
        read_file(path)
    read = read_file(path, chosen(columns={"parts": {"ignore": True}}))
    assert read.values("workout", "heart_rate").tolist() == [60]


def test_broken_or_empty_parquet_is_unreadable(tmp_path: Path) -> None:
    path = parquet(tmp_path, time_s=np.arange(100.0), hr=np.arange(100))
    content = path.read_bytes()
    for broken in (content[:-20], content[: len(content) // 2], b"PAR1"):
        with pytest.raises(UnreadableError, match="Parquet"):
            read_file(written(tmp_path, broken, "b.parquet"))
    with pytest.raises(UnreadableError, match="no rows"):
        read_file(parquet(tmp_path, time_s=pa.array([], pa.float64()), hr=pa.array([], pa.int8())))


def test_numpy_arrays_and_records_are_read(tmp_path: Path) -> None:
    values_TC = np.arange(120_000, dtype=np.float32).reshape(40_000, 3)
    named = chosen(
        time={"column": "column_0", "unit": "ms"},
        columns={
            "column_1": {"channel": "acc_x", "unit": "g"},
            "column_2": {"channel": "acc_y", "unit": "g"},
        },
    )
    for order in "CF":
        np.save(tmp_path / "a.npy", np.array(values_TC, order=order))
        read = read_file(tmp_path / "a.npy", named)
        np.testing.assert_allclose(read.times("imu"), values_TC[:, 0] / 1000)
        np.testing.assert_allclose(read.values("imu", "acc_y"), values_TC[:, 2] * G, rtol=1e-6)
    records = np.zeros(5, dtype=[("time_s", ">f8"), ("hr", "u1")])
    records["time_s"] = np.arange(5)
    np.save(tmp_path / "b.npy", records)
    assert read_file(tmp_path / "b.npy").times("workout").tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_cut_numpy_array_keeps_its_whole_rows_or_is_unreadable(
    tmp_path: Path, order: str
) -> None:
    np.save(tmp_path / "a.npy", np.ones((1000, 2), order=order))
    cut = written(tmp_path, (tmp_path / "a.npy").read_bytes()[:-8001], "b.npy")
    settings = chosen(time={"rate_hz": 10})
    if order == "F":
        with pytest.raises(UnreadableError, match="cut off"):
            read_file(cut, settings)
        return
    read = read_file(cut, settings)
    assert len(read.times("other")) == 499
    assert read.repairs() == {"truncated"}


def test_npz_holds_values_with_channels_or_one_array_a_channel(tmp_path: Path) -> None:
    time_s = np.arange(20_000) / 50
    values = np.ones((20_000, 2))
    channels = np.array(["acc_x_g", "acc_y_g"])
    path = tmp_path / "a.npz"
    np.savez_compressed(path, time_s=time_s, values=values, channels=channels)
    read = read_file(path)
    assert read.times("imu") == pytest.approx(time_s)
    assert read.values("imu", "acc_y") == pytest.approx(np.full(20_000, G))
    np.savez(path, time_s=time_s, hr=np.full(20_000, 60))
    assert read_file(path).channels("workout") == {"heart_rate": "bpm"}
    np.savez(path, time_s=time_s, hr=np.full(5, 60))
    with pytest.raises(UnreadableError, match=r"arrays of one length.*'hr': 5"):
        read_file(path)


def test_pickles_are_never_loaded(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "a.npz", time_s=np.array([{}], dtype=object))
    for name in ("a.npy", "a.npz"):
        with pytest.raises(UnreadableError, match="never loaded"):
            read_file(tmp_path / name)


def test_numpy_files_that_declare_too_much_or_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match="NumPy"):
        read_file(written(tmp_path, b"hello world", "a.npy"))
    with pytest.raises(UnreadableError, match="npz"):
        read_file(written(tmp_path, b"PK\x03\x04 nothing", "a.npz"))
    np.savez(tmp_path / "b.npz", hr=np.arange(10))
    content = bytearray((tmp_path / "b.npz").read_bytes())
    place = content.rfind(b"PK\x01\x02")  # the directory, which says the unpacked size
    content[place + 24 : place + 28] = (2**32 - 2).to_bytes(4, "little")
    again = bytes(content)
    assert zipfile.ZipFile(written(tmp_path, again, "c.npz")).infolist()[0].file_size == 2**32 - 2
    with pytest.raises(UnreadableError, match="unpacks to"):
        read_file(tmp_path / "c.npz", chosen(time={"rate_hz": 10}))
    np.save(tmp_path / "d.npy", np.zeros((2, 3, 4)))
    with pytest.raises(UnreadableError, match=r"shape \(2, 3, 4\)"):
        read_file(tmp_path / "d.npy")


def test_readers_go_by_the_suffix() -> None:
    assert reader_for("s3://bucket/Ride.FIT.gz") is READERS[".fit"]
    assert reader_for("a/b.CSV") is READERS[".csv"]
    assert reader_for("notes.md") is None
    assert not VIDEO_SUFFIXES & set(READERS)


def test_real_inertial_tables_are_read() -> None:
    folder = os.environ.get("MOTORIC_TEST_DATA")
    if folder is None:
        pytest.skip("MOTORIC_TEST_DATA names no folder of real recordings")
    paths = sorted((Path(folder) / "utd_mhad" / "sensors").glob("*.csv"))[::50]
    assert len(paths) > 10
    for path in paths:
        read = read_file(path)
        assert read.streams == ["imu"]
        assert read.notes.flags == []
        assert np.diff(read.times("imu")) == pytest.approx(0.02)
        norm = np.linalg.norm([read.values("imu", f"acc_{axis}") for axis in "xyz"], axis=0)
        assert 7 < np.median(norm) < 14
        assert list(read.channels("imu").values()) == ["m/s^2"] * 3 + ["rad/s"] * 3
