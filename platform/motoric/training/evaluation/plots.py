"""Plots of a run, drawn by matplotlib without a display; each returns PNG bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from motoric.training.evaluation import Evaluation
from motoric.training.progress import EpochReport

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#4a5568"


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight")
    return buffer.getvalue()


def confusion_plot(evaluation: Evaluation, title: str) -> bytes:
    """The confusion matrix, each row in percent of the true class."""
    counts_KK = np.array(evaluation.confusion, dtype=float)
    share_KK = counts_KK / np.maximum(counts_KK.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(7.2, 5.8))
    axes = figure.add_subplot()
    image = axes.imshow(share_KK, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*share_KK.shape):
        if counts_KK[row, column]:
            axes.text(
                column,
                row,
                f"{share_KK[row, column]:.0%}",
                ha="center",
                va="center",
                fontsize=9,
                color="white" if share_KK[row, column] > 0.55 else "black",
            )
    ticks = range(len(evaluation.classes))
    axes.set_xticks(ticks, evaluation.classes, rotation=35, ha="right")
    axes.set_yticks(ticks, evaluation.classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, fontsize=11)
    figure.colorbar(image, ax=axes, fraction=0.046, label="share of the true class")
    return _png(figure)


def curves_plot(epochs: Sequence[EpochReport]) -> bytes:
    """Losses and the accuracy on the validation subjects by epoch."""
    figure = Figure(figsize=(8.5, 3.4))
    losses, accuracy = figure.subplots(1, 2)
    number = [report.epoch + 1 for report in epochs]
    losses.plot(number, [report.train_loss for report in epochs], color=_BLUE, label="training")
    losses.plot(
        number, [report.validation_loss for report in epochs], color=_ORANGE, label="validation"
    )
    losses.set_ylabel("cross-entropy")
    losses.legend(frameon=False)
    accuracy.plot(number, [report.validation_accuracy for report in epochs], color=_ORANGE)
    accuracy.set_ylabel("accuracy, validation subjects")
    accuracy.set_ylim(0, 1.02)
    for axes in (losses, accuracy):
        axes.set_xlabel("epoch")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.tight_layout()
    return _png(figure)


def subjects_plot(evaluation: Evaluation) -> bytes:
    """Accuracy of each held-out subject."""
    figure = Figure(figsize=(7.2, 0.7 + 0.5 * len(evaluation.subjects)))
    axes = figure.add_subplot()
    names = [score.subject for score in evaluation.subjects]
    values = [score.accuracy for score in evaluation.subjects]
    bars = axes.barh(names, values, color=_BLUE, height=0.6)
    axes.bar_label(bars, labels=[f"{value:.1%}" for value in values], padding=4)
    axes.axvline(evaluation.accuracy, color=_GREY, linestyle="--", linewidth=1)
    axes.set_xlim(0, 1.12)
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy by held-out person (all windows: {evaluation.accuracy:.1%})")
    axes.spines[["top", "right"]].set_visible(False)
    return _png(figure)
