"""What `motoric tune` shows while it searches: a bar for the search and one for each trial."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType

from rich.markup import escape
from rich.progress import TaskID
from rich.table import Table

from motoric.cli.console import console, make_progress
from motoric.cli.dry_run import duration
from motoric.training.tuning.trials import Metric, Progress, Trial
from motoric.workflows.tune import TunedRecipe

_MAX_ROWS = 10


class SearchDisplay:
    """Shows stages with their times, and where the search and its running trials stand.

    Where nobody watches a terminal, each trial that ends prints a line.
    """

    def __init__(self) -> None:
        self._progress = make_progress()
        self._main = self._progress.add_task("starting", total=None)
        self._running: dict[int, TaskID] = {}
        self._stage: str | None = None
        self._since_s = time.perf_counter()

    def __enter__(self) -> SearchDisplay:
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
        self._progress.reset(self._main, total=None, description=name)

    def on_trial(self, trial: Trial, found: Progress, metric: Metric, max_epochs: int) -> None:
        """A trial began, trained an epoch, or ended."""
        where = describe_progress(found, metric)
        self._progress.update(
            self._main, completed=found.num_over, total=found.num_trials, description=where
        )
        if trial.is_over:
            task = self._running.pop(trial.number, None)
            if task is not None:
                self._progress.remove_task(task)
            line = f"  {describe_end(trial, metric)}"
            if not console.is_terminal:
                line += f"; {found.num_over} of {found.num_trials} over, {where}"
            console.print(line, markup=False, soft_wrap=True)
            return
        if trial.number not in self._running:
            self._running[trial.number] = self._progress.add_task("", total=max_epochs)
        value = metric.value(trial.epochs[-1]) if trial.epochs else None
        self._progress.update(
            self._running[trial.number],
            completed=len(trial.epochs),
            total=int(trial.values.get("train.epochs", max_epochs)),
            description=f"  trial {trial.number}"
            + ("" if value is None else f"  {metric.text(value)}"),
        )

    def _finish_stage(self) -> None:
        now_s = time.perf_counter()
        if self._stage is not None:
            console.print(f"[green]✓[/] {self._stage} [dim]({now_s - self._since_s:.1f} s)[/]")
        self._since_s = now_s


def describe_progress(found: Progress, metric: Metric) -> str:
    """Where a search stands, in one line."""
    parts = [
        f"{found.num_done} done, {found.num_stopped} stopped, {found.num_running} running",
        f"{found.num_failed} failed" if found.num_failed else "",
        ""
        if found.best is None
        else f"best {metric.text(metric.best_value(found.best))} (trial {found.best.number})",
        "" if found.left_s is None else f"about {duration(found.left_s)} left",
    ]
    return ", ".join(part for part in parts if part)


def describe_end(trial: Trial, metric: Metric) -> str:
    """How a trial ended, in one line."""
    if trial.status == "failed":
        return f"trial {trial.number} failed: {trial.error}"
    how = "stopped after" if trial.status == "stopped" else "trained"
    names = short_names(list(trial.values))
    values = ", ".join(
        f"{key} {value}" for key, value in zip(names, trial.values.values(), strict=True)
    )
    value = metric.text(metric.best_value(trial))
    return f"trial {trial.number} {how} {len(trial.epochs)} epoch(s): {value} with {values}"


def short_names(keys: Sequence[str]) -> list[str]:
    """The last part of each key, or all of it where two would be the same."""
    last = [key.rpartition(".")[2] for key in keys]
    return [name if last.count(name) == 1 else key for key, name in zip(keys, last, strict=True)]


def print_search(found: TunedRecipe) -> None:
    """The best trials as a table."""
    assert found.recipe.search is not None
    keys = list(found.recipe.search.space)
    ordered = found.metric.ordered(found.trials)
    shown = ordered[:_MAX_ROWS]
    title = f"the best {len(shown)} of {len(found.trials)} trials"
    table = Table(title=title, title_justify="left")
    for name in ("trial", found.metric.name(found.trials), "epochs"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("end")
    for key in short_names(keys):
        table.add_column(escape(key), justify="right", overflow="fold")
    for trial in shown:
        table.add_row(
            str(trial.number),
            found.metric.text(found.metric.best_value(trial)),
            str(len(trial.epochs)),
            trial.status,
            *(escape(str(trial.values.get(key))) for key in keys),
            style="bold" if trial is ordered[0] else "",
        )
    console.print(table)
    failed = [trial for trial in found.trials.values() if trial.status == "failed"]
    if failed:
        console.print(
            f"{len(failed)} trial(s) failed; the first: {failed[0].error}",
            markup=False,
            soft_wrap=True,
        )
