"""`watch-exercises`: 140 real smartwatch recordings of 7 shoulder exercises by 10 people.

They ship inside the PyPI package seglearn (BSD-3), from Burns et al., "Shoulder physiotherapy
exercise recognition: machine learning the inertial signals from a smartwatch", 2018 (arXiv
1802.01489). Acceleration comes in g and is converted to m/s^2; angular rate is in rad/s; 50 Hz.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from motoric.core.errors import DatasetError, NotFoundError
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, as_raw, combine
from motoric.data.recording import STANDARD_GRAVITY_M_S2, Annotation, Channel, Recording, Stream

_SHA256 = "eb122f23cdf06ef6bd6c6c5312958ec5cf9d038e2e6d457b8081662c75a42537"
_RATE_HZ = 50.0
_CHANNELS = tuple(
    Channel(name=f"{sensor}_{axis}", unit=unit)
    for sensor, unit in (("acc", "m/s^2"), ("gyr", "rad/s"))
    for axis in "xyz"
)
_LABELS = {
    "PEN": "pendulum",
    "ABD": "abduction",
    "FEL": "forward elevation",
    "IR": "internal rotation",
    "ER": "external rotation",
    "TRAP": "trapezius extension",
    "ROW": "upright row",
}


class WatchExercises:
    """The recordings in seglearn's `watch_dataset.npy`.

    Args:
        place: The file, or its folder; by default that of the installed package.
    """

    name = "watch-exercises"
    description = "Smartwatch recordings of 7 shoulder exercises by 10 people, both arms, 50 Hz"
    origin = "PyPI package seglearn 1.2.5 (BSD-3), arXiv 1802.01489"

    def __init__(self, place: Path | None = None) -> None:
        if place is None:
            self._path = find_file()
        else:
            self._path = place / "watch_dataset.npy" if place.is_dir() else place

    def digests(self) -> dict[str, str]:
        """SHA-256 of the file."""
        return {self._path.name: hashlib.sha256(self._path.read_bytes()).hexdigest()}

    def settings(self) -> dict[str, str]:
        """Nothing else decides its content."""
        return {}

    def items(self) -> list[SourceItem]:
        """`watch-000` to `watch-139`."""
        return [
            SourceItem(
                recording_id=_recording_id(index), place=self._path.name, num_bytes=values.nbytes
            )
            for index, values in enumerate(_read(self._path)["X"])
        ]

    def rejected(self) -> list[Quarantined]:
        """None: the list is the published one."""
        return []

    def digest(self, index: int) -> str:
        """Of the file and the index."""
        return combine(_SHA256, str(index))

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        """Open one recording."""
        yield as_raw(_recording(_read(self._path), index))


@functools.lru_cache(maxsize=1)
def _read(path: Path) -> dict[str, Any]:
    # The file is a pickle. It is opened only if it is, byte for byte, the published one.
    raw = path.read_bytes()
    found = hashlib.sha256(raw).hexdigest()
    if found != _SHA256:
        raise DatasetError(
            f"{path} is not the file of seglearn 1.2.5 (SHA-256 {found}): reinstall it"
        )
    content: dict[str, Any] = np.load(io.BytesIO(raw), allow_pickle=True).item()
    return content


def _recording_id(index: int) -> str:
    return f"watch-{index:03d}"


def _recording(content: dict[str, Any], index: int) -> Recording:
    values_TC = np.array(content["X"][index], dtype=np.float64)
    values_TC[:, :3] *= STANDARD_GRAVITY_M_S2
    time_s = np.arange(len(values_TC)) / _RATE_HZ
    label = _LABELS[content["y_labels"][int(content["y"][index])]]
    side = "right" if int(content["side"][index]) else "left"
    return Recording(
        recording_id=_recording_id(index),
        subject=f"p{int(content['subject'][index]):02d}",
        streams=(
            Stream(
                name="imu",
                rate_hz=_RATE_HZ,
                channels=_CHANNELS,
                time_s=time_s,
                values_TC=values_TC.astype(np.float32),
            ),
        ),
        annotations=(Annotation(start_s=0.0, end_s=len(values_TC) / _RATE_HZ, label=label),),
        metadata={"side": side},
    )


def find_file() -> Path:
    """Find the file in the installed package, without importing the package.

    Raises:
        NotFoundError: seglearn is not installed.
    """
    spec = importlib.util.find_spec("seglearn")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / "data" / "watch_dataset.npy"
        if path.is_file():
            return path
    raise NotFoundError(
        "the watch-exercises recordings come with the package seglearn: pip install 'motoric[demo]'"
    )
