"""An ingest that is killed goes on where it stopped, and the dataset can be read all the while."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import motoric.data
from motoric.core.settings import Settings
from motoric.data.ingest.part_writer import UNFINISHED
from motoric.data.ingest.settings import IngestSettings
from motoric.data.sources.manifest_source import ManifestSource
from recordings import build_here

pytestmark = [pytest.mark.ray, pytest.mark.long]

FIRST, ALL = 16, 200
TIMEOUT_S = 240.0


def write(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        rng = np.random.default_rng(number)
        rows_TC = np.cumsum(rng.standard_normal((30_000, 3)), axis=0) * 0.01
        table_TC = np.column_stack([np.arange(30_000) / 100, rows_TC])
        np.savetxt(
            folder / f"{number:03d}.csv",
            table_TC,
            fmt="%.4f",
            delimiter=",",
            header="time_s,acc_x_g,acc_y_g,acc_z_g",
            comments="",
        )


def command(folder: Path, out: Path) -> list[str]:
    program = "import sys; from motoric.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["ingest", str(folder), "--out", str(out), "--no-report"]
    return [sys.executable, "-c", program, *arguments]


def test_a_killed_ingest_goes_on_where_it_stopped(own_settings: Settings, tmp_path: Path) -> None:
    folder, out = tmp_path / "files", tmp_path / "dataset"
    write(folder, range(FIRST))
    subprocess.run(command(folder, out), check=True, capture_output=True, timeout=TIMEOUT_S)
    before = motoric.data.open(str(out))
    write(folder, range(FIRST, ALL))

    with subprocess.Popen(
        command(folder, out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as killed:
        deadline_s = time.monotonic() + TIMEOUT_S
        while len(list((out / UNFINISHED).glob("*.json"))) < 3:
            assert killed.poll() is None, "the ingest ended before it could be killed"
            assert time.monotonic() < deadline_s
            # Whoever reads meanwhile reads the dataset as it was.
            assert motoric.data.open(str(out)).card == before.card
            time.sleep(0.02)
        os.kill(killed.pid, signal.SIGKILL)
    left = list((out / UNFINISHED).glob("*.json"))
    assert motoric.data.open(str(out)).card == before.card
    assert len(list(before.recordings())) == FIRST

    done = subprocess.run(
        command(folder, out), check=True, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    assert f"{ALL - FIRST} added" in done.stdout
    assert "had been read by a run that was cut short" in done.stdout
    assert len(left) >= 3
    assert not (out / UNFINISHED).exists()
    whole = build_here(ManifestSource(str(folder), IngestSettings()), str(tmp_path / "at-once"))
    assert motoric.data.open(str(out)).card.content_digest == whole.card.content_digest
