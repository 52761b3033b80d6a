"""What commands print with: one console, timed stages, a progress bar an epoch."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from motoric.training.progress import EpochReport, Tick

if TYPE_CHECKING:
    from motoric.training.folds import Fold

# Without a terminal, at least so long between two lines within an epoch.
_LINE_S = 15.0

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def make_progress() -> Progress:
    """A progress bar with elapsed and remaining time; it vanishes when it is done."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def print_segments(title: str, segments: Iterable[tuple[float, float, str | None, float]]) -> None:
    """Print a table of start and end in seconds, label (None is uncertain) and probability."""
    table = Table(title=title, title_justify="left")
    table.add_column("from (s)", justify="right")
    table.add_column("to (s)", justify="right")
    table.add_column("label")
    table.add_column("probability", justify="right")
    for start_s, end_s, label, probability in segments:
        shown = label or "[dim]uncertain[/]"
        table.add_row(f"{start_s:.1f}", f"{end_s:.1f}", shown, f"{probability:.1%}")
    console.print(table)


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Print how long a block took."""
    started_s = time.perf_counter()
    yield
    console.print(f"[green]✓[/] {name} [dim]({time.perf_counter() - started_s:.1f} s)[/]")


class TrainingDisplay:
    """Shows the stages of `train_model` with their times, and a live bar over the epochs."""

    def __init__(self) -> None:
        self._progress = make_progress()
        self._task = self._progress.add_task("starting", total=None)
        self._stage: str | None = None
        self._since_s = self._told_s = time.perf_counter()
        self._is_training = False
        self._left = ""
        self.run_id: str | None = None

    def __enter__(self) -> TrainingDisplay:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._finish_stage()
        self._progress.stop()

    def on_stage(self, name: str) -> None:
        """A stage begins, so the one before ended."""
        self._finish_stage()
        self._stage = name
        self._progress.reset(self._task, total=None, description=name)

    def on_run(self, run_id: str) -> None:
        """The run has a name now, by which it can go on."""
        self.run_id = run_id

    def on_tick(self, tick: Tick) -> None:
        """Say by whom training has begun; else move the bar, without a terminal now and then."""
        if tick.is_start:
            self._start(tick)
            return
        loss = "" if tick.loss is None else f"  loss {tick.loss:.3f}"
        self._left = "" if tick.left_s is None else f"  {_clock(tick.left_s)} left"
        line = (
            f"epoch {tick.epoch + 1}/{tick.num_epochs}, {tick.share:.0%}{loss}"
            f"  {tick.windows_per_s:,.0f} examples/s  {tick.num_workers} worker(s){self._left}"
        )
        self._move(tick.epoch + tick.share, tick.num_epochs, line)
        if time.perf_counter() - self._told_s >= _LINE_S:
            self._tell(line)

    def on_epoch(self, report: EpochReport, num_epochs: int) -> None:
        """Move the bar; where nobody watches a terminal, print a line."""
        number = report.epoch + 1
        line = (
            f"epoch {number}/{num_epochs}  loss {report.train_loss:.3f}{_validation(report)}"
            f"  {report.windows_per_s:,.0f} examples/s  {report.num_workers} worker(s)"
            f"  waiting {report.waiting_share:.0%}{self._left if number < num_epochs else ''}"
        )
        self._move(number, num_epochs, line)
        self._tell(line)

    def _start(self, tick: Tick) -> None:
        if not self._is_training:
            self.on_stage(f"training on {tick.num_workers} worker(s)")
        self._is_training = True
        place = tick.epoch + tick.share
        if place > 0:
            console.print(
                f"  goes on in epoch {tick.epoch + 1} ({tick.share:.0%}), {tick.num_workers}"
                " worker(s)"
            )
        self._progress.update(self._task, completed=place, total=tick.num_epochs)

    def _move(self, place: float, num_epochs: int, line: str) -> None:
        self._progress.update(self._task, completed=place, total=num_epochs, description=line)

    def _tell(self, line: str) -> None:
        self._told_s = time.perf_counter()
        if not console.is_terminal:
            console.print(f"  {line}", soft_wrap=True)

    def on_fold(self, fold: Fold, seed: int, score: str, num_done: int, num_all: int) -> None:
        """A fold of a cross-validation ended: print its score and move the bar."""
        console.print(f"  fold {fold.number} ({fold.name}), seed {seed}: {score}", markup=False)
        self._progress.update(self._task, completed=num_done, total=num_all)

    def _finish_stage(self) -> None:
        now_s = time.perf_counter()
        if self._stage is not None:
            console.print(f"[green]✓[/] {self._stage} [dim]({now_s - self._since_s:.1f} s)[/]")
        self._since_s = now_s


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _validation(report: EpochReport) -> str:
    if report.validation_loss is None or report.validation_score is None:
        return ""
    name, _, unit = report.score_name.partition(", ")
    score = (
        f"{report.validation_score:.1%}"
        if name == "accuracy"
        else f"{name} {report.validation_score:.3g} {unit}"
    )
    return f"  validation {report.validation_loss:.3f} ({score})"
