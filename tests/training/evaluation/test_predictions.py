from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import DatasetError
from motoric.training.evaluation.predictions import Predictions, concatenate, from_table


def made(task: str, num_windows: int = 7, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    num_outputs = {"classify": 4, "regress": 1, "forecast": 3}[task]
    outputs_BK = rng.random((num_windows, num_outputs)).astype(np.float32)
    targets_B = rng.random(num_windows).astype(np.float32)
    return Predictions(
        task=task,  # type: ignore[arg-type]
        subjects=tuple(f"s{number % 2}" for number in range(num_windows)),
        recording_ids=tuple(f"r{number % 3}" for number in range(num_windows)),
        start_s_B=np.arange(num_windows) / 3,
        end_s_B=np.arange(num_windows) / 3 + 2,
        fold_B=np.arange(num_windows) % 2,
        seed_B=np.full(num_windows, seed),
        targets_B=rng.integers(0, 4, num_windows) if task == "classify" else targets_B,
        outputs_BK=outputs_BK,
        persistence_B=targets_B + 1 if task == "forecast" else None,
        classes=("a", "b", "c", "ü") if task == "classify" else (),
        quantiles=(0.1, 0.5, 0.9) if task == "forecast" else (),
        unit="" if task == "classify" else "bpm",
        horizon_s=10.0 if task == "forecast" else 0.0,
    )


def assert_same(found: Predictions, wanted: Predictions) -> None:
    for item in fields(Predictions):
        mine, other = getattr(found, item.name), getattr(wanted, item.name)
        if isinstance(other, np.ndarray):
            assert mine.dtype == other.dtype, item.name
            np.testing.assert_array_equal(mine, other)
        else:
            assert mine == other, item.name


@pytest.mark.parametrize("task", ["classify", "regress", "forecast"])
def test_parquet_gives_back_the_same(task: str, tmp_path: Path) -> None:
    pq.write_table(made(task).to_table(), tmp_path / "p.parquet", row_group_size=3)
    assert_same(from_table(pq.read_table(tmp_path / "p.parquet")), made(task))


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_what_is_put_together_keeps_its_order_and_can_be_taken_apart(lengths: list[int]) -> None:
    parts = [made("forecast", length, seed) for seed, length in enumerate(lengths)]
    whole = concatenate(parts)
    assert len(whole) == sum(lengths)
    table = whole.to_table()
    start = 0
    for part in parts:
        assert_same(from_table(table.slice(start, len(part))), part)
        start += len(part)


def test_windows_of_several_seeds_count_once() -> None:
    whole = concatenate([made("regress", seed=0), made("regress", seed=1)])
    assert (len(whole), whole.num_windows) == (14, 7)
    assert whole.count_windows(whole.seed_B == 0) == 7


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="unit is 'bpm' in one part, 'W'"):
        concatenate([made("regress"), replace(made("regress"), unit="W")])
    with pytest.raises(ValueError, match="some parts have persistence_B"):
        concatenate([made("forecast"), replace(made("forecast"), persistence_B=None)])
    with pytest.raises(ValueError, match="no predictions"):
        concatenate([])


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("classify", {"classes": ("a", "b", "c", "d", "e")}, "4 columns, but there are 5 classes"),
        ("classify", {"targets_B": np.full(7, 4)}, "has 4 to 4, but there are 4 classes"),
        ("classify", {"targets_B": np.zeros(7, np.float32)}, "classes need int64"),
        ("classify", {"outputs_BK": np.zeros((7, 4), np.float32)}, "no distribution"),
        ("classify", {"fold_B": np.zeros(6, np.int64)}, "fold_B has 6 rows"),
        ("regress", {"targets_B": np.full(7, np.nan, np.float32)}, "targets_B has a value"),
        ("regress", {"outputs_BK": np.zeros((7, 2), np.float32)}, "there are 1 value"),
        ("regress", {"outputs_BK": np.zeros(7, np.float32)}, "it needs two axes"),
        ("regress", {"persistence_B": np.zeros(7, np.float32)}, "is of forecasts"),
        ("forecast", {"quantiles": (0.1, 0.4, 0.9)}, "with 0.5 in them"),
        ("forecast", {"quantiles": (0.9, 0.5, 0.1)}, "must increase"),
    ],
)
def test_what_does_not_fit_together_is_refused(
    task: str, changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        replace(made(task), **changes)  # type: ignore[arg-type]


def test_a_table_of_something_else_is_a_clear_error() -> None:
    with pytest.raises(DatasetError, match=r"columns x\) has no predictions"):
        from_table(pa.table({"x": [1]}))
    table = made("classify").to_table()
    with pytest.raises(DatasetError, match="damaged"):
        from_table(table.drop_columns(["subject"]))
    other = {b"motoric.predictions": b'{"format": 9}'}
    with pytest.raises(DatasetError, match="format 9, this Motoric reads 1"):
        from_table(table.replace_schema_metadata(other))
