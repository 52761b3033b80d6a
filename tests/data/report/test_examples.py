from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motoric.data.dataset import Chunk, Dataset, open_dataset
from motoric.data.recording import Annotation
from motoric.data.report.facts import Row, choose_examples
from motoric.data.report.page import write_report
from motoric.data.report.plots import plot_text, rates_plot, with_breaks
from reports import Input, dataset_of, imu, opening_of, page_of, size_of, track
from videos import write_video


class Counting(Dataset):
    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self.num_read: dict[str, int] = {}

    def chunks(self, recording_id: str, stream: str) -> Iterator[Chunk]:
        for chunk in super().chunks(recording_id, stream):
            self.num_read[stream] = self.num_read.get(stream, 0) + 1
            yield chunk


def test_of_a_long_recording_a_minute_is_read_and_an_hour_of_its_track(tmp_path: Path) -> None:
    samples = [imu(3 * 3600, rate_hz=10.0), track(3 * 3600, (0.1, 0.1), (48, 11))]
    late = (Annotation(start_s=9000, end_s=9100, label="late"),)
    dataset_of(tmp_path, Input(name="a", samples=samples, annotations=late))
    dataset = Counting(str(tmp_path / "dataset"))
    place = write_report(dataset)
    assert sum(1 for _ in open_dataset(dataset.uri).chunks("a", "imu")) >= 180
    assert 1 <= dataset.num_read["imu"] <= 3
    assert 60 <= dataset.num_read["position"] <= 62
    assert "0 to 60 s of the recording" in unescape(Path(place).read_text())


def test_the_part_shown_begins_shortly_before_the_first_annotation(tmp_path: Path) -> None:
    label = (Annotation(start_s=300, end_s=340, label="sprint"),)
    dataset_of(tmp_path, Input(name="a", samples=[imu(900)], annotations=label))
    dataset = Counting(str(tmp_path / "dataset"))
    assert "295 to 355 s of the recording" in page_of(dataset).sections["Examples"]
    assert dataset.num_read["imu"] <= 8


def test_a_dataset_of_videos_alone_shows_their_frames(tmp_path: Path) -> None:
    videos = [
        Input(name=name, video=write_video(tmp_path / f"{name}.mp4"), label=label, subject=name)
        for name, label in (("a", "squat"), ("b", "jump"), ("c", "jump"))
    ]
    page = page_of(dataset_of(tmp_path, *videos))
    assert "3 videos" in opening_of(page)
    assert "nobody said when the video started" not in opening_of(page)
    assert "Streams" not in page.sections
    assert "Examples" not in page.sections
    text = page.sections["Videos"]
    for fact in ("135 frames", "h264 (3)", "128 x 96 (3)", "30 Hz (3)"):
        assert fact in text
    assert "Not shown" not in text
    assert page.alternatives == ["a: squat; b: jump; c: jump"]
    with Image.open(tmp_path / "dataset" / "report" / "clips.png") as sheet:
        grey_HW = np.array(sheet.convert("L"))
    assert (grey_HW < 30).mean() > 0.1
    assert grey_HW.shape[1] > 8 * 48


def test_a_video_that_went_away_or_broke_is_told_and_stops_nothing(tmp_path: Path) -> None:
    paths = [write_video(tmp_path / f"{name}.mp4") for name in "abc"]
    dataset = dataset_of(tmp_path, *[Input(name=path.stem, video=path) for path in paths])
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:500])
    page = page_of(dataset)
    text = page.sections["Videos"]
    assert "Not shown" in text
    assert f"a: {paths[0]} cannot be shown: " in text
    assert f"b: {paths[1]} cannot be shown: " in text
    assert "c: no label" in page.alternatives
    paths[2].unlink()
    assert "c: no label" not in page_of(dataset).alternatives


@pytest.mark.parametrize(
    ("extent_deg", "centre"),
    [
        ((0.5, 0.001), (69.0, 19.0)),
        ((0.001, 0.5), (-33.0, 151.0)),
        ((0.02, 0.02), (-17.0, 180.0)),
        ((0.001, 0.001), (89.9, 0.0)),
    ],
)
def test_a_track_of_any_shape_and_place_is_drawn_in_silence(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    extent_deg: tuple[float, float],
    centre: tuple[float, float],
) -> None:
    dataset = dataset_of(tmp_path, Input(name="a", samples=[track(200, extent_deg, centre)]))
    with caplog.at_level(logging.WARNING):
        place = Path(write_report(dataset))
    assert not caplog.records
    width, height = size_of(place.with_name("track_1.png"))
    assert 1.0 < width / height < 2.0


def test_a_recording_of_a_single_sample_is_drawn(tmp_path: Path) -> None:
    values = [imu(0.05), track(1, (0.0, 0.0), (48.0, 11.0))]
    place = Path(write_report(dataset_of(tmp_path, Input(name="a", samples=values, label="run"))))
    assert place.with_name("traces_1.png").exists()
    assert place.with_name("track_1.png").exists()


@pytest.mark.parametrize("num_rates", [2, 16])
def test_rates_far_apart_are_drawn(num_rates: int) -> None:
    with Image.open(io.BytesIO(rates_plot(np.geomspace(0.1, 3000, num_rates).tolist()))) as picture:
        rgb_HWC = np.array(picture.convert("RGB")).astype(int)
    is_blue_W = (rgb_HWC[:, :, 2] - rgb_HWC[:, :, 0] > 100).any(axis=0)
    num_bars = np.count_nonzero(np.diff(is_blue_W.astype(int)) == 1)
    # On a linear axis, half of the rates would share one bar.
    assert num_bars >= num_rates - 1


@settings(max_examples=15, deadline=None)
@given(text=st.text(max_size=80), limit=st.integers(4, 60))
def test_any_text_can_be_drawn(text: str, limit: int) -> None:
    from matplotlib.figure import Figure

    shown = plot_text(text, limit)
    assert len(shown.replace(r"\$", "$")) <= limit
    figure = Figure(figsize=(1, 1))
    figure.text(0, 0, shown)
    figure.savefig(io.BytesIO(), format="png", dpi=20)


@settings(max_examples=30, deadline=None)
@given(steps=st.lists(st.sampled_from([0.1, 0.5, 7.0]), min_size=1, max_size=30))
def test_lines_break_at_gaps_and_lose_no_sample(steps: list[float]) -> None:
    time_s = np.cumsum(steps)
    values_TC = np.stack([time_s, -time_s], axis=1)
    broken_s, broken_TC = with_breaks(time_s, values_TC, 10.0)
    is_break = np.isnan(broken_s)
    assert is_break.sum() == sum(step > 0.1 for step in steps[1:])
    np.testing.assert_array_equal(broken_s[~is_break], time_s)
    np.testing.assert_array_equal(broken_TC[~is_break], values_TC)
    assert np.isnan(broken_TC[is_break]).all()


ROWS = st.lists(
    st.tuples(st.sampled_from(["imu", "video", "gps"]), st.sampled_from("pqr")), max_size=12
)


@settings(max_examples=50, deadline=None)
@given(made=ROWS, count=st.integers(0, 5), seed=st.randoms(use_true_random=False))
def test_examples_show_every_stream_they_can_in_any_order_of_rows(
    made: list[tuple[str, str]], count: int, seed: object
) -> None:
    rows: list[Row] = [
        {"recording_id": f"r{n:02d}", "subject": subject, "streams": [{"stream": stream}]}
        for n, (stream, subject) in enumerate(made)
    ]
    chosen = choose_examples(rows, {}, count)
    names = [row["recording_id"] for row in chosen]
    assert len(set(names)) == len(names) == min(count, len(rows))
    shuffled = list(rows)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert [row["recording_id"] for row in choose_examples(shuffled, {}, count)] == names
    shown = {row["streams"][0]["stream"] for row in chosen}
    assert len(shown) == min(count, len({stream for stream, _ in made}))
