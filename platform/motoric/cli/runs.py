"""`motoric runs`: tracked runs, from the command line: a list, one run, several side by side."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console
from motoric.core.errors import UserError
from motoric.core.settings import load

if TYPE_CHECKING:
    from motoric.registry.runs import RunHistory, Runs, RunSummary

app = typer.Typer(help="Tracked runs: list, show, compare.", no_args_is_help=True)

_DEFAULT_PLOT = Path("runs-compare.png")
_CURVE = "validation_loss"
_ORDER = ("test_", "validation_", "train_")
_STATUS = {"finished": "green", "failed": "red", "killed": "red", "running": "yellow"}
# Bits of a Braille character by row and column (Unicode, block 2800).
_BRAILLE = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@app.command("list")
def list_runs(
    experiment: Annotated[
        str | None, typer.Option(help="Only runs of this experiment (`tracking.experiment`).")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest first.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with everything.")] = False,
) -> None:
    """List tracked runs, the newest first: what they trained and how good it is.

    Example: motoric runs list --experiment watch-exercises
    """
    found = _open().list(experiment, limit)
    if as_json:
        _print_json([_as_dict(run) for run in found])
        return
    if not found:
        console.print("no runs yet: `motoric train jobs/recipes/watch_gru.yaml` makes one")
        return
    table = _table()
    longest = max(len(run.name) for run in found)
    table.add_column("run", overflow="fold", no_wrap=longest <= 40)  # to be copied whole
    for name in ("kind", "model", "status", "test score", "epochs", "took", "started"):
        table.add_column(name, justify="right" if name in ("epochs", "took") else "left")
    for run in found:
        table.add_row(
            escape(run.name),
            escape(run.kind),
            escape(run.model),
            _status(run),
            _score(run).replace(" to ", "-"),
            _epochs(run),
            _duration(run.duration_s),
            _when(run.started_at_s)[2:],
        )
    console.print(table)
    if len(found) == limit:
        console.print(f"[dim]the newest {limit}; `--limit` shows more[/]")


@app.command()
def show(
    run: Annotated[str, typer.Argument(help="Name or id of a run, or the beginning of one.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all epochs.")] = False,
) -> None:
    """Show a run: facts, parameters, metrics, scores by person, and its validation curve.

    Example: motoric runs show watch-gru-1a2b3c4d
    """
    runs = _open()
    found = runs.get(run)
    history = runs.history(found)
    files = runs.files(found)
    if as_json:
        _print_json(_as_dict(found) | {"history": dict(history.points), "files": files})
        return
    _print_facts(found, files)
    _print_parameters(found.parameters)
    _print_metrics(found, history)
    _print_subjects(runs, found, files)
    curves = [_CURVE, *(name for name in found.metrics if name.startswith("validation_"))]
    curve = next((name for name in curves if len(history.points.get(name, ())) > 1), None)
    if curve is not None:
        console.print(f"\n[bold]{escape(_spelled(curve))}[/] by epoch")
        lines = text_plot(history.points[curve], utf8=console.encoding.startswith("utf"))
        console.print("\n".join(lines), markup=False, no_wrap=True, crop=True)


@app.command()
def compare(
    run: Annotated[list[str], typer.Argument(metavar="RUN RUN [RUN]...", help="Two or more runs.")],
    plot: Annotated[Path, typer.Option(help="Where to write the picture, a PNG.")] = _DEFAULT_PLOT,
    metric: Annotated[
        str | None, typer.Option(help="What the picture shows, by epoch; by default the loss.")
    ] = None,
) -> None:
    """Compare runs: parameters that differ, metrics side by side, and a picture of their curves.

    Example: motoric runs compare watch-gru-1a2b3c4d watch-cnn-5e6f7a8b --plot curves.png
    """
    from motoric.cli.paired import paired
    from motoric.registry.runs import curves_png, unlike

    if plot.suffix.lower() != ".png" or not plot.absolute().parent.is_dir():
        raise UserError(f"--plot {plot}: name a .png, as it is a PNG, in a folder that exists")
    runs = _open()
    found = [runs.get(name) for name in run]
    if len({item.run_id for item in found}) < max(2, len(found)):
        raise UserError(f"comparing needs at least two runs, each named once; got {' '.join(run)}")
    known = {name for item in found for name in item.metrics}
    if metric is not None and metric not in known:
        listed = ", ".join(sorted(known)) or "none"
        raise UserError(f"--metric {metric}: none of these runs has it (they have: {listed})")
    metric = metric or next((name for name in (_CURVE, "train_loss") if name in known), "")
    histories = [runs.history(item, (metric,)) for item in found]
    _print_comparison(found, histories, metric)
    for difference in unlike(found):
        console.print(f"[yellow]careful:[/] {escape(difference)}")
    for other in found[1:]:
        outcome = paired(runs, found[0], other)
        if outcome is not None:
            console.print(outcome, soft_wrap=True)
    if not metric:
        console.print("[dim]no curves by epoch are kept, so there is no picture[/]")
        return
    try:
        plot.write_bytes(curves_png(found, histories, metric))
    except OSError as error:
        raise UserError(f"--plot {plot} cannot be written: {error.strerror}") from error
    console.print(f"picture of the curves: {escape(str(plot.absolute()))}", soft_wrap=True)


def _open() -> Runs:
    from motoric.registry.registry import Registry
    from motoric.registry.runs import Runs

    settings = load()
    return Runs(Registry(settings.registry_uri, settings.storage_uri))


def _print_facts(run: RunSummary, files: Sequence[str]) -> None:
    from motoric.registry.environment import PLATFORM, VERSIONS
    from motoric.registry.runs import REPORT, REPORT_FILE

    versions = [
        f"{name.removeprefix(VERSIONS)} {version}"
        for name, version in sorted(run.tags.items())
        if name.startswith(VERSIONS)
    ]
    kept = f"{run.files_uri}/{REPORT_FILE}" if REPORT_FILE in files else ""
    facts = {
        "id": run.run_id,
        "experiment": run.experiment,
        "kind": run.kind,
        "error": run.error,
        "score": _score(run),
        "started": f"{_when(run.started_at_s)}, took {_duration(run.duration_s)}",
        "dataset": run.dataset_digest,
        "code": run.commit,
        "versions": ", ".join(versions),
        "platform": run.tags.get(PLATFORM, ""),
        "files": run.files_uri,
        "report": run.tags.get(REPORT) or kept,
    }
    console.print(f"[bold]{escape(run.name)}[/]  {_status(run)}", soft_wrap=True)
    table = _grid()
    for name, value in facts.items():
        if value:
            table.add_row(name, escape(value.removeprefix("file://")))
    console.print(table)


def _print_parameters(parameters: Mapping[str, str]) -> None:
    parts: dict[str, list[str]] = {}
    for name, value in parameters.items():
        part, _, rest = name.partition(".")
        if value not in ("None", "", "[]", "{}", "()"):
            parts.setdefault(part, []).append(f"{rest} {value}".strip())
    console.print("\n[bold]parameters[/]")
    table = _grid()
    for part, values in parts.items():
        table.add_row(escape(part), escape(", ".join(values)))
    console.print(table)


def _print_metrics(run: RunSummary, history: RunHistory) -> None:
    if not run.metrics:
        return
    table = _table()
    table.add_column("metric", overflow="fold")
    table.add_column("last", justify="right")
    table.add_column("best by epoch", justify="right")
    for name in _rows([run]):
        best = history.best(name) if len(history.points.get(name, ())) > 1 else None
        table.add_row(escape(name), _with_interval(run.metrics, name), _best(best))
    console.print(table)


def _print_subjects(runs: Runs, run: RunSummary, files: Sequence[str]) -> None:
    """Print the per-subject table of `metrics.json`, with whatever columns it has."""
    from motoric.registry.runs import METRICS_FILE

    if METRICS_FILE not in files:
        return
    try:
        content = json.loads(runs.download(run, METRICS_FILE))
    except ValueError as error:
        console.print(f"{METRICS_FILE} is not JSON: {escape(str(error))}")
        return
    rows = content.get("subjects") if isinstance(content, dict) else None
    if not (isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)):
        return
    flat = [name for name, value in rows[0].items() if not isinstance(value, dict | list)]
    table = _table()
    for name in flat:
        title = _spelled(name.removeprefix("num_"))
        table.add_column(escape(title), justify="left" if name == "subject" else "right")
    for row in rows:
        cells = (row.get(name) for name in flat)
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else escape(str(v)) for v in cells))
    console.print(table)


def _print_comparison(
    found: Sequence[RunSummary], histories: Sequence[RunHistory], metric: str
) -> None:
    from motoric.registry.runs import best_of, differing

    table = _table()
    table.add_column("", overflow="fold")
    for run in found:
        table.add_column(escape(run.name), overflow="fold", justify="right")
    table.add_row("status", *(_status(run) for run in found))
    table.add_row("epochs", *(_epochs(run) for run in found))
    table.add_row("duration", *(_duration(run.duration_s) for run in found))
    table.add_section()
    for name, values in differing(found).items():
        table.add_row(escape(name), *("[dim]none[/]" if v is None else escape(v) for v in values))
    table.add_section()
    bests = [history.best(metric) for history in histories]
    if any(bests):
        marked = best_of(metric, [best[1] if best else None for best in bests])
        table.add_row(f"best {escape(metric)}", *_mark([_best(best) for best in bests], marked))
    for name in _rows(found):
        if not name.startswith("system/"):
            marked = best_of(name, [run.metrics.get(name) for run in found])
            cells = [_with_interval(run.metrics, name) for run in found]
            table.add_row(escape(name), *_mark(cells, marked))
    console.print(table)
    console.print("[dim]* the best, which may be chance; of metrics by epoch, the last is shown[/]")


def text_plot(
    points: Sequence[tuple[int, float]], *, width: int = 60, height: int = 8, utf8: bool = True
) -> list[str]:
    """A curve of `(step, value)` as lines of text: dots of Braille or, without UTF-8, asterisks."""
    drawn = [(step, value) for step, value in points if math.isfinite(value)]
    if not drawn:
        return ["(no finite values)"]
    low, high = min(value for _, value in drawn), max(value for _, value in drawn)
    first, last = drawn[0][0], drawn[-1][0]

    def place(step: float, value: float) -> tuple[float, float]:
        across = (step - first) / max(last - first, 1)
        up = (value - low) / (high - low) if high > low else 0.5
        return across * (2 * width - 1), (1 - up) * (4 * height - 1)

    cells = [[0] * width for _ in range(height)]
    placed = [place(*point) for point in drawn]
    for (x0, y0), (x1, y1) in zip(placed, placed[1:] or placed, strict=False):
        num_dots = int(max(abs(x1 - x0), abs(y1 - y0))) + 1
        for index in range(num_dots + 1):
            x = round(x0 + (x1 - x0) * index / num_dots)
            y = round(y0 + (y1 - y0) * index / num_dots)
            cells[y // 4][x // 2] |= _BRAILLE[y % 4][x % 2]
    labels = {0: _number(high), height - 1: _number(low)}
    room = max(len(label) for label in labels.values())
    bar, corner, rule = ("│", "└", "─") if utf8 else ("|", "+", "-")
    lines = []
    for row, line in enumerate(cells):
        shown = (chr(0x2800 + bits) if utf8 else "*" if bits else " " for bits in line)
        lines.append(f"{labels.get(row, ''):>{room}} {bar}{''.join(shown)}".rstrip())
    ends = f"{first + 1}{last + 1:>{max(width - len(str(first + 1)), 1)}}"
    return [*lines, f"{'':>{room}} {corner}{rule * width}", f"{'':>{room}}  {ends}"]


def _as_dict(run: RunSummary) -> dict[str, Any]:
    return asdict(run) | {"kind": run.kind, "model": run.model, "num_epochs": run.num_epochs}


def _print_json(content: Any) -> None:
    typer.echo(json.dumps(_finite(content), indent=1))


def _finite(content: Any) -> Any:
    """The same with null for values that JSON has no way to write."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def _score(run: RunSummary) -> str:
    """The test score with its confidence interval where the run has one."""
    if "test_accuracy" in run.metrics:
        return _with_interval(run.metrics, "test_accuracy", lambda value: f"{100 * value:.1f}", "%")
    if "test_mae" in run.metrics:
        return f"MAE {_with_interval(run.metrics, 'test_mae')}"
    return ""


def _with_interval(
    metrics: Mapping[str, float],
    name: str,
    spelled: Callable[[float], str] = lambda value: f"{value:.4g}",
    unit: str = "",
) -> str:
    if name not in metrics:
        return ""
    ends = [spelled(metrics[key]) for key in _ends(name) if key in metrics]
    return f"{spelled(metrics[name])}{unit}" + (f" ({' to '.join(ends)})" if len(ends) == 2 else "")


def _ends(name: str) -> tuple[str, str]:
    return f"{name}_low", f"{name}_high"


def _rows(found: Sequence[RunSummary]) -> list[str]:
    """Metrics of some runs as rows of a table; ends of intervals stand with what they are of."""
    # What each fold said would fill pages.
    names = {name for run in found for name in run.metrics if not name.startswith("fold_")}
    names -= {end for name in names for end in _ends(name)}
    return sorted(names, key=_rank)


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def _grid() -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _mark(cells: Sequence[str], best: frozenset[int]) -> list[str]:
    return [f"[bold green]{cell}*[/]" if i in best else cell for i, cell in enumerate(cells)]


def _rank(metric: str) -> tuple[int, str]:
    fitting = [index for index, prefix in enumerate(_ORDER) if metric.startswith(prefix)]
    return (fitting[0] if fitting else len(_ORDER) + metric.startswith("system/"), metric)


def _best(best: tuple[int, float] | None) -> str:
    return "" if best is None else f"{_number(best[1])} (epoch {best[0] + 1})"


def _epochs(run: RunSummary) -> str:
    return "" if run.num_epochs is None else str(run.num_epochs)


def _status(run: RunSummary) -> str:
    return f"[{_STATUS.get(run.status, 'default')}]{escape(run.status)}[/]"


def _spelled(name: str) -> str:
    return name.replace("_", " ")


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
