"""`motoric ingest`: a manifest or a folder becomes a dataset."""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from motoric.cli.console import console, make_progress, timed
from motoric.cli.datasets import absolute, print_card
from motoric.core.settings import Settings, load
from motoric.data.dataset import open_dataset
from motoric.data.ingest.build import BuildResult, build_dataset
from motoric.data.ingest.settings import IngestSettings, load_ingest_settings

if TYPE_CHECKING:
    from motoric.data.dataset import Dataset
    from motoric.data.ingest.source import Source

_SHOWN = 12


class VideoMode(StrEnum):
    """What becomes of videos."""

    REFERENCE = "reference"
    COPY = "copy"


def ingest(
    source: Annotated[
        str,
        typer.Argument(
            metavar="MANIFEST_OR_FOLDER",
            help="A manifest (CSV, Parquet, JSON lines), or a folder of workout files and videos.",
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder or URI of the dataset to write.")],
    settings: Annotated[
        Path | None, typer.Option(help="ingest.yaml: what columns mean, units, alignment.")
    ] = None,
    video: Annotated[
        VideoMode | None,
        typer.Option(help="Refer to videos where they lie, or copy them into the dataset."),
    ] = None,
    annotations: Annotated[
        str | None,
        typer.Option(help="Table of labelled intervals: recording_id, start_s, end_s, label."),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Commit nothing if any input is broken or needed repair."),
    ] = False,
    report: Annotated[bool, typer.Option(help="Write report/report.html into the dataset.")] = True,
) -> None:
    """Turn recordings into a dataset: checked, ordered, in standard units, at their own rates.

    Run it again after files were added: only what is new or changed is read. What cannot be read is
    put into quarantine with its reason, and stops nothing else.

    Example: motoric ingest recordings/manifest.csv --out datasets/spring --video copy

    Example: motoric ingest ~/garmin-export --out s3://bucket/datasets/team --settings ingest.yaml
    """
    chosen = load_ingest_settings(settings)
    if video is not None:
        chosen = chosen.model_copy(update={"video": video.value})
    run_ingest(
        load(),
        source if "://" in source else str(Path(source).expanduser().absolute()),
        absolute(out),
        chosen,
        annotations=None if annotations is None else absolute(annotations),
        strict=strict,
        report=report,
    )


def run_ingest(
    settings: Settings,
    source_uri: str,
    uri: str,
    chosen: IngestSettings,
    *,
    annotations: str | None = None,
    strict: bool = False,
    report: bool = True,
) -> BuildResult:
    """Ingest with a progress bar, and print what came out."""
    from motoric.data.sources.manifest_source import ManifestSource

    source = ManifestSource(source_uri, chosen, annotations_uri=annotations)
    extra = source.manifest.extra_columns
    if extra:
        console.print(f"kept as metadata: {escape(', '.join(extra))}", style="dim")
    with timed("ingest"):
        result = build_on_ray(settings, source, uri, strict=strict)
    _print_changes(result)
    dataset = open_dataset(uri)
    print_card(result.card, uri)
    print_troubles(dataset)
    if report:
        from motoric.data.report.page import write_report

        with timed("report"):
            place = write_report(dataset)
        console.print(f"report     {place}", soft_wrap=True)
    return result


def build_on_ray(
    settings: Settings,
    source: Source,
    uri: str,
    *,
    strict: bool = False,
) -> BuildResult:
    """Build a dataset on a Ray, with a progress bar over its recordings."""
    from motoric.cluster.session import ray_session

    with ray_session(settings), make_progress() as progress:
        task = progress.add_task("recordings", total=None)
        printed = 0

        def on_progress(done: int, total: int) -> None:
            nonlocal printed
            progress.update(task, completed=done, total=total)
            # A job's log has no bar: a line every tenth tells how far it is.
            if not console.is_terminal and total and done * 10 // total > printed:
                printed = done * 10 // total
                console.print(f"  {done} of {total} recordings")

        return build_dataset(
            source,
            uri,
            strict=strict,
            on_progress=on_progress,
        )


def _print_changes(result: BuildResult) -> None:
    if result.reused:
        console.print("nothing changed since the last ingest")
        return
    counts = {
        "added": result.num_added,
        "changed": result.num_changed,
        "removed, since the source does not have them any more": result.num_removed,
    }
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    console.print(told or "only what is left out changed")
    if result.num_resumed:
        console.print(
            f"{result.num_resumed} of them had been read by a run that was cut short", style="dim"
        )


def print_troubles(dataset: Dataset) -> None:
    """Print what was repaired, flagged, rejected and skipped, each kind in one line."""
    _print_flags(dataset)
    rows = dataset.quarantine_table().to_pylist()
    rejected = [row for row in rows if row["kind"] == "rejected"]
    if rejected:
        table = Table(title=f"Quarantined: {len(rejected)}", title_justify="left", box=None)
        table.add_column("input", overflow="fold")
        table.add_column("why", overflow="fold")
        for row in rejected[:_SHOWN]:
            place = row["source"].rpartition("/")[2] or row["recording_id"]
            table.add_row(escape(place), escape(row["reason"]))
        console.print(table)
        if len(rejected) > _SHOWN:
            console.print(f"  and {len(rejected) - _SHOWN} more: see the report", style="dim")
    skipped = Counter(row["reason"] for row in rows if row["kind"] == "skipped")
    if skipped:
        console.print(f"Skipped, since they hold no samples by nature: {skipped.total()}")
        for reason, count in skipped.most_common(_SHOWN):
            console.print(f"  {count} {escape(reason)}", style="dim")


def _print_flags(dataset: Dataset) -> None:
    repaired: Counter[str] = Counter()
    noted: Counter[str] = Counter()
    for row in dataset.recordings_table().select(["flags"]).to_pylist():
        kinds = {(flag["kind"], flag["is_repair"]) for flag in row["flags"]}
        for kind, is_repair in kinds:
            (repaired if is_repair else noted)[kind] += 1
    for title, counts in (("Repaired", repaired), ("Noted", noted)):
        if counts:
            told = ", ".join(f"{kind} in {count}" for kind, count in counts.most_common())
            console.print(f"{title}: {told}", soft_wrap=True)
