"""Sensor recordings as CSV: `time_s` (seconds, optional) and one column a channel.

In: a file and the channels that are wanted. Out: times and values; other columns are left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv
from numpy.typing import NDArray

from motoric.core.errors import InputError, NotFoundError
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


def read_csv(
    path: Path, channels: Sequence[str], rate_hz: float
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Read channels of a file; values are taken to be in the units of the model.

    Returns:
        Times, shape (T,), and values, shape (T, C). Without a `time_s` column samples are taken to
        be at `rate_hz`.

    Raises:
        NotFoundError: No such file.
        InputError: Not CSV, columns missing, text or missing values in them, or times that do not
            run at `rate_hz`.
    """
    if not path.is_file():
        raise NotFoundError(f"no file at {path}")
    try:
        table = pcsv.read_csv(path)
    except pa.ArrowInvalid as error:
        raise InputError(f"{path} is not a CSV table: {error}") from error
    missing = [name for name in channels if name not in table.column_names]
    if missing:
        raise InputError(
            f"{path} lacks the column(s) {', '.join(missing)};"
            f" it has: {', '.join(table.column_names)}"
        )
    values_TC = np.stack([_numbers(path, table, name) for name in channels], axis=1)
    if TIME not in table.column_names:
        return np.arange(len(values_TC)) / rate_hz, values_TC.astype(np.float32)
    time_s = _numbers(path, table, TIME)
    if len(time_s) > 1:
        _check_rate(path, time_s, rate_hz)
    return time_s, values_TC.astype(np.float32)


def _numbers(path: Path, table: pa.Table, name: str) -> NDArray[np.float64]:
    column = table[name]
    if pa.types.is_null(column.type):  # a column of nothing but NaN or empty cells
        column = column.cast(pa.float64())
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise InputError(f"{path}: column {name!r} holds {column.type}, not numbers")
    if column.null_count:
        row = int(pc.index(column.is_null(), value=True).as_py()) + 2
        raise InputError(
            f"{path}: column {name!r} has {column.null_count} empty or NaN values,"
            f" first in line {row}"
        )
    values: NDArray[np.float64] = column.to_numpy().astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(
            f"{path}: column {name!r} has {len(bad)} infinite values, first in line {bad[0] + 2}"
        )
    return values


def _check_rate(path: Path, time_s: NDArray[np.float64], rate_hz: float) -> None:
    steps_s = np.diff(time_s)
    if (steps_s <= 0).any():
        line = int(np.flatnonzero(steps_s <= 0)[0]) + 3
        raise InputError(f"{path}: {TIME} does not increase at line {line}")
    found_hz = 1 / float(np.median(steps_s))
    if abs(found_hz - rate_hz) > 0.02 * rate_hz:
        raise InputError(
            f"{path} runs at {found_hz:.4g} Hz, the model needs {rate_hz:g} Hz: resample it first"
        )
