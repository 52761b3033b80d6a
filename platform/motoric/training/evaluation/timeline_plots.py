"""Pictures of timelines, drawn by matplotlib without a display; each is PNG bytes.

Axes: T samples.
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from motoric.artefact.timeline import Segment
from motoric.core.errors import InputError
from motoric.data.recording import Annotation
from motoric.data.report.plots import plot_text

_UNKNOWN = "#cbd5e0"
_GREY = "#4a5568"
_WIDTH_INCHES = 11.0
_LEGEND_COLUMNS = 5
_TEXT_CHARACTERS = 24
# Times of the trace that a picture of this width can show.
_MAX_POINTS = 2400
# A band narrower than this share of the axis has no room for its number.
_MIN_SHARE = 0.011
_Colour = tuple[float, float, float]
_Span = Annotation | Segment


@dataclass(frozen=True, slots=True, kw_only=True)
class PlottedSeries:
    """What is drawn of one series.

    Attributes:
        true: Its annotations.
        found: Its timeline.
        trace: Times (T,) in seconds and values (T,) of one channel; None draws none.
        trace_name: Name and unit of the channel.
    """

    true: Sequence[Annotation]
    found: Sequence[Segment]
    trace: tuple[NDArray[np.float64], NDArray[np.floating]] | None = None
    trace_name: str = ""


def timeline_plot(series: Mapping[str, PlottedSeries]) -> bytes:
    """Bands of the true and the found segments, one pair a series, over a shared axis of time.

    Each label has a number and a colour, both in the legend; spans without label are grey. Numbers
    also tell labels apart whose colours are close, as some are of more than a dozen.

    Args:
        series: By name, drawn from top to bottom.

    Returns:
        A PNG.

    Raises:
        InputError: There are no series, or none has a segment.
    """
    labels = _labels(series.values())
    if not labels:
        raise InputError("there is no labelled segment to draw: give one series or more")
    colours = dict(zip(labels, _colours(len(labels)), strict=True))
    numbers = {label: index for index, label in enumerate(labels, start=1)}
    start_s, end_s = _span(series.values())
    heights = [ratio for item in series.values() for ratio in _heights(item)]
    # In inches: a picture of one series needs room for its legend as well.
    legend_inches = 0.3 + 0.19 * -(-(len(labels) + 1) // _LEGEND_COLUMNS)
    figure_inches = sum(heights) + 0.18 * len(heights) + 0.7 + legend_inches
    figure = Figure(figsize=(_WIDTH_INCHES, figure_inches))
    all_axes = figure.subplots(
        len(heights), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": heights}
    )[:, 0].tolist()
    remaining = iter(all_axes)
    for name, item in series.items():
        axes = next(remaining)
        axes.set_title(plot_text(name), fontsize=9, loc="left", pad=3, color=_GREY)
        if item.trace is not None:
            _draw_trace(axes, item)
            axes = next(remaining)
        _draw_bands(axes, item, colours, numbers, end_s - start_s)
    all_axes[-1].set_xlim(start_s, end_s)
    all_axes[-1].set_xlabel("time (s)", fontsize=9)
    top, bottom = 1 - 0.3 / figure_inches, (0.5 + legend_inches) / figure_inches
    figure.subplots_adjust(left=0.07, right=0.99, top=top, bottom=bottom, hspace=0.5)
    handles = [
        Patch(color=colours[label], label=f"{numbers[label]} {plot_text(label, _TEXT_CHARACTERS)}")
        for label in labels
    ]
    handles.append(Patch(color=_UNKNOWN, label="no label"))
    figure.legend(
        handles=handles,
        loc="lower center",
        ncols=min(_LEGEND_COLUMNS, len(handles)),
        frameon=False,
        fontsize=8,
        handlelength=1.2,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def _labels(series: Iterable[PlottedSeries]) -> list[str]:
    """All labels, sorted, of the truth and of what was found."""
    found: set[str] = set()
    for item in series:
        found.update(annotation.label for annotation in item.true)
        found.update(segment.label for segment in item.found if segment.label is not None)
    return sorted(found)


def _span(series: Iterable[PlottedSeries]) -> tuple[float, float]:
    spans = [span for item in series for spans in _rows(item) for span in spans]
    return min(span.start_s for span in spans), max(span.end_s for span in spans)


def _rows(item: PlottedSeries) -> tuple[Sequence[_Span], Sequence[_Span]]:
    return item.true, item.found


def _heights(item: PlottedSeries) -> list[float]:
    bands = 0.62
    return [bands] if item.trace is None else [0.7, bands]


def _colours(count: int) -> list[_Colour]:
    """Hues around the circle; neighbours in the list differ in hue and in lightness."""
    lightness = (0.62, 0.42, 0.78)
    step = 0.381966  # the golden angle spreads any number of hues
    return [
        colorsys.hls_to_rgb(index * step % 1, lightness[index % len(lightness)], 0.62)
        for index in range(count)
    ]


def _draw_bands(
    axes: Axes,
    item: PlottedSeries,
    colours: Mapping[str, _Colour],
    numbers: Mapping[str, int],
    shown_s: float,
) -> None:
    for row, spans in enumerate(_rows(item)):
        for span in spans:
            length_s = span.end_s - span.start_s
            colour = _UNKNOWN if span.label is None else colours[span.label]
            axes.broken_barh(
                [(span.start_s, length_s)],
                (row - 0.42, 0.84),
                facecolors=[colour],
                edgecolors="white",
                linewidth=0.4,
            )
            if span.label is not None and length_s >= _MIN_SHARE * shown_s:
                axes.text(
                    span.start_s + length_s / 2,
                    row,
                    str(numbers[span.label]),
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if _is_dark(colours[span.label]) else "black",
                )
    axes.set_ylim(1.5, -0.5)
    axes.set_yticks([0, 1], ["true", "found"], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _is_dark(colour: _Colour) -> bool:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue < 0.5


def _draw_trace(axes: Axes, item: PlottedSeries) -> None:
    if item.trace is None:
        return
    time_T, values_T = item.trace
    every = max(1, len(time_T) // _MAX_POINTS)
    axes.plot(time_T[::every], values_T[::every], color=_GREY, linewidth=0.5)
    axes.set_ylabel(plot_text(item.trace_name, _TEXT_CHARACTERS), fontsize=8)
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
