"""`utd-mhad`: 27 actions with an inertial unit, a Kinect skeleton and video, from a folder.

UTD Multimodal Human Action Dataset (Chen, Jafari, Kehtarnavaz, "UTD-MHAD: a multimodal dataset for
human action recognition utilizing a depth camera and a wearable inertial sensor", ICIP 2015), 8
people, 4 trials of each action. It is free to use but no package carries it, so `--from` names
where it lies. Two layouts are known, and both give the same ids and labels:

    manifest.csv                              one row a recording, read like any manifest; its video
                                              is the Kinect's depth as grey pictures, never RGB
    Inertial/a1_s1_t1_inertial.mat            `d_iner` (T, 6): acceleration g, angular rate deg/s
    Skeleton/a1_s1_t1_skeleton.mat            `d_skel` (20, 3, T): joints in m, the camera's axes
    RGB/, RGB-part1/ ... a1_s1_t1_color.avi   colour video
    Depth/a1_s1_t1_depth.mat                  left out; a recording that has it says so

The published files have no clock: sensors count from 0 at 50 Hz and joints at 30 Hz, and that they
begin together is known only to about a frame or two.

Axes: T samples, C channels, J joints, 3 the camera's x, y, z.
"""

from __future__ import annotations

import re
import zlib
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError, UnreadableError, UserError
from motoric.data.formats import units
from motoric.data.ingest.samples import Samples
from motoric.data.ingest.settings import IngestSettings
from motoric.data.ingest.source import (
    Quarantined,
    RawRecording,
    Source,
    SourceItem,
    VideoInput,
    combine,
)
from motoric.data.recording import STANDARD_GRAVITY_M_S2, Channel

# In the order of the published numbers, a1 to a27.
ACTIONS = (
    "swipe_left",
    "swipe_right",
    "wave",
    "clap",
    "throw",
    "arm_cross",
    "basketball_shoot",
    "draw_x",
    "draw_circle_cw",
    "draw_circle_ccw",
    "draw_triangle",
    "bowling",
    "boxing",
    "baseball_swing",
    "tennis_swing",
    "arm_curl",
    "tennis_serve",
    "push",
    "knock",
    "catch",
    "pickup_throw",
    "jog",
    "walk",
    "sit_to_stand",
    "stand_to_sit",
    "lunge",
    "squat",
)
# The unit is on the right thigh in these, else on the right wrist.
LEG_ACTIONS = frozenset(ACTIONS[21:])
JOINTS = (
    "head",
    "shoulder_center",
    "spine",
    "hip_center",
    *(f"left_{name}" for name in ("shoulder", "elbow", "wrist", "hand")),
    *(f"right_{name}" for name in ("shoulder", "elbow", "wrist", "hand")),
    *(f"left_{name}" for name in ("hip", "knee", "ankle", "foot")),
    *(f"right_{name}" for name in ("hip", "knee", "ankle", "foot")),
)
_IMU = tuple(
    Channel(name=f"{sensor}_{axis}", unit=unit)
    for sensor, unit in (("acc", "m/s^2"), ("gyr", "rad/s"))
    for axis in "xyz"
)
_POSE = tuple(Channel(name=f"{joint}_{axis}", unit="m") for joint in JOINTS for axis in "xyz")
_IMU_RATE_HZ = 50.0
_POSE_RATE_HZ = 30.0
# A trial has some 300 samples; a header that asks for more than an hour was made to do harm.
_MAX_SAMPLES = 200_000
_NAME = re.compile(
    r"a(\d+)_s(\d+)_t(\d+)_(inertial|skeleton|depth|color)\.(mat|avi)", re.IGNORECASE
)
_FOLDERS = {"inertial": "Inertial", "skeleton": "Skeleton", "depth": "Depth", "color": "RGB*"}
_WHERE = "https://personal.utdallas.edu/~kehtar/UTD-MHAD.html"


class UtdMhad:
    """The recordings of UTD-MHAD in a folder, in either layout.

    Args:
        folder: What `--from` names.

    Raises:
        UserError: No folder.
        DatasetError: Neither layout lies there.
    """

    name = "utd-mhad"
    description = "27 actions by 8 people: inertial unit 50 Hz, Kinect joints 30 Hz or depth video"
    origin = f"UTD-MHAD, ICIP 2015, {_WHERE}"

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            raise UserError(
                f"utd-mhad comes with no package: get it from {_WHERE} (Inertial.zip, Skeleton.zip,"
                " and the RGB zips for video), unpack it, and give its folder with --from DIR"
            )
        if (folder / "manifest.csv").is_file():
            self._layout: Source = _manifest(folder)
            self._video_kind = "depth"
        else:
            self._layout = _PublishedLayout(folder)
            self._video_kind = "rgb"

    def digests(self) -> dict[str, str]:
        """None: whether anything changed shows only in the files of each recording."""
        return self._layout.digests()

    def settings(self) -> dict[str, str]:
        """The kind of video, and what the layout's own reader depends on."""
        return {**self._layout.settings(), "video_kind": self._video_kind}

    def items(self) -> list[SourceItem]:
        """`a1_s1_t1` and so on."""
        return self._layout.items()

    def rejected(self) -> list[Quarantined]:
        """Files and rows that are no recording."""
        return self._layout.rejected()

    def digest(self, index: int) -> str:
        """Of all files of the recording."""
        return combine(self._layout.digest(index), self._video_kind)

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        """Open one recording.

        Raises:
            DatasetError: One of its files is broken; it may show only as the samples are read.
        """
        with self._layout.open(index) as raw:
            if raw.video is not None:
                raw.metadata["video_kind"] = self._video_kind
            yield raw


def _manifest(folder: Path) -> Source:
    # The readers of all formats are a lot to import for who has the published layout.
    from motoric.data.sources.manifest_source import ManifestSource

    return ManifestSource(
        str(folder),
        IngestSettings(),
        name=UtdMhad.name,
        description=UtdMhad.description,
        origin=UtdMhad.origin,
    )


class _PublishedLayout:
    """The files as the authors publish them."""

    name = UtdMhad.name
    description = UtdMhad.description
    origin = UtdMhad.origin

    def __init__(self, folder: Path) -> None:
        self._files: dict[tuple[int, int, int], dict[str, Path]] = defaultdict(dict)
        self._rejected: list[Quarantined] = []
        for kind, pattern in _FOLDERS.items():
            for place in sorted(folder.glob(f"{pattern}/*")):
                self._sort_in(folder, place, kind)
        for key in sorted(key for key, files in self._files.items() if set(files) == {"depth"}):
            path = self._files.pop(key)["depth"]
            self._leave_out(folder, path, "skipped", "depth alone is not read")
        self._keys = sorted(self._files)
        if not self._keys:
            raise DatasetError(
                f"{folder} holds no UTD-MHAD: looked for manifest.csv, and for"
                " Inertial/a1_s1_t1_inertial.mat, Skeleton/a1_s1_t1_skeleton.mat and"
                f" RGB*/a1_s1_t1_color.avi; unpack the zip files of {_WHERE} into one folder"
            )

    def _sort_in(self, folder: Path, path: Path, kind: str) -> None:
        if path.name.startswith("."):
            return
        match = _NAME.fullmatch(path.name)
        if match is None or match[4].lower() != kind:
            suffix = "color.avi" if kind == "color" else f"{kind}.mat"
            reason = f"is not named like a1_s1_t1_{suffix}"
            self._leave_out(folder, path, "skipped", reason)
            return
        action, subject, trial = int(match[1]), int(match[2]), int(match[3])
        if not 1 <= action <= len(ACTIONS):
            reason = f"a{action} is none of the actions a1 to a{len(ACTIONS)}"
            self._leave_out(folder, path, "rejected", reason)
        elif kind in self._files[action, subject, trial]:
            self._leave_out(folder, path, "rejected", "lies in an earlier folder too")
        else:
            self._files[action, subject, trial][kind] = path

    def _leave_out(
        self, folder: Path, path: Path, kind: Literal["rejected", "skipped"], reason: str
    ) -> None:
        place = str(path.relative_to(folder))
        self._rejected.append(
            Quarantined(recording_id=place, source=place, kind=kind, reason=reason)
        )

    def digests(self) -> dict[str, str]:
        return {}

    def settings(self) -> dict[str, str]:
        return {"layout": "published"}

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(
                recording_id=_recording_id(key),
                place=", ".join(f"{path.parent.name}/{path.name}" for path in files.values()),
                num_bytes=sum(path.stat().st_size for path in files.values()),
            )
            for key in self._keys
            for files in [_without_depth(self._files[key])]
        ]

    def rejected(self) -> list[Quarantined]:
        return list(self._rejected)

    def digest(self, index: int) -> str:
        from motoric.data.ingest.part_writer import file_sha256

        files = self._files[self._keys[index]]
        # Where a video lies counts too: one that is referred to must be found at its place.
        return combine(
            *(f"{kind} {file_sha256(str(path))}" for kind, path in _without_depth(files).items()),
            str(files.get("color", "")),
            "depth" if "depth" in files else "",
        )

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        key = self._keys[index]
        action, subject, trial = key
        label = ACTIONS[action - 1]
        files = self._files[key]
        placement = "right_thigh" if label in LEG_ACTIONS else "right_wrist"
        video = files.get("color")
        raw = RawRecording(
            recording_id=_recording_id(key),
            subject=f"s{subject}",
            label=label,
            samples=_samples(files),
            video=None if video is None else VideoInput(uri=str(video.resolve())),
            metadata={"trial": str(trial), "sensor_placement": placement},
        )
        if "depth" in files:
            raw.notes.add("depth_left_out", f"{files['depth'].name} was not read")
        yield raw


def _recording_id(key: tuple[int, int, int]) -> str:
    action, subject, trial = key
    return f"a{action}_s{subject}_t{trial}"


def _without_depth(files: dict[str, Path]) -> dict[str, Path]:
    return {kind: path for kind, path in files.items() if kind != "depth"}


def _samples(files: dict[str, Path]) -> Iterator[Samples]:
    if "inertial" in files:
        values_TC = _load(files["inertial"], "d_iner", (None, len(_IMU)))
        deg_s = units.ANGULAR_RATE.units["deg/s"].factor
        values_TC = values_TC * np.repeat([STANDARD_GRAVITY_M_S2, deg_s], 3)
        yield _stream("imu", _IMU, _IMU_RATE_HZ, values_TC)
    if "skeleton" in files:
        joints_J3T = _load(files["skeleton"], "d_skel", (len(JOINTS), 3, None))
        values_TC = np.moveaxis(joints_J3T, 2, 0).reshape(joints_J3T.shape[2], -1)
        yield _stream("pose", _POSE, _POSE_RATE_HZ, values_TC)


def _stream(
    name: str, channels: tuple[Channel, ...], rate_hz: float, values_TC: NDArray[np.float64]
) -> Samples:
    return Samples(
        stream=name,
        channels=channels,
        time_s=np.arange(len(values_TC)) / rate_hz,
        values_TC=values_TC,
        rate_hz=rate_hz,
    )


def _load(path: Path, variable: str, shape: tuple[int | None, ...]) -> NDArray[np.float64]:
    """One array of a MATLAB file; `None` in `shape` is the number of samples."""
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        # The header tells the size, so that nothing that is too large is ever unpacked.
        found = {name: size for name, size, _ in whosmat(path)}
        _check_shape(path, variable, found.get(variable), shape)
        values = loadmat(path, variable_names=[variable])[variable]
    except (
        MatReadError,
        zlib.error,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        NotImplementedError,
        OSError,
    ) as error:
        raise UnreadableError(f"{path.name} is not a sound MATLAB file: {error}") from error
    if values.dtype.kind not in "fiu":
        raise UnreadableError(f"{path.name}: {variable} holds {values.dtype}, not numbers")
    return np.asarray(values, dtype=np.float64)


def _check_shape(
    path: Path, variable: str, size: tuple[int, ...] | None, shape: tuple[int | None, ...]
) -> None:
    told = " x ".join("T" if length is None else str(length) for length in shape)
    if size is None:
        raise UnreadableError(f"{path.name} has no variable {variable} ({told})")
    fits = len(size) == len(shape) and all(
        expected in (length, None) for length, expected in zip(size, shape, strict=True)
    )
    num_samples = size[shape.index(None)] if fits else 0
    if not 0 < num_samples <= _MAX_SAMPLES:
        found = " x ".join(str(length) for length in size)
        raise UnreadableError(
            f"{path.name}: {variable} is {found}, not {told} with 1 to {_MAX_SAMPLES} samples"
        )
