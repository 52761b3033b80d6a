"""The card of a dataset, `dataset.json`: what is in it and which files it consists of.

Writing this one object is the commit: files that no card names are not part of any dataset.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from motoric.core import storage
from motoric.core.errors import DatasetError, NotFoundError
from motoric.core.settings import describe

CARD = "dataset.json"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelCard(_Part):
    """One channel of a stream."""

    name: str
    unit: str


class StreamCard(_Part):
    """One stream that the recordings of the dataset have."""

    name: str
    rate_hz: float
    channels: tuple[ChannelCard, ...]


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
    """Everything about a dataset but its samples."""

    schema_version: Literal[1] = 1
    name: str
    description: str
    source: str
    content_digest: str
    sources: dict[str, str]
    settings: dict[str, str]
    streams: tuple[StreamCard, ...]
    num_recordings: int
    num_quarantined: int
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
        known = ", ".join(stream.name for stream in self.streams)
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
            f"no dataset at {uri}: `motoric datasets build watch-exercises --out {uri}` makes one"
        ) from error
    try:
        return DatasetCard.model_validate_json(content)
    except ValidationError as error:
        raise DatasetError(f"{place}: {describe(error)}") from error
