"""`basic-motions`: 80 real smartwatch recordings of 4 activities, 10 s each at 10 Hz.

They ship inside the PyPI package aeon (BSD-3) and are BasicMotions of the UEA archive (Bagnall et
al., "The UEA multivariate time series classification archive, 2018", arXiv 1811.00075): four
students stood, walked, ran and played badminton, five times each. Nobody wrote down who is in which
series, so each subject is unknown. A smoke test, not a benchmark: simple methods reach 100 %.

Units: the publication names none, so the channels have none, and nothing is converted. The values
look like m/s^2 without gravity (0.6 while standing, 17 while running) and rad/s, but whoever
needs a unit must not take it from here.

Axes: T samples, C channels.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError, NotFoundError
from motoric.data.ingest.samples import Samples
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, combine
from motoric.data.recording import UNKNOWN_SUBJECT, Channel

_RATE_HZ = 10.0
_CHANNELS = tuple(
    Channel(name=f"{sensor}_{axis}", unit="") for sensor in ("acc", "gyr") for axis in "xyz"
)
_PARTS = ("train", "test")
_NUM_SERIES = 40
_NUM_SAMPLES = 100
_LABELS = ("Standing", "Running", "Walking", "Badminton")
_HEADER = {
    "problemname": "basicmotions",
    "timestamps": "false",
    "missing": "false",
    "univariate": "false",
    "dimensions": str(len(_CHANNELS)),
    "equallength": "true",
    "serieslength": str(_NUM_SAMPLES),
    "classlabel": f"true {' '.join(_LABELS)}".lower(),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One part as published: its lines of data with their numbers, not parsed."""

    name: str
    sha256: str
    lines: tuple[tuple[int, str], ...]


class BasicMotions:
    """The recordings in `BasicMotions_TRAIN.ts` and `BasicMotions_TEST.ts`.

    Args:
        folder: Where both files lie; without it, in the installed package aeon.

    Raises:
        NotFoundError: The files are not there.
    """

    name = "basic-motions"
    description = "Smartwatch recordings of standing, walking, running and badminton, 10 s at 10 Hz"
    origin = "PyPI package aeon 1.6.0 (BSD-3), UEA archive (arXiv 1811.00075)"

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder if folder is not None else find_folder()
        for part in _PARTS:
            if not self._path(part).is_file():
                raise NotFoundError(
                    f"no {self._path(part).name} in {self._folder}: pip install --no-deps"
                    " aeon==1.6.0, or name the folder that holds it with --from DIR"
                )

    def digests(self) -> dict[str, str]:
        """SHA-256 of both files."""
        return {file.name: file.sha256 for file in self._files()}

    def settings(self) -> dict[str, str]:
        """Nothing else decides its content."""
        return {}

    def items(self) -> list[SourceItem]:
        """`train-00` to `train-39`, then `test-00` to `test-39`.

        Raises:
            DatasetError: A file is not BasicMotions in the `.ts` format, or was cut short.
        """
        return [
            SourceItem(
                recording_id=f"{part}-{index:02d}",
                place=f"{file.name}, line {number}",
                num_bytes=len(line),
            )
            for part, file in zip(_PARTS, self._files(), strict=True)
            for index, (number, line) in enumerate(file.lines)
        ]

    def rejected(self) -> list[Quarantined]:
        """None: a broken series is found when it is opened."""
        return []

    def digest(self, index: int) -> str:
        """Of the file and the index in it."""
        part, number = divmod(index, _NUM_SERIES)
        return combine(self._files()[part].sha256, str(number))

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        """Open one recording.

        Raises:
            DatasetError: Its line is broken.
        """
        part, position = divmod(index, _NUM_SERIES)
        file = self._files()[part]
        number, line = file.lines[position]
        values_TC, label = _parse(line, f"{file.name}, line {number}")
        recording_id = f"{_PARTS[part]}-{position:02d}"
        samples = Samples(
            stream="imu",
            channels=_CHANNELS,
            time_s=np.arange(len(values_TC)) / _RATE_HZ,
            values_TC=values_TC,
            rate_hz=_RATE_HZ,
        )
        yield RawRecording(
            recording_id=recording_id,
            subject=f"{UNKNOWN_SUBJECT}{recording_id}",
            samples=(samples,),
            label=label,
            metadata={"part": _PARTS[part]},
        )

    def _path(self, part: str) -> Path:
        return self._folder / f"BasicMotions_{part.upper()}.ts"

    def _files(self) -> tuple[_File, ...]:
        return tuple(
            _read(path, path.stat().st_mtime_ns) for path in (self._path(part) for part in _PARTS)
        )


@functools.lru_cache(maxsize=2)
def _read(path: Path, _changed_ns: int) -> _File:
    raw = path.read_bytes()
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is not the text of a .ts file: {error}") from error
    header: dict[str, str] = {}
    lines: list[tuple[int, str]] = []
    is_data = False
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        if is_data:
            lines.append((number, line.strip()))
        elif line.startswith("@"):
            key, _, value = line[1:].strip().lower().partition(" ")
            is_data = key == "data"
            header[key] = " ".join(value.split())
        else:
            raise DatasetError(f"{path}, line {number}: stands before @data and is no @ line")
    for key, expected in _HEADER.items():
        if header.get(key) != expected:
            raise DatasetError(
                f"{path} is not BasicMotions: @{key} is {header.get(key, 'missing')!r}, not"
                f" {expected!r}"
            )
    if len(lines) != _NUM_SERIES:
        raise DatasetError(
            f"{path} holds {len(lines)} series, as published it has {_NUM_SERIES}: take the whole"
            " file (pip install --no-deps aeon==1.6.0)"
        )
    return _File(name=path.name, sha256=hashlib.sha256(raw).hexdigest(), lines=tuple(lines))


def _parse(line: str, place: str) -> tuple[NDArray[np.float64], str]:
    """Values of one series, shape (T, C), and its label: channels and label stand between `:`."""
    *channels, label = line.split(":")
    if len(channels) != len(_CHANNELS):
        raise DatasetError(
            f"{place}: has {len(channels)} channels before its label, not {len(_CHANNELS)}"
        )
    if label not in _LABELS:
        raise DatasetError(f"{place}: the label {label!r} is none of {', '.join(_LABELS)}")
    columns = []
    for channel, text in zip(_CHANNELS, channels, strict=True):
        try:
            values_T = np.array([float(value) for value in text.split(",")])
        except ValueError as error:
            raise DatasetError(f"{place}: {channel.name} is not all numbers: {error}") from error
        if len(values_T) != _NUM_SAMPLES:
            raise DatasetError(
                f"{place}: {channel.name} has {len(values_T)} samples, not {_NUM_SAMPLES}"
            )
        if not np.isfinite(values_T).all():
            raise DatasetError(f"{place}: {channel.name} has values that are not finite")
        columns.append(values_T)
    return np.stack(columns, axis=1), label.lower()


def find_folder() -> Path:
    """Find the files in the installed package, without importing the package.

    Raises:
        NotFoundError: aeon is not installed.
    """
    spec = importlib.util.find_spec("aeon")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "datasets" / "data" / "BasicMotions"
        if folder.is_dir():
            return folder
    raise NotFoundError(
        "the basic-motions recordings come with the package aeon, of which only the files are used:"
        " pip install --no-deps aeon==1.6.0"
    )
