"""Samples as a reader yields them, before ingest orders and flags them.

A reader takes the URI of a file and yields bounded batches in the order of the file, so that the
length of a recording never decides how much memory its ingest takes. Axes: T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from motoric.data.recording import Channel, Flag

if TYPE_CHECKING:
    from motoric.data.ingest.settings import SensorSettings

# Rows a batch at most.
BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class Samples:
    """Some rows of one stream, units converted, times and values as the file has them.

    Attributes:
        stream: Name of the stream; all batches of a stream have the same channels.
        channels: C channels.
        time_s: Shape (T,). Unix time where `is_unix_time`, else seconds from the file's own zero.
            May repeat, jump or be NaN: ingest puts that right.
        values_TC: Shape (T, C), float64; NaN where a value is missing.
        is_unix_time: What `time_s` counts from.
        rate_hz: Nominal rate where the file or the settings state it; else it is measured.
    """

    stream: str
    channels: tuple[Channel, ...]
    time_s: NDArray[np.float64]
    values_TC: NDArray[np.float64]
    is_unix_time: bool = False
    rate_hz: float | None = None


@dataclass(slots=True)
class Notes:
    """What a reader has to say about a file beside its samples."""

    flags: list[Flag] = field(default_factory=list)
    metadata: dict[str, str] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        detail: str,
        *,
        stream: str = "",
        channel: str = "",
        count: int = 1,
        is_repair: bool = False,
    ) -> None:
        """Note something, as a `Flag`."""
        self.flags.append(
            Flag(
                kind=kind,
                detail=detail,
                stream=stream,
                channel=channel,
                count=count,
                is_repair=is_repair,
            )
        )


class SensorReader(Protocol):
    """Reads one format.

    Raises, while it is iterated:
        UnreadableError: Nothing usable in the file; the message says why, without the file's name.
        NoSamplesError: A sound file without samples by its nature.
    What comes before damage in a file is yielded, and the damage noted with `is_repair=True`.
    """

    def __call__(self, uri: str, settings: SensorSettings, notes: Notes) -> Iterator[Samples]:
        """Yield batches in the order of the file."""
        ...
