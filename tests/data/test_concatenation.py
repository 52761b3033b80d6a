from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from motoric.core.errors import DatasetError
from motoric.data.concatenation import concatenate_recordings
from motoric.data.recording import Annotation, Channel, Recording
from motoric.data.windows import Windower
from recordings import SineSource

SOURCE = SineSource(num_subjects=2, duration_s=10.0)


def recordings(subject: int = 0) -> list[Recording]:
    return [SOURCE.recording(3 * subject + kind) for kind in range(3)]


def test_samples_and_annotations_follow_each_other_at_one_rate() -> None:
    parts = recordings()
    series = concatenate_recordings(parts, "imu")
    (stream,) = series.streams
    assert np.diff(stream.time_s) == pytest.approx(1 / 20.0)
    assert stream.time_s[0] == 0
    assert np.array_equal(
        stream.values_TC, np.concatenate([part.streams[0].values_TC for part in parts])
    )
    assert [(item.start_s, item.end_s) for item in series.annotations] == [
        pytest.approx((0, 10)),
        pytest.approx((10, 20)),
        pytest.approx((20, 30)),
    ]
    assert [item.label for item in series.annotations] == ["jump", "squat", "walk"]
    assert (series.subject, series.duration_s) == ("s0", pytest.approx(30.0))


def test_no_gap_is_seen_at_the_seams() -> None:
    (stream,) = concatenate_recordings(recordings(), "imu").streams
    windower = Windower(native_rate_hz=20, rate_hz=20, length_s=4, hop_s=1)
    windows = windower.push(stream.time_s, stream.values_TC) + windower.finish()
    assert [window.start_s for window in windows] == pytest.approx(list(range(27)))


def test_the_order_follows_from_the_seed() -> None:
    orders = [
        concatenate_recordings(recordings(), "imu", np.random.default_rng(seed)).metadata
        for seed in (0, 0, 1, 2, 3)
    ]
    assert orders[0] == orders[1]
    assert len({item["concatenated"] for item in orders}) > 1
    assert {tuple(sorted(item["concatenated"].split(","))) for item in orders} == {
        ("r000", "r001", "r002")
    }


def test_recordings_that_start_late_are_moved_and_annotations_cut_to_the_stream() -> None:
    first, second, _ = recordings()
    (stream,) = second.streams
    late = replace(
        second,
        streams=(replace(stream, time_s=stream.time_s + 100),),
        annotations=(
            Annotation(start_s=90, end_s=104, label="squat"),
            Annotation(start_s=104, end_s=500, label="walk"),
            Annotation(start_s=500, end_s=600, label="jump"),
        ),
    )
    series = concatenate_recordings([first, late], "imu")
    assert [(item.start_s, item.end_s, item.label) for item in series.annotations] == [
        (0, pytest.approx(10), "jump"),
        (pytest.approx(10), pytest.approx(14), "squat"),
        (pytest.approx(14), pytest.approx(20), "walk"),
    ]


def test_what_does_not_fit_together_is_refused() -> None:
    first, second, _ = recordings()
    (stream,) = second.streams
    named = tuple(Channel(name=f"gyr_{axis}", unit="rad/s") for axis in "xyz")
    other_channels = replace(second, streams=(replace(stream, channels=named),))
    other_rate = replace(second, streams=(replace(stream, rate_hz=50.0),))
    for wrong, message in (
        ([], "no recordings"),
        ([first, recordings(1)[0]], "'s1', the other of 's0'"),
        ([first, other_channels], "gyr_x"),
        ([first, other_rate], "50 Hz"),
    ):
        with pytest.raises(DatasetError, match=message):
            concatenate_recordings(wrong, "imu")
    with pytest.raises(DatasetError, match="no stream 'gps'"):
        concatenate_recordings([first], "gps")
