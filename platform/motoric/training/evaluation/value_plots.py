"""Plots of regressions and forecasts, drawn by matplotlib without a display; PNG bytes each.

Axes: B windows, Q quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from motoric.training.evaluation.forecast_scores import ForecastEvaluation, median_of
from motoric.training.evaluation.plots import (
    BLUE,
    GREY,
    MAX_BARS,
    ORANGE,
    plain,
    png,
    shade_interval,
    tidy,
    write_beside,
)
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.value_scores import ValueEvaluation

# More points than this only make a blot.
_MAX_POINTS = 5000
_MAX_COLOURS = 10


def scatter_plot(predictions: Predictions, evaluation: ValueEvaluation) -> bytes:
    """Predicted against true values, one colour a person while they are few."""
    figure = Figure(figsize=(5.2, 5.0))
    axes = figure.add_subplot()
    targets_B, values_B = predictions.targets_B, predictions.outputs_BK[:, 0]
    step = max(1, len(targets_B) // _MAX_POINTS)
    chosen = np.arange(0, len(targets_B), step)
    people = sorted(set(predictions.subjects))
    subject_B = np.array(predictions.subjects)
    if len(people) <= _MAX_COLOURS:
        for person in people:
            mine = chosen[subject_B[chosen] == person]
            axes.plot(
                targets_B[mine], values_B[mine], ".", markersize=4, alpha=0.6, label=plain(person)
            )
        axes.legend(frameon=False, fontsize=8, title="person", title_fontsize=8)
    else:
        axes.plot(targets_B[chosen], values_B[chosen], ".", markersize=4, alpha=0.6, color=BLUE)
    ends = [
        float(min(targets_B.min(), values_B.min())),
        float(max(targets_B.max(), values_B.max())),
    ]
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlabel(_with_unit("true", evaluation.unit))
    axes.set_ylabel(_with_unit("predicted", evaluation.unit))
    r2 = "" if evaluation.r2 is None else f", R² {evaluation.r2:.2f}"
    axes.set_title(f"MAE {evaluation.mae:.3g} {plain(evaluation.unit)}{r2}", fontsize=11)
    axes.set_aspect("equal", adjustable="datalim")
    tidy(axes)
    return png(figure)


def subject_errors_plot(evaluation: ValueEvaluation) -> bytes:
    """Error of each held-out person, worst first; the band is the interval of all windows."""
    shown = sorted(evaluation.subjects, key=lambda score: -score.mae)[:MAX_BARS]
    figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(shown)))
    axes = figure.add_subplot()
    shade_interval(axes, None if evaluation.intervals is None else evaluation.intervals.mae)
    values = [score.mae for score in shown]
    axes.barh([plain(score.subject) for score in shown], values, color=BLUE, height=0.62)
    write_beside(axes, [f"{value:.3g}" for value in values])
    axes.axvline(evaluation.mae, color=GREY, linestyle="--", linewidth=1)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    all_windows = f"all windows: {evaluation.mae:.3g}"
    if len(shown) < len(evaluation.subjects):
        all_windows += f"; the {len(shown)} worst of {len(evaluation.subjects)} people"
    axes.set_xlabel(f"{_with_unit('MAE', evaluation.unit)}, by held-out person ({all_windows})")
    tidy(axes, grid=False)
    return png(figure)


def recordings_plot(evaluation: ForecastEvaluation) -> bytes:
    """Error of each held-out recording beside that of persistence, least skill first."""
    ordered = sorted(
        evaluation.recordings,
        key=lambda score: (-score.mae if score.skill is None else score.skill, score.recording_id),
    )
    shown = ordered[:MAX_BARS]
    figure = Figure(figsize=(7.2, 1.0 + 0.42 * len(shown)))
    axes = figure.add_subplot()
    rows = np.arange(len(shown))
    axes.barh(rows - 0.19, [score.mae for score in shown], 0.36, color=BLUE, label="model")
    last = [score.persistence_mae for score in shown if score.persistence_mae is not None]
    if len(last) == len(shown):
        axes.barh(rows + 0.19, last, 0.36, color=GREY, alpha=0.5, label="persistence")
    shade_interval(axes, None if evaluation.intervals is None else evaluation.intervals.mae)
    axes.axvline(evaluation.mae, color=BLUE, linestyle="--", linewidth=1)
    for row, score in zip(rows.tolist(), shown, strict=True):
        if score.skill is not None:
            longest = max(score.mae, score.persistence_mae or 0.0)
            text = f"  skill {score.skill:+.2f}"
            axes.text(longest, row, text, va="center", fontsize=8, color=GREY)
    axes.set_yticks(rows, [plain(score.recording_id) for score in shown], fontsize=8)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.margins(x=0.16)
    which = (
        f"{len(shown)} of {len(ordered)} recordings" if len(shown) < len(ordered) else "recording"
    )
    axes.set_xlabel(
        f"{_with_unit('MAE', evaluation.unit)}, {evaluation.horizon_s:g} s ahead, by {which}"
    )
    axes.legend(frameon=False, fontsize=8, loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    tidy(axes, grid=False)
    return png(figure)


def trace_plot(predictions: Predictions, recording_id: str) -> bytes:
    """One recording: what was true, the median, the bands between quantiles, and persistence.

    Times are those of the targets. Of several seeds, the first is shown.
    """
    mine_B = np.array(predictions.recording_ids) == recording_id
    mine_B &= predictions.seed_B == predictions.seed_B[mine_B].min()
    rows = np.flatnonzero(mine_B)
    rows = rows[np.argsort(predictions.end_s_B[rows], kind="stable")]
    time_s = predictions.end_s_B[rows] + predictions.horizon_s
    values_BQ = predictions.outputs_BK[rows]
    figure = Figure(figsize=(8.5, 3.6))
    axes = figure.add_subplot()
    levels = predictions.quantiles
    for first in range(len(levels) // 2):
        last = len(levels) - 1 - first
        axes.fill_between(
            time_s,
            values_BQ[:, first],
            values_BQ[:, last],
            color=BLUE,
            alpha=0.18,
            linewidth=0,
            label=f"{levels[first]:.3g} to {levels[last]:.3g} quantile",
        )
    if predictions.persistence_B is not None:
        last_B = predictions.persistence_B[rows]
        axes.plot(time_s, last_B, color=GREY, linewidth=1, linestyle=":", label="persistence")
    axes.plot(time_s, median_of(predictions)[rows], color=BLUE, linewidth=1.4, label="median")
    axes.plot(time_s, predictions.targets_B[rows], color=ORANGE, linewidth=1.2, label="true")
    axes.set_xlabel("time of the target in its recording, s")
    axes.set_ylabel(_with_unit("target", predictions.unit))
    axes.set_title(
        f"{plain(recording_id)}, forecast {predictions.horizon_s:g} s ahead", fontsize=11
    )
    axes.legend(frameon=False, fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    tidy(axes)
    return png(figure)


def typical_recording(evaluation: ForecastEvaluation) -> str:
    """The recording of median error, so that an example is neither the best nor the worst."""
    ordered = sorted(evaluation.recordings, key=lambda score: (score.mae, score.recording_id))
    return ordered[len(ordered) // 2].recording_id


def coverage_plot(evaluation: ForecastEvaluation) -> bytes:
    """The share of targets below each quantile against the quantile: on the line is calibrated."""
    figure = Figure(figsize=(4.4, 4.2))
    axes = figure.add_subplot()
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    axes.plot(
        [score.quantile for score in evaluation.quantiles],
        [score.share_below for score in evaluation.quantiles],
        "o-",
        color=BLUE,
        label="model",
    )
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="quantile", ylabel="share of targets below")
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return png(figure)


def horizons_plot(evaluations: Sequence[ForecastEvaluation]) -> bytes:
    """Errors of models for several horizons, against persistence, which grows with the horizon."""
    ordered = sorted(evaluations, key=lambda evaluation: evaluation.horizon_s)
    figure = Figure(figsize=(6.4, 3.6))
    axes = figure.add_subplot()
    horizons_s = [evaluation.horizon_s for evaluation in ordered]
    axes.plot(horizons_s, [item.mae for item in ordered], "o-", color=BLUE, label="model")
    banded = [item for item in ordered if item.intervals is not None and item.intervals.mae]
    for item in banded:
        assert item.intervals is not None
        assert item.intervals.mae is not None
        low, high = item.intervals.mae.low, item.intervals.mae.high
        axes.plot([item.horizon_s] * 2, [low, high], color=BLUE, alpha=0.35, linewidth=4)
    last = [item for item in ordered if item.persistence_mae is not None]
    axes.plot(
        [item.horizon_s for item in last],
        [item.persistence_mae or 0.0 for item in last],
        "o--",
        color=GREY,
        label="persistence",
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("horizon, s")
    axes.set_ylabel(_with_unit("MAE", ordered[0].unit))
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return png(figure)


def _with_unit(name: str, unit: str) -> str:
    return f"{name}, {plain(unit)}" if unit else name
