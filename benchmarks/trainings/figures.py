"""Figures of rounds as they are printed."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence

from tabulate import tabulate

_BEGAN_S = time.perf_counter()


def say(text: str) -> None:
    """Tell whoever waits what happens."""
    print(f"[{time.perf_counter() - _BEGAN_S:6.1f} s] {text}", file=sys.stderr, flush=True)


def spread(values: Sequence[float], form: Callable[[float], str]) -> list[str]:
    """Two cells: the median, and the range."""
    return [form(statistics.median(values)), f"{form(min(values))} to {form(max(values))}"]


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of each round, so that a machine that changes its pace changes both."""
    return [first / second for first, second in zip(above, below, strict=True)]


def milliseconds(seconds: float) -> str:
    """Of a step."""
    return f"{seconds * 1e3:,.1f}"


def times(value: float) -> str:
    """A ratio."""
    return f"{value:.3f}"


def percent(value: float) -> str:
    """A share."""
    return f"{value:.1%}"


def table(rows: Sequence[Sequence[str]], columns: str) -> str:
    """A table of Markdown; `columns` are divided by |."""
    text: str = tabulate(rows, headers=columns.split("|"), tablefmt="github", disable_numparse=True)
    return text
