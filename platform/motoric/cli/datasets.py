"""`motoric datasets`: build, show, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from motoric.cli.console import console, timed
from motoric.core import storage
from motoric.core.errors import DatasetError
from motoric.core.settings import load
from motoric.data.card import DatasetCard
from motoric.data.dataset import open_dataset
from motoric.data.ingest.build import default_uri, unchanged
from motoric.data.sources.catalogue import SOURCES, make_source

_SHOWN = 30

app = typer.Typer(
    help="Datasets: build one, look at it, take a recording out.", no_args_is_help=True
)


@app.command()
def build(
    name: Annotated[str, typer.Argument(help=f"One of {', '.join(sorted(SOURCES))}.")],
    out: Annotated[
        str | None,
        typer.Option(help="Folder or URI; by default datasets/NAME in the platform's storage."),
    ] = None,
    from_: Annotated[
        Path | None,
        typer.Option("--from", help="Folder of its files, for sources that no package carries."),
    ] = None,
) -> None:
    """Build a known dataset; one that is unchanged is kept. `motoric ingest` reads your own files.

    Example: motoric datasets build watch-exercises --out /data/watch-exercises

    Example: motoric datasets build utd-mhad --from ~/utd_mhad
    """
    from motoric.cli.ingest import build_on_ray, print_troubles

    settings = load()
    source = make_source(name, from_)
    uri = default_uri(settings.storage_uri, name) if out is None else absolute(out)
    kept = unchanged(source, uri)
    if kept is not None:
        console.print(f"[green]✓[/] reused {uri}: nothing changed since it was built")
        print_card(kept, uri)
        return
    with timed(f"dataset {name}"):
        card = build_on_ray(settings, source, uri).card
    print_card(card, uri)
    print_troubles(open_dataset(uri))


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
    if not dataset.card.streams:
        raise DatasetError(f"{dataset.uri} holds video alone: there is no stream to export")
    card = dataset.card.stream(stream) if stream else dataset.card.streams[0]
    recording = dataset.recording(recording_id)
    found = recording.stream(card.name)
    write_csv(out, found, [channel.name for channel in found.channels])
    labels = ", ".join(item.label for item in recording.annotations)
    console.print(f"wrote {out}: {recording.duration_s:.1f} s of {labels or 'no label'}")


def print_card(card: DatasetCard, uri: str) -> None:
    """Print a dataset's card as a table."""
    table = Table(title=f"{card.name}: {card.description}", title_justify="left", show_header=False)
    table.add_column(style="dim")
    table.add_column()
    for stream in card.streams:
        channels = ", ".join(f"{item.name} [{item.unit or '?'}]" for item in stream.channels)
        rate = f"{stream.rate_hz:g} Hz"
        if not stream.has_one_rate:
            rate = f"mostly {rate}, {stream.min_rate_hz:g} to {stream.max_rate_hz:g} Hz"
        table.add_row(
            f"stream {stream.name}",
            f"{stream.num_recordings} recordings, {rate}: {channels}",
            end_section=True,
        )
    videos = f", {card.num_videos} with video" if card.num_videos else ""
    table.add_row(
        "recordings", f"{card.num_recordings}, {card.duration_s / 3600:.2f} hours{videos}"
    )
    table.add_row(
        "repaired, quarantined, skipped",
        f"{card.num_repaired}, {card.num_quarantined}, {card.num_skipped}",
    )
    table.add_row("by label", _counts(card.recordings_by_label))
    table.add_row("by subject", _counts(card.recordings_by_subject))
    table.add_row("source", card.source)
    table.add_row("digest", card.content_digest)
    table.add_row("at", uri)
    # Brackets are units here, not markup.
    console.print(table, markup=False)


def _counts(counts: dict[str, int]) -> str:
    shown = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_SHOWN]
    shown = sorted(shown) if len(counts) <= _SHOWN else shown
    more = f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    return ", ".join(f"{name} {count}" for name, count in shown) + more or "none"


def absolute(out: str) -> str:
    """A URI as it is, a path made absolute."""
    return out if "://" in out else str(Path(out).expanduser().absolute())


def _find(uri: str) -> str:
    """A path on this machine, or a name below the storage's datasets."""
    if storage.is_absolute(uri) or Path(uri).is_dir():
        return absolute(uri)
    return default_uri(load().storage_uri, uri)
