"""Recordings of one subject, set one after the other: a long annotated series out of short ones.

In: recordings that each hold mostly one label. Out: one recording whose labels change, on which
timelines are tested. Axes: T samples, C channels. Pure numpy.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motoric.core.errors import DatasetError
from motoric.data.recording import Annotation, Recording, Stream

_RATE_TOLERANCE_HZ = 1e-6


def concatenate_recordings(
    recordings: Sequence[Recording],
    stream_name: str,
    rng: np.random.Generator | None = None,
) -> Recording:
    """Glue one stream of recordings together, one sample period between the last and the next.

    The seams are sudden, which real changes of activity are not: what is measured on such a series
    says little about the seconds around a change. Gaps within a recording stay.

    Args:
        recordings: Of one subject.
        stream_name: The stream that is taken; others and the videos are left out.
        rng: Puts the recordings into a random order; without one they stay in theirs.

    Returns:
        A recording that starts at 0 s, with the annotations moved along and cut to the stream; its
        metadata `concatenated` holds the ids in order.

    Raises:
        DatasetError: No recordings, more than one subject, or streams that differ in channels,
            units or rate.
    """
    if not recordings:
        raise DatasetError("there are no recordings to concatenate: choose one or more")
    order = range(len(recordings)) if rng is None else rng.permutation(len(recordings)).tolist()
    ordered = [recordings[index] for index in order]
    streams = [recording.stream(stream_name) for recording in ordered]
    for recording, stream in zip(ordered, streams, strict=True):
        _check_alike(ordered[0], streams[0], recording, stream)
    times, annotations, start_s = [], [], 0.0
    for recording, stream in zip(ordered, streams, strict=True):
        first_s, period_s = float(stream.time_s[0]), 1 / stream.rate_hz
        times.append(stream.time_s - first_s + start_s)
        end_s = float(times[-1][-1]) + period_s
        for item in recording.annotations:
            moved_s = max(item.start_s - first_s + start_s, start_s)
            moved_end_s = min(item.end_s - first_s + start_s, end_s)
            if moved_end_s > moved_s:
                annotations.append(Annotation(start_s=moved_s, end_s=moved_end_s, label=item.label))
        start_s = end_s
    subject = ordered[0].subject
    return Recording(
        recording_id=f"series-{subject}",
        subject=subject,
        streams=(
            Stream(
                name=stream_name,
                rate_hz=streams[0].rate_hz,
                channels=streams[0].channels,
                time_s=np.concatenate(times),
                values_TC=np.concatenate([stream.values_TC for stream in streams]),
            ),
        ),
        annotations=tuple(annotations),
        metadata={"concatenated": ",".join(recording.recording_id for recording in ordered)},
    )


def _check_alike(one: Recording, stream: Stream, other: Recording, other_stream: Stream) -> None:
    place = f"{other.recording_id} cannot follow {one.recording_id} in one series"
    if other.subject != one.subject:
        raise DatasetError(
            f"{place}: it is of {other.subject!r}, the other of {one.subject!r}; concatenate the"
            " recordings of one subject"
        )
    if other_stream.channels != stream.channels:
        names = [f"{channel.name} [{channel.unit}]" for channel in stream.channels]
        other_names = [f"{channel.name} [{channel.unit}]" for channel in other_stream.channels]
        raise DatasetError(
            f"{place}: stream {stream.name!r} has the channels {', '.join(other_names)}, the other"
            f" {', '.join(names)}; leave out the recordings with other channels"
        )
    if abs(other_stream.rate_hz - stream.rate_hz) > _RATE_TOLERANCE_HZ:
        raise DatasetError(
            f"{place}: stream {stream.name!r} runs at {other_stream.rate_hz:g} Hz, the other at"
            f" {stream.rate_hz:g} Hz; resample them to one rate first"
        )
