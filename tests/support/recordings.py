"""A small source whose recordings follow from a seed, and datasets made of it without Ray.

Each label is a sine of its own frequency on three channels, so that a network can learn it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motoric.core.errors import DatasetError
from motoric.data.build import PartWriter, commit, plan
from motoric.data.card import ChannelCard, DatasetCard, StreamCard
from motoric.data.recording import Annotation, Recording, Stream

RATE_HZ = 20.0
LABELS = ("jump", "squat", "walk")


class SineSource:
    """Recordings of `num_subjects` people, one a label."""

    name = "sines"
    description = "Sines for tests"
    origin = "made by the tests"
    streams = (
        StreamCard(
            name="imu",
            rate_hz=RATE_HZ,
            channels=tuple(ChannelCard(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz"),
        ),
    )

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

    def recording_ids(self) -> list[str]:
        return [f"r{index:03d}" for index in range(self.num_subjects * len(self.labels))]

    def load(self, indices: Sequence[int]) -> list[Recording]:
        return [self._recording(index) for index in indices]

    def _recording(self, index: int) -> Recording:
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
                    time_s=time_s,
                    values_TC=values_TC.astype(np.float32),
                ),
            ),
            annotations=(Annotation(start_s=0, end_s=self.duration_s, label=self.labels[kind]),),
            metadata={"side": "left" if subject % 2 else "right"},
        )


def write_dataset(uri: str, source: SineSource | None = None) -> DatasetCard:
    """Build a dataset in this process, with the parts that Ray Data runs elsewhere."""
    source = source or SineSource()
    writer = PartWriter(source=source, dataset_uri=uri)
    return commit(source, uri, [writer(item) for item in plan(source)])


def recipe_content(dataset: str, **changes: object) -> dict[str, object]:
    """A recipe that trains on such a dataset within a second or two."""
    return {
        "version": 1,
        "name": "sines",
        "dataset": dataset,
        "split": {"num_test_subjects": 1, "num_validation_subjects": 1},
        "window": {"stream": "imu", "length_s": 2.0, "hop_s": 1.0},
        "model": {"name": "gru", "hidden_size": 8, "stem_channels": 8, "dropout": 0.0},
        "optimiser": {"learning_rate": 0.02},
        "train": {"epochs": 3, "batch_size": 32},
        **changes,
    }
