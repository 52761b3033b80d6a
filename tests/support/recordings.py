"""A small source whose recordings follow from a seed, and datasets made of it without Ray.

Each label is a sine of its own frequency on three channels, so that a network can learn it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from motoric.core.errors import DatasetError
from motoric.data.card import DatasetCard
from motoric.data.ingest.build import BuildResult, conclude, gather, known_at, plan
from motoric.data.ingest.part_writer import PartWriter
from motoric.data.ingest.source import (
    Quarantined,
    RawRecording,
    Source,
    SourceItem,
    as_raw,
    combine,
)
from motoric.data.recording import Annotation, Channel, Recording, Stream

RATE_HZ = 20.0
LABELS = ("jump", "squat", "walk")
CHANNELS = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")


class SineSource:
    """Recordings of `num_subjects` people, one a label."""

    name = "sines"
    description = "Sines for tests"
    origin = "made by the tests"

    def __init__(
        self,
        *,
        num_subjects: int = 5,
        duration_s: float = 70.0,
        labels: Sequence[str] = LABELS,
        broken: Sequence[int] = (),
    ) -> None:
        self.num_subjects = num_subjects
        self.duration_s = duration_s
        self.labels = tuple(labels)
        self.broken = tuple(broken)

    def digests(self) -> dict[str, str]:
        return {"sines": f"{self.num_subjects}-{self.duration_s}-{self.labels}-{self.broken}"}

    def settings(self) -> dict[str, str]:
        return {}

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(recording_id=f"r{index:03d}", place=f"sines/{index}", num_bytes=2**20)
            for index in range(self.num_subjects * len(self.labels))
        ]

    def rejected(self) -> list[Quarantined]:
        return []

    def digest(self, index: int) -> str:
        return combine(str(index), str(self.duration_s), str(self.labels))

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        yield as_raw(self.recording(index))

    def recording(self, index: int) -> Recording:
        if index in self.broken:
            raise DatasetError(f"r{index:03d} is cut off")
        subject, kind = divmod(index, len(self.labels))
        rng = np.random.default_rng(index)
        time_s = np.arange(round(self.duration_s * RATE_HZ)) / RATE_HZ
        wave_T = np.sin(2 * np.pi * (0.5 + kind) * time_s + rng.uniform(0, 6))
        values_TC = np.stack([wave_T * (1 + 0.1 * subject), np.roll(wave_T, 3), -wave_T], axis=1)
        values_TC += 0.05 * rng.standard_normal(values_TC.shape)
        return Recording(
            recording_id=f"r{index:03d}",
            subject=f"s{subject}",
            streams=(
                Stream(
                    name="imu",
                    rate_hz=RATE_HZ,
                    channels=CHANNELS,
                    time_s=time_s,
                    values_TC=values_TC.astype(np.float32),
                ),
            ),
            annotations=(Annotation(start_s=0, end_s=self.duration_s, label=self.labels[kind]),),
            metadata={"side": "left" if subject % 2 else "right"},
        )


def build_here(
    source: Source, uri: str, *, strict: bool = False, backwards: bool = False
) -> BuildResult:
    """Build a dataset in this process, with the parts that Ray Data runs elsewhere."""
    writer = PartWriter(source=source, dataset_uri=uri)
    known = known_at(uri)
    tasks = plan(source, known)
    results = [
        json.loads(writer({"task": json.dumps(task)})["result"])
        for task in (reversed(tasks) if backwards else tasks)
    ]
    return conclude(source, uri, known, gather(results), strict=strict)


def write_dataset(uri: str, source: SineSource | None = None) -> DatasetCard:
    """Build a dataset of sines in this process."""
    return build_here(source or SineSource(), uri).card


def recipe_content(dataset: str, **changes: object) -> dict[str, object]:
    """A recipe that trains on such a dataset within a second or two."""
    return {
        "version": 1,
        "name": "sines",
        "dataset": dataset,
        "split": {"num_test_subjects": 1, "num_validation_subjects": 1},
        "window": {"stream": "imu", "length_s": 2.0, "hop_s": 1.0},
        "model": {"name": "recurrent", "hidden_size": 8, "stem_channels": 8, "dropout": 0.0},
        "optimiser": {"learning_rate": 0.02},
        "train": {"epochs": 3, "batch_size": 32},
        **changes,
    }
