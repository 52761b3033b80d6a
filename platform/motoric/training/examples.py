"""Examples: what a model trains and is tested on, whatever it takes and gives.

Axes: B examples, T samples or frames, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import Signature
from motoric.core.errors import DatasetError
from motoric.training.split import Split

# Columns of `present_B2`.
SENSORS, CLIP = 0, 1
# Places of the examples of the training, validation and test part, rising.
Rows = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """One row an example, in the order of recordings and of time.

    Attributes:
        windows_BTC: Raw sensor windows with their context, float32; None where the recipe has none,
            and where they stream.
        clips_BTHWC: Clips, uint8; None where the recipe has none.
        present_B2: Whether the example has sensors (column 0) and a clip (column 1); zeros stand in
            for what is not there.
        targets_B: Index into `classes` (int64), or the value to predict (float32).
        persistence_B: For forecasts, the last value of the target in the window; else None.
        subjects: Subject of each example.
        recording_ids: Recording of each example.
        start_s_B: Start of each example in its recording.
        end_s_B: End of each.
        classes: Class names; empty where values are predicted.
    """

    windows_BTC: NDArray[np.float32] | None
    clips_BTHWC: NDArray[np.uint8] | None
    present_B2: NDArray[np.bool_]
    targets_B: NDArray[np.int64] | NDArray[np.float32]
    persistence_B: NDArray[np.float32] | None
    subjects: tuple[str, ...]
    recording_ids: tuple[str, ...]
    start_s_B: NDArray[np.float64]
    end_s_B: NDArray[np.float64]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets_B)

    @property
    def num_bytes(self) -> int:
        """Memory of the inputs."""
        return sum(item.nbytes for item in (self.windows_BTC, self.clips_BTHWC) if item is not None)

    def take(self, indices: NDArray[np.int64] | NDArray[np.bool_]) -> Examples:
        """Some of the examples, in the order of `indices`."""
        chosen = np.flatnonzero(indices) if indices.dtype == np.bool_ else indices
        return replace(
            self,
            windows_BTC=None if self.windows_BTC is None else self.windows_BTC[chosen],
            clips_BTHWC=None if self.clips_BTHWC is None else self.clips_BTHWC[chosen],
            present_B2=self.present_B2[chosen],
            targets_B=self.targets_B[chosen],
            persistence_B=None if self.persistence_B is None else self.persistence_B[chosen],
            subjects=tuple(self.subjects[index] for index in chosen),
            recording_ids=tuple(self.recording_ids[index] for index in chosen),
            start_s_B=self.start_s_B[chosen],
            end_s_B=self.end_s_B[chosen],
        )

    def of_recordings(self, recording_ids: Sequence[str]) -> Examples:
        """The examples of some recordings."""
        wanted = set(recording_ids)
        return self.take(np.array([name in wanted for name in self.recording_ids], dtype=np.bool_))


def join(parts: Sequence[Examples]) -> Examples:
    """The index of all: their examples one after the other, without windows and clips.

    Raises:
        DatasetError: There are none.
    """
    if not parts:
        raise DatasetError(
            "no recording gives an example: shorten window.length_s or clip.length_s"
        )
    persistence = [part.persistence_B for part in parts if part.persistence_B is not None]
    return replace(
        parts[0],
        windows_BTC=None,
        clips_BTHWC=None,
        present_B2=np.concatenate([part.present_B2 for part in parts]),
        targets_B=np.concatenate([part.targets_B for part in parts]),
        persistence_B=np.concatenate(persistence) if persistence else None,
        subjects=tuple(name for part in parts for name in part.subjects),
        recording_ids=tuple(name for part in parts for name in part.recording_ids),
        start_s_B=np.concatenate([part.start_s_B for part in parts]),
        end_s_B=np.concatenate([part.end_s_B for part in parts]),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitExamples:
    """Examples of the parts of a split, and the signature that the training part fixes.

    Attributes:
        split: Who is in which part.
        train: Without windows where they stream.
        validation: To watch the training on.
        test: For the figures at the end.
        signature: Of the model.
        sample: Some of the training examples, with their windows; None unless these stream.
    """

    split: Split
    train: Examples
    validation: Examples
    test: Examples
    signature: Signature
    sample: Examples | None = None

    @property
    def at_hand(self) -> Examples:
        """Training examples with their inputs, to try a network on: all, or a sample."""
        return self.train if self.sample is None else self.sample
