"""Build a dataset from a source, with Ray Data reading and writing the recordings in parallel.

In: a source and a URI. Out: a committed dataset. Each task writes one content-named file of
streams; the driver writes the small tables and the card. The same source gives the same content
digest whatever the number of workers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from motoric.core import storage
from motoric.core.errors import DatasetError
from motoric.data import tables
from motoric.data.card import DatasetCard, FilePart, Tables, read_card, write_card
from motoric.data.recording import Recording
from motoric.data.sources import Source

RECORDINGS_A_FILE = 20

OnProgress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What `build_dataset` did."""

    card: DatasetCard
    reused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartWriter:
    """Writes the recordings of one group as one file; runs in a Ray Data task."""

    source: Source
    dataset_uri: str

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Write one item of `plan`; returns what `commit` needs of it."""
        indices = [int(index) for index in row["indices"]]
        recordings, rejected = _load_each(self.source, indices)
        part = None
        if recordings:
            rows = tables.stream_rows(recordings)
            part = tables.write_table(self.dataset_uri, "streams", rows).model_dump_json()
        return {
            "group": int(row["group"]),
            "part": part,
            "recordings": [_about(recording) for recording in recordings],
            "rejected": rejected,
        }


def _load_each(source: Source, indices: list[int]) -> tuple[list[Recording], list[dict[str, str]]]:
    """Load recordings one by one, so that a broken one is rejected and stops nothing else."""
    recordings: list[Recording] = []
    rejected: list[dict[str, str]] = []
    ids = source.recording_ids()
    for index in indices:
        try:
            recordings.extend(source.load([index]))
        except (DatasetError, ValueError, OSError) as error:
            rejected.append({"recording_id": ids[index], "reason": str(error)})
    return recordings, rejected


def _about(recording: Recording) -> dict[str, Any]:
    return {
        "recording_id": recording.recording_id,
        "subject": recording.subject,
        "duration_s": recording.duration_s,
        "content_digest": tables.recording_digest(recording),
        "metadata": [
            {"key": key, "value": value} for key, value in sorted(recording.metadata.items())
        ],
        "annotations": [
            {"start_s": item.start_s, "end_s": item.end_s, "label": item.label}
            for item in recording.annotations
        ],
    }


def _settings() -> dict[str, str]:
    return {
        "chunk_s": f"{tables.CHUNK_S:g}",
        "recordings_a_file": str(RECORDINGS_A_FILE),
    }


def unchanged(source: Source, uri: str) -> DatasetCard | None:
    """The card of the dataset at `uri`, if it was built from the same files in the same way."""
    try:
        card = read_card(uri)
    except DatasetError:
        return None
    same = (
        card.name == source.name
        and card.sources == source.digests()
        and card.settings == _settings()
        and card.streams == source.streams
    )
    return card if same else None


def build_dataset(source: Source, uri: str, *, on_progress: OnProgress = _silent) -> BuildResult:
    """Build the dataset at `uri`, or keep it where nothing changed. Needs a running Ray.

    Args:
        source: Where recordings come from.
        uri: Folder or prefix of the dataset, on storage that all nodes share.
        on_progress: Called with recordings done and in all.

    Raises:
        DatasetError: Not one recording could be read.
    """
    kept = unchanged(source, uri)
    if kept is not None:
        return BuildResult(card=kept, reused=True)
    groups = _run(source, uri, on_progress)
    return BuildResult(card=commit(source, uri, groups), reused=False)


def plan(source: Source) -> list[dict[str, Any]]:
    """Which recordings go into which file: fixed by the source alone, never by the workers."""
    total = len(source.recording_ids())
    return [
        {"group": group, "indices": list(range(first, min(first + RECORDINGS_A_FILE, total)))}
        for group, first in enumerate(range(0, total, RECORDINGS_A_FILE))
    ]


def _run(source: Source, uri: str, on_progress: OnProgress) -> list[dict[str, Any]]:
    import ray.data

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    items = plan(source)
    total = sum(len(item["indices"]) for item in items)
    dataset = ray.data.from_items(items, override_num_blocks=len(items)).map(
        PartWriter(source=source, dataset_uri=uri)
    )
    # Ray Data sets its own log levels when a dataset is made, so this comes after.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    groups, done = [], 0
    on_progress(0, total)
    for row in dataset.iter_rows():
        groups.append(row)
        done += len(row["recordings"]) + len(row["rejected"])
        on_progress(done, total)
    return sorted(groups, key=lambda row: int(row["group"]))


def commit(source: Source, uri: str, groups: list[dict[str, Any]]) -> DatasetCard:
    """Write the small tables, then the card, which is the commit.

    Args:
        source: Where the recordings came from.
        uri: Folder or prefix of the dataset.
        groups: What `PartWriter` returned for each item of `plan`.

    Raises:
        DatasetError: Not one recording could be read.
    """
    about = [row for group in groups for row in group["recordings"]]
    rejected = [row for group in groups for row in group["rejected"]]
    if not about:
        reasons = "; ".join(sorted({row["reason"] for row in rejected})) or "the source is empty"
        raise DatasetError(f"no recording of {source.name} could be read: {reasons}")
    annotations = [
        {"recording_id": row["recording_id"], **item}
        for row in about
        for item in row["annotations"]
    ]
    columns = tables.RECORDINGS.names
    recordings = [
        {name: row[name] for name in columns}
        | {"metadata": [(item["key"], item["value"]) for item in row["metadata"]]}
        for row in about
    ]
    written = {
        kind: tables.write_table(uri, kind, pa.Table.from_pylist(rows, schema=schema))
        for kind, rows, schema in (
            ("recordings", recordings, tables.RECORDINGS),
            ("annotations", annotations, tables.ANNOTATIONS),
            ("quarantine", rejected, tables.QUARANTINE),
        )
    }
    labels = [tuple(sorted({item["label"] for item in row["annotations"]})) for row in about]
    card = DatasetCard(
        name=source.name,
        description=source.description,
        source=source.origin,
        content_digest=tables.dataset_digest(
            {row["recording_id"]: row["content_digest"] for row in about}
        ),
        sources=source.digests(),
        settings=_settings(),
        streams=source.streams,
        num_recordings=len(about),
        num_quarantined=len(rejected),
        duration_s=sum(row["duration_s"] for row in about),
        recordings_by_label=_count(label for found in labels for label in found),
        recordings_by_subject=_count(row["subject"] for row in about),
        tables=Tables(
            recordings=(written["recordings"],),
            annotations=(written["annotations"],),
            quarantine=(written["quarantine"],),
            streams=tuple(
                FilePart.model_validate_json(group["part"]) for group in groups if group["part"]
            ),
        ),
    )
    write_card(uri, card)
    return card


def _count(values: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))


def default_uri(storage_uri: str, name: str) -> str:
    """Where a dataset lies unless its user says otherwise."""
    return storage.join(storage_uri, "datasets", name)
