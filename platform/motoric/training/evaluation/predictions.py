"""What a model said about held-out windows: evaluation works on it, and it is kept as Parquet.

In: the outputs of one run, or of all folds and seeds of one recipe. Out: the same as an Arrow
table, so that two runs can be compared window by window later. Axes: B windows, K outputs of each.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from motoric.core.errors import DatasetError

Task = Literal["classify", "regress", "forecast"]

MEDIAN = 0.5
_METADATA_KEY = b"motoric.predictions"
_FORMAT = 1
# One of them describes all windows; the other fields are one row a window.
_SHARED = ("task", "classes", "quantiles", "unit", "horizon_s")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Outputs for held-out windows, each with what was true.

    Attributes:
        task: What the outputs are.
        subjects: Subject of each window.
        recording_ids: Recording of each window.
        start_s_B: Start of each window in its recording, after its context.
        end_s_B: Its end.
        fold_B: Fold whose test part the window was in; 0 where there are no folds.
        seed_B: Seed of the training that gave the output. Of several seeds, a window stands here
            once for each.
        targets_B: classify: int64, index into `classes`; else float32 in `unit`.
        outputs_BK: float32. classify: probabilities, one a class; regress: the value, K = 1;
            forecast: the `quantiles`.
        persistence_B: forecast: the last value of the target that the model saw, in `unit`.
        classes: classify: names of the classes.
        quantiles: forecast: increasing, the median among them.
        unit: Of the target; empty for classes.
        horizon_s: forecast: from the end of a window to the time of its target.

    Raises:
        ValueError: Shapes, types or names do not fit each other, or a value is not finite.
    """

    task: Task
    subjects: tuple[str, ...]
    recording_ids: tuple[str, ...]
    start_s_B: NDArray[np.float64]
    end_s_B: NDArray[np.float64]
    fold_B: NDArray[np.int64]
    seed_B: NDArray[np.int64]
    targets_B: NDArray[np.int64] | NDArray[np.float32]
    outputs_BK: NDArray[np.float32]
    persistence_B: NDArray[np.float32] | None = None
    classes: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = ()
    unit: str = ""
    horizon_s: float = 0.0

    def __post_init__(self) -> None:
        self._check_lengths()
        num_outputs = self.outputs_BK.shape[1]
        if self.task == "classify":
            wanted, names = len(self.classes), "classes"
            self._check_labels()
        elif self.task == "forecast":
            wanted, names = len(self.quantiles), "quantiles"
            self._check_quantiles()
        else:
            wanted, names = 1, "value"
        if num_outputs != wanted:
            raise ValueError(
                f"outputs_BK has {num_outputs} columns, but there are {wanted} {names}"
            )
        if self.persistence_B is not None and self.task != "forecast":
            raise ValueError(f"persistence_B is of forecasts, and the task is {self.task!r}")
        for name in ("start_s_B", "end_s_B", "targets_B", "outputs_BK", "persistence_B"):
            values = getattr(self, name)
            if values is not None and not np.isfinite(values).all():
                raise ValueError(f"{name} has a value that is not finite: leave such windows out")

    def __len__(self) -> int:
        return len(self.subjects)

    @property
    def num_windows(self) -> int:
        """Distinct windows; of several seeds it is less than the length."""
        return self.count_windows(np.ones(len(self), dtype=bool))

    def count_windows(self, chosen_B: NDArray[np.bool_]) -> int:
        """Distinct windows among the chosen rows."""
        rows = np.flatnonzero(chosen_B).tolist()
        return len({(self.recording_ids[row], float(self.start_s_B[row])) for row in rows})

    def _check_lengths(self) -> None:
        if not self.subjects:
            raise ValueError("there is no window to predict")
        if self.outputs_BK.ndim != 2:
            raise ValueError(f"outputs_BK has shape {self.outputs_BK.shape}; it needs two axes")
        for item in fields(self):
            rows = getattr(self, item.name)
            if item.name in _SHARED or rows is None:
                continue
            if len(rows) != len(self.subjects):
                raise ValueError(
                    f"{item.name} has {len(rows)} rows, but there are {len(self.subjects)} windows"
                )

    def _check_labels(self) -> None:
        if not np.issubdtype(self.targets_B.dtype, np.integer):
            raise ValueError(f"targets_B is {self.targets_B.dtype}; classes need int64")
        low, high = int(self.targets_B.min()), int(self.targets_B.max())
        if low < 0 or high >= len(self.classes):
            raise ValueError(
                f"targets_B has {low} to {high}, but there are {len(self.classes)} classes"
            )
        if (self.outputs_BK < 0).any() or (self.outputs_BK.sum(axis=1) <= 0).any():
            raise ValueError("outputs_BK has a row that is no distribution over the classes")

    def _check_quantiles(self) -> None:
        levels = np.array(self.quantiles)
        inside = ((levels > 0) & (levels < 1)).all()
        if not inside or (np.diff(levels) <= 0).any() or MEDIAN not in self.quantiles:
            raise ValueError(
                f"quantiles {self.quantiles} must increase between 0 and 1, with {MEDIAN} in them"
            )

    def to_table(self) -> pa.Table:
        """One row a window; what is of all of them stands in the schema's metadata."""
        num_outputs = self.outputs_BK.shape[1]
        flat = pa.array(self.outputs_BK.astype(np.float32).ravel())
        target_type = pa.int64() if self.task == "classify" else pa.float32()
        persistence = pa.nulls(len(self), pa.float32())
        if self.persistence_B is not None:
            persistence = pa.array(self.persistence_B, pa.float32())
        columns = {
            "subject": pa.array(self.subjects, pa.string()),
            "recording_id": pa.array(self.recording_ids, pa.string()),
            "start_s": pa.array(self.start_s_B, pa.float64()),
            "end_s": pa.array(self.end_s_B, pa.float64()),
            "fold": pa.array(self.fold_B, pa.int64()),
            "seed": pa.array(self.seed_B, pa.int64()),
            "target": pa.array(self.targets_B, target_type),
            "outputs": pa.FixedSizeListArray.from_arrays(flat, num_outputs),
            "persistence": persistence,
        }
        shared = {"format": _FORMAT} | {name: getattr(self, name) for name in _SHARED}
        return pa.table(columns).replace_schema_metadata(
            {_METADATA_KEY: json.dumps(shared).encode()}
        )


def from_table(table: pa.Table) -> Predictions:
    """Predictions of a table that `Predictions.to_table` made, perhaps by way of Parquet.

    Raises:
        DatasetError: The table is none of these, or is damaged.
    """
    metadata = table.schema.metadata or {}
    if _METADATA_KEY not in metadata:
        raise DatasetError(
            f"this table (columns {', '.join(table.column_names)}) has no predictions of Motoric:"
            " give the predictions.parquet of a run"
        )
    try:
        shared = json.loads(metadata[_METADATA_KEY])
        if shared["format"] != _FORMAT:
            raise DatasetError(
                f"these predictions have format {shared['format']}, this Motoric reads {_FORMAT}:"
                " evaluate the run again"
            )
        return _predictions(table.combine_chunks(), shared)
    except (KeyError, TypeError, ValueError, pa.ArrowInvalid) as error:
        raise DatasetError(f"the table of predictions is damaged: {error}") from error


def _predictions(table: pa.Table, shared: dict[str, Any]) -> Predictions:
    outputs_type = table.schema.field("outputs").type
    flat = np.concatenate(
        [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table["outputs"].chunks]
        or [np.empty(0, np.float32)]
    )
    persistence = table["persistence"]
    return Predictions(
        task=shared["task"],
        subjects=tuple(table["subject"].to_pylist()),
        recording_ids=tuple(table["recording_id"].to_pylist()),
        start_s_B=table["start_s"].to_numpy(),
        end_s_B=table["end_s"].to_numpy(),
        fold_B=table["fold"].to_numpy(),
        seed_B=table["seed"].to_numpy(),
        targets_B=table["target"].to_numpy(),
        outputs_BK=flat.reshape(-1, outputs_type.list_size),
        persistence_B=None if persistence.null_count else persistence.to_numpy(),
        classes=tuple(shared["classes"]),
        quantiles=tuple(shared["quantiles"]),
        unit=shared["unit"],
        horizon_s=shared["horizon_s"],
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """All windows of several folds or seeds of one recipe, in this order.

    Raises:
        ValueError: There is no part, they are of different tasks, classes, quantiles, units or
            horizons, or some have persistence and some do not.
    """
    if not parts:
        raise ValueError("there are no predictions to put together")
    first = parts[0]
    shared = {name: getattr(first, name) for name in _SHARED}
    for part in parts[1:]:
        for name, value in shared.items():
            if getattr(part, name) != value:
                raise ValueError(f"{name} is {value!r} in one part, {getattr(part, name)!r} in one")
    with_persistence = [part.persistence_B for part in parts if part.persistence_B is not None]
    if with_persistence and len(with_persistence) != len(parts):
        raise ValueError("some parts have persistence_B, and some do not")
    return Predictions(
        **shared,
        subjects=tuple(name for part in parts for name in part.subjects),
        recording_ids=tuple(name for part in parts for name in part.recording_ids),
        start_s_B=np.concatenate([part.start_s_B for part in parts]),
        end_s_B=np.concatenate([part.end_s_B for part in parts]),
        fold_B=np.concatenate([part.fold_B for part in parts]),
        seed_B=np.concatenate([part.seed_B for part in parts]),
        targets_B=np.concatenate([part.targets_B for part in parts]),
        outputs_BK=np.concatenate([part.outputs_BK for part in parts]),
        persistence_B=np.concatenate(with_persistence) if with_persistence else None,
    )
