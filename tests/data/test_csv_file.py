from __future__ import annotations

from pathlib import Path

import numpy as np

from motoric.data.csv_file import write_csv
from motoric.data.ingest.settings import SensorSettings
from reading import read_file
from recordings import SineSource


def test_a_stream_survives_the_file(tmp_path: Path) -> None:
    stream = SineSource(duration_s=4).recording(0).streams[0]
    names = [channel.name for channel in stream.channels]
    write_csv(tmp_path / "x.csv", stream, names)
    read = read_file(tmp_path / "x.csv", SensorSettings(units={"acc": "m/s^2"}))
    np.testing.assert_allclose(read.times("imu"), stream.time_s, atol=1e-6)
    for index, name in enumerate(names):
        np.testing.assert_allclose(read.values("imu", name), stream.values_TC[:, index], rtol=1e-6)
