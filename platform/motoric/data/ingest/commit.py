"""The commit of a dataset: its small tables and its card, from what the tasks wrote.

In: rows about recordings, read now or kept from before. Out: the card, in place. Readers see the
dataset as it was until that one object is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from motoric.core import storage
from motoric.core.errors import DatasetError
from motoric.data import tables
from motoric.data.card import (
    MIXED_UNITS,
    ChannelCard,
    DatasetCard,
    FilePart,
    StreamCard,
    Tables,
    read_card,
    write_card,
)
from motoric.data.ingest.source import Source
from motoric.data.recording import UNKNOWN_SUBJECT

_SHOWN_REASONS = 5

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a run brought: rows about recordings, inputs that are not in, ids of kept recordings."""

    recordings: tuple[Row, ...]
    quarantined: tuple[Row, ...]
    kept: tuple[str, ...] = ()


def known_recordings(uri: str, card: DatasetCard | None = None) -> dict[str, Row]:
    """Rows of the recordings that a dataset has, by id; empty where there is no dataset yet."""
    if card is None:
        if not storage.exists(storage.join(uri, "dataset.json")):
            return {}
        card = read_card(uri)
    parts = {part.path: part.model_dump(mode="json") for part in card.tables.streams}
    annotations: dict[str, list[Row]] = {}
    table = tables.read_table(uri, card.tables.annotations, tables.ANNOTATIONS)
    for row in table.to_pylist():
        annotations.setdefault(row.pop("recording_id"), []).append(row)
    known = {}
    for row in tables.read_table(uri, card.tables.recordings, tables.RECORDINGS).to_pylist():
        recording_id = row["recording_id"]
        known[recording_id] = {
            **row,
            "metadata": dict(row["metadata"]),
            "annotations": annotations.get(recording_id, []),
            "_part": parts.get(row["part"]) if row["part"] else None,
        }
    return known


def commit(
    source: Source, uri: str, outcome: Outcome, before: DatasetCard | None = None
) -> DatasetCard:
    """Write the small tables, then the card, which is the commit.

    Args:
        source: Where the recordings came from.
        uri: Folder or prefix of the dataset.
        outcome: What the tasks brought, kept recordings among the others.
        before: The card that stands there; it stays if nothing is different.

    Raises:
        DatasetError: Not one recording could be read.
    """
    rows = sorted(outcome.recordings, key=lambda row: str(row["recording_id"]))
    rejected = [*(_quarantine_row(item) for item in source.rejected()), *outcome.quarantined]
    rejected.sort(key=lambda row: (row["kind"], row["recording_id"], row["source"], row["reason"]))
    if not rows:
        raise DatasetError(_nothing_read(source, rejected))
    annotations = [
        {"recording_id": row["recording_id"], **item} for row in rows for item in row["annotations"]
    ]
    recordings = [
        {name: row[name] for name in tables.RECORDINGS.names}
        | {"metadata": sorted(row["metadata"].items())}
        for row in rows
    ]
    written = {
        kind: tables.write_table(uri, kind, pa.Table.from_pylist(content, schema=schema))
        for kind, content, schema in (
            ("recordings", recordings, tables.RECORDINGS),
            ("annotations", annotations, tables.ANNOTATIONS),
            ("quarantine", rejected, tables.QUARANTINE),
        )
    }
    parts = {row["_part"]["path"]: row["_part"] for row in rows if row["part"]}
    card = DatasetCard(
        name=source.name,
        description=source.description,
        source=source.origin,
        content_digest=tables.dataset_digest(
            {row["recording_id"]: row["content_digest"] for row in rows}
        ),
        sources=source.digests(),
        settings=source.settings(),
        streams=_stream_cards(rows),
        num_recordings=len(rows),
        num_videos=sum(row["video"] is not None for row in rows),
        num_repaired=sum(any(flag["is_repair"] for flag in row["flags"]) for row in rows),
        num_quarantined=sum(row["kind"] == "rejected" for row in rejected),
        num_skipped=sum(row["kind"] == "skipped" for row in rejected),
        duration_s=sum(row["duration_s"] for row in rows),
        recordings_by_label=_count(
            label for row in rows for label in {item["label"] for item in row["annotations"]}
        ),
        recordings_by_subject=_count(
            "unknown" if row["subject"].startswith(UNKNOWN_SUBJECT) else row["subject"]
            for row in rows
        ),
        tables=Tables(
            recordings=(written["recordings"],),
            annotations=(written["annotations"],),
            quarantine=(written["quarantine"],),
            streams=tuple(FilePart.model_validate(parts[path]) for path in sorted(parts)),
        ),
    )
    if card != before:
        write_card(uri, card)
    return card


def _quarantine_row(item: Any) -> Row:
    return {name: getattr(item, name) for name in tables.QUARANTINE.names}


def _nothing_read(source: Source, rejected: Sequence[Row]) -> str:
    reasons = sorted({f"{row['source']}: {row['reason']}" for row in rejected})
    if not reasons:
        return f"{source.name} has no recording"
    more = f"; and {len(reasons) - _SHOWN_REASONS} more" if len(reasons) > _SHOWN_REASONS else ""
    return (
        f"no recording of {source.name} could be read: {'; '.join(reasons[:_SHOWN_REASONS])}{more}"
    )


def _stream_cards(rows: Sequence[Row]) -> tuple[StreamCard, ...]:
    summaries: dict[str, list[Row]] = {}
    for row in rows:
        for stream in row["streams"]:
            summaries.setdefault(stream["stream"], []).append(stream)
    cards = []
    for name in sorted(summaries):
        found = summaries[name]
        time_by_rate: dict[float, float] = {}
        channels: dict[str, str] = {}
        for stream in found:
            length_s = stream["num_samples"] / stream["rate_hz"]
            time_by_rate[stream["rate_hz"]] = time_by_rate.get(stream["rate_hz"], 0.0) + length_s
            for channel in stream["channels"]:
                unit = channels.setdefault(channel["name"], channel["unit"])
                if unit != channel["unit"]:
                    channels[channel["name"]] = MIXED_UNITS
        cards.append(
            StreamCard(
                name=name,
                rate_hz=max(sorted(time_by_rate), key=lambda rate: time_by_rate[rate]),
                min_rate_hz=min(time_by_rate),
                max_rate_hz=max(time_by_rate),
                channels=tuple(
                    ChannelCard(name=channel, unit=unit) for channel, unit in channels.items()
                ),
                num_recordings=len(found),
                num_samples=sum(stream["num_samples"] for stream in found),
            )
        )
    return tuple(cards)


def _count(values: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return dict(sorted(counts.items()))
