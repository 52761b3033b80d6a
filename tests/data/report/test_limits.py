from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from motoric.data.dataset import Dataset
from motoric.data.ingest.source import Quarantined, RawRecording
from motoric.data.recording import Channel
from motoric.data.report.page import write_report
from motoric.data.report.plots import Trace, track_plot
from recordings import SineSource, build_here

PLACE = (Channel(name="latitude", unit="deg"), Channel(name="longitude", unit="deg"))


class DamagedSource(SineSource):
    """Each recording was cut off; inputs were rejected for one common and many single reasons."""

    def __init__(self, *, num_subjects: int, num_same: int, num_single: int) -> None:
        super().__init__(num_subjects=num_subjects, duration_s=1.0, labels=("walk",))
        reasons = ["no header"] * num_same + [f"reason {i:03d}" for i in range(num_single)]
        self._rejected = [
            Quarantined(recording_id=f"q{i}", source=f"f{i}", kind="rejected", reason=reason)
            for i, reason in enumerate(reasons)
        ]

    def rejected(self) -> list[Quarantined]:
        return self._rejected

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        with super().open(index) as raw:
            raw.notes.add("truncated", f"cut off at row {index:03d}", is_repair=True)
            yield raw


def test_long_lists_end_and_say_how_much_is_left(tmp_path: Path) -> None:
    build_here(DamagedSource(num_subjects=53, num_same=7, num_single=104), str(tmp_path))
    write_report(Dataset(str(tmp_path)))
    text = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    repaired, _, left_out = text.partition("<h2>Repaired recordings</h2>")[2].partition("<h2>")
    assert "cut off at row 049" in repaired
    assert "cut off at row 050" not in repaired
    assert "and 3 more" in repaired
    assert left_out.count("no header") == 1
    assert "f0, f1, f2, and 4 more" in left_out
    assert "reason 098" in left_out
    assert "reason 099" not in left_out
    assert "and 5 more" in left_out


def test_importing_the_report_needs_no_pyav() -> None:
    code = "import sys, motoric.data.report.page; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_square_on_the_ground_is_a_square_in_the_track() -> None:
    side_deg = 0.01
    corners_T2 = np.array([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)]) * side_deg
    # At 60 degrees north a degree of longitude is half as long as one of latitude.
    trace = Trace(
        stream="position",
        rate_hz=1.0,
        channels=PLACE,
        time_s=np.arange(5.0),
        values_TC=np.array([60.0, 10.0]) + corners_T2 * (1, 2),
    )
    png = track_plot(trace)
    assert png is not None
    pixels_HW3 = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(pixels_HW3 - (0x2B, 0x6C, 0xB0)).sum(axis=2) < 30)
    assert np.ptp(rows) > 200
    assert np.ptp(columns) == pytest.approx(np.ptp(rows), rel=0.04)
