"""An evaluation as tables in the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console

if TYPE_CHECKING:
    from motoric.training.evaluation.bootstrap import Interval
    from motoric.training.evaluation.classification_scores import ClassificationEvaluation
    from motoric.training.evaluation.evaluate import Evaluation
    from motoric.training.evaluation.forecast_scores import ForecastEvaluation
    from motoric.training.evaluation.leaks import Leak
    from motoric.training.evaluation.timeline_scores import TimelineScore
    from motoric.training.evaluation.value_scores import ValueEvaluation

# More rows than this say less than the figure over all of them.
_MAX_ROWS = 30


def print_evaluation(evaluation: Evaluation, tested_on: str, leaks: Sequence[Leak] = ()) -> None:
    """Print figures with their intervals, a row a person or recording, and what to beware of."""
    if evaluation.task == "classify":
        _print_classes(evaluation, tested_on)
    elif evaluation.task == "forecast":
        _print_forecast(evaluation, tested_on)
    else:
        _print_values(evaluation, tested_on)
    for note in evaluation.notes:
        console.print(f"[dim]note:[/] {escape(note)}")
    for leak in leaks:
        console.print(f"[yellow]careful:[/] {escape(leak.message)}")


def _print_classes(evaluation: ClassificationEvaluation, tested_on: str) -> None:
    table = Table(title=f"Accuracy on {tested_on}", title_justify="left")
    table.add_column("person")
    for name in ("examples", "accuracy", "whole recordings"):
        table.add_column(name, justify="right")
    for score in evaluation.subjects[:_MAX_ROWS]:
        table.add_row(
            score.subject,
            str(score.num_windows),
            f"{score.accuracy:.1%}",
            f"{score.recording_accuracy:.1%}",
        )
    _add_rest(table, len(evaluation.subjects))
    table.add_section()
    intervals = evaluation.intervals
    of_recordings = None if intervals is None else intervals.recording_accuracy
    table.add_row(
        "all",
        str(evaluation.num_windows),
        _share(evaluation.accuracy, None if intervals is None else intervals.accuracy),
        _share(evaluation.recording_accuracy, of_recordings),
    )
    console.print(table)
    spread = evaluation.subject_accuracy
    console.print(
        f"balanced {evaluation.balanced_accuracy:.1%}, macro F1 {evaluation.macro_f1:.3f},"
        f" calibration error {evaluation.calibration_error:.3f}; people {spread.mean:.1%} ±"
        f" {spread.std:.1%}, worst {spread.min:.1%}"
    )
    if len(evaluation.seeds) > 1:
        console.print(
            "by seed: "
            + ", ".join(f"{score.seed}: {score.accuracy:.1%}" for score in evaluation.seeds)
        )


def _print_forecast(evaluation: ForecastEvaluation, tested_on: str) -> None:
    title = f"Error {evaluation.horizon_s:g} s ahead on {tested_on}, {evaluation.unit}"
    table = Table(title=title, title_justify="left")
    table.add_column("recording")
    for name in ("windows", "MAE", "persistence", "better by"):
        table.add_column(name, justify="right")
    for score in evaluation.recordings[:_MAX_ROWS]:
        table.add_row(
            score.recording_id,
            str(score.num_windows),
            f"{score.mae:.2f}",
            "" if score.persistence_mae is None else f"{score.persistence_mae:.2f}",
            "" if score.skill is None else f"{score.skill:.1%}",
        )
    _add_rest(table, len(evaluation.recordings))
    table.add_section()
    intervals, persistence = evaluation.intervals, evaluation.persistence_mae
    table.add_row(
        "all",
        str(evaluation.num_windows),
        f"{evaluation.mae:.2f}",
        "" if persistence is None else f"{persistence:.2f}",
        ""
        if evaluation.skill is None
        else _share(evaluation.skill, None if intervals is None else intervals.skill),
    )
    console.print(table)


def _print_values(evaluation: ValueEvaluation, tested_on: str) -> None:
    table = Table(title=f"Error on {tested_on}, {evaluation.unit}", title_justify="left")
    table.add_column("person")
    for name in ("windows", "MAE", "RMSE", "bias"):
        table.add_column(name, justify="right")
    for score in evaluation.subjects[:_MAX_ROWS]:
        figures = (score.mae, score.rmse, score.bias)
        table.add_row(score.subject, str(score.num_windows), *(f"{item:.3g}" for item in figures))
    _add_rest(table, len(evaluation.subjects))
    table.add_section()
    figures = (evaluation.mae, evaluation.rmse, evaluation.bias)
    table.add_row("all", str(evaluation.num_windows), *(f"{item:.3g}" for item in figures))
    console.print(table)


def print_timeline_scores(smoothed: TimelineScore, unsmoothed: TimelineScore) -> None:
    """Print segment-level figures, and those without smoothing beside them."""
    table = Table(title="Timelines of long recordings", title_justify="left")
    table.add_column("figure")
    for name in ("smoothed", "each moment by itself"):
        table.add_column(name, justify="right")
    plain = unsmoothed.figures()
    for name, value in smoothed.figures().items():
        is_share = name in ("accuracy", "edit_score") or name.startswith("f1_")
        cells = [
            "" if item is None else f"{item:.1%}" if is_share else f"{item:.2f}"
            for item in (value, plain[name])
        ]
        table.add_row(name.replace("_", " "), *cells)
    console.print(table)


def _add_rest(table: Table, num_rows: int) -> None:
    if num_rows > _MAX_ROWS:
        table.add_row(f"… {num_rows - _MAX_ROWS} more in the report")


def _share(value: float, interval: Interval | None) -> str:
    if interval is None:
        return f"{value:.1%}"
    return f"{value:.1%} ({interval.low:.1%} to {interval.high:.1%})"
