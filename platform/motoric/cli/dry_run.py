"""How a dry run is printed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console

if TYPE_CHECKING:
    from motoric.training.dry_run import DryRun, PartSummary
    from motoric.training.recipe import Recipe

_GIB, _MIB, _KIB = 2**30, 2**20, 2**10
_MAX_LABELS = 12


def print_dry_run(found: DryRun, recipe: Recipe) -> None:
    """Print what a run would do: its data, its network, its cost and what the cluster must offer.

    Args:
        found: From `motoric.training.dry_run.dry_run`.
        recipe: The recipe that was tried.
    """
    console.print(_parts_table(found))
    console.print(_cost_table(found, recipe))
    for warning in found.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    console.print("nothing was trained or written: the recipe fits its data and this machine")


def _parts_table(found: DryRun) -> Table:
    table = Table(title="examples", title_justify="left")
    table.add_column("part")
    table.add_column("examples", justify="right")
    table.add_column("subjects", justify="right")
    table.add_column("by label")
    for part in found.parts:
        table.add_row(
            part.name, f"{part.num_examples:,}", str(part.num_subjects), escape(_labels(part))
        )
    return table


def _labels(part: PartSummary) -> str:
    if part.num_examples == 0:
        return "nobody"
    counts = list(part.examples_by_label.items())
    text = ", ".join(f"{label} {num:,}" for label, num in counts[:_MAX_LABELS])
    if len(counts) > _MAX_LABELS:
        text += f" and {len(counts) - _MAX_LABELS} more"
    if part.missing_labels:
        text += f"; none of {', '.join(part.missing_labels)}"
    return text


def _cost_table(found: DryRun, recipe: Recipe) -> Table:
    table = Table(title=f"{recipe.name}: {recipe.model['name']}", title_justify="left")
    table.add_column("what")
    table.add_column("how much", overflow="fold")
    for name, value in _rows(found, recipe):
        table.add_row(name, escape(value))
    return table


def _rows(found: DryRun, recipe: Recipe) -> list[tuple[str, str]]:
    cost = found.network
    shapes = ", ".join(" x ".join(map(str, shape)) for shape in found.example_shapes)
    is_solved = math.isnan(cost.loss)
    step = "features of a batch" if is_solved else "training step"
    rows = [
        ("an example", shapes),
        ("examples", size(found.examples_bytes)),
        ("where they lie", found.data_plan.text),
        ("parameters", f"{cost.num_parameters:,} ({size(cost.num_bytes)} with fixed tensors)"),
        ("forward, an example", f"{operations(cost.forward_flops)}, {cost.single_ms:.2f} ms alone"),
        (step, f"{cost.step_ms:.1f} ms for {cost.batch_size} examples on {cost.device}"),
        (
            "memory of the fit" if is_solved else "memory of a step",
            size(cost.step_bytes),
        ),
        ("memory of a worker", f"about {size(found.worker_bytes)}{_limit(recipe)}"),
    ]
    if not is_solved:
        rows.append(("loss of the first batch", f"{cost.loss:.3f}"))
    passes = "passes" if is_solved else "epochs at most"
    solving = f", then {duration(cost.solve_s)} to solve the head" if is_solved else ""
    rows += [
        ("length", f"{found.epochs} {passes} of {found.steps_per_epoch} steps{solving}"),
        ("training", f"about {duration(found.training_s)} on machines like this one"),
        ("the cluster must offer", needs(found)),
    ]
    return rows


def _limit(recipe: Recipe) -> str:
    limit = recipe.resources.memory_gib_per_worker
    return "" if limit is None else f", of {limit:g} GiB that the recipe allows"


def needs(found: DryRun) -> str:
    """What the cluster must offer at once, in words."""
    parts = [
        size(round(amount)) + " of memory" if name == "memory" else f"{amount:g} {name}"
        for name, amount in found.worker_resources.items()
    ]
    return f"{found.num_workers} worker(s), each with {', '.join(parts)}"


def size(num_bytes: int) -> str:
    """Bytes for people."""
    for unit, name in ((_GIB, "GiB"), (_MIB, "MiB"), (_KIB, "KiB")):
        if num_bytes >= unit:
            return (
                f"{num_bytes / unit:.3g} {name}"
                if num_bytes < 1000 * unit
                else (f"{num_bytes / unit:,.0f} {name}")
            )
    return f"{num_bytes} bytes"


def operations(flops: int) -> str:
    """Floating-point operations for people."""
    for unit, name in ((1e9, "GFLOP"), (1e6, "MFLOP"), (1e3, "kFLOP")):
        if flops >= unit:
            return f"{flops / unit:.3g} {name}"
    return f"{flops} FLOP"


def duration(seconds: float) -> str:
    """A time for people."""
    for unit, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.1f} {name}"
    return f"{seconds:.1f} s"
