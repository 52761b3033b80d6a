"""The paired comparison of two runs, as a line in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

if TYPE_CHECKING:
    from motoric.registry.runs import Runs, RunSummary
    from motoric.training.evaluation.comparison import Comparison
    from motoric.training.evaluation.predictions import Predictions


def paired(runs: Runs, run_a: RunSummary, run_b: RunSummary) -> str | None:
    """What two runs say on the windows that both predicted, as rich markup.

    Returns:
        None where one of them keeps no predictions.

    Raises:
        DatasetError: They share no window.
    """
    from motoric.training.evaluation.comparison import compare

    a, b = _predictions(runs, run_a), _predictions(runs, run_b)
    if a is None or b is None:
        return None
    return _in_words(compare(a, b, name_a=run_a.name, name_b=run_b.name))


def _predictions(runs: Runs, run: RunSummary) -> Predictions | None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from motoric.registry.runs import PREDICTIONS_FILE
    from motoric.training.evaluation.predictions import from_table

    if PREDICTIONS_FILE not in runs.files(run):
        return None
    return from_table(pq.read_table(pa.BufferReader(runs.download(run, PREDICTIONS_FILE))))


def _in_words(found: Comparison) -> str:
    is_share = found.score == "accuracy"

    def spelled(value: float) -> str:
        return f"{value:+.1%}" if is_share else f"{value:+.3g} {found.unit}"

    interval = "no interval"
    if found.interval is not None:
        kind = f"{found.num_units} {found.resampled or 'unit'}s"
        low, high = spelled(found.interval.low), spelled(found.interval.high)
        interval = f"95 % interval over {kind}: {low} to {high}"
    verdict = f"{found.winner} is better" if found.winner else "no clear winner"
    notes = "".join(f"\n[dim]note:[/] {escape(note)}" for note in found.notes)
    return (
        f"[bold]{escape(found.name_a)}[/] against [bold]{escape(found.name_b)}[/] on the"
        f" {found.num_shared} windows that both predicted: {found.score}"
        f" {spelled(found.difference)} ({interval}); {escape(verdict)}{notes}"
    )
