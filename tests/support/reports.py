"""Datasets of hand-made recordings, and the pages of their reports as a person reads them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from PIL import Image

from motoric.data.dataset import Dataset, open_dataset
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.source import (
    Quarantined,
    RawRecording,
    SourceItem,
    VideoInput,
    combine,
)
from motoric.data.recording import Annotation, Channel
from motoric.data.report.page import write_report
from recordings import build_here

ACC = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")


@dataclass(kw_only=True)
class Input:
    """One recording of `ListSource`; `error` is raised instead of it."""

    name: str
    samples: list[Samples] = field(default_factory=list)
    subject: str = "ana"
    label: str = ""
    video: Path | None = None
    annotations: tuple[Annotation, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    error: Exception | None = None


class ListSource:
    description = "Lists for tests"
    origin = "made by the tests"

    def __init__(
        self, *inputs: Input, name: str = "lists", chosen: dict[str, str] | None = None
    ) -> None:
        self.inputs = inputs
        self.name = name
        self.chosen = chosen or {}

    def digests(self) -> dict[str, str]:
        return {}

    def settings(self) -> dict[str, str]:
        return self.chosen

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(recording_id=item.name, place=f"in/{item.name}", num_bytes=1)
            for item in self.inputs
        ]

    def rejected(self) -> list[Quarantined]:
        return []

    def digest(self, index: int) -> str:
        return combine(str(index))

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        item = self.inputs[index]
        if item.error is not None:
            raise item.error
        notes = Notes()
        for detail in item.repairs:
            notes.add("truncated", detail, is_repair=True)
        yield RawRecording(
            recording_id=item.name,
            subject=item.subject,
            samples=item.samples,
            video=None if item.video is None else VideoInput(uri=str(item.video)),
            label=item.label,
            annotations=item.annotations,
            metadata=item.metadata,
            notes=notes,
        )


def imu(
    length_s: float = 20.0,
    *,
    rate_hz: float = 20.0,
    gap_s: tuple[float, float] | None = None,
    stream: str = "imu",
    channels: tuple[Channel, ...] = ACC,
) -> Samples:
    time_s = np.arange(round(length_s * rate_hz)) / rate_hz
    if gap_s is not None:
        time_s = time_s[(time_s <= gap_s[0]) | (time_s >= gap_s[1])]
    phases_C = np.arange(len(channels))
    return Samples(
        stream=stream,
        channels=channels,
        time_s=time_s,
        values_TC=np.sin(time_s[:, None] + phases_C),
        rate_hz=rate_hz,
    )


def track(length_s: float, extent_deg: tuple[float, float], centre: tuple[float, float]) -> Samples:
    time_s = np.arange(length_s)
    turn_T = 2 * np.pi * time_s / length_s
    latitude = centre[0] + extent_deg[0] * np.sin(turn_T)
    longitude = (centre[1] + extent_deg[1] * np.cos(turn_T) + 180) % 360 - 180
    return Samples(
        stream="position",
        channels=(Channel(name="latitude", unit="deg"), Channel(name="longitude", unit="deg")),
        time_s=time_s,
        values_TC=np.stack([latitude, longitude], axis=1),
        rate_hz=1.0,
    )


def dataset_of(tmp_path: Path, *inputs: Input, **about: object) -> Dataset:
    uri = str(tmp_path / "dataset")
    build_here(ListSource(*inputs, **about), uri)  # type: ignore[arg-type]
    return open_dataset(uri)


class Page(HTMLParser):
    """The text of a page by heading, words one space apart, and all its tags."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.heading = ""
        self.sections: dict[str, str] = {}
        self.tags: list[str] = []
        self.alternatives: list[str] = []
        self._in_heading = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.alternatives += [value or "" for name, value in attrs if name == "alt"]
        if tag in {"h1", "h2"}:
            self.heading, self._in_heading = "", True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"h1", "h2"}:
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.heading += data
        else:
            text = f"{self.sections.get(self.heading, '')} {data}"
            self.sections[self.heading] = " ".join(text.split())


def page_of(dataset: Dataset) -> Page:
    return Page(Path(write_report(dataset)).read_text())


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as opened:
        return opened.size


def opening_of(page: Page) -> str:
    return next(text for heading, text in page.sections.items() if heading.startswith("Dataset "))
