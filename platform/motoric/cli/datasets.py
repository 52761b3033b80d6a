"""`motoric datasets`: build, show, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from motoric.cli.console import console, make_progress, timed
from motoric.core import storage
from motoric.core.errors import NotFoundError
from motoric.core.settings import Settings, load
from motoric.data.build import build_dataset, default_uri, unchanged
from motoric.data.card import DatasetCard
from motoric.data.dataset import open_dataset
from motoric.data.sources import Source, make_source

app = typer.Typer(
    help="Datasets: build one, look at it, take a recording out.", no_args_is_help=True
)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help="Name of a source, such as watch-exercises.")],
    out: Annotated[
        str | None,
        typer.Option(help="Folder or URI; by default datasets/NAME in the platform's storage."),
    ] = None,
) -> None:
    """Build a dataset from a source; one that is unchanged is kept.

    Example: motoric datasets build watch-exercises --out /data/watch-exercises
    """
    settings = load()
    source = make_source(name)
    uri = default_uri(settings.storage_uri, name) if out is None else _absolute(out)
    kept = unchanged(source, uri)
    if kept is not None:
        console.print(f"[green]✓[/] reused {uri}: nothing changed since it was built")
        print_card(kept, uri)
        return
    with timed(f"dataset {name}"):
        card = build_with_progress(settings, source, uri)
    print_card(card, uri)


def build_with_progress(settings: Settings, source: Source, uri: str) -> DatasetCard:
    """Build a dataset on a Ray, with a progress bar over its recordings."""
    from motoric.cluster.session import ray_session

    with ray_session(settings), make_progress() as progress:
        task = progress.add_task("recordings", total=None)

        def on_progress(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        return build_dataset(source, uri, on_progress=on_progress).card


@app.command()
def show(
    uri: Annotated[str, typer.Argument(help="Folder, URI, or a name in the storage.")],
) -> None:
    """Show what is in a dataset.

    Example: motoric datasets show watch-exercises
    """
    found = _find(uri)
    print_card(open_dataset(found).card, found)


@app.command()
def export(
    uri: Annotated[str, typer.Argument(help="Folder, URI, or a name in the storage.")],
    recording_id: Annotated[str, typer.Argument(help="Id of a recording, such as watch-005.")],
    out: Annotated[Path, typer.Option(help="CSV file to write.")],
    stream: Annotated[
        str | None, typer.Option(help="Name of a stream; the first by default.")
    ] = None,
) -> None:
    """Write one stream of a recording as CSV: `time_s` and a column a channel.

    Example: motoric datasets export watch-exercises watch-005 --out watch-005.csv
    """
    from motoric.data.csv_file import write_csv

    dataset = open_dataset(_find(uri))
    card = dataset.card.stream(stream) if stream else dataset.card.streams[0]
    for recording in dataset.recordings():
        if recording.recording_id == recording_id:
            found = next(item for item in recording.streams if item.name == card.name)
            write_csv(out, found, [channel.name for channel in card.channels])
            labels = ", ".join(item.label for item in recording.annotations)
            console.print(f"wrote {out}: {recording.duration_s:.1f} s of {labels or 'no label'}")
            return
    raise NotFoundError(f"{dataset.uri} has no recording {recording_id!r}")


def print_card(card: DatasetCard, uri: str) -> None:
    """Print a dataset's card as a table."""
    table = Table(title=f"{card.name}: {card.description}", title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for stream in card.streams:
        channels = ", ".join(f"{item.name} [{item.unit}]" for item in stream.channels)
        table.add_row(
            f"stream {stream.name}", f"{stream.rate_hz:g} Hz: {channels}", end_section=True
        )
    table.add_row("recordings", f"{card.num_recordings}, {card.duration_s / 3600:.2f} hours")
    table.add_row("quarantined", str(card.num_quarantined))
    table.add_row("by label", _counts(card.recordings_by_label))
    table.add_row("by subject", _counts(card.recordings_by_subject))
    table.add_row("source", card.source)
    table.add_row("digest", card.content_digest)
    table.add_row("at", uri)
    # Brackets are units here, not markup.
    console.print(table, markup=False)


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items()) or "none"


def _absolute(out: str) -> str:
    return out if storage.is_absolute(out) else str(Path(out).absolute())


def _find(uri: str) -> str:
    """A path on this machine, or a name below the storage's datasets."""
    if storage.is_absolute(uri) or Path(uri).is_dir():
        return _absolute(uri)
    return default_uri(load().storage_uri, uri)
