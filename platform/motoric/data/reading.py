"""Windows and clips of a dataset as a Ray Dataset, for anyone's own training or analysis.

In: the URI of a dataset. Out: rows, read by many workers in bounded memory. Axes: T samples or
frames, C channels, H height, W width.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError
from motoric.data.dataset import Chunk, PartReader, open_dataset
from motoric.data.recording import Annotation, Recording
from motoric.data.windows import Window, Windower, covering_label

if TYPE_CHECKING:
    import ray.data

    from motoric.data.video.clips import ClipSpec, Span

_Clip = tuple[dict[str, Any], "Span", NDArray[np.uint8]]

# What a task hands on at once, and about what it does in all.
_BLOCK_BYTES = 8 * 2**20
_CLIPS_A_TASK = 32
_TASK_S = 1800.0


class _Outline:
    """What a task knows of a recording whose windows it reads."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.recording_id: str = job["recording_id"]
        self.subject: str = job["subject"]
        self.annotations = tuple(Annotation(**item) for item in job["annotations"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _WindowReader:
    """Reads the windows of some recordings; what a task of `read_windows` does."""

    dataset_uri: str
    stream: str
    rate_hz: float
    length_s: float
    hop_s: float
    context_s: float
    max_gap_s: float
    channels: tuple[str, ...]
    labelled_only: bool

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
        part: PartReader | None = None
        for recording in batch["recording"].tolist():
            job = json.loads(recording)
            if part is None or part.path != job["part"]:
                part = PartReader(self.dataset_uri, job["part"])
            yield from self._blocks(_Outline(job), part)

    def _blocks(self, outline: _Outline, part: PartReader) -> Iterator[dict[str, Any]]:
        pending: list[tuple[Window, str | None]] = []
        num_bytes = 0
        for window, label in self._windows(outline, part):
            pending.append((window, label))
            num_bytes += window.values_TC.nbytes
            if num_bytes >= _BLOCK_BYTES:
                yield self._block(outline, pending)
                pending, num_bytes = [], 0
        if pending:
            yield self._block(outline, pending)

    def _windows(self, outline: _Outline, part: PartReader) -> Iterator[tuple[Window, str | None]]:
        windower: Windower | None = None
        for chunk in part.chunks(outline.recording_id, self.stream):
            if windower is None:
                windower = Windower(
                    native_rate_hz=chunk.rate_hz,
                    rate_hz=self.rate_hz,
                    length_s=self.length_s,
                    hop_s=self.hop_s,
                    context_s=self.context_s,
                    max_gap_s=self.max_gap_s,
                )
            yield from self._labelled(outline, windower.push(chunk.time_s, self._values(chunk)))
        if windower is not None:
            yield from self._labelled(outline, windower.finish())

    def _labelled(
        self, outline: _Outline, windows: Iterable[Window]
    ) -> Iterator[tuple[Window, str | None]]:
        for window in windows:
            label = covering_label(
                outline.annotations, window.start_s, window.start_s + self.length_s
            )
            if label is not None or not self.labelled_only:
                yield window, label

    def _values(self, chunk: Chunk) -> NDArray[Any]:
        if chunk.channels == self.channels:
            return chunk.values_TC
        columns = [
            chunk.values_TC[:, chunk.channels.index(name)]
            if name in chunk.channels
            else np.full(len(chunk.time_s), np.nan)
            for name in self.channels
        ]
        return np.stack(columns, axis=1)

    def _block(
        self, outline: _Outline, windows: Sequence[tuple[Window, str | None]]
    ) -> dict[str, Any]:
        count = len(windows)
        return {
            "recording_id": np.full(count, outline.recording_id),
            "subject": np.full(count, outline.subject),
            "label": np.array([label for _, label in windows], dtype=object),
            "start_s": np.array([window.start_s for window, _ in windows]),
            "window": np.stack([window.values_TC for window, _ in windows]),
        }


def read_windows(
    uri: str,
    *,
    stream: str = "imu",
    length_s: float,
    hop_s: float | None = None,
    rate_hz: float | None = None,
    context_s: float = 0.0,
    max_gap_s: float = 0.0,
    channels: Sequence[str] | None = None,
    subjects: Iterable[str] | None = None,
    labelled_only: bool = True,
) -> ray.data.Dataset:
    """Windows of one stream. Needs a running Ray.

    Args:
        uri: Of the dataset.
        stream: Its name.
        length_s: Length of a window.
        hop_s: From one window's start to the next; by default `length_s`.
        rate_hz: Rate of the windows; by default the one that most of the stream has. Recordings of
            other rates are resampled with anti-aliasing.
        context_s: Time before each window that its array holds too.
        max_gap_s: Longest gap, or run of missing values, that is filled; no window crosses a longer
            one.
        channels: To take, in this order; by default all.
        subjects: To take; by default all.
        labelled_only: Leave out windows that no one annotation covers; else their label is None.

    Returns:
        Rows of `recording_id`, `subject`, `label`, `start_s` and `window`, float32 of shape
        (context + T, C), in the card's units.

    Raises:
        DatasetError: No dataset lies there, it has no such stream or channel, or nothing is left.
    """
    dataset = open_dataset(uri)
    card = dataset.card.stream(stream)
    known = [channel.name for channel in card.channels]
    missing = sorted(set(channels or ()) - set(known))
    if missing:
        raise DatasetError(
            f"stream {stream!r} of {uri} has no channel {', '.join(missing)} (it has:"
            f" {', '.join(known)})"
        )
    reader = _WindowReader(
        dataset_uri=uri,
        stream=stream,
        rate_hz=rate_hz or card.rate_hz,
        length_s=length_s,
        hop_s=hop_s or length_s,
        context_s=context_s,
        max_gap_s=max_gap_s,
        channels=tuple(channels or known),
        labelled_only=labelled_only,
    )
    wanted = None if subjects is None else set(subjects)
    annotations = {
        outline.recording_id: [asdict(item) for item in outline.annotations]
        for outline in dataset.outlines(wanted)
    }
    jobs: list[tuple[dict[str, str], float]] = []
    for row in dataset.recordings_table().to_pylist():
        has_stream = any(item["stream"] == stream for item in row["streams"])
        if not has_stream or row["recording_id"] not in annotations:
            continue
        job = {name: row[name] for name in ("recording_id", "subject", "part")}
        job["annotations"] = annotations[row["recording_id"]]
        jobs.append(({"recording": json.dumps(job)}, row["duration_s"]))
    if not jobs:
        raise DatasetError(f"{uri} has no recording with stream {stream!r} of these subjects")
    groups = _grouped(jobs, _TASK_S)
    return _flat_map(reader, [row for group in groups for row in group], groups)


def _grouped(
    jobs: Sequence[tuple[dict[str, str], float]], limit: float
) -> list[list[dict[str, str]]]:
    """Neighbours together, so that a file of the dataset is opened by few tasks."""
    groups: list[list[dict[str, str]]] = [[]]
    total = 0.0
    for job, length in jobs:
        if groups[-1] and total + length > limit:
            groups.append([])
            total = 0.0
        groups[-1].append(job)
        total += length
    return groups


def _flat_map(
    reader: Any, rows: list[dict[str, str]], groups: Sequence[Sequence[Any]]
) -> ray.data.Dataset:
    import ray.data

    source = ray.data.from_items(rows, override_num_blocks=len(groups))
    # Blocks go on as they are yielded: gathered to Ray's 128 MiB they would be copied once more,
    # and a worker would hold as much.
    source.context.target_max_block_size = _BLOCK_BYTES
    return source.map_batches(reader, batch_size=None, zero_copy_batch=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _ClipReader:
    """Decodes the clips of some videos; what a task of `read_clips` does."""

    spec: ClipSpec

    def __call__(self, batch: dict[str, NDArray[Any]]) -> Iterator[dict[str, Any]]:
        frame_bytes = self.spec.height * self.spec.width * 3
        per_block = -(-_BLOCK_BYTES // (self.spec.num_frames * frame_bytes))
        for part in _batched(self._clips(batch["video"].tolist()), per_block):
            jobs, spans, clips = zip(*part, strict=True)
            yield {
                "recording_id": np.array([job["recording_id"] for job in jobs]),
                "subject": np.array([job["subject"] for job in jobs]),
                "label": np.array([span.label for span in spans], dtype=object),
                "start_s": np.array([span.start_s for span in spans]),
                "end_s": np.array([span.end_s for span in spans]),
                "clip": np.stack(clips),
            }

    def _clips(self, videos: Iterable[str]) -> Iterator[_Clip]:
        from motoric.data.video.clips import Span, decode_clips

        for video in videos:
            job = json.loads(video)
            spans = [Span(**span) for span in job["spans"]]
            clips = decode_clips(job["uri"], spans, self.spec, job["offset_s"])
            for span, clip in zip(spans, clips, strict=True):
                yield job, span, clip


def _batched(items: Iterable[_Clip], size: int) -> Iterator[list[_Clip]]:
    iterator = iter(items)
    while part := list(itertools.islice(iterator, size)):
        yield part


def _spans(outline: Recording, spec: ClipSpec) -> list[Span]:
    from motoric.data.video.clips import clip_spans

    assert outline.video is not None
    return clip_spans(outline.video.duration_s, outline.annotations, spec, outline.video.offset_s)


def read_clips(
    uri: str,
    *,
    num_frames: int,
    height: int = 112,
    width: int = 112,
    resize: Literal["crop", "stretch"] = "crop",
    clip_rate_hz: float | None = None,
    length_s: float | None = None,
    hop_s: float | None = None,
    subjects: Iterable[str] | None = None,
) -> ray.data.Dataset:
    """Clips of the recordings that have video. Needs a running Ray, and PyAV on its nodes.

    Args:
        uri: Of the dataset.
        num_frames: Frames of a clip.
        height: Of a frame in pixels.
        width: Of a frame in pixels.
        resize: `crop` keeps the aspect and cuts the middle out, `stretch` does not.
        clip_rate_hz: Frames a second, from the start of the span; by default spread over all of it.
        length_s: Length of a span; by default one clip an annotation, or of the whole video where
            there is none.
        hop_s: From one span's start to the next; by default `length_s`.
        subjects: To take; by default all.

    Returns:
        Rows of `recording_id`, `subject`, `label` (None where no one annotation covers the span),
        `start_s`, `end_s` and `clip`, uint8 of shape (T, H, W, 3), upright RGB.

    Raises:
        DatasetError: No dataset lies there, or no video of these subjects.
        RecipeError: A number is not above 0, or `hop_s` stands without `length_s`.
    """
    from motoric.data.video.clips import ClipSpec

    dataset = open_dataset(uri)
    spec = ClipSpec(
        num_frames=num_frames,
        height=height,
        width=width,
        resize=resize,
        rate_hz=clip_rate_hz,
        length_s=length_s,
        hop_s=hop_s,
    )
    tasks: list[list[dict[str, str]]] = [[]]
    count = 0
    for outline in dataset.outlines(subjects):
        if outline.video is None:
            continue
        spans = _spans(outline, spec)
        for first in range(0, len(spans), _CLIPS_A_TASK):
            part = spans[first : first + _CLIPS_A_TASK]
            if tasks[-1] and count + len(part) > _CLIPS_A_TASK:
                tasks.append([])
                count = 0
            job = {
                "recording_id": outline.recording_id,
                "subject": outline.subject,
                "uri": dataset.video_uri(outline.video),
                "offset_s": outline.video.offset_s,
                "spans": [asdict(span) for span in part],
            }
            tasks[-1].append({"video": json.dumps(job)})
            count += len(part)
    if not tasks[0]:
        raise DatasetError(f"{uri} has no video of these subjects with a span to take a clip from")
    rows = [row for task in tasks for row in task]
    return _flat_map(_ClipReader(spec=spec), rows, tasks)
