"""The card of a dataset, `dataset.json`: what is in it and which files it consists of.

Writing this one object is the commit: files that no card names are not part of any dataset.
"""

from __future__ import annotations

import json
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from motoric.core import storage
from motoric.core.errors import DatasetError, NotFoundError
from motoric.core.settings import describe

CARD = "dataset.json"
# Unit of a channel that recordings have in units of their own.
MIXED_UNITS = "mixed"
SCHEMA_VERSION: Literal[2] = 2


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelCard(_Part):
    """One channel of a stream.

    `unit` is empty where nobody said it, and `MIXED_UNITS` where recordings have it in several:
    then the table of recordings says which each has.
    """

    name: str
    unit: str


class StreamCard(_Part):
    """One stream that recordings of the dataset have; they may lack some of its channels."""

    name: str
    rate_hz: float
    """The rate that most of its recorded time has."""
    min_rate_hz: float
    max_rate_hz: float
    channels: tuple[ChannelCard, ...]
    num_recordings: int
    num_samples: int

    @property
    def has_one_rate(self) -> bool:
        """Whether all recordings run at `rate_hz`."""
        return self.max_rate_hz - self.min_rate_hz <= 1e-6 * self.rate_hz


class FilePart(_Part):
    """One immutable file, named by its content; `path` is relative to the dataset."""

    path: str
    sha256: str
    num_rows: int
    num_bytes: int


class Tables(_Part):
    """The Parquet files of the dataset's tables."""

    recordings: tuple[FilePart, ...]
    annotations: tuple[FilePart, ...]
    quarantine: tuple[FilePart, ...]
    streams: tuple[FilePart, ...]


class DatasetCard(_Part):
    """Everything about a dataset but its samples and pixels."""

    schema_version: Literal[2] = SCHEMA_VERSION
    name: str
    description: str
    source: str
    content_digest: str
    sources: dict[str, str]
    """SHA-256 of source files that are not of one recording alone, by name; each recording's own
    stands in the table of recordings."""
    settings: dict[str, str]
    streams: tuple[StreamCard, ...]
    num_recordings: int
    num_videos: int
    num_repaired: int
    num_quarantined: int
    num_skipped: int
    duration_s: float
    recordings_by_label: dict[str, int]
    recordings_by_subject: dict[str, int]
    tables: Tables

    def stream(self, name: str) -> StreamCard:
        """The card of one stream.

        Raises:
            DatasetError: There is none of that name.
        """
        for stream in self.streams:
            if stream.name == name:
                return stream
        known = ", ".join(stream.name for stream in self.streams) or "none"
        raise DatasetError(f"dataset {self.name!r} has no stream {name!r} (it has: {known})")


def write_card(uri: str, card: DatasetCard) -> None:
    """Commit a dataset."""
    storage.write_bytes(storage.join(uri, CARD), card.model_dump_json(indent=1).encode())


def read_card(uri: str) -> DatasetCard:
    """Read the card of the dataset at `uri`.

    Raises:
        DatasetError: No dataset lies there, or its card does not fit the schema.
    """
    place = storage.join(uri, CARD)
    try:
        content = storage.read_bytes(place)
    except NotFoundError as error:
        raise DatasetError(
            f"no dataset at {uri}: `motoric ingest FOLDER --out {uri}` makes one of your files,"
            f" `motoric datasets build watch-exercises --out {uri}` one of real recordings"
        ) from error
    try:
        return DatasetCard.model_validate_json(content)
    except ValidationError as error:
        found = _schema_version(content)
        if isinstance(found, int) and found != SCHEMA_VERSION:
            raise DatasetError(
                f"{place} has schema_version {found}, this Motoric reads {SCHEMA_VERSION}:"
                " build or ingest the dataset again"
            ) from error
        raise DatasetError(f"{place}: {describe(error)}") from error


def _schema_version(content: bytes) -> object:
    try:
        document = json.loads(content)
    except ValueError:
        return None
    return document.get("schema_version") if isinstance(document, dict) else None
