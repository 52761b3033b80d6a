"""Files of one recording to the examples of a model: windows, clips, or both.

Runs in a process of its own (`worker`), since parsers and decoders of files that strangers made
are where memory is broken and time is lost.

Axes: B examples, T samples or frames, H height, W width, C channels or colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import Signature
from motoric.core.errors import InputError, TooLargeError
from motoric.data.ingest.samples import Notes
from motoric.data.windows import Window
from motoric.serving.batching import Rows
from motoric.serving.bodies.examples import rows_of
from motoric.serving.files.jobs import Chunk, Done, Job
from motoric.serving.files.sensor_file import SensorFile

if TYPE_CHECKING:
    from motoric.data.video.clips import Span
    from motoric.serving.files.video_file import VideoFile


@dataclass(frozen=True, slots=True, kw_only=True)
class _Example:
    start_s: float
    end_s: float
    window_TC: NDArray[np.float32] | None = None
    clip_THWC: NDArray[np.uint8] | None = None


class Recording:
    """The files of a job, cut once.

    Args:
        job: What to cut.

    Raises:
        InputError: The model does not take such a file, or needs another one.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        signature = job.signature
        pairs = (
            ("sensor file", job.sensors, signature.sensor_input),
            ("video", job.video, signature.clip_input),
        )
        for name, given, wanted in pairs:
            if given is not None and wanted is None:
                raise InputError(f"this model takes no {name}")
        for name, given, wanted in pairs:
            if given is None and wanted is not None and not wanted.optional:
                raise InputError(f"this model needs a {name}")
        self._sensors: SensorFile | None = None
        self._video: VideoFile | None = None
        if job.sensors is not None:
            self._sensors = SensorFile(
                source=job.sensors,
                sensors=signature.sensors,
                given=job.given,
                max_gap_s=signature.preprocessing.max_gap_s,
                max_duration_s=job.max_duration_s,
            )

    def chunks(self) -> Iterator[Chunk]:
        """All examples in the order of time.

        Raises:
            UnreadableError: A file is broken.
            InputError: A file lacks what the model needs, or is too short.
            TooLargeError: It is too long, or gives too many examples.
        """
        waiting: list[_Example] = []
        for number, example in enumerate(self._examples()):
            if number == self._job.max_examples:
                raise TooLargeError(
                    f"the file gives more than {self._job.max_examples} windows, the most of one"
                    " file: cut it"
                )
            waiting.append(example)
            if len(waiting) == self._job.chunk:
                yield _chunk(self._job.signature, waiting)
                waiting = []
        if waiting:
            yield _chunk(self._job.signature, waiting)

    def done(self) -> Done:
        """What is known of the recording once all examples were given out."""
        spans: list[tuple[float, float]] = []
        notes: list[Notes] = []
        if self._sensors is not None:
            spans.append((self._sensors.start_s, self._sensors.end_s))
            notes.append(self._sensors.notes)
        if self._video is not None:
            offset_s = self._job.video_offset_s
            spans.append((offset_s, offset_s + self._video.video.duration_s))
            notes.append(self._video.notes)
        first_s, last_s = min(start for start, _ in spans), max(end for _, end in spans)
        repairs = [flag.detail for item in notes for flag in item.flags if flag.is_repair]
        return Done(duration_s=last_s - first_s, repairs=tuple(line[:300] for line in repairs[:20]))

    def _examples(self) -> Iterator[_Example]:
        if self._job.video is None:
            assert self._sensors is not None, "a job has a file"
            yield from map(_of_window, self._sensors.windows())
            return
        video = self._video = self._open_video()
        if self._sensors is None:
            spans = video.spans()
            for span, clip_THWC in zip(spans, video.clips(spans), strict=True):
                yield _Example(start_s=span.start_s, end_s=span.end_s, clip_THWC=clip_THWC)
            return
        yield from self._paired(list(self._sensors.windows()), video)

    def _open_video(self) -> VideoFile:
        from motoric.serving.files.video_file import VideoFile

        job = self._job
        assert job.video is not None
        assert job.signature.clip_input is not None
        return VideoFile(
            job.video.path,
            job.signature.clip_input,
            offset_s=job.video_offset_s,
            max_duration_s=job.max_duration_s,
        )

    def _paired(self, windows: list[Window], video: VideoFile) -> Iterator[_Example]:
        """Each window with the clip of the same span, where that was filmed; as in training.

        What was not filmed is left out where the model needs both.
        """
        from motoric.data.video.clips import Span

        clip = self._job.signature.clip_input
        assert clip is not None
        spans: list[Span | None]
        if clip.length_s is None:
            spans = list(video.spans())  # one whole movement each
        else:
            wanted = [
                Span(start_s=window.start_s, end_s=window.start_s + clip.length_s, label=None)
                for window in windows
            ]
            spans = [span if video.shows(span) else None for span in wanted]
        clips = video.clips([span for span in spans if span is not None])
        for window, span in zip(windows, spans, strict=True):
            clip_THWC = None if span is None else next(clips)
            if clip_THWC is None and not clip.optional:
                continue
            yield _Example(
                start_s=window.start_s,
                end_s=window.end_s,
                window_TC=window.values_TC,
                clip_THWC=clip_THWC,
            )


def _of_window(window: Window) -> _Example:
    return _Example(start_s=window.start_s, end_s=window.end_s, window_TC=window.values_TC)


def _chunk(signature: Signature, examples: list[_Example]) -> Chunk:
    return Chunk(
        start_s_B=np.array([item.start_s for item in examples]),
        end_s_B=np.array([item.end_s for item in examples]),
        rows=_rows(signature, examples),
    )


def _rows(signature: Signature, examples: list[_Example]) -> Rows:
    sensors, clip = signature.sensor_input, signature.clip_input
    windows_BTC = clips_BTHWC = None
    if sensors is not None:
        shape = (len(examples), sensors.num_input_samples, sensors.num_channels)
        windows_BTC = np.zeros(shape, dtype=np.float32)
        for index, item in enumerate(examples):
            if item.window_TC is not None:
                windows_BTC[index] = item.window_TC
    if clip is not None:
        clips_BTHWC = np.zeros((len(examples), *clip.shape), dtype=np.uint8)
        for index, item in enumerate(examples):
            if item.clip_THWC is not None:
                clips_BTHWC[index] = item.clip_THWC
    present_B2 = np.array(
        [[item.window_TC is not None, item.clip_THWC is not None] for item in examples],
        dtype=np.bool_,
    )
    return rows_of(signature, windows_BTC, clips_BTHWC, present_B2)
