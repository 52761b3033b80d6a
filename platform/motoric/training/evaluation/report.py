"""The report of a run: one HTML file with its plots inside, for a person to open."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from motoric.training.evaluation.comparison import Comparison
from motoric.training.evaluation.evaluate import Evaluation
from motoric.training.evaluation.forecast_scores import ForecastEvaluation
from motoric.training.evaluation.leaks import Leak
from motoric.training.evaluation.plots import curves_plot
from motoric.training.evaluation.predictions import Predictions
from motoric.training.evaluation.report_sections import Figure, comparison_rows, image, sections_of
from motoric.training.progress import EpochReport

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a202c }
body { max-width: 900px; margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.1rem; margin-top: 2rem }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 }
.figure { border: 1px solid #e2e8f0; border-radius: 8px; padding: .6rem 1rem; min-width: 8rem }
.figure b { display: block; font-size: 1.4rem } .figure span { color: #4a5568 }
.figure i { display: block; font-style: normal; font-size: .85rem; color: #4a5568 }
.box { border-radius: 8px; padding: .7rem 1.1rem; margin: 1rem 0 }
.box ul { margin: .2rem 0; padding-left: 1.2rem }
.look.box { background: #fffaf0; border: 1px solid #f6ad55 } .note { color: #4a5568 }
table { border-collapse: collapse; overflow-wrap: anywhere; margin: .6rem 0 }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; vertical-align: top }
th { color: #4a5568; font-weight: 600; border-bottom: 1px solid #cbd5e0 } img { max-width: 100% }
pre { background: #f7fafc; padding: 1rem; border-radius: 8px; overflow-x: auto; font-size: 13px }
"""


def render_report(
    *,
    title: str,
    facts: Mapping[str, str],
    evaluation: Evaluation,
    predictions: Predictions,
    epochs: Sequence[EpochReport],
    recipe_yaml: str,
    tested_on: str,
    leaks: Sequence[Leak] = (),
    comparisons: Sequence[Comparison] = (),
) -> tuple[str, dict[str, bytes]]:
    """The report of a run.

    Args:
        title: Its name.
        facts: What to say of the run, by name.
        evaluation: Of `predictions`.
        predictions: For held-out windows.
        epochs: Of its training, in order; none where nothing is trained in epochs.
        recipe_yaml: The whole recipe.
        tested_on: Whom the figures are of, such as "people never seen in training".
        leaks: Warnings about the dataset.
        comparisons: With other models.

    Returns:
        The HTML, and its plots by file name (PNG).
    """
    sections = sections_of(evaluation, predictions, title, tested_on)
    plots = dict(sections.plots)
    training = ""
    if epochs:
        plots["curves.png"] = curves_plot(epochs)
        training = f"<h2>Training</h2>{image(plots['curves.png'], 'loss and score by epoch')}"
    html = f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<title>{escape(title)}</title><style>{STYLE}</style></head><body>
<h1>{escape(title)}</h1>
<div class="figures">{"".join(_figure(item) for item in sections.figures)}</div>
<p class="note">{escape(_basis(evaluation))}</p>
{_warnings(evaluation, leaks)}
<table>{"".join(_fact(*item) for item in facts.items())}</table>
{comparison_rows(comparisons)}
{sections.html}
{training}
<h2>Recipe</h2><pre>{escape(recipe_yaml)}</pre>
</body></html>
"""
    return html, plots


def _basis(evaluation: Evaluation) -> str:
    """What the figures rest on."""
    if isinstance(evaluation, ForecastEvaluation):
        num_seeds = evaluation.num_seeds
    else:
        num_seeds = len(evaluation.seeds)
    text = (
        f"{evaluation.num_windows} windows of {evaluation.num_recordings} recording(s) of"
        f" {evaluation.num_subjects} known person(s)"
    )
    if num_seeds > 1:
        text += f", mean over {num_seeds} seeds"
    if evaluation.intervals is not None:
        what = "people" if evaluation.intervals.resampled == "subject" else "recordings"
        text += (
            f". Ranges in brackets are 95 % intervals: {evaluation.intervals.num_units} {what},"
            " resampled"
        )
    return text + "."


def _warnings(evaluation: Evaluation, leaks: Sequence[Leak]) -> str:
    found = [*(leak.message for leak in leaks), *evaluation.notes]
    if not found:
        return ""
    items = "".join(f"<li>{escape(message)}</li>" for message in found)
    return f'<div class="look box"><b>Before you trust these figures</b><ul>{items}</ul></div>'


def _figure(item: Figure) -> str:
    interval = f"<i>({escape(item.interval)})</i>" if item.interval else ""
    return (
        f'<div class="figure"><b>{escape(item.value)}</b>{interval}'
        f"<span>{escape(item.name)}</span></div>"
    )


def _fact(name: str, value: str) -> str:
    return f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>"
