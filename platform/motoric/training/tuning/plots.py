"""Plots of a search: the metric over epochs of each trial, and against each searched key."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from motoric.training.evaluation.plots import BLUE, GREY, ORANGE, plain, png, tidy
from motoric.training.search_config import Range, SearchConfig
from motoric.training.tuning.trials import Metric, Trial

_COLUMNS = 3
_RED = "#c53030"
_STATUS = {
    "done": (BLUE, "o", "trained to the end"),
    "stopped": (GREY, "x", "stopped by ASHA"),
    "failed": (_RED, "v", "failed"),
}
_MAX_NAME = 18


def curves_plot(
    trials: Mapping[int, Trial], metric: Metric, rungs: Sequence[float], title: str
) -> bytes:
    """The metric by epoch, a line a trial; those that ASHA stopped end in a cross.

    Args:
        trials: By number.
        metric: What is compared.
        rungs: Epochs at which ASHA decided.
        title: Of the picture.
    """
    figure = Figure(figsize=(8.5, 4.4))
    axes = figure.add_subplot()
    for rung in rungs:
        axes.axvline(rung, color=GREY, linestyle=":", linewidth=1, alpha=0.6)
    ordered = metric.ordered(trials)
    best = ordered[0] if ordered else None
    named: set[str] = set()
    for trial in sorted(ordered[1:], key=lambda item: item.number):
        _curve(axes, trial, metric, named)
    if best is not None:
        number = [report.epoch + 1 for report in best.epochs]
        values = [metric.value(report) for report in best.epochs]
        name = f"best: trial {best.number}, {metric.text(metric.best_value(best))}"
        axes.plot(number, values, color=ORANGE, linewidth=2.4, label=name)
        epoch = metric.best_epoch(best)
        assert epoch is not None
        axes.plot(epoch.epoch + 1, metric.value(epoch), "o", color=ORANGE, markersize=7)
    if rungs:
        axes.plot([], [], color=GREY, linestyle=":", linewidth=1, label="ASHA decides")
    _limit(axes, [metric.value(report) for trial in ordered for report in trial.epochs])
    axes.set_xlabel("epoch")
    axes.set_ylabel(plain(metric.name(trials)))
    axes.set_title(plain(title), fontsize=11)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    tidy(axes)
    return png(figure)


def _curve(axes: Axes, trial: Trial, metric: Metric, named: set[str]) -> None:
    colour, marker, label = _STATUS.get(trial.status, _STATUS["done"])
    number = [report.epoch + 1 for report in trial.epochs]
    values = [metric.value(report) for report in trial.epochs]
    axes.plot(number, values, color=colour, linewidth=1, alpha=0.55)
    axes.plot(
        number[-1],
        values[-1],
        marker,
        color=colour,
        markersize=5,
        alpha=0.8,
        linestyle="none",
        label="" if label in named else label,
    )
    named.add(label)


def _limit(axes: Axes, values: Sequence[float]) -> None:
    """Leave out the few values that would flatten all others, such as those of a loss that blew up.

    The limits are Tukey's outer fences (Exploratory Data Analysis, 1977).
    """
    finite = np.array([value for value in values if math.isfinite(value)])
    if len(finite) < 4:
        return
    low, high = np.percentile(finite, [25, 75])
    margin = 3 * (high - low)
    bottom, top = max(finite.min(), low - margin), min(finite.max(), high + margin)
    pad = 0.05 * (top - bottom) or 0.05
    axes.set_ylim(bottom - pad, top + pad)


def values_plot(trials: Mapping[int, Trial], search: SearchConfig, metric: Metric) -> bytes:
    """The best metric of each trial against each searched key; the best trial is orange."""
    keys = list(search.space)
    columns = 2 if len(keys) == 4 else min(_COLUMNS, len(keys))
    rows = math.ceil(len(keys) / columns)
    figure = Figure(figsize=(1.2 + 3.6 * columns, 0.4 + 3.1 * rows))
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    ordered = metric.ordered(trials)
    for place, axes in enumerate(grid.flat):
        if place >= len(keys):
            axes.set_visible(False)
            continue
        _values(axes, ordered, keys[place], search.space[keys[place]], metric)
        if place % columns == 0:
            axes.set_ylabel(plain(f"best {metric.name(trials)}"))
    _limit(grid[0][0], [metric.best_value(trial) for trial in ordered])
    handles, names = grid[0][0].get_legend_handles_labels()
    figure.legend(
        handles, names, frameon=False, fontsize=8, ncols=3, loc="upper center",
        bbox_to_anchor=(0.5, 0),
    )  # fmt: skip
    figure.tight_layout()
    return png(figure)


def _values(axes: Axes, ordered: Sequence[Trial], key: str, values: Range, metric: Metric) -> None:
    for status, (colour, marker, label) in _STATUS.items():
        chosen = [trial for trial in ordered[1:] if trial.status == status]
        _points(axes, chosen, key, values, metric, colour=colour, marker=marker, label=label)
    _points(
        axes, ordered[:1], key, values, metric, colour=ORANGE, marker="o", label="best", size=60
    )
    axes.set_xlabel(plain(key))
    if values.loguniform is not None:
        axes.set_xscale("log")
    if values.int is not None:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if values.choice is not None:
        names = [plain(_short(value)) for value in values.choice]
        axes.set_xticks(range(len(names)), names, rotation=0 if len(names) <= 4 else 35)
        axes.set_xlim(-0.5, len(names) - 0.5)
    tidy(axes)


def _points(
    axes: Axes,
    trials: Sequence[Trial],
    key: str,
    values: Range,
    metric: Metric,
    *,
    colour: str,
    marker: str,
    label: str,
    size: float = 28,
) -> None:
    places = [
        trial.values[key] if values.choice is None else values.choice.index(trial.values[key])
        for trial in trials
    ]
    if trials:
        scores = [metric.best_value(trial) for trial in trials]
        axes.scatter(places, scores, s=size, c=colour, marker=marker, label=label, alpha=0.8)


def _short(value: object) -> str:
    text = str(value["name"]) if isinstance(value, dict) and "name" in value else str(value)
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"
