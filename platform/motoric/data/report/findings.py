"""What deserves a look in a dataset, in sentences; decided from its facts.

In: `Facts`. Out: sentences, the gravest first; none if all is well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from motoric.data.card import DatasetCard
from motoric.data.report.facts import UNKNOWN, Amount, Facts, StreamFacts

# Fewer people than parts of a split: none would be left to train, validate or test on.
_MIN_PEOPLE = 3
_NOTABLE_GAP_SHARE = 0.01
_NOTABLE_IMBALANCE = 10
_NUM_NAMED = 5


def findings(facts: Facts) -> list[str]:
    """Sentences on what deserves a look: one for each kind of trouble, the gravest first."""
    return [
        *_damage(facts.card),
        *_missing_labels(facts),
        *_people(facts.subjects),
        *_videos(facts.num_unaligned),
        *_units(facts.streams),
        *_gaps(facts.streams),
        *_rates(facts.streams),
        *_imbalance(facts.labels),
        *_partial(facts.streams, facts.card.num_recordings),
    ]


def _of_recordings(count: int) -> str:
    return "1 recording" if count == 1 else f"{count:,} recordings"


def _damage(card: DatasetCard) -> Iterable[str]:
    if card.num_quarantined:
        total = card.num_recordings + card.num_quarantined
        are = "is" if card.num_quarantined == 1 else "are"
        yield f"{card.num_quarantined:,} of {total:,} inputs {are} broken or wrong, and left out."
    if card.num_repaired:
        were = "was" if card.num_repaired == 1 else "were"
        yield f"{_of_recordings(card.num_repaired)} {were} damaged; what could be saved is in."


def _missing_labels(facts: Facts) -> Iterable[str]:
    if not facts.labels:
        yield "No recording has a label: a classifier has nothing to learn from."
    elif facts.num_unlabelled:
        num_recordings = facts.card.num_recordings
        yield f"{facts.num_unlabelled:,} of {num_recordings:,} recordings have no label."


def _people(subjects: Sequence[Amount]) -> Iterable[str]:
    unknown = [item.num_recordings for item in subjects if item.name == UNKNOWN]
    num_people = len(subjects) - len(unknown)
    if unknown:
        yield (
            f"Who is recorded is unknown in {_of_recordings(unknown[0])}: give the manifest a"
            " column subject, else a model cannot be tested on people it has not seen."
        )
    if 0 < num_people < _MIN_PEOPLE:
        yield (
            f"People known: {num_people}. To train, choose and test a model on different people"
            f" takes {_MIN_PEOPLE} at least."
        )


def _videos(num_unaligned: int) -> Iterable[str]:
    if num_unaligned:
        yield (
            f"In {_of_recordings(num_unaligned)} nobody said when the video started, so it is taken"
            " to start with the sensors: give video_offset_s in the manifest, or set"
            " alignment.method to correlation."
        )


def _units(streams: Sequence[StreamFacts]) -> Iterable[str]:
    mixed: list[str] = []
    unitless: list[str] = []
    for stream in streams:
        units: dict[str, list[str]] = {}
        for name, unit, _ in stream.channels:
            units.setdefault(name, []).append(unit or "one that nobody said")
        mixed += [
            f"{name} of stream {stream.name} is in {' and in '.join(found)}"
            for name, found in units.items()
            if len(found) > 1
        ]
        if names := [name for name, unit, _ in stream.channels if not unit]:
            unitless.append(f"{_channels(names)} of stream {stream.name}")
    if mixed:
        yield f"Recordings differ in units: {_listed(mixed)}."
    if unitless:
        yield f"Nobody said the unit of {_listed(unitless)}."


def _gaps(streams: Sequence[StreamFacts]) -> Iterable[str]:
    found = [item for item in streams if item.gap_share > _NOTABLE_GAP_SHARE]
    if found:
        found.sort(key=lambda item: -item.gap_s)
        shares = [f"{item.gap_share:.1%} of stream {item.name}" for item in found]
        yield f"Time is missing in gaps: {_listed(shares)}."


def _rates(streams: Sequence[StreamFacts]) -> Iterable[str]:
    found = [
        f"stream {item.name} runs at {min(item.rates_hz):g} to {max(item.rates_hz):g} Hz"
        for item in streams
        if not item.has_one_rate
    ]
    if found:
        yield (
            f"Recordings differ in rate: {_listed(found)}. A recipe has to name the rate to"
            " resample to."
        )


def _imbalance(labels: Sequence[Amount]) -> Iterable[str]:
    if len(labels) > 1 and labels[0].num_recordings >= (
        _NOTABLE_IMBALANCE * labels[-1].num_recordings
    ):
        most, least = labels[0], labels[-1]
        yield (
            f"Labels are uneven: {most.name} is in {_of_recordings(most.num_recordings)},"
            f" {least.name} in {least.num_recordings:,}."
        )


def _partial(streams: Sequence[StreamFacts], num_recordings: int) -> Iterable[str]:
    rare = [
        f"{item.name} is in {len(item.rates_hz):,}"
        for item in streams
        if len(item.rates_hz) < num_recordings
    ]
    if rare:
        yield f"Of {num_recordings:,} recordings, not all have each stream: {_listed(rare)}."
    channels: list[str] = []
    for stream in streams:
        counts: Counter[str] = Counter()
        for name, _, count in stream.channels:
            counts[name] += count
        if names := [name for name, count in counts.items() if count < len(stream.rates_hz)]:
            channels.append(f"{_channels(names)} of stream {stream.name}")
    if channels:
        yield f"Not all recordings that have the stream have {_listed(channels)}."


def _listed(items: Sequence[str]) -> str:
    more = f"; and {len(items) - _NUM_NAMED} more" if len(items) > _NUM_NAMED else ""
    return "; ".join(items[:_NUM_NAMED]) + more


def _channels(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NUM_NAMED} more" if len(names) > _NUM_NAMED else ""
    return ("channels " if len(names) > 1 else "channel ") + ", ".join(names[:_NUM_NAMED]) + more
