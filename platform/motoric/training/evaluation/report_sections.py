"""The parts of a run's report that depend on its task: figures, tables and plots.

In: an evaluation and its predictions. Out: `Sections`, HTML in which all that comes from users'
files (ids, labels) is escaped, and the plots as PNG bytes.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from motoric.training.evaluation.bootstrap import Interval
from motoric.training.evaluation.classification_scores import ClassificationEvaluation
from motoric.training.evaluation.comparison import Comparison
from motoric.training.evaluation.evaluate import Evaluation
from motoric.training.evaluation.forecast_scores import ForecastEvaluation
from motoric.training.evaluation.plots import confusion_plot, reliability_plot, subjects_plot
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.value_plots import (
    coverage_plot,
    recordings_plot,
    scatter_plot,
    subject_errors_plot,
    trace_plot,
    typical_recording,
)
from motoric.training.evaluation.value_scores import ValueEvaluation


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the head of a report."""

    name: str
    value: str
    interval: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sections:
    """What a task adds: figures for the head, HTML for the body, plots by file name."""

    figures: tuple[Figure, ...]
    html: str
    plots: dict[str, bytes]


def sections_of(
    evaluation: Evaluation, predictions: Predictions, title: str, tested_on: str
) -> Sections:
    """The sections that fit the task."""
    if isinstance(evaluation, ClassificationEvaluation):
        return _classification(evaluation, title, tested_on)
    if isinstance(evaluation, ValueEvaluation):
        return _values(evaluation, predictions, tested_on)
    return _forecast(evaluation, predictions, tested_on)


def _classification(evaluation: ClassificationEvaluation, title: str, tested_on: str) -> Sections:
    spread = evaluation.subject_accuracy
    plots = {
        "confusion.png": confusion_plot(
            evaluation, f"{title}: {evaluation.num_subjects} {tested_on}"
        ),
        "subjects.png": subjects_plot(evaluation),
        "reliability.png": reliability_plot(evaluation),
    }
    people = table(
        ("person", "windows", "recordings", "accuracy", "whole recordings"),
        (
            (
                score.subject,
                score.num_windows,
                score.num_recordings,
                f"{score.accuracy:.1%}",
                f"{score.recording_accuracy:.1%}",
            )
            for score in evaluation.subjects
        ),
    )
    by_class = table(
        ("class", "windows", "precision", "recall", "F1"),
        (
            (
                item.label,
                item.support,
                f"{item.precision:.1%}",
                f"{item.recall:.1%}",
                f"{item.f1:.3f}",
            )
            if item.support
            else (item.label, 0, "-", "-", "-")
            for item in evaluation.by_class
        ),
    )
    html = f"""<h2>Confusion matrix</h2>{image(plots["confusion.png"], "confusion matrix")}
<h2>By class</h2>{by_class}
<h2>By person</h2><p>mean {spread.mean:.1%}, standard deviation {spread.std:.1%};
quartiles {spread.quarter:.1%}, {spread.median:.1%}, {spread.three_quarters:.1%}</p>
{image(plots["subjects.png"], "accuracy by person")}{people}
{_seeds(evaluation)}
<h2>Are its probabilities right?</h2>{image(plots["reliability.png"], "reliability diagram")}"""
    return Sections(figures=_classification_figures(evaluation, tested_on), html=html, plots=plots)


def _classification_figures(
    evaluation: ClassificationEvaluation, tested_on: str
) -> tuple[Figure, ...]:
    found, spread = evaluation.intervals, evaluation.subject_accuracy
    return (
        Figure(
            name=f"accuracy, {tested_on}",
            value=f"{evaluation.accuracy:.1%}",
            interval=_percent(found.accuracy if found else None),
        ),
        Figure(
            name="balanced accuracy",
            value=f"{evaluation.balanced_accuracy:.1%}",
            interval=_percent(found.balanced_accuracy if found else None),
        ),
        Figure(
            name="macro F1",
            value=f"{evaluation.macro_f1:.3f}",
            interval=_number(found.macro_f1 if found else None),
        ),
        Figure(
            name="whole recordings",
            value=f"{evaluation.recording_accuracy:.1%}",
            interval=_percent(found.recording_accuracy if found else None),
        ),
        Figure(name="range over people", value=f"{spread.min:.1%} to {spread.max:.1%}"),
        Figure(name="calibration error", value=f"{evaluation.calibration_error:.1%}"),
        Figure(name="log loss", value=f"{evaluation.log_loss:.3f}"),
        Figure(name="Brier score", value=f"{evaluation.brier:.3f}"),
    )


def _seeds(evaluation: ClassificationEvaluation) -> str:
    if len(evaluation.seeds) < 2:
        return ""
    rows = (
        (item.seed, f"{item.accuracy:.1%}", f"{item.balanced_accuracy:.1%}", f"{item.macro_f1:.3f}")
        for item in evaluation.seeds
    )
    found = table(("seed", "accuracy", "balanced accuracy", "macro F1"), rows)
    return f"<h2>By seed</h2><p>All figures above are means over the seeds.</p>{found}"


def _values(evaluation: ValueEvaluation, predictions: Predictions, tested_on: str) -> Sections:
    found, unit = evaluation.intervals, evaluation.unit
    plots = {
        "scatter.png": scatter_plot(predictions, evaluation),
        "subjects.png": subject_errors_plot(evaluation),
    }
    figures = (
        Figure(
            name=f"MAE, {tested_on}",
            value=_amount(evaluation.mae, unit),
            interval=_number(found.mae if found else None),
        ),
        Figure(
            name="RMSE",
            value=_amount(evaluation.rmse, unit),
            interval=_number(found.rmse if found else None),
        ),
        Figure(name="R²", value="-" if evaluation.r2 is None else f"{evaluation.r2:.3f}"),
        Figure(
            name="bias (predicted - true)",
            value=_amount(evaluation.bias, unit),
            interval=_number(found.bias if found else None),
        ),
        Figure(
            name="targets, mean ± standard deviation",
            value=f"{evaluation.target_mean:.3g} ± {_amount(evaluation.target_std, unit)}",
        ),
    )
    people = table(
        ("person", "windows", "recordings", "MAE", "RMSE", "bias"),
        (
            (
                score.subject,
                score.num_windows,
                score.num_recordings,
                f"{score.mae:.3g}",
                f"{score.rmse:.3g}",
                f"{score.bias:+.3g}",
            )
            for score in evaluation.subjects
        ),
    )
    html = f"""<h2>Predicted and true</h2>{image(plots["scatter.png"], "predicted against true")}
<h2>By person</h2>{image(plots["subjects.png"], "error by person")}{people}"""
    return Sections(figures=figures, html=html, plots=plots)


def _forecast(evaluation: ForecastEvaluation, predictions: Predictions, tested_on: str) -> Sections:
    found, unit = evaluation.intervals, evaluation.unit
    example = typical_recording(evaluation)
    plots = {
        "recordings.png": recordings_plot(evaluation),
        "trace.png": trace_plot(predictions, example),
        "coverage.png": coverage_plot(evaluation),
    }
    figures = [
        Figure(
            name=f"MAE, {evaluation.horizon_s:g} s ahead, {tested_on}",
            value=_amount(evaluation.mae, unit),
            interval=_number(found.mae if found else None),
        ),
        Figure(name="RMSE", value=_amount(evaluation.rmse, unit)),
        Figure(name="pinball loss", value=_amount(evaluation.pinball_loss, unit)),
    ]
    if evaluation.persistence_mae is not None:
        skill = "-" if evaluation.skill is None else f"{evaluation.skill:+.3f}"
        figures[1:1] = [
            Figure(name="MAE of persistence", value=_amount(evaluation.persistence_mae, unit)),
            Figure(
                name="skill (1 - MAE / persistence)",
                value=skill,
                interval=_number(found.skill if found else None),
            ),
            Figure(
                name="recordings better than persistence",
                value=f"{evaluation.num_recordings_better} of {evaluation.num_recordings}",
            ),
        ]
    html = f"""<h2>By recording</h2>{image(plots["recordings.png"], "error by recording")}
{_recordings(evaluation)}
<h2>An example</h2><p>The held-out recording of median error.</p>
{image(plots["trace.png"], "forecast and truth over time")}
<h2>Are its quantiles right?</h2>{image(plots["coverage.png"], "calibration of quantiles")}
{_quantiles(evaluation)}"""
    return Sections(figures=tuple(figures), html=html, plots=plots)


def _recordings(evaluation: ForecastEvaluation) -> str:
    rows = (
        (
            score.recording_id,
            score.subject,
            score.num_windows,
            f"{score.mae:.3g}",
            "-" if score.persistence_mae is None else f"{score.persistence_mae:.3g}",
            "-" if score.skill is None else f"{score.skill:+.3f}",
        )
        for score in evaluation.recordings
    )
    return table(("recording", "person", "windows", "MAE", "MAE of persistence", "skill"), rows)


def _quantiles(evaluation: ForecastEvaluation) -> str:
    quantiles = (
        (
            f"{score.quantile:g}",
            f"{score.share_below:.1%}",
            f"{score.pinball_loss:.3g}",
            "-"
            if score.persistence_pinball_loss is None
            else f"{score.persistence_pinball_loss:.3g}",
        )
        for score in evaluation.quantiles
    )
    coverage = (
        (
            f"{score.low:g} to {score.high:g}",
            f"{score.nominal:.0%}",
            f"{score.observed:.1%}",
            _amount(score.mean_width, evaluation.unit),
        )
        for score in evaluation.coverage
    )
    heads = ("quantile", "targets below", "pinball loss", "of persistence")
    return table(heads, quantiles) + table(
        ("interval", "should hold", "holds", "mean width"), coverage
    )


def comparison_rows(comparisons: Sequence[Comparison]) -> str:
    """A table of comparisons; empty without any."""
    if not comparisons:
        return ""
    rows = []
    for item in comparisons:
        percent = item.score == "accuracy"
        score_a, score_b, difference = (
            f"{value:.1%}" if percent else f"{value:.3g}"
            for value in (item.score_a, item.score_b, item.difference)
        )
        interval = _percent(item.interval) if percent else _number(item.interval)
        rows.append(
            (
                f"{item.name_a} against {item.name_b}",
                item.score if not item.unit else f"{item.score}, {item.unit}",
                f"{score_a} and {score_b}",
                difference,
                interval or "-",
                item.winner or "cannot be told",
                item.num_shared,
                "-" if item.mcnemar is None else f"{item.mcnemar.only_a} and {item.mcnemar.only_b}",
            )
        )
    heads = (
        "models",
        "score",
        "each",
        "difference",
        "interval",
        "better",
        "shared windows",
        "only this one is right",
    )
    return f"<h2>Against other models</h2>{table(heads, rows)}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """An HTML table, every cell escaped."""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table><tr>{head}</tr>{body}</table>"


def image(content: bytes, alternative: str) -> str:
    """A PNG inside the page."""
    encoded = base64.b64encode(content).decode()
    return f'<p><img alt="{escape(alternative)}" src="data:image/png;base64,{encoded}"></p>'


def _percent(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.1%} to {interval.high:.1%}"


def _number(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.low:.3g} to {interval.high:.3g}"


def _amount(value: float, unit: str) -> str:
    return f"{value:.3g} {unit}".rstrip()
