"""Pictures of the report of an ingest, drawn by matplotlib without a display; each is PNG bytes.

Axes: T samples, C channels.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from motoric.data.recording import GAP_PERIODS, Annotation, Channel

Floats = NDArray[np.float64]

_BLUE, _ORANGE, _GREY = "#2b6cb0", "#dd6b20", "#4a5568"
_LINES = ("#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#805ad5", "#b7791f", "#00a3c4", "#718096")
_SPANS = ("#4299e1", "#ed8936", "#48bb78", "#ed64a6", "#9f7aea", "#ecc94b")
_MAX_LINES = len(_LINES)
_MAX_PANELS = 6
_MAX_SPANS = 60
_MAX_BARS = 12
# Where the highest rate is this many times the lowest, a linear axis would hide the others.
_WIDE = 30.0
# Fewer samples than this are drawn with dots, so that single ones between gaps are seen.
_DOTS_BELOW = 150
_MIN_EXTENT_DEG = 2e-4
_TEXT_CHARACTERS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A stretch of one stream: times (T,) in s, values (T, C), NaN where one is missing."""

    stream: str
    rate_hz: float
    channels: tuple[Channel, ...]
    time_s: Floats
    values_TC: Floats

    def only(self, indices: Sequence[int]) -> Trace:
        """The same with some of its channels."""
        return Trace(
            stream=self.stream,
            rate_hz=self.rate_hz,
            channels=tuple(self.channels[index] for index in indices),
            time_s=self.time_s,
            values_TC=self.values_TC[:, list(indices)],
        )


def plot_text(text: str, max_characters: int = _TEXT_CHARACTERS) -> str:
    """A user's text as a plot can show it.

    Characters that the font lacks become question marks, a dollar sign starts no formula, and long
    texts are cut.
    """
    known = _font_characters()
    clean = "".join(
        character if character.isprintable() and ord(character) in known else "?"
        for character in " ".join(text.split())
    )
    if len(clean) > max_characters:
        clean = clean[: max_characters - 3].rstrip() + "..."
    return clean.replace("$", r"\$")


@functools.cache
def _font_characters() -> frozenset[int]:
    path = font_manager.findfont(font_manager.FontProperties())
    return frozenset(FT2Font(path).get_charmap())


def with_breaks(time_s: Floats, values_TC: Floats, rate_hz: float) -> tuple[Floats, Floats]:
    """Times (T,) and values (T, C) with a row of NaN in each gap, so that lines break there."""
    gaps = np.flatnonzero(np.diff(time_s) > GAP_PERIODS / rate_hz) + 1
    return np.insert(time_s, gaps, np.nan), np.insert(values_TC, gaps, np.nan, axis=0)


def traces_plot(
    traces: Iterable[Trace], annotations: Sequence[Annotation], start_s: float, end_s: float
) -> bytes | None:
    """Channels over time, a panel for each unit of each stream; None where there is nothing to see.

    Args:
        traces: Of one recording.
        annotations: Of the recording; those in sight are shaded.
        start_s: Left edge, on the clock of the recording.
        end_s: Right edge.
    """
    panels = [panel for trace in traces for panel in _by_unit(trace)]
    if not panels:
        return None
    drawn = panels[:_MAX_PANELS]
    figure = Figure(figsize=(9.6, 0.7 + 1.55 * len(drawn)))
    all_axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, panel in zip(all_axes, drawn, strict=True):
        _draw_panel(axes, panel)
        _shade(axes, annotations, start_s, end_s, with_names=axes is all_axes[0])
        axes.set_xlim(start_s, end_s)
    left_out = f", {len(panels) - len(drawn)} more not drawn" if len(panels) > len(drawn) else ""
    all_axes[-1].set_xlabel(f"time in the recording (s){left_out}", fontsize=9)
    figure.align_ylabels(list(all_axes))
    figure.subplots_adjust(hspace=0.28)
    return _png(figure)


def _by_unit(trace: Trace) -> list[Trace]:
    units: dict[str, list[int]] = {}
    for index, channel in enumerate(trace.channels):
        # Without a unit, only channels such as `a_x` and `a_y` are taken to share a scale.
        alone = " " + (channel.name.rpartition("_")[0] or channel.name)
        units.setdefault(channel.unit or alone, []).append(index)
    return [trace.only(indices) for indices in units.values()]


def _draw_panel(axes: Axes, panel: Trace) -> None:
    time_s, values_TC = with_breaks(panel.time_s, panel.values_TC, panel.rate_hz)
    few = len(panel.time_s) < _DOTS_BELOW
    for index in range(len(panel.channels[:_MAX_LINES])):
        axes.plot(
            time_s,
            values_TC[:, index],
            color=_LINES[index],
            linewidth=0.9,
            marker="." if few else None,
            markersize=3,
        )
    if np.isnan(panel.values_TC[:, :_MAX_LINES]).all():
        axes.text(0.5, 0.5, "no values here", ha="center", transform=axes.transAxes, color=_GREY)
    num_hidden = len(panel.channels) - _MAX_LINES
    more = f", {num_hidden} more channels not drawn" if num_hidden > 0 else ""
    unit = panel.channels[0].unit
    axes.set_ylabel(plot_text(unit, 16) if unit else "unit unknown", fontsize=9)
    axes.set_title(
        f"{plot_text(panel.stream)}, {panel.rate_hz:g} Hz{more}",
        fontsize=9,
        color=_GREY,
        loc="left",
        pad=3,
    )
    # Named one by one, since matplotlib else leaves out names that begin with an underscore.
    axes.legend(
        axes.lines,
        [plot_text(channel.name, 24) for channel in panel.channels[:_MAX_LINES]],
        frameon=False,
        fontsize=8,
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
        handlelength=1.2,
    )
    _tidy(axes)


def _shade(
    axes: Axes, annotations: Sequence[Annotation], start_s: float, end_s: float, *, with_names: bool
) -> None:
    labels = sorted({item.label for item in annotations})
    seen = [item for item in annotations if item.end_s > start_s and item.start_s < end_s]
    free_from_s = start_s
    for item in seen[:_MAX_SPANS]:
        left_s, right_s = max(item.start_s, start_s), min(item.end_s, end_s)
        colour = _SPANS[labels.index(item.label) % len(_SPANS)]
        axes.axvspan(left_s, right_s, color=colour, alpha=0.13, linewidth=0)
        # A letter is about 1 % of the width; names of short spans would run into each other.
        num_letters = int(100 * (end_s - max(left_s, free_from_s)) / (end_s - start_s))
        if with_names and left_s >= free_from_s and num_letters > 3:
            name = plot_text(item.label, min(num_letters, _TEXT_CHARACTERS))
            axes.annotate(
                name,
                (left_s, 1.0),
                xycoords=("data", "axes fraction"),
                xytext=(2, -2),
                textcoords="offset points",
                va="top",
                fontsize=8,
                color="#1a202c",
                bbox={"boxstyle": "round,pad=.15", "fc": "white", "ec": "none", "alpha": 0.75},
            )
            free_from_s = left_s + (len(name) + 1) * (end_s - start_s) / 100


def track_plot(trace: Trace) -> bytes | None:
    """Where somebody went: latitude over longitude, at the aspect it has on the ground.

    Args:
        trace: With the channels `latitude` and `longitude`, degrees.

    Returns:
        A PNG; None where the trace has no position at all.
    """
    names = [channel.name for channel in trace.channels]
    position_T2 = trace.values_TC[:, [names.index("longitude"), names.index("latitude")]]
    is_known = np.isfinite(position_T2).all(axis=1)
    if not is_known.any():
        return None
    time_s, position_T2 = trace.time_s[is_known], position_T2[is_known]
    # A track over the antimeridian must not cross the whole world.
    position_T2[:, 0] = np.unwrap(position_T2[:, 0], period=360)
    _, line_T2 = with_breaks(time_s, position_T2, trace.rate_hz)
    figure = Figure(figsize=(6.4, 4.4))
    axes = figure.add_subplot()
    axes.plot(line_T2[:, 0], line_T2[:, 1], color=_BLUE, linewidth=1.4)
    for row, marker, colour, name in ((0, "o", "#2f855a", "start"), (-1, "s", _ORANGE, "end")):
        axes.plot(*position_T2[row], marker, color=colour, label=name)
    _frame_track(axes, position_T2)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.locator_params(axis="x", nbins=5)
    axes.set_xlabel("longitude (deg)", fontsize=9)
    axes.set_ylabel("latitude (deg)", fontsize=9)
    axes.set_title(
        f"{plot_text(trace.stream)}, {trace.rate_hz:g} Hz, {time_s[0]:.0f} to {time_s[-1]:.0f} s",
        fontsize=9,
        color=_GREY,
        loc="left",
    )
    axes.legend(frameon=False, fontsize=8)
    _tidy(axes)
    return _png(figure)


def _frame_track(axes: Axes, position_T2: Floats) -> None:
    """Set limits that hold all of a track and fill the axes at the aspect it has on the ground."""
    centre_2 = (position_T2.min(axis=0) + position_T2.max(axis=0)) / 2
    half_x, half_y = np.maximum(np.ptp(position_T2, axis=0) * 0.55, _MIN_EXTENT_DEG)
    # A degree of longitude is shorter than one of latitude by the cosine of the latitude.
    shortening = max(float(np.cos(np.radians(centre_2[1]))), 0.02)
    box = axes.get_window_extent()
    half_y = max(half_y, half_x * shortening * box.height / box.width)
    half_x = half_y * box.width / box.height / shortening
    axes.set_xlim(centre_2[0] - half_x, centre_2[0] + half_x)
    axes.set_ylim(centre_2[1] - half_y, centre_2[1] + half_y)
    axes.set_aspect(1 / shortening, adjustable="box")


def rates_plot(rates_hz: Sequence[float]) -> bytes:
    """In how many recordings a stream has which rate: bars, or a histogram of many rates."""
    figure = Figure(figsize=(7.2, 2.2))
    axes = figure.add_subplot()
    distinct_hz, counts = np.unique(np.array(rates_hz), return_counts=True)
    if len(distinct_hz) <= _MAX_BARS:
        bars = axes.bar([f"{rate_hz:g}" for rate_hz in distinct_hz], counts, color=_BLUE, width=0.6)
        axes.bar_label(bars, fontsize=8, padding=2)
        axes.margins(y=0.18)
    else:
        bins = np.geomspace(distinct_hz[0], distinct_hz[-1], 31)
        axes.hist(rates_hz, bins=list(bins), color=_BLUE)
        if distinct_hz[-1] > _WIDE * distinct_hz[0]:
            axes.set_xscale("log")
    axes.set_xlabel("rate (Hz)", fontsize=9)
    axes.set_ylabel("recordings", fontsize=9)
    _whole_numbers(axes)
    _tidy(axes)
    return _png(figure)


def people_plot(num_recordings: Sequence[int], hours: Sequence[float]) -> bytes:
    """How recordings and hours are spread over many people."""
    figure = Figure(figsize=(8.5, 2.6))
    left, right = figure.subplots(1, 2)
    top = max(num_recordings)
    step = -(-top // 30)
    left.hist(num_recordings, bins=list(np.arange(0.5, top + step + 0.5, step)), color=_BLUE)
    left.set_xlabel("recordings of a person", fontsize=9)
    right.hist(hours, bins=20, color=_ORANGE)
    right.set_xlabel("hours of a person", fontsize=9)
    left.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (left, right):
        axes.set_ylabel("people", fontsize=9)
        _whole_numbers(axes)
        _tidy(axes)
    figure.tight_layout()
    return _png(figure)


def _whole_numbers(axes: Axes) -> None:
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    # Lines of very many samples are drawn in pieces; in one piece they can overflow Agg.
    with mpl.rc_context({"agg.path.chunksize": 20_000}):
        figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight")
    return buffer.getvalue()
