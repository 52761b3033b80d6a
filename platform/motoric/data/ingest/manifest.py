"""The manifest: the table a user brings, one row a recording.

In: CSV, Parquet or JSON lines. Out: checked rows with the URIs of their files, and the rows that
cannot be used with their reasons. No file of a recording is opened here.
"""

from __future__ import annotations

import difflib
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from motoric.core.errors import DatasetError, UnreadableError
from motoric.data.ingest.records import read_records, texts_of
from motoric.data.ingest.roots import Roots
from motoric.data.ingest.settings import IngestSettings
from motoric.data.ingest.source import Quarantined
from motoric.data.recording import UNKNOWN_SUBJECT, Annotation

COLUMNS = (
    "recording_id",
    "subject",
    "label",
    "sensors",
    "video",
    "start_time",
    "video_start_time",
    "video_offset_s",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestRow:
    """One recording that a manifest or folder names; URIs are absolute."""

    recording_id: str
    subject: str
    label: str = ""
    sensors: str | None = None
    video: str | None = None
    start_time_s: float | None = None
    video_start_time_s: float | None = None
    video_offset_s: float | None = None
    annotations: tuple[Annotation, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What there is to ingest.

    Attributes:
        rows: Usable rows, sorted by id.
        quarantined: Rows and files that are not, with reasons.
        extra_columns: Columns beside the known ones; they are kept as metadata.
    """

    rows: tuple[ManifestRow, ...]
    quarantined: tuple[Quarantined, ...]
    extra_columns: tuple[str, ...] = ()


def read_manifest(uri: str, settings: IngestSettings) -> Manifest:
    """Read and check a manifest.

    Args:
        uri: A CSV, Parquet or JSON lines table; its rows name files relative to its folder.
        settings: Of the ingest.

    Raises:
        DatasetError: Not a table, without rows, or without the columns it needs.
    """
    records = read_records(uri)
    if not records:
        raise DatasetError(f"{uri} has no rows")
    columns = list(dict.fromkeys(name for record in records for name in record))
    _check_columns(uri, columns)
    roots = Roots(posixpath.dirname(uri) or ".", settings.allowed_roots)
    rows: dict[str, ManifestRow] = {}
    quarantined = []
    for number, record in enumerate(records, start=2):
        texts = texts_of(record)
        recording_id = texts.get("recording_id", "").strip()
        place = f"{posixpath.basename(uri)}, row {number}"
        try:
            if recording_id in rows:
                raise UnreadableError(
                    "the same recording_id stands in an earlier row, which was taken"
                )
            rows[recording_id] = _row(recording_id, texts, roots)
        except UnreadableError as error:
            quarantined.append(
                Quarantined(
                    recording_id=recording_id, source=place, kind="rejected", reason=error.message
                )
            )
    return Manifest(
        rows=tuple(rows[name] for name in sorted(rows)),
        quarantined=tuple(quarantined),
        extra_columns=tuple(name for name in columns if name not in COLUMNS),
    )


def _check_columns(uri: str, columns: Sequence[str]) -> None:
    if "recording_id" not in columns or not {"sensors", "video"} & set(columns):
        guesses = [
            f"did you mean {known!r} by {close[0]!r}?"
            for known in ("recording_id", "sensors", "video")
            if known not in columns and (close := difflib.get_close_matches(known, columns, n=1))
        ]
        hint = f" ({' '.join(guesses)})" if guesses else ""
        raise DatasetError(
            f"{uri}: a manifest needs the column recording_id, and sensors or video or both; it has"
            f" {', '.join(columns) or 'no columns'}{hint}"
        )
    for name in columns:
        close = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.85)
        if name not in COLUMNS and close and close[0] not in columns:
            raise DatasetError(
                f"{uri}: the column {name!r} is not known, did you mean {close[0]!r}? Rename it, so"
                " that it is not taken for metadata by mistake"
            )


def _row(recording_id: str, texts: dict[str, str], roots: Roots) -> ManifestRow:
    if not recording_id:
        raise UnreadableError("has no recording_id")
    if any(ord(letter) < 32 for letter in recording_id):
        raise UnreadableError("the recording_id holds control characters")
    sensors = texts.get("sensors", "").strip()
    video = texts.get("video", "").strip()
    if not sensors and not video:
        raise UnreadableError("names neither sensors nor video")
    return ManifestRow(
        recording_id=recording_id,
        subject=texts.get("subject", "").strip() or f"{UNKNOWN_SUBJECT}{recording_id}",
        label=texts.get("label", "").strip(),
        sensors=roots.resolve(sensors) if sensors else None,
        video=roots.resolve(video) if video else None,
        start_time_s=_time(texts, "start_time"),
        video_start_time_s=_time(texts, "video_start_time"),
        video_offset_s=number_of(texts, "video_offset_s"),
        metadata={
            name: text for name, text in texts.items() if name not in COLUMNS and text.strip()
        },
    )


def number_of(texts: dict[str, str], name: str) -> float | None:
    """A number of seconds in a row, or None where the cell is empty.

    Raises:
        UnreadableError: It is none.
    """
    text = texts.get(name, "").strip()
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise UnreadableError(f"{name} is {text!r}, not a number of seconds")
    return number


def _time(texts: dict[str, str], name: str) -> float | None:
    text = texts.get(name, "").strip()
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UnreadableError(
            f"{name} is {text!r}: write it as in 2026-05-01T17:30:00.250Z"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
