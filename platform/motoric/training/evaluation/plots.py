"""Plots of training and of classifiers, drawn by matplotlib without a display; PNG bytes each.

Those of values and forecasts stand in `value_plots.py`. Axes: K classes.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from motoric.training.evaluation.bootstrap import Interval
from motoric.training.evaluation.classification_scores import ClassificationEvaluation
from motoric.training.progress import EpochReport

BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#4a5568"
MAX_BARS = 40

# A cell narrower than this holds no number that can be read.
_MIN_NUMBER_PT = 4.5
_MAX_MATRIX_INCH = 14.0
_DPI = 130


def png(figure: Figure) -> bytes:
    """A figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, bbox_inches="tight")
    return buffer.getvalue()


def plain(name: str) -> str:
    """A name of the user's as it is: matplotlib would read what stands between $ as a formula."""
    return name.replace("$", r"\$")


def tidy(axes: Axes, *, grid: bool = True) -> None:
    """No frame at the top and the right, and a pale grid."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(alpha=0.25)


def shade_interval(axes: Axes, interval: Interval | None) -> None:
    """The 95 % interval of all windows as a vertical band."""
    if interval is not None:
        axes.axvspan(interval.low, interval.high, color=GREY, alpha=0.15, linewidth=0)


def write_beside(axes: Axes, texts: Sequence[str]) -> None:
    """One text for each horizontal bar, right of the plot, where no bar or band hides it."""
    for row, text in enumerate(texts):
        place = axes.get_yaxis_transform()
        axes.text(1.01, row, text, transform=place, va="center", fontsize=9, color=GREY)


def confusion_plot(evaluation: ClassificationEvaluation, title: str) -> bytes:
    """The confusion matrix, each row in percent of the true class.

    Cells and numbers shrink with the number of classes; numbers are left out where they could not
    be read, and so are the names of classes in between.
    """
    counts_KK = np.array(evaluation.confusion, dtype=float)
    share_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    num_classes = len(evaluation.classes)
    side_inch = float(np.clip(0.44 * num_classes, 4.6, _MAX_MATRIX_INCH))
    cell_pt = 72 * side_inch / num_classes
    figure = Figure(figsize=(1.22 * side_inch, side_inch))
    axes = figure.add_subplot()
    image = axes.imshow(share_KK, cmap="Blues", vmin=0, vmax=1)
    size_pt = min(10.0, 0.3 * cell_pt)
    if size_pt >= _MIN_NUMBER_PT:
        _write_shares(axes, share_KK, size_pt)
    name_pt = float(np.clip(0.45 * cell_pt, 5, 10))
    step = max(1, int(np.ceil(1.1 * name_pt / cell_pt)))
    ticks = range(0, num_classes, step)
    names = [plain(evaluation.classes[tick]) for tick in ticks]
    axes.set_xticks(ticks, names, rotation=90 if num_classes > 8 else 35, fontsize=name_pt)
    for text in axes.get_xticklabels():
        text.set_horizontalalignment("center" if num_classes > 8 else "right")
    axes.set_yticks(ticks, names, fontsize=name_pt)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(plain(title), fontsize=11)
    figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03, label="share of the true class")
    return png(figure)


def _write_shares(axes: Axes, share_KK: np.ndarray, size_pt: float) -> None:
    for row, column in np.argwhere(share_KK >= 0.005).tolist():
        share = share_KK[row, column]
        axes.text(
            column,
            row,
            f"{share:.0%}" if len(share_KK) <= 12 else f"{100 * share:.0f}",
            ha="center",
            va="center",
            fontsize=size_pt,
            color="white" if share > 0.55 else "black",
        )


def curves_plot(epochs: Sequence[EpochReport]) -> bytes:
    """Losses, and the score on the validation people where there are some, by epoch."""
    validated = [report for report in epochs if report.validation_score is not None]
    figure = Figure(figsize=(8.5 if validated else 4.6, 3.4))
    both = figure.subplots(1, 2 if validated else 1, squeeze=False)[0]
    losses = both[0]
    marker = "o" if len(epochs) == 1 else ""
    number = [report.epoch + 1 for report in epochs]
    training = [report.train_loss for report in epochs]
    losses.plot(number, training, color=BLUE, marker=marker, label="training")
    losses.set_ylabel("loss")
    if validated:
        _validation_curves(losses, both[1], validated, marker)
    losses.legend(frameon=False)
    for axes in both:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        tidy(axes)
    figure.tight_layout()
    return png(figure)


def _validation_curves(
    losses: Axes, score: Axes, validated: Sequence[EpochReport], marker: str
) -> None:
    number = [report.epoch + 1 for report in validated]
    # None is NaN here: a curve with a gap.
    of_validation = np.array([report.validation_loss for report in validated], dtype=float)
    scores = np.array([report.validation_score for report in validated], dtype=float)
    losses.plot(number, of_validation, color=ORANGE, marker=marker, label="validation")
    score.plot(number, scores, color=ORANGE, marker=marker)
    name = validated[-1].score_name
    score.set_ylabel(f"{plain(name)}, validation subjects")
    if name == "accuracy":
        score.set_ylim(0, 1.02)
    best = [at for at, report in enumerate(validated) if report.is_best]
    if best:
        score.plot(number[best[-1]], scores[best[-1]], "o", color=ORANGE, markersize=5)
        for axes in (losses, score):
            axes.axvline(
                number[best[-1]], color=GREY, linestyle=":", linewidth=1, label="best epoch"
            )


def subjects_plot(evaluation: ClassificationEvaluation) -> bytes:
    """Accuracy of each held-out person, worst first; the band is the interval of all windows."""
    ordered = sorted(evaluation.subjects, key=lambda score: score.accuracy)
    shown = ordered[:MAX_BARS]
    figure = Figure(figsize=(7.2, 0.9 + 0.34 * len(shown)))
    axes = figure.add_subplot()
    band = None if evaluation.intervals is None else evaluation.intervals.accuracy
    shade_interval(axes, band)
    values = [score.accuracy for score in shown]
    axes.barh([plain(score.subject) for score in shown], values, color=BLUE, height=0.62)
    write_beside(axes, [f"{value:.1%}" for value in values])
    axes.axvline(evaluation.accuracy, color=GREY, linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_ylim(len(shown) - 0.4, -0.6)
    all_windows = f"all windows: {evaluation.accuracy:.1%}"
    if band is not None:
        all_windows += ", band: 95 % interval"
    which = f"the {len(shown)} worst of {len(ordered)} people" if len(shown) < len(ordered) else ""
    axes.set_xlabel(f"accuracy by {which or 'held-out person'} ({all_windows})")
    tidy(axes, grid=False)
    return png(figure)


def reliability_plot(evaluation: ClassificationEvaluation) -> bytes:
    """Accuracy against confidence in bins (Guo et al., 2017), and how many windows each has."""
    figure = Figure(figsize=(4.8, 5.0))
    axes, amounts = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
    bins = evaluation.reliability
    middle = [(item.low + item.high) / 2 for item in bins]
    width = [0.94 * (item.high - item.low) for item in bins]
    axes.bar(middle, [item.accuracy for item in bins], width, color=BLUE, label="accuracy")
    axes.plot(
        [item.confidence for item in bins],
        [item.accuracy for item in bins],
        "o",
        color=ORANGE,
        markersize=4,
        label="mean confidence of the bin",
    )
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="calibrated")
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("accuracy")
    axes.set_title(f"expected calibration error {evaluation.calibration_error:.1%}", fontsize=11)
    amounts.bar(middle, [item.num_windows for item in bins], width, color=GREY)
    amounts.set_ylabel("windows")
    amounts.set_xlabel("confidence: probability of the predicted class")
    amounts.set_xlim(0, 1)
    for each in (axes, amounts):
        tidy(each)
    figure.tight_layout()
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        names,
        frameon=False,
        fontsize=8,
        ncols=3,
        loc="upper center",
        bbox_to_anchor=(0.5, 0),
    )
    return png(figure)
