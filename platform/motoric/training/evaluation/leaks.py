"""Ways in which a label can be told without looking at the movement, found before training.

In: what a dataset says about its recordings; no sample is read. Out: warnings for a person. None of
them proves that a model cheats: each says what to check, and how.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from motoric.data.dataset import Dataset
from motoric.data.recording import Recording
from motoric.training.evaluation.bootstrap import is_known

LeakKind = Literal["subject", "single_subject_label", "metadata", "hardware"]
Traits = Mapping[str, Mapping[str, str]]

_MISSING = "(none)"
_MAX_NAMED = 8
# A column that numbers labels one by one is a code of the label from here on, not a device.
_MIN_CODES = 4
_MIN_SUBJECTS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One way in which labels can be told apart.

    Attributes:
        kind: `subject`: people give labels away; `single_subject_label`: labels that cannot be
            tested on unseen people; `metadata`: a column of the manifest; `hardware`: channels,
            rates or pictures differ.
        column: Name of the column or trait.
        message: For a person: what gives away what, and what to do about it.
    """

    kind: LeakKind
    column: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """One recording: who, the labels in it, and what it has in each column."""

    subject: str
    labels: frozenset[str]
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """Labels that no value of a column tells apart, and the values they come with."""

    labels: frozenset[str]
    values: frozenset[str]


def find_leaks(dataset: Dataset, outlines: Sequence[Recording] | None = None) -> list[Leak]:
    """Leaks of a dataset, or of some of its recordings, by its tables alone."""
    chosen = dataset.outlines() if outlines is None else outlines
    return leaks_among(chosen, hardware_traits(dataset.recordings_table()))


def leaks_among(outlines: Sequence[Recording], hardware: Traits | None = None) -> list[Leak]:
    """Leaks of some recordings; their streams may be left out.

    A column of metadata leaks when its values split the labels into groups, so that recordings of
    two groups never have a value in common. What is of one recording or person alone is no leak
    (ids, file names, a person's height), nor what all labels share (numbers of trials), nor a
    column that only names the label.

    Args:
        outlines: Recordings with annotations and metadata.
        hardware: For each recording id, traits of the devices by name; see `hardware_traits`.
    """
    labelled = [outline for outline in outlines if outline.annotations]
    if len({item.label for outline in labelled for item in outline.annotations}) < 2:
        return []
    of_metadata = _rows(labelled, {item.recording_id: item.metadata for item in labelled})
    leaks = [*_subject_leaks(of_metadata), *_column_leaks(of_metadata, "metadata")]
    if hardware is not None:
        leaks += _column_leaks(_rows(labelled, hardware), "hardware")
    return leaks


def hardware_traits(recordings: pa.Table) -> dict[str, dict[str, str]]:
    """Channels, units and rates of each recording's streams, and the size and rate of its video."""
    return {
        row["recording_id"]: dict(_traits(row))
        for row in recordings.select(["recording_id", "streams", "video"]).to_pylist()
    }


def _traits(row: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    yield "streams", ", ".join(sorted(item["stream"] for item in row["streams"])) or _MISSING
    for item in row["streams"]:
        channels = sorted(f"{channel['name']} ({channel['unit']})" for channel in item["channels"])
        yield f"channels of {item['stream']}", ", ".join(channels)
        # Rates are measured: two files of one device differ in the fourth digit.
        yield f"rate of {item['stream']}", f"{item['rate_hz']:.3g} Hz"
    video = row["video"]
    if video is not None:
        yield "video size", f"{video['width']} x {video['height']}"
        yield "video rate", f"{video['rate_hz']:.2g} frames/s"


def _rows(outlines: Sequence[Recording], columns: Traits) -> list[_Row]:
    return [
        _Row(
            subject=outline.subject,
            labels=frozenset(item.label for item in outline.annotations),
            columns=columns.get(outline.recording_id, {}),
        )
        for outline in outlines
    ]


def _subject_leaks(rows: Sequence[_Row]) -> Iterable[Leak]:
    labels_of: dict[str, set[str]] = defaultdict(set)
    subjects_of: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if is_known(row.subject):
            labels_of[row.subject] |= row.labels
            for label in row.labels:
                subjects_of[label].add(row.subject)
    single = {name: min(labels) for name, labels in labels_of.items() if len(labels) == 1}
    if single:
        named = _listed([f"{name}: {label}" for name, label in sorted(single.items())])
        yield Leak(
            kind="subject",
            column="subject",
            message=f"{len(single)} of {len(labels_of)} subjects have one label only ({named}): a"
            " model that recognises the person, or their device, knows the label; trust figures of"
            " unseen people only, and record several labels of each person",
        )
    alone = {label: min(people) for label, people in subjects_of.items() if len(people) == 1}
    if alone:
        named = _listed([f"{label} of {name}" for label, name in sorted(alone.items())])
        yield Leak(
            kind="single_subject_label",
            column="subject",
            message=f"{len(alone)} label(s) have one subject only ({named}): they can never be"
            " tested on unseen people; record others, or leave them out",
        )


def _column_leaks(rows: Sequence[_Row], kind: Literal["metadata", "hardware"]) -> Iterable[Leak]:
    all_labels = frozenset(label for row in rows for label in row.labels)
    seen: set[frozenset[_Group]] = set()
    for column in sorted({name for row in rows for name in row.columns}):
        groups = _groups(rows, column)
        if len(groups) < 2 or not all(_recurs(rows, column, group) for group in groups):
            continue
        if kind == "metadata" and _names_the_label(groups, all_labels):
            continue
        # A channel that is missing changes the channels and the streams alike: once is enough.
        same = frozenset(groups) if kind == "metadata" else _labels_only(groups)
        if same not in seen:
            seen.add(same)
            yield Leak(kind=kind, column=column, message=_message(column, groups))


def _labels_only(groups: Sequence[_Group]) -> frozenset[_Group]:
    return frozenset(_Group(labels=group.labels, values=frozenset()) for group in groups)


def _value(row: _Row, column: str) -> str:
    return row.columns.get(column) or _MISSING


def _groups(rows: Sequence[_Row], column: str) -> list[_Group]:
    """Connected parts of the graph in which a label and a value that occur together are joined."""
    groups: list[_Group] = []
    for row in rows:
        merged = _Group(labels=row.labels, values=frozenset([_value(row, column)]))
        apart = []
        for group in groups:
            if group.labels & merged.labels or group.values & merged.values:
                merged = _Group(
                    labels=group.labels | merged.labels, values=group.values | merged.values
                )
            else:
                apart.append(group)
        groups = [*apart, merged]
    return sorted(groups, key=lambda group: (len(group.labels), sorted(group.labels)))


def _recurs(rows: Sequence[_Row], column: str, group: _Group) -> bool:
    """Whether most recordings of a group have a value that several people have."""
    subjects_of: dict[str, set[str]] = defaultdict(set)
    values = [_value(row, column) for row in rows]
    for row, value in zip(rows, values, strict=True):
        subjects_of[value].add(row.subject)
    mine = [value for value in values if value in group.values]
    num_recurring = sum(len(subjects_of[value]) >= _MIN_SUBJECTS for value in mine)
    return 2 * num_recurring >= len(mine)


def _names_the_label(groups: Sequence[_Group], all_labels: frozenset[str]) -> bool:
    """Whether each label has a value of its own that is its name, or a code for it."""
    if len(groups) != len(all_labels) or any(len(group.values) != 1 for group in groups):
        return False
    if len(groups) >= _MIN_CODES:
        return True
    pairs = [(_plain(min(group.labels)), _plain(min(group.values))) for group in groups]
    return all(label in value or value in label for label, value in pairs)


def _plain(name: str) -> str:
    return "".join(character for character in name.lower() if character.isalnum())


def _message(column: str, groups: Sequence[_Group]) -> str:
    """Names the labels of the small groups, and counts those of the largest, the last one."""
    small, largest = groups[:-1], groups[-1]
    parts = [f"{_listed(group.values)} for exactly {_listed(group.labels)}" for group in small]
    of_all = sum(len(group.labels) for group in groups)
    others = f"the {len(largest.labels)} others" if of_all > 3 else _listed(largest.labels)
    parts.append(f"{_listed(largest.values)} for {others}")
    told = "the two groups" if len(groups) == 2 else f"the {len(groups)} groups"
    is_in = ", ".join(parts[:-1]) + f" and {parts[-1]}"
    return (
        f"{column} is {is_in}: a model can tell {told} apart by that alone, not by the movement;"
        f" evaluate one {column} at a time"
    )


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    if len(ordered) <= _MAX_NAMED:
        return ", ".join(ordered)
    return f"{', '.join(ordered[: _MAX_NAMED - 2])}, ... ({len(ordered)} in all)"
