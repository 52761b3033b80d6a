"""The report of a search: one HTML file with its plots and all trials, for a person to open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from motoric.training.evaluation.report import STYLE
from motoric.training.evaluation.report_sections import image
from motoric.training.recipe import Recipe
from motoric.training.tuning.plots import curves_plot, values_plot
from motoric.training.tuning.trials import Metric, Trial

CURVES_FILE, VALUES_FILE = "search_epochs.png", "search_values.png"


def render_search(
    *,
    name: str,
    recipe: Recipe,
    trials: Mapping[int, Trial],
    metric: Metric,
    rungs: Sequence[float],
    facts: Mapping[str, str],
    best_yaml: str,
) -> tuple[str, dict[str, bytes]]:
    """The report of a search.

    Args:
        name: Of the search.
        recipe: With its `search`.
        trials: By number.
        metric: What they were compared by.
        rungs: Epochs at which ASHA decided.
        facts: What to say of the search, by name.
        best_yaml: The recipe of the best trial; empty where there is none.

    Returns:
        The HTML, and its plots by file name (PNG).
    """
    assert recipe.search is not None
    what = metric.name(trials)
    plots = {
        CURVES_FILE: curves_plot(trials, metric, rungs, f"{recipe.name}: {len(trials)} trials"),
        VALUES_FILE: values_plot(trials, recipe.search, metric),
    }
    rows = "".join(f"<tr><th>{escape(key)}</th><td>{escape(text)}</td></tr>" for key, text in
                   facts.items())  # fmt: skip
    html = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>{escape(name)}</title><style>{STYLE}</style></head><body>
<h1>{escape(name)}</h1>
<p class="note">The figures are of the validation people, whom the best trial was chosen by: only a
test on others says how good it is.</p>
<table>{rows}</table>
<h2>{escape(what)} by epoch</h2>{image(plots[CURVES_FILE], f"{what} by epoch, a line a trial")}
<h2>{escape(what)} by value</h2>{image(plots[VALUES_FILE], f"best {what} against each key")}
<h2>Trials</h2>{_table(trials, recipe, metric)}
<h2>Best recipe</h2><pre>{escape(best_yaml)}</pre>
</body></html>
"""
    return html, plots


def _table(trials: Mapping[int, Trial], recipe: Recipe, metric: Metric) -> str:
    assert recipe.search is not None
    keys = list(recipe.search.space)
    head = "".join(
        f"<th>{escape(name)}</th>"
        for name in ("trial", metric.name(trials), "epochs", "end", *keys)
    )
    ordered = metric.ordered(trials)
    shown = {trial.number for trial in ordered}
    others = [trial for number, trial in sorted(trials.items()) if number not in shown]
    body = "".join(_row(trial, keys, metric) for trial in (*ordered, *others))
    return f"<table><tr>{head}</tr>{body}</table>"


def _row(trial: Trial, keys: Sequence[str], metric: Metric) -> str:
    end = f"{trial.status}: {trial.error}" if trial.error else trial.status
    values = [f"{trial.values.get(key)}" for key in keys]
    cells = (
        str(trial.number), metric.text(metric.best_value(trial)), str(len(trial.epochs)), end,
        *values,
    )  # fmt: skip
    return "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
