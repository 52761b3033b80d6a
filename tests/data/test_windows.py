from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import DatasetError
from motoric.data.recording import Annotation, Channel, Recording, Stream
from motoric.data.windows import Window, Windower, WindowSet, covering_label, cut_windows

RATE_HZ = 10.0
CHANNELS = (Channel(name="up", unit="s"), Channel(name="down", unit="s"))


def make_recording(time_s: np.ndarray, annotations: tuple[Annotation, ...] = ()) -> Recording:
    values_TC = np.stack([time_s, -time_s], axis=1).astype(np.float32)
    return Recording(
        recording_id="r",
        subject="s",
        streams=(
            Stream(
                name="imu",
                rate_hz=RATE_HZ,
                channels=CHANNELS,
                time_s=time_s,
                values_TC=values_TC,
            ),
        ),
        annotations=annotations or (Annotation(start_s=0, end_s=1e9, label="a"),),
    )


@given(
    num_times=st.integers(1, 200),
    gaps=st.sets(st.integers(1, 199), max_size=5),
    num_samples=st.integers(1, 40),
    hop=st.integers(1, 40),
)
def test_windows_are_complete_and_never_cross_a_gap(
    num_times: int, gaps: set[int], num_samples: int, hop: int
) -> None:
    steps = np.full(num_times, 1 / RATE_HZ)
    steps[[gap for gap in gaps if gap < num_times]] += 1.0
    time_s = np.cumsum(steps) - steps[0]
    windower = Windower(
        native_rate_hz=RATE_HZ,
        rate_hz=RATE_HZ,
        length_s=num_samples / RATE_HZ,
        hop_s=hop / RATE_HZ,
    )
    starts = windower.push(time_s, time_s[:, None]) + windower.finish()
    for window in starts:
        inside = window.values_TC[:, 0]
        assert inside[0] == pytest.approx(window.start_s)
        assert len(inside) == num_samples
        assert inside[-1] - inside[0] == pytest.approx((num_samples - 1) / RATE_HZ, abs=1e-4)
    edges = sorted({0, num_times, *(gap for gap in gaps if gap < num_times)})
    expected = sum(
        max(0, (last - first - num_samples) // hop + 1) if last - first >= num_samples else 0
        for first, last in itertools.pairwise(edges)
    )
    assert len(starts) == expected


def test_a_window_gets_the_label_of_the_annotation_that_covers_it() -> None:
    annotations = (
        Annotation(start_s=0.0, end_s=2.0, label="a"),
        Annotation(start_s=2.0, end_s=4.0, label="b"),
    )
    assert covering_label(annotations, 0.0, 2.0) == "a"
    assert covering_label(annotations, 1.5, 2.5) is None
    assert covering_label(annotations, 2.0, 3.0) == "b"
    found = cut_windows(
        [make_recording(np.arange(40) / RATE_HZ, annotations)],
        stream_name="imu",
        rate_hz=RATE_HZ,
        length_s=1.0,
        hop_s=0.5,
        classes=["a", "b"],
    )
    assert found.start_s_B.tolist() == [0.0, 0.5, 1.0, 2.0, 2.5, 3.0]
    assert found.labels_B.tolist() == [0, 0, 0, 1, 1, 1]
    assert found.windows_BTC.shape == (6, 10, 2)
    np.testing.assert_allclose(found.windows_BTC[:, 0, 0], found.start_s_B)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stream_name": "gyro"}, "has no stream 'gyro'"),
        ({"channels": ["up", "left"]}, "has no channel left .it has: up, down"),
        ({"rate_hz": 50.0}, "runs at 10 Hz, the others at 50 Hz"),
        ({"length_s": 0.04}, r"holds no sample at 10 Hz"),
        ({"length_s": 100.0}, r"shorten window\.length_s"),
        ({"classes": ["b"]}, r"no labelled window of 1 s.*shorten window\.length_s"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        cut_windows([make_recording(np.arange(40) / RATE_HZ)], **options(**change))  # type: ignore[arg-type]


def options(**changes: object) -> dict[str, object]:
    known: dict[str, object] = {"stream_name": "imu", "rate_hz": RATE_HZ, "classes": ["a"]}
    return {**known, "length_s": 1.0, "hop_s": 0.5, **changes}


def test_missing_values_split_windows_beyond_the_longest_gap() -> None:
    recording = make_recording(np.arange(60) / RATE_HZ)
    recording.streams[0].values_TC[25:28, 1] = np.nan
    split = cut_windows([recording], **options())  # type: ignore[arg-type]
    np.testing.assert_allclose(
        split.start_s_B, [0, 0.5, 1, 1.5, 2.8, 3.3, 3.8, 4.3, 4.8], atol=1e-9
    )
    filled = cut_windows([recording], **options(max_gap_s=0.4))  # type: ignore[arg-type]
    np.testing.assert_allclose(filled.start_s_B, np.arange(11) / 2, atol=1e-9)
    np.testing.assert_allclose(
        filled.windows_BTC[:, :, 1], -filled.start_s_B[:, None] - np.arange(10) / 10, atol=1e-5
    )


def test_missing_values_of_a_channel_that_is_not_taken_split_nothing() -> None:
    recording = make_recording(np.arange(60) / RATE_HZ)
    recording.streams[0].values_TC[25:28, 1] = np.nan
    found = cut_windows([recording], **options(channels=["up"]))  # type: ignore[arg-type]
    assert found.windows_BTC.shape == (11, 10, 1)


def test_channels_come_in_the_order_in_which_they_are_asked_for() -> None:
    recording = make_recording(np.arange(60) / RATE_HZ)
    found = cut_windows([recording], **options(channels=["down", "up"]))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.windows_BTC[:, :, 0], -found.windows_BTC[:, :, 1])


def test_another_rate_is_resampled_where_the_caller_allows_it() -> None:
    recording = make_recording(np.arange(100) / RATE_HZ)
    found = cut_windows([recording], **options(rate_hz=20.0, resample=True))  # type: ignore[arg-type]
    assert found.windows_BTC.shape == (19, 20, 2)
    np.testing.assert_allclose(found.start_s_B, np.arange(19) / 2, atol=1e-9)
    middle = found.windows_BTC[4:-4, :, 0]
    expected = found.start_s_B[4:-4, None] + np.arange(20) / 20
    np.testing.assert_allclose(middle, expected, atol=0.02)


def test_the_context_comes_before_the_window_and_begins_with_its_first_sample() -> None:
    annotations = (Annotation(start_s=0.5, end_s=2.5, label="a"),)
    recording = make_recording(np.arange(60) / RATE_HZ, annotations)
    found = cut_windows([recording], **options(context_s=0.8))  # type: ignore[arg-type]
    # The label is that of the window alone, so its context may reach into another.
    np.testing.assert_allclose(found.start_s_B, [0.5, 1.0, 1.5])
    assert found.windows_BTC.shape == (3, 18, 2)
    expected = found.start_s_B[:, None] + np.arange(-8, 10) / 10
    np.testing.assert_allclose(found.windows_BTC[..., 0], np.maximum(expected, 0), atol=1e-6)


def test_the_context_never_reaches_across_a_gap() -> None:
    time_s = np.concatenate([np.arange(20) / RATE_HZ, 50 + np.arange(20) / RATE_HZ])
    found = cut_windows([make_recording(time_s)], **options(context_s=5.0))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.start_s_B, [0, 0.5, 1, 50, 50.5, 51])
    assert (found.windows_BTC[3:, :, 0] >= 50).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    num_samples=st.integers(1, 200),
    rate_hz=st.sampled_from([8.0, 10.0, 12.5]),
    length_s=st.sampled_from([0.2, 1.0, 3.0]),
    hop_s=st.sampled_from([0.1, 0.7, 4.0]),
    context_s=st.sampled_from([0.0, 0.5, 6.0]),
)
def test_a_live_stream_gives_the_windows_of_the_file(
    seed: int, num_samples: int, rate_hz: float, length_s: float, hop_s: float, context_s: float
) -> None:
    rng = np.random.default_rng(seed)
    steps_s = rng.uniform(0.8, 1.2, num_samples) / RATE_HZ
    steps_s[rng.random(num_samples) < 0.02] += 2.0
    time_s = np.cumsum(steps_s)
    values_TC = rng.normal(size=(num_samples, 2)).astype(np.float32)
    values_TC[rng.random(values_TC.shape) < 0.02] = np.nan

    def windows(cuts: list[int]) -> list[Window]:
        windower = Windower(
            native_rate_hz=RATE_HZ,
            rate_hz=rate_hz,
            length_s=length_s,
            hop_s=hop_s,
            context_s=context_s,
            max_gap_s=0.25,
        )
        found = []
        for first, last in itertools.pairwise([0, *cuts, num_samples]):
            found += windower.push(time_s[first:last], values_TC[first:last])
        return found + windower.finish()

    whole = windows([])
    for cuts in (list(range(1, num_samples)), sorted(rng.integers(0, num_samples, 5).tolist())):
        pieces = windows(cuts)
        assert [window.start_s for window in pieces] == [window.start_s for window in whole]
        for piece, expected in zip(pieces, whole, strict=True):
            np.testing.assert_array_equal(piece.values_TC, expected.values_TC)


def test_a_window_is_given_out_as_soon_as_it_is_complete() -> None:
    windower = Windower(native_rate_hz=10, rate_hz=10, length_s=1, hop_s=0.5)
    at_s = [
        index / 10
        for index in range(31)
        for _ in windower.push(np.array([index / 10]), np.zeros((1, 1)))
    ]
    assert at_s == [0.9, 1.4, 1.9, 2.4, 2.9]


def test_a_live_stream_holds_one_window_and_its_context_at_most() -> None:
    windower = Windower(native_rate_hz=10, rate_hz=10, length_s=2, hop_s=1, context_s=3)
    for minute in range(20):
        time_s = minute * 60 + np.arange(600) / 10
        windower.push(time_s, np.zeros((600, 1)))
        assert windower.num_held <= 60


def test_windows_cannot_be_changed_through_one_another() -> None:
    windower = Windower(native_rate_hz=10, rate_hz=10, length_s=1, hop_s=0.5)
    first, *_ = windower.push(np.arange(30) / 10, np.zeros((30, 1)))
    with pytest.raises(ValueError, match="read-only"):
        first.values_TC[0] = 1


@pytest.mark.parametrize("times", [[0.0, 0.1, 0.1], [0.0, 0.2, 0.1], [0.0, np.nan], []])
def test_a_stream_needs_increasing_times(times: list[float]) -> None:
    with pytest.raises(DatasetError):
        Stream(
            name="imu",
            rate_hz=RATE_HZ,
            channels=CHANNELS[:1],
            time_s=np.array(times),
            values_TC=np.zeros((len(times), 1), np.float32),
        )


def test_the_end_of_each_window_is_its_length_after_its_start() -> None:
    found = cut_windows([make_recording(np.arange(40) / RATE_HZ)], **options(context_s=0.5))  # type: ignore[arg-type]
    np.testing.assert_allclose(found.end_s_B, found.start_s_B + 1.0)


def test_without_classes_every_window_is_taken_and_has_no_label() -> None:
    annotations = (Annotation(start_s=0.0, end_s=1.5, label="a"),)
    recording = make_recording(np.arange(40) / RATE_HZ, annotations)
    labelled = cut_windows([recording], **options())  # type: ignore[arg-type]
    every = cut_windows([recording], **options(classes=None))  # type: ignore[arg-type]
    assert labelled.start_s_B.tolist() == [0.0, 0.5]
    assert every.start_s_B.tolist() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
    assert set(every.labels_B.tolist()) == {-1}
    assert every.classes == ()
    with pytest.raises(DatasetError, match="no window of 9 s"):
        cut_windows([recording], **options(classes=None, length_s=9.0))  # type: ignore[arg-type]


def moved(*spans: tuple[float, float], **changes: object) -> WindowSet:
    """Windows of annotations of a recording of 6 s with a gap from 4 to 4.5 s."""
    time_s = np.concatenate([np.arange(40), np.arange(45, 60)]) / RATE_HZ
    annotations = tuple(Annotation(start_s=start, end_s=end, label="a") for start, end in spans)
    recording = make_recording(time_s, annotations)
    return cut_windows([recording], **options(span="annotation", **changes))  # type: ignore[arg-type]


def test_a_longer_movement_gives_its_middle() -> None:
    found = moved((0.0, 2.9))
    assert found.windows_BTC.shape == (1, 10, 2)
    np.testing.assert_allclose(found.windows_BTC[0, :, 0], np.arange(10, 20) / 10, atol=1e-6)
    np.testing.assert_allclose([found.start_s_B[0], found.end_s_B[0]], [1.0, 2.0])


def test_a_shorter_movement_is_held_at_its_ends() -> None:
    found = moved((1.0, 1.5))
    expected = np.array([1.0, 1.0, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.5, 1.5])
    np.testing.assert_allclose(found.windows_BTC[0, :, 0], expected - 0.0, atol=1e-6)
    assert found.start_s_B[0] == pytest.approx(1.0)
    assert found.end_s_B[0] == pytest.approx(1.6)


def test_a_movement_with_a_gap_in_it_is_left_out_unless_the_gap_is_filled() -> None:
    spans = ((1.0, 2.0), (3.5, 5.0), (4.6, 5.6))
    assert moved(*spans).start_s_B.tolist() == pytest.approx([1.0, 4.6])
    assert len(moved(*spans, max_gap_s=1.0)) == 3


def test_the_context_of_a_movement_repeats_its_first_sample() -> None:
    values_T = moved((1.0, 1.5), context_s=0.4).windows_BTC[0, :, 0]
    assert values_T.shape == (14,)
    np.testing.assert_allclose(values_T[:7], 1.0, atol=1e-6)
    longer_T = moved((0.0, 2.9), context_s=0.4).windows_BTC[0, :, 0]
    np.testing.assert_allclose(longer_T[4:], np.arange(10, 20) / 10, atol=1e-6)


def test_what_happens_outside_of_a_movement_never_changes_its_window() -> None:
    alone = moved((1.0, 2.0))
    np.testing.assert_array_equal(
        alone.windows_BTC[0], moved((0.0, 0.9), (1.0, 2.0), (2.1, 3.0)).windows_BTC[1]
    )


def stretched(values_T: np.ndarray, num_samples: int = 40, start_s: float = 0.0) -> Window:
    """One movement of one channel, stretched, with 5 samples of context."""
    windower = Windower(
        native_rate_hz=RATE_HZ,
        rate_hz=RATE_HZ,
        length_s=num_samples / RATE_HZ,
        hop_s=1.0,
        context_s=0.5,
    )
    time_s = start_s + np.arange(len(values_T)) / RATE_HZ
    window = windower.whole(time_s, values_T[:, None], fit="stretch")
    assert window is not None
    return window


@given(
    num_rows=st.integers(1, 200),
    num_samples=st.integers(2, 60),
    first=st.floats(-50, 50),
    last=st.floats(-50, 50),
)
def test_a_stretched_line_stays_the_line_between_its_ends(
    num_rows: int, num_samples: int, first: float, last: float
) -> None:
    line_T = np.linspace(first, last, num_rows)
    window = stretched(line_T, num_samples)
    assert window.values_TC.dtype == np.float32
    expected_T = np.linspace(line_T[0], line_T[-1], num_samples)
    np.testing.assert_allclose(window.values_TC[5:, 0], expected_T, atol=1e-4)


@given(
    seed=st.integers(0, 1000),
    num_rows=st.integers(1, 200),
    num_samples=st.integers(2, 60),
    start_s=st.floats(0, 1e4),
)
def test_a_stretched_movement_keeps_its_ends_and_its_own_time(
    seed: int, num_rows: int, num_samples: int, start_s: float
) -> None:
    values_T = np.random.default_rng(seed).normal(size=num_rows)
    window = stretched(values_T, num_samples, start_s)
    ends = window.values_TC[[5, -1], 0]
    np.testing.assert_array_equal(ends, values_T[[0, -1]].astype(np.float32))
    np.testing.assert_array_equal(window.values_TC[:5, 0], np.float32(values_T[0]))
    assert np.abs(window.values_TC).max() <= np.abs(values_T).max() + 1e-6
    assert window.start_s == pytest.approx(start_s)
    assert window.end_s == pytest.approx(start_s + num_rows / RATE_HZ)


@pytest.mark.parametrize("num_slow", [60, 97, 180])
def test_slow_and_quick_play_of_one_movement_look_alike_only_when_stretched(num_slow: int) -> None:
    def played(num_rows: int) -> np.ndarray:
        share_T = np.linspace(0, 1, num_rows)
        return np.sin(2 * np.pi * share_T) + 0.3 * np.cos(6 * np.pi * share_T)

    quick, slow = stretched(played(50)), stretched(played(num_slow))
    np.testing.assert_allclose(quick.values_TC, slow.values_TC, atol=0.03)
    windower = Windower(native_rate_hz=RATE_HZ, rate_hz=RATE_HZ, length_s=4.0, hop_s=1.0)
    padded = [
        windower.whole(np.arange(num) / RATE_HZ, played(num)[:, None]) for num in (50, num_slow)
    ]
    assert padded[0] is not None
    assert padded[1] is not None
    assert np.abs(padded[0].values_TC - padded[1].values_TC).max() > 0.1


def test_each_annotated_movement_is_stretched_by_itself() -> None:
    found = moved((0.0, 2.9), (1.0, 1.5), fit="stretch")
    expected = np.stack([np.linspace(0.0, 2.9, 10), np.linspace(1.0, 1.5, 10)])
    np.testing.assert_allclose(found.windows_BTC[..., 0], expected, atol=1e-6)
    np.testing.assert_allclose(found.windows_BTC[..., 1], -expected, atol=1e-6)
    np.testing.assert_allclose(found.start_s_B, [0.0, 1.0])
    np.testing.assert_allclose(found.end_s_B, [3.0, 1.6])


def test_a_stretched_movement_with_a_gap_is_left_out_unless_the_gap_is_filled() -> None:
    spans = ((1.0, 2.0), (3.5, 5.0))
    assert moved(*spans, fit="stretch").start_s_B.tolist() == pytest.approx([1.0])
    filled = moved(*spans, fit="stretch", max_gap_s=1.0)
    np.testing.assert_allclose(filled.windows_BTC[1, :, 0], np.linspace(3.5, 5.0, 10), atol=1e-5)
