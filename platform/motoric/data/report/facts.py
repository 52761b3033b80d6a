"""What the report of an ingest says, decided from the small tables of a dataset; no samples read.

In: a committed dataset. Out: `Facts`, and which recordings to show as examples.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from motoric.data.card import DatasetCard
from motoric.data.dataset import Dataset
from motoric.data.recording import UNKNOWN_SUBJECT

UNKNOWN = "unknown"
_NUM_WORST = 3
_NUM_NAMED = 5

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How much there is of one label or person; `duration_s` is labelled or recorded time."""

    name: str
    num_recordings: int
    duration_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream over all recordings.

    Attributes:
        channels: Name, unit, and number of recordings that have it.
        rates_hz: Nominal rate of each recording that has the stream.
        gap_s: Time in gaps, of all recordings together.
        recorded_s: Time from first to last samples, gaps included.
        worst: Recording, number of its gaps and seconds in them; the longest first.
    """

    name: str
    channels: tuple[tuple[str, str, int], ...]
    rates_hz: tuple[float, ...]
    num_samples: int
    num_gaps: int
    gap_s: float
    recorded_s: float
    worst: tuple[tuple[str, int, float], ...]

    @property
    def has_one_rate(self) -> bool:
        """Whether all recordings have the same rate."""
        return max(self.rates_hz) - min(self.rates_hz) <= 1e-6 * max(self.rates_hz)

    @property
    def gap_share(self) -> float:
        """Time in gaps as a share of the recorded time."""
        return self.gap_s / self.recorded_s if self.recorded_s else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FlagFacts:
    """One kind of flag: in how many recordings, how often, and one of them as an example."""

    kind: str
    is_repair: bool
    num_recordings: int
    count: int
    recording_id: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """One repaired recording: its file, and a line for each repair."""

    recording_id: str
    source: str
    details: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """Inputs that are not in the dataset for one reason."""

    reason: str
    sources: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that the report says in words and tables.

    Attributes:
        subjects: Known people, and one row `unknown` for the recordings of unknown ones.
        videos: What the videos are like, by name of the property.
        num_unaligned: Recordings with sensors whose video nobody said the start of.
        sensor_examples: Rows of the table of recordings to show traces of.
        video_examples: Rows of the table of recordings to show frames of.
    """

    card: DatasetCard
    labels: tuple[Amount, ...]
    subjects: tuple[Amount, ...]
    num_unlabelled: int
    streams: tuple[StreamFacts, ...]
    flags: tuple[FlagFacts, ...]
    repaired: tuple[Repaired, ...]
    rejected: tuple[LeftOut, ...]
    skipped: tuple[LeftOut, ...]
    videos: dict[str, str]
    num_unaligned: int
    sensor_examples: tuple[Row, ...]
    video_examples: tuple[Row, ...]

    @property
    def num_people(self) -> int:
        """People that are known."""
        return sum(item.name != UNKNOWN for item in self.subjects)


def gather_facts(dataset: Dataset, *, num_sensor_examples: int, num_video_examples: int) -> Facts:
    """Read the small tables and decide what the report says."""
    rows: list[Row] = dataset.recordings_table().to_pylist()
    labels = dataset.annotations_table().to_pylist()
    labels_of: dict[str, set[str]] = {}
    for row in labels:
        labels_of.setdefault(row["recording_id"], set()).add(row["label"])
    left_out: list[Row] = dataset.quarantine_table().to_pylist()
    streams = _streams(rows)
    by_label = _amounts((row["label"], row["recording_id"], _span_s(row)) for row in labels)
    by_subject = _amounts((_person(row), row["recording_id"], row["duration_s"]) for row in rows)
    videos = [row["video"] for row in rows if row["video"] is not None]
    num_unlabelled = sum(row["recording_id"] not in labels_of for row in rows)
    return Facts(
        card=dataset.card,
        labels=by_label,
        subjects=by_subject,
        num_unlabelled=num_unlabelled,
        streams=streams,
        flags=_flags(rows),
        repaired=_repaired(rows),
        rejected=_left_out(left_out, "rejected"),
        skipped=_left_out(left_out, "skipped"),
        videos=_videos(videos) if videos else {},
        num_unaligned=sum(
            bool(row["streams"])
            and row["video"] is not None
            and row["video"]["offset_method"] == "none"
            for row in rows
        ),
        sensor_examples=choose_examples(
            [row for row in rows if row["streams"]], labels_of, num_sensor_examples
        ),
        video_examples=choose_examples(
            [row for row in rows if row["video"] is not None], labels_of, num_video_examples
        ),
    )


def choose_examples(
    rows: Sequence[Row], labels_of: Mapping[str, Iterable[str]], count: int
) -> tuple[Row, ...]:
    """Recordings that show as many streams, labels and people as possible.

    Greedy, and the same for the same rows: the next one is that with the most streams not shown
    yet, then labels, then a person not shown yet, then the first by its id.
    """
    shown: set[tuple[str, str]] = set()
    left = {
        row["recording_id"]: [
            {("stream", stream["stream"]) for stream in row["streams"]},
            {("label", label) for label in labels_of.get(row["recording_id"], ())},
            {("subject", row["subject"])},
        ]
        for row in sorted(rows, key=lambda row: str(row["recording_id"]))
    }
    chosen: list[Row] = []
    by_id = {row["recording_id"]: row for row in rows}
    while left and len(chosen) < count:
        best = max(left, key=lambda name: [len(kind - shown) for kind in left[name]])
        shown.update(*left.pop(best))
        chosen.append(by_id[best])
    return tuple(chosen)


def _person(row: Row) -> str:
    subject = str(row["subject"])
    return UNKNOWN if subject.startswith(UNKNOWN_SUBJECT) else subject


def _span_s(row: Row) -> float:
    return float(row["end_s"] - row["start_s"])


def _amounts(items: Iterable[tuple[str, str, float]]) -> tuple[Amount, ...]:
    recordings: dict[str, set[str]] = {}
    duration_s: dict[str, float] = {}
    for name, recording_id, length_s in items:
        recordings.setdefault(name, set()).add(recording_id)
        duration_s[name] = duration_s.get(name, 0.0) + length_s
    return tuple(
        Amount(name=name, num_recordings=len(recordings[name]), duration_s=duration_s[name])
        for name in sorted(recordings, key=lambda name: (-len(recordings[name]), name))
    )


def _streams(rows: Sequence[Row]) -> tuple[StreamFacts, ...]:
    found: dict[str, list[tuple[str, Row]]] = {}
    for row in rows:
        for stream in row["streams"]:
            found.setdefault(stream["stream"], []).append((row["recording_id"], stream))
    return tuple(_stream(name, found[name]) for name in sorted(found))


def _stream(name: str, found: Sequence[tuple[str, Row]]) -> StreamFacts:
    channels = Counter(
        (channel["name"], channel["unit"]) for _, stream in found for channel in stream["channels"]
    )
    gaps = [(recording_id, item["num_gaps"], item["gap_s"]) for recording_id, item in found]
    worst = sorted((item for item in gaps if item[1]), key=lambda item: (-item[2], item[0]))
    return StreamFacts(
        name=name,
        channels=tuple((*channel, count) for channel, count in channels.items()),
        rates_hz=tuple(stream["rate_hz"] for _, stream in found),
        num_samples=sum(stream["num_samples"] for _, stream in found),
        num_gaps=sum(item[1] for item in gaps),
        gap_s=sum(item[2] for item in gaps),
        recorded_s=sum(stream["end_s"] - stream["start_s"] for _, stream in found),
        worst=tuple(worst[:_NUM_WORST]),
    )


def _flags(rows: Sequence[Row]) -> tuple[FlagFacts, ...]:
    found: dict[tuple[str, bool], list[tuple[str, Row]]] = {}
    for row in rows:
        for flag in row["flags"]:
            found.setdefault((flag["kind"], flag["is_repair"]), []).append(
                (row["recording_id"], flag)
            )
    kinds = [
        FlagFacts(
            kind=kind,
            is_repair=is_repair,
            num_recordings=len({recording_id for recording_id, _ in items}),
            count=sum(flag["count"] for _, flag in items),
            recording_id=items[0][0],
            detail=items[0][1]["detail"],
        )
        for (kind, is_repair), items in found.items()
    ]
    return tuple(sorted(kinds, key=lambda item: (-item.is_repair, -item.num_recordings, item.kind)))


def _repaired(rows: Sequence[Row]) -> tuple[Repaired, ...]:
    return tuple(
        Repaired(recording_id=row["recording_id"], source=row["source"], details=details)
        for row in rows
        if (details := tuple(flag["detail"] for flag in row["flags"] if flag["is_repair"]))
    )


def _left_out(rows: Sequence[Row], kind: str) -> tuple[LeftOut, ...]:
    found: dict[str, list[str]] = {}
    for row in rows:
        if row["kind"] == kind:
            found.setdefault(row["reason"], []).append(row["source"] or row["recording_id"])
    return tuple(
        LeftOut(reason=reason, sources=tuple(found[reason]))
        for reason in sorted(found, key=lambda reason: (-len(found[reason]), reason))
    )


def _videos(videos: Sequence[Row]) -> dict[str, str]:
    def counted(values: Iterable[str]) -> str:
        counts = Counter(values).most_common()
        more = f", and {len(counts) - _NUM_NAMED} more" if len(counts) > _NUM_NAMED else ""
        return ", ".join(f"{value} ({count})" for value, count in counts[:_NUM_NAMED]) + more

    megabytes = sum(video["num_bytes"] for video in videos) / 1e6
    return {
        "size": f"{megabytes:,.1f} MB, {sum(video['num_frames'] for video in videos):,} frames",
        "codec": counted(video["codec"] for video in videos),
        "as displayed": counted(f"{video['width']} x {video['height']}" for video in videos),
        "frame rate": counted(
            f"{video['rate_hz']:.4g} Hz{', variable' if video['is_variable_rate'] else ''}"
            for video in videos
        ),
        "put on the sensors' clock by": counted(video["offset_method"] for video in videos),
    }
