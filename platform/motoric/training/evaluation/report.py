"""The report of a run: one HTML file with its plots inside, for a person to open."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from motoric.training.evaluation import Evaluation
from motoric.training.plots import confusion_plot, curves_plot, subjects_plot
from motoric.training.progress import EpochReport

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c }
body { max-width: 860px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 }
.figure { border: 1px solid #e2e8f0; border-radius: 8px; padding: .6rem 1rem; min-width: 8rem }
.figure b { display: block; font-size: 1.4rem } .figure span { color: #4a5568 }
table { border-collapse: collapse } td, th { padding: .25rem .9rem .25rem 0; text-align: left }
th { color: #4a5568; font-weight: 600; border-bottom: 1px solid #cbd5e0 } img { max-width: 100% }
pre { background: #f7fafc; padding: 1rem; border-radius: 8px; overflow-x: auto; font-size: 13px }
"""


def render_report(
    *,
    title: str,
    facts: Mapping[str, str],
    evaluation: Evaluation,
    epochs: Sequence[EpochReport],
    recipe_yaml: str,
    tested_on: str,
) -> tuple[str, dict[str, bytes]]:
    """The report as HTML, and its plots by file name (PNG)."""
    plots = {
        "confusion.png": confusion_plot(
            evaluation, f"{title}: {evaluation.num_subjects} {tested_on}"
        ),
        "curves.png": curves_plot(epochs),
        "subjects.png": subjects_plot(evaluation),
    }
    low, high = evaluation.subject_accuracy_min, evaluation.subject_accuracy_max
    figures = {
        f"accuracy, {tested_on}": f"{evaluation.accuracy:.1%}",
        "range over people": f"{low:.1%} to {high:.1%}",
        "macro F1": f"{evaluation.macro_f1:.3f}",
        "whole recordings": f"{evaluation.recording_accuracy:.1%}",
    }
    rows = "".join(
        f"<tr><td>{escape(score.subject)}</td><td>{score.num_windows}</td>"
        f"<td>{score.accuracy:.1%}</td><td>{score.recording_accuracy:.1%}</td></tr>"
        for score in evaluation.subjects
    )
    html = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>{escape(title)}</title><style>{_STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<div class="figures">{"".join(_figure(*item) for item in figures.items())}</div>
<table>{"".join(_fact(*item) for item in facts.items())}</table>
<h2>Confusion matrix</h2>{_image(plots["confusion.png"], "confusion matrix")}
<h2>By person</h2>
<table><tr><th>person</th><th>windows</th><th>accuracy</th><th>whole recordings</th></tr>
{rows}</table>
{_image(plots["subjects.png"], "accuracy by person")}
<h2>Training</h2>{_image(plots["curves.png"], "loss and accuracy by epoch")}
<h2>Recipe</h2><pre>{escape(recipe_yaml)}</pre>
</body></html>
"""
    return html, plots


def _figure(name: str, value: str) -> str:
    return f'<div class="figure"><b>{escape(value)}</b><span>{escape(name)}</span></div>'


def _fact(name: str, value: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"


def _image(png: bytes, alternative: str) -> str:
    encoded = base64.b64encode(png).decode()
    return f'<p><img alt="{escape(alternative)}" src="data:image/png;base64,{encoded}"></p>'
