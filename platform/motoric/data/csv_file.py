"""Sensor recordings as CSV: `time_s` (seconds) and one column a channel; `formats` reads it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from motoric.data.recording import Stream

TIME = "time_s"


def write_csv(path: Path, stream: Stream, channels: Sequence[str]) -> None:
    """Write a stream.

    Args:
        path: File to write.
        stream: Values of shape (T, C).
        channels: C column names.
    """
    columns: dict[str, NDArray[np.floating]] = {TIME: np.round(stream.time_s, 6)}
    columns |= {name: stream.values_TC[:, index] for index, name in enumerate(channels)}
    path.parent.mkdir(parents=True, exist_ok=True)
    pcsv.write_csv(pa.table(columns), path)
