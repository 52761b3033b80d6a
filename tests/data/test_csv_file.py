from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motoric.core.errors import InputError, NotFoundError
from motoric.data.csv_file import read_csv, write_csv
from recordings import SineSource

CHANNELS = ("acc_x", "acc_y", "acc_z")


def test_a_stream_survives_the_file(tmp_path: Path) -> None:
    stream = SineSource(duration_s=4).recording(0).streams[0]
    write_csv(tmp_path / "x.csv", stream, CHANNELS)
    time_s, values_TC = read_csv(tmp_path / "x.csv", CHANNELS, 20.0)
    np.testing.assert_allclose(time_s, stream.time_s, atol=1e-6)
    np.testing.assert_allclose(values_TC, stream.values_TC, rtol=1e-6)


def test_columns_are_found_by_name_in_any_order(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("note,acc_z,acc_x,acc_y\na,3,1,2\nb,6,4,5\n")
    time_s, values_TC = read_csv(tmp_path / "x.csv", CHANNELS, 10.0)
    assert values_TC.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert time_s.tolist() == [0.0, 0.1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("acc_x,acc_y\n1,2\n", r"lacks the column\(s\) acc_z; it has: acc_x, acc_y"),
        (
            "acc_x,acc_y,acc_z\n1,2,nan\n",
            "column 'acc_z' has 1 empty or NaN values, first in line 2",
        ),
        ("acc_x,acc_y,acc_z\n1,2,inf\n", "column 'acc_z' has 1 infinite values, first in line 2"),
        (
            "acc_x,acc_y,acc_z\n1,2,3\n1,,3\n",
            "column 'acc_y' has 1 empty or NaN values, first in line 3",
        ),
        ("acc_x,acc_y,acc_z\n1,2,fast\n", "column 'acc_z' holds string"),
        ("time_s,acc_x,acc_y,acc_z\n0,1,2,3\n0,1,2,3\n", "time_s does not increase at line 3"),
        ("time_s,acc_x,acc_y,acc_z\n0,1,2,3\n0.1,1,2,3\n", "runs at 10 Hz, the model needs 20 Hz"),
        ("", "not a CSV table"),
        ("acc_x,acc_y,acc_z\n1,2\n", "not a CSV table"),
    ],
)
def test_bad_files_say_what_and_where(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "x.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        read_csv(tmp_path / "x.csv", CHANNELS, 20.0)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"no file at .*gone\.csv"):
        read_csv(tmp_path / "gone.csv", CHANNELS, 20.0)
