"""From columns to streams: which channels share a clock, and which rows a stream has.

In: meanings, times and values of all columns of some rows. Out: `Samples`. Axes: T rows, C columns.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import UnreadableError
from motoric.data.formats.channels import ColumnMeaning
from motoric.data.ingest.samples import BATCH_ROWS, Samples

# How many times fewer rows a group of channels fills before it is a stream of its own.
RATE_RATIO = 1.5
# Fewer values say nothing of a rate.
_MIN_VALUES = 8
# Rows both groups fill, of the rows that the rarer one fills, to share a clock.
_MIN_SHARED = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPlan:
    """One stream and the columns it takes.

    Attributes:
        name: Of the stream.
        indices: C places in the table's columns.
    """

    name: str
    indices: tuple[int, ...]


def check_distinct(meanings: Sequence[ColumnMeaning]) -> None:
    """Check that no two columns are the same channel of a stream.

    Raises:
        UnreadableError: Two are.
    """
    seen: dict[tuple[str, str], str] = {}
    for meaning in meanings:
        key = (meaning.stream, meaning.channel.name)
        if key in seen:
            raise UnreadableError(
                f"columns {seen[key]!r} and {meaning.column!r} are both channel"
                f" {meaning.channel.name}: set sensors.columns.{meaning.column}.channel or .ignore"
                " in the ingest settings"
            )
        seen[key] = meaning.column


def plan_streams(
    meanings: Sequence[ColumnMeaning], values_TC: NDArray[np.float64]
) -> list[StreamPlan]:
    """Put columns into streams; those of another rate get a stream of their own.

    Channels of one prefix, such as gyr_x, gyr_y and gyr_z, stay together. A group leaves the
    densest group of its stream where the rows between two of its values are more than 1.5 times as
    many, or where the two hardly ever fill the same row. A dropout alone does not divide: it does
    not change the usual distance of two values.

    Args:
        meanings: C columns.
        values_TC: The first rows, shape (T, C); NaN is a missing value.
    """
    plans: list[StreamPlan] = []
    for stream in dict.fromkeys(meaning.stream for meaning in meanings):
        groups: dict[str, list[int]] = {}
        for index, meaning in enumerate(meanings):
            if meaning.stream == stream:
                groups.setdefault(meaning.prefix, []).append(index)
        filled = {prefix: _filled(values_TC[:, indices]) for prefix, indices in groups.items()}
        densest = max(filled, key=lambda prefix: int(filled[prefix].sum()))
        own = [prefix for prefix in groups if _is_apart(filled[densest], filled[prefix])]
        shared = [index for prefix in groups if prefix not in own for index in groups[prefix]]
        plans.append(StreamPlan(name=stream, indices=tuple(sorted(shared))))
        plans += [
            StreamPlan(name=f"{stream}_{prefix}", indices=tuple(groups[prefix])) for prefix in own
        ]
    return plans


def _filled(values_TC: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Rows with any value, shape (T,)."""
    return np.asarray(~np.isnan(values_TC).all(axis=1), dtype=np.bool_)


def _is_apart(densest_T: NDArray[np.bool_], group_T: NDArray[np.bool_]) -> bool:
    num_rows = int(group_T.sum())
    if num_rows < _MIN_VALUES:
        return False
    if (densest_T & group_T).sum() < _MIN_SHARED * num_rows:
        return True
    if densest_T.sum() <= RATE_RATIO * num_rows:
        return False
    return _usual_step(group_T) > RATE_RATIO * _usual_step(densest_T)


def _usual_step(filled_T: NDArray[np.bool_]) -> float:
    """Rows from one value to the next; the median, since cells that happen to be empty are rare."""
    return float(np.median(np.diff(np.flatnonzero(filled_T))))


def stream_samples(
    plans: Sequence[StreamPlan],
    meanings: Sequence[ColumnMeaning],
    time_T: NDArray[np.float64],
    values_TC: NDArray[np.float64],
    *,
    is_unix_time: bool,
    rate_hz: float | None = None,
) -> Iterator[Samples]:
    """Rows of each stream, without those in which the stream has no value.

    Args:
        plans: From `plan_streams`.
        meanings: C columns.
        time_T: Seconds, shape (T,).
        values_TC: Values as in the file, shape (T, C).
        is_unix_time: What the times count from.
        rate_hz: Nominal rate where it is known.
    """
    for plan in plans:
        chosen_TC = values_TC[:, plan.indices]
        rows = _filled(chosen_TC)
        if not rows.any():
            continue
        kept = [meanings[index] for index in plan.indices]
        kept_TC, kept_time_T = chosen_TC[rows], time_T[rows]
        for place, meaning in enumerate(kept):
            kept_TC[:, place] = meaning.convert(kept_TC[:, place])
        for start in range(0, len(kept_time_T), BATCH_ROWS):
            yield Samples(
                stream=plan.name,
                channels=tuple(meaning.channel for meaning in kept),
                time_s=kept_time_T[start : start + BATCH_ROWS],
                values_TC=kept_TC[start : start + BATCH_ROWS],
                is_unix_time=is_unix_time,
                rate_hz=rate_hz,
            )


class PointTable:
    """Rows whose columns turn up as they are read: track points, FIT records."""

    def __init__(self) -> None:
        self._time_T = array("d")
        self._columns: dict[str, array[float]] = {}

    def __len__(self) -> int:
        return len(self._time_T)

    @property
    def names(self) -> list[str]:
        """Names of the columns that have a value in some row, in the order they turned up."""
        return list(self._columns)

    def add(self, time_s: float, values: Mapping[str, float]) -> None:
        """Append a row; what it does not name is missing."""
        num_rows = len(self._time_T)
        self._time_T.append(time_s)
        for name, value in values.items():
            if value != value:  # NaN alone makes no column
                continue
            column = self._columns.get(name)
            if column is None:
                column = self._columns[name] = array("d")
            if len(column) < num_rows:
                column.extend([float("nan")] * (num_rows - len(column)))
            column.append(value)

    def times(self) -> NDArray[np.float64]:
        """Shape (T,)."""
        return np.array(self._time_T, dtype=np.float64)

    def samples(
        self,
        meanings: Mapping[str, ColumnMeaning],
        *,
        is_unix_time: bool,
        have_own_clocks: bool = False,
    ) -> Iterator[Samples]:
        """All rows as streams; columns without a meaning are left out.

        Args:
            meanings: By the name of the column.
            is_unix_time: What the times count from.
            have_own_clocks: Rows are of several sensors, else all of a row was recorded together.
        """
        chosen = [meaning for name, meaning in meanings.items() if name in self._columns]
        if not chosen or not len(self):
            return
        values_TC = np.full((len(self), len(chosen)), np.nan)
        names = [name for name in meanings if name in self._columns]
        for index, name in enumerate(names):
            column = self._columns[name]
            values_TC[: len(column), index] = column
        check_distinct(chosen)
        first_TC = values_TC[:BATCH_ROWS] if have_own_clocks else np.ones((1, len(chosen)))
        plans = plan_streams(chosen, first_TC)
        yield from stream_samples(plans, chosen, self.times(), values_TC, is_unix_time=is_unix_time)
