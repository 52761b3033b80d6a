"""What a recommendation needs to know of a dataset, from its card and tables; no sample is read."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from motoric.data.card import MIXED_UNITS, StreamCard
from motoric.data.dataset import Dataset
from motoric.data.recording import UNKNOWN_SUBJECT, Recording

# A channel that fewer recordings of its stream have is left out, else they are.
_COMMON = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """One stream.

    Attributes:
        name: Such as `imu`.
        rate_hz: The rate that most of its time has.
        min_rate_hz: Lowest of all recordings.
        max_rate_hz: Highest.
        channels: Those that nearly all its recordings have, in one unit.
        left_out: The others.
        num_recordings: That have it.
        num_with_video: Of these.
        durations_s: Of its recordings.
    """

    name: str
    rate_hz: float
    min_rate_hz: float
    max_rate_hz: float
    channels: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    num_recordings: int
    num_with_video: int = 0
    durations_s: tuple[float, ...]

    @property
    def has_one_rate(self) -> bool:
        """Whether all recordings run at `rate_hz`."""
        return self.max_rate_hz - self.min_rate_hz <= 1e-6 * self.rate_hz


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """One label: its annotations, their time, and the known subjects who have it."""

    name: str
    num_annotations: int
    duration_s: float
    num_subjects: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetFacts:
    """A dataset.

    Attributes:
        name: Of its card.
        num_recordings: All of them.
        num_subjects: Known people.
        num_unknown: Recordings of nobody knows whom.
        num_videos: Recordings with a video.
        streams: Those of most recordings first.
        labels: In the order of their names.
        annotations_s: Length of each annotation.
    """

    name: str
    num_recordings: int
    num_subjects: int
    num_unknown: int = 0
    num_videos: int = 0
    streams: tuple[StreamFacts, ...] = ()
    labels: tuple[LabelFacts, ...] = ()
    annotations_s: tuple[float, ...] = ()

    @property
    def annotation_s(self) -> float:
        """Median length of an annotation; 0 where there is none."""
        return statistics.median(self.annotations_s) if self.annotations_s else 0.0

    @property
    def annotations_per_recording(self) -> float:
        """Mean number of annotations."""
        return len(self.annotations_s) / max(1, self.num_recordings)


def look_at(dataset: Dataset) -> DatasetFacts:
    """Facts of a dataset."""
    outlines, rows = dataset.outlines(), dataset.recordings_table().to_pylist()
    known = {item.subject for item in outlines if not item.subject.startswith(UNKNOWN_SUBJECT)}
    streams = [_stream(card, rows) for card in dataset.card.streams]
    annotations_s = [
        annotation.end_s - annotation.start_s
        for outline in outlines
        for annotation in outline.annotations
    ]
    return DatasetFacts(
        name=dataset.card.name,
        num_recordings=len(outlines),
        num_subjects=len(known),
        num_unknown=sum(item.subject.startswith(UNKNOWN_SUBJECT) for item in outlines),
        num_videos=sum(item.video is not None for item in outlines),
        streams=tuple(sorted(streams, key=lambda item: (-item.num_recordings, -item.rate_hz))),
        labels=_labels(outlines),
        annotations_s=tuple(annotations_s),
    )


def _stream(card: StreamCard, rows: list[dict[str, Any]]) -> StreamFacts:
    counts: Counter[str] = Counter()
    durations_s, num_with_video = [], 0
    for row in rows:
        for item in row["streams"]:
            if item["stream"] == card.name:
                counts.update(channel["name"] for channel in item["channels"])
                durations_s.append(float(item["end_s"] - item["start_s"]))
                num_with_video += row["video"] is not None
    common = tuple(
        channel.name for channel in card.channels if _is_common(channel.name, card, counts)
    )
    return StreamFacts(
        name=card.name,
        rate_hz=card.rate_hz,
        min_rate_hz=card.min_rate_hz,
        max_rate_hz=card.max_rate_hz,
        channels=common,
        left_out=tuple(item.name for item in card.channels if item.name not in common),
        num_recordings=len(durations_s),
        num_with_video=num_with_video,
        durations_s=tuple(durations_s),
    )


def _is_common(name: str, card: StreamCard, counts: Mapping[str, int]) -> bool:
    unit = next(item.unit for item in card.channels if item.name == name)
    return unit != MIXED_UNITS and counts.get(name, 0) >= _COMMON * card.num_recordings


def _labels(outlines: list[Recording]) -> tuple[LabelFacts, ...]:
    number: Counter[str] = Counter()
    duration_s: Counter[str] = Counter()
    subjects: dict[str, set[str]] = {}
    for outline in outlines:
        is_known = not outline.subject.startswith(UNKNOWN_SUBJECT)
        for item in outline.annotations:
            number[item.label] += 1
            # A counter adds up floats just as well.
            duration_s[item.label] += item.end_s - item.start_s  # type: ignore[assignment]
            subjects.setdefault(item.label, set()).update({outline.subject} if is_known else set())
    return tuple(
        LabelFacts(
            name=name,
            num_annotations=number[name],
            duration_s=float(duration_s[name]),
            num_subjects=len(subjects[name]),
        )
        for name in sorted(number)
    )
