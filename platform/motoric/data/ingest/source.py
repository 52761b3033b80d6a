"""What a build reads from: a source lists its recordings, and opens each on any node.

Instances travel to Ray workers, so they hold no open files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import AlignmentSettings
from motoric.data.recording import Annotation, Recording


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceItem:
    """One recording of a source, before anything of it was read.

    Attributes:
        recording_id: Unique in the source.
        place: The file or row it comes from, for messages.
        num_bytes: About how much there is to read; work is divided by it.
    """

    recording_id: str
    place: str
    num_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """One input that is not in the dataset, and why.

    `rejected` ones are broken or wrong; `skipped` ones hold no samples by their nature.
    """

    recording_id: str
    source: str
    kind: Literal["rejected", "skipped"]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInput:
    """The video of a recording as its source gives it.

    Attributes:
        uri: The file.
        offset_s: Time of the recording at its first frame, where somebody knows it.
        start_time_s: Unix time of its first frame, where somebody knows it.
        is_copied: It goes into the dataset, else the dataset refers to it.
        alignment: How it is put on the clock of the sensors.
    """

    uri: str
    offset_s: float | None = None
    start_time_s: float | None = None
    is_copied: bool = False
    alignment: AlignmentSettings = field(default_factory=AlignmentSettings)


@dataclass(slots=True, kw_only=True)
class RawRecording:
    """One recording being read: its samples come as they are iterated.

    Attributes:
        label: Label of the whole recording, empty for none.
        annotations: Labelled intervals besides.
        start_time_s: Unix time of its start where the source knows it.
    """

    recording_id: str
    subject: str
    samples: Iterable[Samples] = ()
    video: VideoInput | None = None
    label: str = ""
    annotations: tuple[Annotation, ...] = ()
    start_time_s: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    notes: Notes = field(default_factory=Notes)


class Source(Protocol):
    """Where recordings come from."""

    name: str
    description: str
    origin: str

    def digests(self) -> dict[str, str]:
        """SHA-256 of files that all recordings come from, by name."""
        ...

    def settings(self) -> dict[str, str]:
        """What else decides the dataset's content."""
        ...

    def items(self) -> list[SourceItem]:
        """All recordings, in a fixed order."""
        ...

    def rejected(self) -> list[Quarantined]:
        """What the list of recordings itself has wrong."""
        ...

    def digest(self, index: int) -> str:
        """Digest of all that the recording at `index` of `items` is made from."""
        ...

    def open(self, index: int) -> AbstractContextManager[RawRecording]:
        """Open one recording."""
        ...


def as_samples(recording: Recording) -> Iterator[Samples]:
    """The streams of a recording that is in memory already."""
    for stream in recording.streams:
        yield Samples(
            stream=stream.name,
            channels=stream.channels,
            time_s=stream.time_s,
            values_TC=stream.values_TC.astype(np.float64),
            rate_hz=stream.rate_hz,
        )


def as_raw(recording: Recording) -> RawRecording:
    """A recording that is in memory already, as a source opens it."""
    return RawRecording(
        recording_id=recording.recording_id,
        subject=recording.subject,
        samples=as_samples(recording),
        annotations=recording.annotations,
        start_time_s=recording.start_time_s,
        metadata=dict(recording.metadata),
    )


def combine(*parts: str) -> str:
    """One digest of several strings."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)} {part}\n".encode())
    return digest.hexdigest()
