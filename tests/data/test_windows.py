from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motoric.core.errors import DatasetError
from motoric.data.recording import Annotation, Recording, Stream
from motoric.data.windows import covering_label, cut_windows, window_starts

RATE_HZ = 10.0


def make_recording(time_s: np.ndarray, annotations: tuple[Annotation, ...] = ()) -> Recording:
    values_TC = np.stack([time_s, -time_s], axis=1).astype(np.float32)
    return Recording(
        recording_id="r",
        subject="s",
        streams=(Stream(name="imu", rate_hz=RATE_HZ, time_s=time_s, values_TC=values_TC),),
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
    starts = window_starts(time_s, rate_hz=RATE_HZ, num_samples=num_samples, hop_samples=hop)
    for start in starts:
        inside = time_s[start : start + num_samples]
        assert len(inside) == num_samples
        assert inside[-1] - inside[0] == pytest.approx((num_samples - 1) / RATE_HZ)
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
        ({"rate_hz": 50.0}, "runs at 10 Hz, the others at 50 Hz"),
        ({"length_s": 100.0}, r"shorten window\.length_s"),
        ({"classes": ["b"]}, "'a' is not a class"),
    ],
)
def test_what_does_not_fit_is_named(change: dict[str, object], message: str) -> None:
    options: dict[str, object] = {
        "stream_name": "imu",
        "rate_hz": RATE_HZ,
        "length_s": 1.0,
        "hop_s": 1.0,
        "classes": ["a"],
    }
    with pytest.raises(DatasetError, match=message):
        cut_windows([make_recording(np.arange(40) / RATE_HZ)], **{**options, **change})  # type: ignore[arg-type]


def test_values_that_are_not_finite_are_refused() -> None:
    recording = make_recording(np.arange(40) / RATE_HZ)
    recording.streams[0].values_TC[3, 1] = np.nan
    with pytest.raises(DatasetError, match="NaN"):
        cut_windows(
            [recording], stream_name="imu", rate_hz=RATE_HZ, length_s=1, hop_s=1, classes=["a"]
        )


@pytest.mark.parametrize("times", [[0.0, 0.1, 0.1], [0.0, 0.2, 0.1], [0.0, np.nan], []])
def test_a_stream_needs_increasing_times(times: list[float]) -> None:
    with pytest.raises(DatasetError):
        Stream(
            name="imu",
            rate_hz=RATE_HZ,
            time_s=np.array(times),
            values_TC=np.zeros((len(times), 1), np.float32),
        )
