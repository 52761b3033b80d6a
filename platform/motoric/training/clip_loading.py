"""Clips of a dataset as examples, alone or paired with the sensor windows of the same span.

Axes: B examples, T frames, H height, W width, C channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.clips import clip_spec, coloured
from motoric.artefact.signature import ClipInput
from motoric.core.errors import DatasetError, UserError
from motoric.data.dataset import Dataset
from motoric.data.video.clips import Span, clip_spans, decode_clips
from motoric.data.windows import WindowSet
from motoric.training.examples import Examples
from motoric.training.inputs import ModelInputs

_DECODERS = 2
# Times are compared with this much slack, as `motoric.data.video.clips` does.
_TIME_TOLERANCE_S = 1e-6


def load_clips(
    dataset: Dataset, inputs: ModelInputs, clip: ClipInput, windows: WindowSet | None
) -> Examples:
    """Decode the clips of all chosen recordings; with `windows`, each example has both or one.

    Raises:
        DatasetError: There is no clip with a label, or a video cannot be read.
    """
    found = find_clips(dataset, inputs, clip, windows)
    if found is None:
        raise DatasetError("no recording has a clip with a label: shorten clip.length_s")
    return found


def find_clips(
    dataset: Dataset, inputs: ModelInputs, clip: ClipInput, windows: WindowSet | None
) -> Examples | None:
    """As `load_clips`; None where there is not one example."""
    spans = _spans(inputs, clip, windows)
    return _with_clips(inputs, windows, spans, _decode(dataset, inputs, clip, spans))


def _spans(
    inputs: ModelInputs, clip: ClipInput, windows: WindowSet | None
) -> dict[str, list[Span]]:
    """Spans of clips by recording: those of the windows where there are some."""
    spans: dict[str, list[Span]] = {}
    if windows is not None and clip.length_s is not None:
        for index, recording_id in enumerate(windows.recording_ids):
            start_s = float(windows.start_s_B[index])
            label = windows.classes[windows.labels_B[index]]
            span = Span(start_s=start_s, end_s=start_s + clip.length_s, label=label)
            spans.setdefault(recording_id, []).append(span)
    spec = clip_spec(clip)
    for outline in inputs.outlines:
        if outline.video is None:
            spans.pop(outline.recording_id, None)
            continue
        video, name = outline.video, outline.recording_id
        if name in spans:
            first_s = video.offset_s - _TIME_TOLERANCE_S
            last_s = video.offset_s + video.duration_s + _TIME_TOLERANCE_S
            spans[name] = [s for s in spans[name] if s.start_s >= first_s and s.end_s <= last_s]
        else:
            found = clip_spans(video.duration_s, outline.annotations, spec, video.offset_s)
            spans[name] = [span for span in found if span.label in inputs.classes]
    return {name: found for name, found in spans.items() if found}


def _decode(
    dataset: Dataset, inputs: ModelInputs, clip: ClipInput, spans: dict[str, list[Span]]
) -> dict[str, NDArray[np.uint8]]:
    """Clips of each recording, (B, T, H, W, C), decoded by a few threads."""
    outlines = {outline.recording_id: outline for outline in inputs.outlines}

    def decode(name: str) -> NDArray[np.uint8]:
        video = outlines[name].video
        assert video is not None
        clips = decode_clips(dataset.video_uri(video), spans[name], clip_spec(clip), video.offset_s)
        try:
            return np.stack([coloured(found, clip) for found in clips])
        except UserError as error:
            raise DatasetError(f"{name}: its video cannot be read: {error.message}") from error

    with ThreadPoolExecutor(_DECODERS) as pool:
        return dict(zip(spans, pool.map(decode, spans), strict=True))


def _with_clips(
    inputs: ModelInputs,
    windows: WindowSet | None,
    spans: dict[str, list[Span]],
    clips: dict[str, NDArray[np.uint8]],
) -> Examples | None:
    """Windows and clips of the same span become one example; either may be alone."""
    assert inputs.clip is not None
    index_of = {label: index for index, label in enumerate(inputs.classes)}
    subjects = {outline.recording_id: outline.subject for outline in inputs.outlines}
    rows = list(_rows(windows, spans, clips, by_movement=inputs.clip.length_s is None))
    if not rows:
        return None
    windows_BTC = None
    if windows is not None:
        windows_BTC = np.zeros((len(rows), *windows.windows_BTC.shape[1:]), dtype=np.float32)
        for index, (_, _, window, _) in enumerate(rows):
            if window is not None:
                windows_BTC[index] = windows.windows_BTC[window]
    clips_BTHWC = np.zeros((len(rows), *inputs.clip.shape), dtype=np.uint8)
    for index, (_, _, _, clip) in enumerate(rows):
        if clip is not None:
            clips_BTHWC[index] = clip
    return Examples(
        windows_BTC=windows_BTC,
        clips_BTHWC=clips_BTHWC,
        present_B2=np.array(
            [[window is not None, clip is not None] for _, _, window, clip in rows], dtype=np.bool_
        ),
        targets_B=np.array([index_of[span.label or ""] for _, span, _, _ in rows], dtype=np.int64),
        persistence_B=None,
        subjects=tuple(subjects[name] for name, _, _, _ in rows),
        recording_ids=tuple(name for name, _, _, _ in rows),
        start_s_B=np.array([span.start_s for _, span, _, _ in rows]),
        end_s_B=np.array([span.end_s for _, span, _, _ in rows]),
        classes=inputs.classes,
    )


_Row = tuple[str, Span, int | None, NDArray[np.uint8] | None]


def _rows(
    windows: WindowSet | None,
    spans: dict[str, list[Span]],
    clips: dict[str, NDArray[np.uint8]],
    *,
    by_movement: bool,
) -> Iterator[_Row]:
    """Recording, span, index of the window and clip of each example, in their order."""
    waiting: dict[str, list[int]] = {}
    if windows is not None:
        for index, name in enumerate(windows.recording_ids):
            waiting.setdefault(name, []).append(index)
    for name in sorted({*spans, *waiting}):
        own = waiting.get(name, [])
        found: list[_Row] = []
        for place, span in enumerate(spans.get(name, [])):
            window = _partner(windows, own, span, by_movement=by_movement)
            if window is not None:
                own.remove(window)
            found.append((name, span, window, clips[name][place]))
        for index in own:
            assert windows is not None
            span = Span(
                start_s=float(windows.start_s_B[index]),
                end_s=float(windows.end_s_B[index]),
                label=windows.classes[windows.labels_B[index]],
            )
            found.append((name, span, index, None))
        yield from sorted(found, key=lambda row: row[1].start_s)


def _partner(
    windows: WindowSet | None, candidates: Sequence[int], span: Span, *, by_movement: bool
) -> int | None:
    """The window of the same span; of one movement, one that overlaps it and has its label."""
    for index in candidates:
        assert windows is not None
        start_s, end_s = windows.start_s_B[index], windows.end_s_B[index]
        if windows.classes[windows.labels_B[index]] != span.label:
            continue
        if by_movement and start_s < span.end_s and end_s > span.start_s:
            return index
        if not by_movement and abs(start_s - span.start_s) < _TIME_TOLERANCE_S:
            return index
    return None
