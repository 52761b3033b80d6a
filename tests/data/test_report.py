from __future__ import annotations

import base64
import io
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motoric.core.errors import DatasetError, NoSamplesError
from motoric.data.dataset import Chunk, Dataset
from motoric.data.ingest.source import Quarantined, RawRecording, SourceItem, VideoInput, as_samples
from motoric.data.recording import Annotation, Channel, Recording, Stream
from motoric.data.report.examples import window_start
from motoric.data.report.facts import choose_examples
from motoric.data.report.page import write_report
from motoric.data.report.plots import Trace, plot_text, track_plot, traces_plot, with_breaks
from recordings import SineSource, build_here, write_dataset
from videos import numbered_frame, write_video

ACC = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")
PLACE = (Channel(name="latitude", unit="deg"), Channel(name="longitude", unit="deg"))
HEART = (Channel(name="heart_rate", unit="bpm"), Channel(name="mood", unit=""))

Open = Callable[[], RawRecording]


class HandMade:
    name = "hand <made>"
    description = "Recordings & flags for tests"
    origin = "made by the tests"

    def __init__(self, opens: Sequence[Open], rejected: Sequence[Quarantined] = ()) -> None:
        self.opens = opens
        self._rejected = list(rejected)

    def digests(self) -> dict[str, str]:
        return {}

    def settings(self) -> dict[str, str]:
        return {}

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(recording_id=f"item{index}", place=f"files/{index}.csv", num_bytes=1)
            for index in range(len(self.opens))
        ]

    def rejected(self) -> list[Quarantined]:
        return self._rejected

    def digest(self, index: int) -> str:
        return str(index)

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        yield self.opens[index]()


def stream(
    name: str, channels: tuple[Channel, ...], rate_hz: float, duration_s: float = 70.0
) -> Stream:
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    values_TC = np.sin(time_s[:, None] / 5 + np.arange(len(channels)))
    dtype = np.float64 if channels == PLACE else np.float32
    return Stream(
        name=name,
        rate_hz=rate_hz,
        channels=channels,
        time_s=time_s,
        values_TC=values_TC.astype(dtype),
    )


def with_gap(whole: Stream) -> Stream:
    kept = (whole.time_s < 20) | (whole.time_s > 30)
    values_TC = whole.values_TC[kept]
    values_TC[5:9, 0] = np.nan
    return Stream(
        name=whole.name,
        rate_hz=whole.rate_hz,
        channels=whole.channels,
        time_s=whole.time_s[kept],
        values_TC=values_TC,
    )


def raw(recording_id: str, subject: str, label: str, *streams: Stream) -> RawRecording:
    recording = Recording(recording_id=recording_id, subject=subject, streams=streams)
    return RawRecording(
        recording_id=recording_id, subject=subject, samples=as_samples(recording), label=label
    )


def repaired(index: int) -> RawRecording:
    one = raw(f"r{index:03d}", f"s{index % 3}", "walk", stream("imu", ACC, 10.0, 3.0))
    one.notes.add("truncated", f"cut off at row {index}", is_repair=True)
    return one


def broken() -> RawRecording:
    raise DatasetError("no <b>usable</b> row")


def empty() -> RawRecording:
    raise NoSamplesError("a workout plan")


def page_of(uri: Path) -> str:
    assert write_report(Dataset(str(uri))) == f"{uri}/report/report.html"
    return (uri / "report" / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.sources: list[str] = []
        self.words: list[str] = []
        self.figures: dict[str, str] = {}
        self.feed(text)
        for value, name in re.findall(r"<b>([^<]*)</b><span>([^<]*)</span>", text):
            self.figures[name] = value

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "".join(self.words)


def test_the_page_holds_its_pictures_and_they_lie_beside_it(tmp_path: Path) -> None:
    write_dataset(str(tmp_path))
    page = Page(page_of(tmp_path))
    inside = {base64.b64decode(source.partition("base64,")[2]) for source in page.sources}
    beside = {path.read_bytes() for path in (tmp_path / "report").glob("*.png")}
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert inside == beside
    assert len(beside) == 4
    for png in beside:
        assert Image.open(io.BytesIO(png)).size[0] > 500


def test_the_figures_are_those_of_the_dataset(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=3, duration_s=90.0, broken=(4,)))
    page = Page(page_of(tmp_path))
    assert page.figures["recordings"] == "8"
    assert page.figures["recorded"] == "12.0 min"
    assert page.figures["people"] == "3"
    assert page.figures["labels"] == "3"
    assert page.figures["left out, broken"] == "1"
    assert "r004 is cut off" in page.text
    assert "sines/4" in page.text


def test_data_without_faults_is_said_to_be_so(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=3, duration_s=5.0))
    text = Page(page_of(tmp_path)).text
    assert "Nothing stands out" in text
    assert "Worth a look" not in text


def test_what_stands_in_users_files_is_escaped(tmp_path: Path) -> None:
    evil, subject, label = "<script>alert(1)</script>", '"><img src=x>', "a & <i>b</i>"

    def flagged() -> RawRecording:
        one = raw(evil, subject, label, stream("<s>imu</s>", ACC, 20.0, 5.0))
        one.notes.add("<u>kind</u>", "<u>detail</u>", is_repair=True)
        return one

    build_here(HandMade([flagged, broken, empty]), str(tmp_path))
    page = Page(page_of(tmp_path))
    assert not page.tags & {"script", "i", "s", "u"}
    assert "x" not in page.sources
    shown = (evil, subject, label, "<s>imu</s>", "<u>kind</u>", "<u>detail</u>")
    for text in (*shown, "no <b>usable</b> row", "a workout plan", "hand <made>"):
        assert text in page.text


def test_gaps_missing_values_rates_and_units_are_told(tmp_path: Path) -> None:
    opens = [
        lambda: raw("a", "s0", "run", with_gap(stream("imu", ACC, 20.0))),
        lambda: raw("b", "s1", "run", stream("imu", ACC, 50.0)),
        lambda: raw("c", "s2", "rest", stream("workout", HEART, 1.0)),
    ]
    build_here(HandMade(opens), str(tmp_path))
    page = Page(page_of(tmp_path))
    assert "Worth a look" in page.text
    assert "20 to 50 Hz" in page.text
    assert "unit unknown" in page.text
    assert "a 1 of 10.0 s" in page.text
    for kind in ("gap", "missing"):
        assert re.search(rf"{kind}.*a: ", page.text)
    assert (tmp_path / "report" / "rates_1.png").exists()


def test_positions_become_a_track_and_no_lines_over_time(tmp_path: Path) -> None:
    opens = [lambda: raw("ride", "s0", "bike", stream("position", PLACE, 1.0))]
    build_here(HandMade(opens), str(tmp_path))
    page_of(tmp_path)
    assert [path.name for path in (tmp_path / "report").glob("*.png")] == ["track_1.png"]


def test_repaired_recordings_are_listed_up_to_fifty(tmp_path: Path) -> None:
    build_here(HandMade([lambda i=i: repaired(i) for i in range(53)]), str(tmp_path))
    text = page_of(tmp_path)
    assert "cut off at row 49" in text
    assert "cut off at row 50" not in text
    assert "and 3 more" in text
    assert Page(text).figures["repaired"] == "53"


def test_inputs_left_out_for_one_reason_share_a_row_and_reasons_end_at_a_hundred(
    tmp_path: Path,
) -> None:
    same = [
        Quarantined(recording_id=f"q{i}", source=f"f{i}", kind="rejected", reason="no header")
        for i in range(7)
    ]
    others = [
        Quarantined(recording_id=f"o{i}", source=f"o{i}", kind="rejected", reason=f"reason {i:03d}")
        for i in range(104)
    ]
    build_here(HandMade([lambda: repaired(0)], [*same, *others]), str(tmp_path))
    text = page_of(tmp_path)
    assert text.count("no header") == 1
    assert "f0, f1, f2, and 4 more" in text
    assert "reason 098" in text
    assert "reason 099" not in text
    assert "and 5 more" in text


@pytest.mark.parametrize(("num_people", "has_histogram"), [(25, False), (26, True)])
def test_many_people_become_a_histogram(
    tmp_path: Path, num_people: int, has_histogram: bool
) -> None:
    source = SineSource(num_subjects=num_people, duration_s=1.0, labels=("walk",))
    write_dataset(str(tmp_path), source)
    page_of(tmp_path)
    assert (tmp_path / "report" / "people.png").exists() == has_histogram


def test_frames_of_videos_are_shown_and_a_moved_video_is_told(tmp_path: Path) -> None:
    frames = [numbered_frame(number) for number in range(20)]
    paths = [write_video(tmp_path / f"{name}.mp4", frames) for name in ("kept", "moved")]

    def with_video(path: Path) -> RawRecording:
        one = raw(path.stem, "s0", "跑步 $1$")
        one.video = VideoInput(uri=str(path))
        return one

    uri = tmp_path / "dataset"
    build_here(HandMade([lambda path=path: with_video(path) for path in paths]), str(uri))
    paths[1].rename(tmp_path / "elsewhere.mp4")
    page = Page(page_of(uri))
    assert page.figures["videos"] == "2"
    assert "Not shown" in page.text
    assert str(paths[1]) in page.text
    assert f"{paths[0]} cannot" not in page.text
    sheet = np.asarray(Image.open(uri / "report" / "clips.png").convert("L"))
    assert sheet.shape[1] > 8 * sheet.shape[0] / 2, "eight frames stand beside each other"
    assert sheet.std() > 50, "bars of black and white"


def test_no_more_than_the_beginning_of_a_long_recording_is_read(tmp_path: Path) -> None:
    class Counting(Dataset):
        num_chunks = 0

        def chunks(self, recording_id: str, stream: str) -> Iterator[Chunk]:
            for chunk in super().chunks(recording_id, stream):
                self.num_chunks += 1
                yield chunk

    opens = [lambda: raw("long", "s0", "walk", stream("imu", ACC, 10.0, 3600.0))]
    build_here(HandMade(opens), str(tmp_path))
    dataset = Counting(str(tmp_path))
    write_report(dataset)
    assert 1 <= dataset.num_chunks <= 3


def test_the_report_is_the_same_each_time(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=2, duration_s=5.0))
    assert page_of(tmp_path) == page_of(tmp_path)


def test_importing_the_report_needs_no_pyav() -> None:
    code = "import sys, motoric.data.report.page; sys.exit('av' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("starts_s", "end_s", "expected_s"),
    [
        ((), 300.0, 0.0),
        ((10.0,), 300.0, 0.0),
        ((100.0, 200.0), 300.0, 95.0),
        ((290.0,), 300.0, 240.0),
        ((5000.0,), 9000.0, 0.0),
    ],
)
def test_a_trace_begins_shortly_before_a_late_first_annotation(
    starts_s: tuple[float, ...], end_s: float, expected_s: float
) -> None:
    annotations = [Annotation(start_s=start, end_s=start + 9, label="x") for start in starts_s]
    assert window_start(0.0, end_s, annotations) == expected_s


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.sampled_from("pqr")),
        min_size=1,
        max_size=12,
    ),
    st.randoms(),
)
@settings(max_examples=40, deadline=None)
def test_examples_show_each_stream_and_do_not_depend_on_order(
    kinds: list[tuple[str, str, str]], random: Random
) -> None:
    rows = [
        {"recording_id": f"r{index:02d}", "subject": person, "streams": [{"stream": name}]}
        for index, (name, _, person) in enumerate(kinds)
    ]
    labels = {f"r{index:02d}": {label} for index, (_, label, _) in enumerate(kinds)}
    chosen = choose_examples(rows, labels, 3)
    ids = [row["recording_id"] for row in chosen]
    assert len(ids) == len(set(ids)) == min(3, len(rows))
    assert {row["streams"][0]["stream"] for row in chosen} == {name for name, _, _ in kinds}
    shuffled = random.sample(rows, len(rows))
    assert [row["recording_id"] for row in choose_examples(shuffled, labels, 3)] == ids


@given(st.lists(st.sampled_from([0.1, 0.1, 0.14, 0.5, 9.0]), max_size=30))
@settings(max_examples=40, deadline=None)
def test_a_line_breaks_in_each_gap_and_keeps_each_sample(steps_s: list[float]) -> None:
    time_s = np.cumsum([0.0, *steps_s])
    values_TC = np.arange(2.0 * len(time_s)).reshape(-1, 2)
    broken_s, broken_TC = with_breaks(time_s, values_TC, 10.0)
    is_break = np.isnan(broken_s)
    assert is_break.sum() == sum(step_s > 0.15 for step_s in steps_s)
    assert np.isnan(broken_TC[is_break]).all()
    np.testing.assert_array_equal(broken_s[~is_break], time_s)
    np.testing.assert_array_equal(broken_TC[~is_break], values_TC)


@given(st.text(max_size=60))
@settings(max_examples=15, deadline=None)
def test_any_name_can_be_drawn(name: str) -> None:
    # Warnings are errors here, and matplotlib warns of characters that its font lacks.
    trace = Trace(
        stream=name,
        rate_hz=1.0,
        channels=(Channel(name=name, unit=name),),
        time_s=np.arange(5.0),
        values_TC=np.arange(5.0)[:, None],
    )
    annotation = Annotation(start_s=0.0, end_s=4.0, label=name)
    assert traces_plot([trace], [annotation], 0.0, 4.0) is not None


def test_names_are_cut_and_lose_only_what_the_font_lacks() -> None:
    assert plot_text("Übung 1\n跑") == "Übung 1 ?"
    assert plot_text("a$b$") == r"a\$b\$"
    assert len(plot_text("x" * 100, 24)) == 24


def test_a_square_on_the_ground_is_a_square_in_the_track() -> None:
    side_deg = 0.01
    corners_T2 = np.array([(0, 0), (0, 1), (1, 1), (1, 0), (0, 0)]) * side_deg
    # At 60 degrees north a degree of longitude is half as long as one of latitude.
    values_T2 = np.array([60.0, 10.0]) + corners_T2 * (1, 2)
    trace = Trace(
        stream="position", rate_hz=1.0, channels=PLACE, time_s=np.arange(5.0), values_TC=values_T2
    )
    png = track_plot(trace)
    assert png is not None
    pixels_HW3 = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    rows, columns = np.nonzero(np.abs(pixels_HW3 - (0x2B, 0x6C, 0xB0)).sum(axis=2) < 30)
    assert np.ptp(rows) > 200
    assert np.ptp(columns) == pytest.approx(np.ptp(rows), rel=0.04)


def test_a_trace_without_any_position_has_no_track() -> None:
    trace = Trace(
        stream="position",
        rate_hz=1.0,
        channels=PLACE,
        time_s=np.arange(3.0),
        values_TC=np.full((3, 2), np.nan),
    )
    assert track_plot(trace) is None
