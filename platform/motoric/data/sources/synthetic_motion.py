"""`synthetic-motion`: a drawn figure doing exercises, as video and as inertial data of its wrist.

SYNTHETIC: no person, no camera and no sensor. Both come from the same kinematics, so that they
belong together exactly, follow from a seed, and may be given to anyone. They serve tests, and the
video part of the demo; a model trained on them says nothing about people.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from motoric.core.errors import UserError
from motoric.data.ingest.samples import Samples
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, VideoInput, combine
from motoric.data.recording import Channel
from motoric.data.synthetic.exercises import EXERCISES, make_subject
from motoric.data.synthetic.kinematics import INERTIAL_CHANNELS, Place, inertial, joint_positions

_VERSION = "1"
_RATE_HZ = 50.0
_VIDEO_HZ = 20.0
_SIZE = (120, 160)
# The camera starts this much after the sensor, by recording: their clocks differ as real ones do.
_MAX_OFFSET_S = 1.0
_PLACE: Place = "right_wrist"


class SyntheticMotion:
    """Recordings of made-up people, one an exercise.

    Args:
        folder: None; there are no files to read.
        num_subjects: People.
        duration_s: Length of each recording.

    Raises:
        UserError: A folder was given.
    """

    name = "synthetic-motion"
    description = "SYNTHETIC: a drawn figure doing 6 exercises, video and wrist sensor"
    origin = "computed by Motoric"

    def __init__(
        self, folder: Path | None = None, *, num_subjects: int = 4, duration_s: float = 8.0
    ) -> None:
        if folder is not None:
            raise UserError("synthetic-motion is computed: leave --from out")
        self.num_subjects = num_subjects
        self.duration_s = duration_s

    def digests(self) -> dict[str, str]:
        """Of what decides the figure's motion."""
        return {"synthetic-motion": combine(_VERSION, *self.settings().values())}

    def settings(self) -> dict[str, str]:
        """Number and length of the recordings."""
        return {"num_subjects": str(self.num_subjects), "duration_s": f"{self.duration_s:g}"}

    def items(self) -> list[SourceItem]:
        """`synthetic-00-squat` and so on."""
        # Each takes a second or two to draw, so a task gets few: as many bytes as 4 in a group.
        return [
            SourceItem(
                recording_id=f"synthetic-{subject:02d}-{exercise}",
                place=f"{self.name}/{subject}/{exercise}",
                num_bytes=8 * 2**20,
            )
            for subject in range(self.num_subjects)
            for exercise in EXERCISES
        ]

    def rejected(self) -> list[Quarantined]:
        """None."""
        return []

    def digest(self, index: int) -> str:
        """Of what decides the recording."""
        return combine(_VERSION, str(index), *self.settings().values())

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        """Compute one recording; its video lies in a temporary file."""
        # Drawing needs PyAV and Pillow, which those who only list sources may lack.
        from motoric.data.synthetic.rendering import encode_video, render_frames

        number, which = divmod(index, len(EXERCISES))
        exercise = EXERCISES[which]
        subject = replace(make_subject(number), pause_depth=0.0)
        time_s = np.arange(round(self.duration_s * _RATE_HZ)) / _RATE_HZ
        offset_s = round(float(np.random.default_rng([index, 7]).uniform(0, _MAX_OFFSET_S)), 3)
        video_s = np.arange(round((self.duration_s - offset_s) * _VIDEO_HZ)) / _VIDEO_HZ
        with tempfile.TemporaryDirectory(prefix="motoric-synthetic-") as folder:
            path = Path(folder) / "figure.mp4"
            positions_TJ3 = joint_positions(exercise, subject, video_s + offset_s)
            encode_video(path, render_frames(positions_TJ3, _SIZE, number), _VIDEO_HZ)
            yield RawRecording(
                recording_id=f"synthetic-{number:02d}-{exercise}",
                subject=f"synthetic-{number:02d}",
                label=exercise,
                samples=[
                    Samples(
                        stream="imu",
                        channels=_CHANNELS,
                        time_s=time_s,
                        values_TC=inertial(exercise, subject, time_s, _PLACE),
                        rate_hz=_RATE_HZ,
                    )
                ],
                video=VideoInput(uri=str(path), offset_s=offset_s, is_copied=True),
                metadata={"sensor_placement": _PLACE, "synthetic": "yes"},
            )


_CHANNELS = tuple(
    Channel(name=name, unit="m/s^2" if name.startswith("acc") else "rad/s")
    for name in INERTIAL_CHANNELS
)
