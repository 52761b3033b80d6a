from __future__ import annotations

import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import RecipeError
from motoric.data.recording import Annotation
from motoric.data.video.clips import ClipSpec, Span, clip_spans, decode_clips, frame_times
from motoric.data.video.frames import FrameReader
from videos import HEIGHT, RATE_HZ, WIDTH, number_of, write_video

SECONDS = st.floats(0.01, 500, allow_nan=False)


def spec(**changes: object) -> ClipSpec:
    defaults = {"num_frames": 4, "height": HEIGHT, "width": WIDTH}
    return ClipSpec(**{**defaults, **changes})  # type: ignore[arg-type]


def span(start_s: float, end_s: float) -> Span:
    return Span(start_s=start_s, end_s=end_s, label=None)


@settings(max_examples=60, deadline=None)
@given(duration_s=SECONDS, length_s=SECONDS, hop_s=st.floats(0.1, 50), offset_s=st.floats(-99, 99))
def test_windows_lie_on_the_grid_and_fill_the_video(
    duration_s: float, length_s: float, hop_s: float, offset_s: float
) -> None:
    found = clip_spans(duration_s, (), spec(length_s=length_s, hop_s=hop_s), offset_s)
    starts_s = np.array([each.start_s for each in found])
    np.testing.assert_allclose(starts_s / hop_s, np.round(starts_s / hop_s), atol=1e-6)
    for each in found:
        assert each.start_s >= offset_s - 1e-5
        assert each.end_s <= offset_s + duration_s + 1e-5
        assert each.end_s - each.start_s == pytest.approx(length_s)
    np.testing.assert_allclose(np.diff(starts_s), hop_s)
    if duration_s > length_s + hop_s + 1e-5:
        assert found[0].start_s < offset_s + hop_s + 1e-5
        assert found[-1].end_s > offset_s + duration_s - hop_s - 1e-5


@settings(max_examples=60, deadline=None)
@given(
    start_s=st.floats(0, 1000),
    length_s=SECONDS,
    num_frames=st.integers(1, 64),
    rate_hz=st.none() | st.floats(0.5, 240),
)
def test_frame_times_increase_within_their_span(
    start_s: float, length_s: float, num_frames: int, rate_hz: float | None
) -> None:
    end_s = start_s + length_s
    time_s_T = frame_times(span(start_s, end_s), spec(num_frames=num_frames, rate_hz=rate_hz))
    assert time_s_T.shape == (num_frames,)
    assert (np.diff(time_s_T) >= 0).all()
    assert start_s <= time_s_T[0]
    assert time_s_T[-1] < end_s
    if rate_hz is not None:
        num_inside = min(num_frames, int(length_s * rate_hz))
        expected = start_s + np.arange(num_inside) / rate_hz
        np.testing.assert_allclose(time_s_T[:num_inside], expected)


def test_even_frames_are_the_middles_of_equal_parts() -> None:
    np.testing.assert_allclose(frame_times(span(1, 3), spec()), [1.25, 1.75, 2.25, 2.75])


def test_a_span_too_short_for_the_rate_repeats_its_last_frame() -> None:
    times_s = frame_times(span(1.0, 1.3), spec(rate_hz=10.0, num_frames=5))
    np.testing.assert_allclose(times_s, [1.0, 1.1, 1.2, 1.2, 1.2])


ANNOTATIONS = (
    Annotation(start_s=0.0, end_s=2.0, label="a"),
    Annotation(start_s=2.0, end_s=4.5, label="b"),
    Annotation(start_s=9.0, end_s=10.0, label="late"),
)


def test_windows_are_labelled_by_the_annotation_that_covers_them() -> None:
    found = clip_spans(6.0, ANNOTATIONS, spec(length_s=1.0, hop_s=0.5))
    assert [each.label for each in found] == [*"aaa", None, *"bbbb", None, None, None]


def test_each_annotation_is_a_span_cut_to_the_video() -> None:
    found = clip_spans(3.0, ANNOTATIONS, spec(), 0.5)
    assert found == [
        Span(start_s=0.5, end_s=2.0, label="a"),
        Span(start_s=2.0, end_s=3.5, label="b"),
    ]
    assert clip_spans(1.4, ANNOTATIONS, spec(), 1.2) == []
    assert clip_spans(3.0, (), spec(), 0.5) == [span(0.5, 3.5)]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 0}, r"clip\.num_frames is 0"),
        ({"length_s": float("nan")}, r"clip\.length_s is nan"),
        ({"hop_s": 1.0}, r"clip\.hop_s is 1\.0, but it needs clip\.length_s"),
        ({"resize": "pad"}, r"clip\.resize is 'pad'"),
    ],
)
def test_a_clip_that_cannot_be_cut_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec(**changes)


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clips") / "v.mp4", num_frames=60)


def numbers(clip_THWC: np.ndarray) -> list[int]:
    return [number_of(frame) for frame in clip_THWC]


def test_overlapping_clips_hold_the_frames_of_their_times(numbered: Path) -> None:
    each = spec(length_s=0.5, hop_s=0.1, rate_hz=10.0)
    spans = clip_spans(2.0, (), each, 5.0)
    clips = list(decode_clips(str(numbered), spans, each, offset_s=5.0))
    assert len(clips) == len(spans) == 16
    for start, clip in enumerate(clips):
        assert (clip.shape, clip.dtype) == ((4, HEIGHT, WIDTH, 3), np.uint8)
        assert numbers(clip) == [3 * start, 3 * start + 3, 3 * start + 6, 3 * start + 9]


@settings(max_examples=8, deadline=None)
@given(starts=st.lists(st.integers(0, 50), min_size=1, max_size=6), length=st.integers(1, 9))
def test_clips_come_in_the_order_of_their_spans(
    numbered: Path, starts: list[int], length: int
) -> None:
    each = spec(num_frames=length)
    spans = [span(start / RATE_HZ, (start + length) / RATE_HZ) for start in starts]
    clips = list(decode_clips(str(numbered), spans, each))
    assert [numbers(clip) for clip in clips] == [
        list(range(start, start + length)) for start in starts
    ]


def test_a_reader_can_be_used_for_several_rounds(numbered: Path) -> None:
    each = spec(height=48, width=48, num_frames=2)
    spans = [span(0.0, 1.0), span(1.0, 2.0)]
    with FrameReader(str(numbered), height=48, width=48) as reader:
        rounds = [list(decode_clips(reader, spans, each)) for _ in range(2)]
    assert [clip.shape for clip in rounds[0]] == [(2, 48, 48, 3)] * 2
    np.testing.assert_array_equal(rounds[0], rounds[1])
    assert not np.array_equal(rounds[0][0], rounds[0][1])


def test_no_spans_give_no_clips(numbered: Path) -> None:
    assert list(decode_clips(str(numbered), [], spec())) == []


def test_clips_of_real_depth_videos_move() -> None:
    folder = os.environ.get("MOTORIC_TEST_DATA")
    if folder is None:
        pytest.skip("MOTORIC_TEST_DATA does not name the folder of real data")
    path = next(iter(sorted(Path(folder, "utd_mhad", "video").glob("*.mp4"))))
    each = spec(num_frames=16, height=112, width=112)
    (clip,) = decode_clips(str(path), [span(0.0, 2.2)], each)
    assert clip.shape == (16, 112, 112, 3)
    assert all((one != other).any() for one, other in itertools.pairwise(clip))
