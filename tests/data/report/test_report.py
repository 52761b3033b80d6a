from __future__ import annotations

import io
import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from motoric.core.errors import DatasetError, NoSamplesError
from motoric.data.dataset import Chunk, Dataset, open_dataset
from motoric.data.ingest.samples import Notes, Samples
from motoric.data.ingest.settings import AlignmentSettings, IngestSettings, SensorSettings
from motoric.data.ingest.source import (
    Quarantined,
    RawRecording,
    SourceItem,
    VideoInput,
    combine,
)
from motoric.data.recording import Annotation, Channel
from motoric.data.report.facts import Row, choose_examples, gather_facts
from motoric.data.report.findings import findings
from motoric.data.report.page import write_report
from motoric.data.report.plots import plot_text, with_breaks
from recordings import SineSource, build_here, write_dataset
from videos import write_video

ACC = tuple(Channel(name=f"acc_{axis}", unit="m/s^2") for axis in "xyz")
EVIL = '<script>alert("x")</script> & $\\frac{1}$'


@dataclass(kw_only=True)
class Input:
    """One recording of `ListSource`; `error` is raised instead of it."""

    name: str
    samples: list[Samples] = field(default_factory=list)
    subject: str = "ana"
    label: str = ""
    video: Path | None = None
    annotations: tuple[Annotation, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    repairs: tuple[str, ...] = ()
    error: Exception | None = None


class ListSource:
    description = "Lists for tests"
    origin = "made by the tests"

    def __init__(
        self, *inputs: Input, name: str = "lists", chosen: dict[str, str] | None = None
    ) -> None:
        self.inputs = inputs
        self.name = name
        self.chosen = chosen or {}

    def digests(self) -> dict[str, str]:
        return {}

    def settings(self) -> dict[str, str]:
        return self.chosen

    def items(self) -> list[SourceItem]:
        return [
            SourceItem(recording_id=item.name, place=f"in/{item.name}", num_bytes=1)
            for item in self.inputs
        ]

    def rejected(self) -> list[Quarantined]:
        return []

    def digest(self, index: int) -> str:
        return combine(str(index))

    @contextmanager
    def open(self, index: int) -> Iterator[RawRecording]:
        item = self.inputs[index]
        if item.error is not None:
            raise item.error
        notes = Notes()
        for detail in item.repairs:
            notes.add("truncated", detail, is_repair=True)
        yield RawRecording(
            recording_id=item.name,
            subject=item.subject,
            samples=item.samples,
            video=None if item.video is None else VideoInput(uri=str(item.video)),
            label=item.label,
            annotations=item.annotations,
            metadata=item.metadata,
            notes=notes,
        )


def imu(
    length_s: float = 20.0,
    *,
    rate_hz: float = 20.0,
    gap_s: tuple[float, float] | None = None,
    stream: str = "imu",
    channels: tuple[Channel, ...] = ACC,
) -> Samples:
    time_s = np.arange(round(length_s * rate_hz)) / rate_hz
    if gap_s is not None:
        time_s = time_s[(time_s <= gap_s[0]) | (time_s >= gap_s[1])]
    phases_C = np.arange(len(channels))
    return Samples(
        stream=stream,
        channels=channels,
        time_s=time_s,
        values_TC=np.sin(time_s[:, None] + phases_C),
        rate_hz=rate_hz,
    )


def track(length_s: float, extent_deg: tuple[float, float], centre: tuple[float, float]) -> Samples:
    time_s = np.arange(length_s)
    turn_T = 2 * np.pi * time_s / length_s
    latitude = centre[0] + extent_deg[0] * np.sin(turn_T)
    longitude = (centre[1] + extent_deg[1] * np.cos(turn_T) + 180) % 360 - 180
    return Samples(
        stream="position",
        channels=(Channel(name="latitude", unit="deg"), Channel(name="longitude", unit="deg")),
        time_s=time_s,
        values_TC=np.stack([latitude, longitude], axis=1),
        rate_hz=1.0,
    )


def dataset_of(tmp_path: Path, *inputs: Input, **about: object) -> Dataset:
    uri = str(tmp_path / "dataset")
    build_here(ListSource(*inputs, **about), uri)  # type: ignore[arg-type]
    return open_dataset(uri)


class Page(HTMLParser):
    """The text of a page by heading, words one space apart, and all its tags."""

    def __init__(self, content: str) -> None:
        super().__init__()
        self.heading = ""
        self.sections: dict[str, str] = {}
        self.tags: list[str] = []
        self.alternatives: list[str] = []
        self._in_heading = False
        self.feed(content)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.alternatives += [value or "" for name, value in attrs if name == "alt"]
        if tag in {"h1", "h2"}:
            self.heading, self._in_heading = "", True

    def handle_endtag(self, tag: str) -> None:
        if tag in {"h1", "h2"}:
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        if self._in_heading:
            self.heading += data
        else:
            text = f"{self.sections.get(self.heading, '')} {data}"
            self.sections[self.heading] = " ".join(text.split())


def page_of(dataset: Dataset) -> Page:
    return Page(Path(write_report(dataset)).read_text())


def size_of(picture: Path) -> tuple[int, int]:
    with Image.open(picture) as opened:
        return opened.size


def opening_of(page: Page) -> str:
    return next(text for heading, text in page.sections.items() if heading.startswith("Dataset "))


def test_a_sound_dataset_has_its_counts_rates_people_and_labels_and_no_warning(
    tmp_path: Path,
) -> None:
    card = write_dataset(str(tmp_path), SineSource(num_subjects=3, duration_s=40.0))
    page = page_of(open_dataset(str(tmp_path)))
    opening = opening_of(page)
    for figure in ("9 recordings", "6.0 min recorded", "3 people", "3 labels", "0 videos"):
        assert figure in opening
    assert "Nothing stands out" in opening
    assert "Worth a look" not in opening
    assert card.content_digest in page.sections["Where it comes from"]
    assert "setting" not in page.sections["Where it comes from"]
    for label in ("jump", "squat", "walk"):
        assert f"{label} 3 2.0 min" in page.sections["Labels"]
    assert "s2 3 2.0 min" in page.sections["People"]
    streams = page.sections["Streams"]
    for fact in ("rate 20 Hz", "samples 7,200", "gaps none", "recordings 9", "m/s^2 acc_x, acc_y"):
        assert fact in streams
    assert "Nothing." in page.sections["What ingest noticed"]
    assert "Left out" not in " ".join(page.sections)


def test_the_page_shows_its_pictures_without_any_other_file(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), SineSource(num_subjects=2, duration_s=10.0))
    place = Path(write_report(open_dataset(str(tmp_path))))
    pictures = sorted(place.parent.glob("*.png"))
    assert [picture.name for picture in pictures] == [f"traces_{n}.png" for n in (1, 2, 3, 4)]
    assert all(size_of(picture)[0] > 400 for picture in pictures)
    content = place.read_text()
    assert content.count('src="data:image/png;base64,') == content.count("src=") == 4


def test_gaps_flags_repairs_and_what_is_left_out_are_told_with_their_reasons(
    tmp_path: Path,
) -> None:
    dataset = dataset_of(
        tmp_path,
        Input(name="a", samples=[imu(60, gap_s=(10, 22))], label="run"),
        Input(name="b", samples=[imu(60, gap_s=(30, 33))], label="run", subject="bea"),
        Input(name="c", samples=[imu(60)], repairs=("cut off in byte 77",), subject="cem"),
        Input(name="d", error=DatasetError("the header is gone")),
        *[Input(name=f"e{n}", error=NoSamplesError("a plan")) for n in range(5)],
        Input(name="f", error=NoSamplesError("a map")),
    )
    page = page_of(dataset)
    opening = opening_of(page)
    assert "1 repaired" in opening
    assert "1 left out, broken" in opening
    assert "6 skipped, empty" in opening
    assert "1 of 4 inputs is broken or wrong" in opening
    assert "1 of 3 recordings have no label" in opening
    assert "Time is missing in gaps: 8.3% of stream imu." in opening
    assert "gaps 2, 15.0 s in all (8.33% of the time)" in page.sections["Streams"]
    assert "Worst: a 1 of 12.0 s; b 1 of 3.0 s" in page.sections["Streams"]
    noticed = page.sections["What ingest noticed"]
    assert "gap 2 2 a: " in noticed
    assert noticed.index("truncated repair") < noticed.index("gap 2")
    assert "c in/c cut off in byte 77" in page.sections["Repaired recordings"]
    assert "1 the header is gone in/d" in page.sections["Left out: broken or wrong"]
    skipped = page.sections["Left out: no samples in them by their nature"]
    assert "5 a plan in/e0, in/e1, in/e2, and 2 more" in skipped
    assert skipped.index("a plan") < skipped.index("1 a map in/f")


def test_the_gravest_findings_come_first_and_no_more_than_eight_are_listed(tmp_path: Path) -> None:
    heart = (Channel(name="heart_rate", unit=""),)
    mixed = (Channel(name="acc_x", unit="g"),)
    dataset = dataset_of(
        tmp_path,
        *[Input(name=f"a{n}", samples=[imu(4)], label="run") for n in range(10)],
        Input(name="b", samples=[imu(60, gap_s=(10, 50), channels=mixed)], label="rest"),
        Input(name="c", samples=[imu(60, rate_hz=5.0)], subject="unknown:c", repairs=("cut",)),
        Input(name="d", samples=[imu(60, rate_hz=1.0, stream="workout", channels=heart)]),
        Input(name="e", error=DatasetError("broken")),
    )
    found = findings(gather_facts(dataset, num_sensor_examples=1, num_video_examples=1))
    starts = [
        "1 of 14 inputs is broken",
        "1 recording was damaged",
        "2 of 13 recordings have no label",
        "Who is recorded is unknown in 1 recording:",
        "People known: 1.",
        "Recordings differ in units: acc_x of stream imu is in",
        "Nobody said the unit of channel heart_rate of stream workout",
        "Time is missing in gaps: ",
        "Recordings differ in rate: stream imu runs at 5 to 20 Hz.",
        "Labels are uneven: run is in 10 recordings, rest in 1.",
        "Of 13 recordings, not all have each stream: imu is in 12; workout is in 1.",
        "Not all recordings that have the stream have channels acc_y, acc_z of stream imu.",
    ]
    assert len(found) == len(starts)
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)
    opening = opening_of(page_of(dataset))
    assert all(line in opening for line in found[:8])
    assert not any(line in opening for line in found[8:])
    assert "and 4 more" in opening


def test_a_finding_on_many_streams_is_one_line(tmp_path: Path) -> None:
    streams = [imu(60, gap_s=(10, 20.0 + n), stream=f"s{n}") for n in range(9)]
    dataset = dataset_of(tmp_path, Input(name="a", samples=streams))
    found = findings(gather_facts(dataset, num_sensor_examples=1, num_video_examples=1))
    (gaps,) = [line for line in found if "gaps" in line]
    assert gaps.index("stream s8;") < gaps.index("stream s7;")
    assert gaps.endswith("; and 4 more.")


@pytest.mark.parametrize(
    ("subjects", "figure"),
    [
        (["unknown:r0", "unknown:r1"], "unknown people"),
        (["ana", "unknown:r1"], "1 people"),
        (["ana", "bea"], "2 people"),
    ],
)
def test_people_nobody_named_are_unknown_and_not_counted(
    tmp_path: Path, subjects: list[str], figure: str
) -> None:
    inputs = [
        Input(name=f"r{n}", samples=[imu(5)], subject=subject) for n, subject in enumerate(subjects)
    ]
    page = page_of(dataset_of(tmp_path, *inputs))
    assert figure in opening_of(page)
    num_unknown = sum(subject.startswith("unknown:") for subject in subjects)
    assert (f"unknown {num_unknown} " in page.sections["People"]) == (num_unknown > 0)
    assert ("unknown person" in page.sections["Examples"]) == (num_unknown > 0)


def test_many_people_are_shown_as_a_spread(tmp_path: Path) -> None:
    inputs = [Input(name=f"r{n}", samples=[imu(5)], subject=f"p{n // 2}") for n in range(60)]
    inputs.append(Input(name="x", samples=[imu(5)], subject="unknown:x"))
    page = page_of(dataset_of(tmp_path, *inputs))
    assert "30 people. 1 recordings (5.0 s) are of unknown people." in page.sections["People"]
    assert "recordings and hours by person" in page.alternatives


def test_of_the_settings_of_an_ingest_only_what_was_changed_is_shown(tmp_path: Path) -> None:
    chosen = IngestSettings(
        sensors=SensorSettings(
            units={"acc": "g"},
            columns={"t.1": {"ignore": True}},  # type: ignore[dict-item]
        ),
        alignment=AlignmentSettings(max_offset_s=3),
    )
    kept = {"sensors", "alignment", "video"}
    content = chosen.model_dump_json(include=kept)
    one = Input(name="a", samples=[imu(5)])
    changed = {"ingest": content, "video_kind": "colour"}
    text = page_of(dataset_of(tmp_path / "1", one, chosen=changed)).sections["Where it comes from"]
    for setting in (
        "setting sensors.units.acc g",
        "setting sensors.columns.t.1.ignore true",
        "setting alignment.max_offset_s 3.0",
        "setting video_kind colour",
    ):
        assert setting in text
    assert text.count("setting ") == 4
    plain = {"ingest": IngestSettings().model_dump_json(include=kept)}
    text = page_of(dataset_of(tmp_path / "2", one, chosen=plain)).sections["Where it comes from"]
    assert "setting" not in text
    other = {"ingest": json.dumps({"no_such_setting": 1})}
    text = page_of(dataset_of(tmp_path / "3", one, chosen=other)).sections["Where it comes from"]
    assert 'setting ingest {"no_such_setting": 1}' in text


def test_nothing_from_users_files_becomes_markup(tmp_path: Path) -> None:
    channels = (Channel(name=f"c{EVIL}", unit=EVIL), Channel(name=f"_{EVIL}", unit=""))
    video = write_video(tmp_path / "clip.mp4", num_frames=10)
    dataset = dataset_of(
        tmp_path,
        Input(
            name=f"a{EVIL}",
            samples=[imu(30, stream=EVIL, channels=channels, gap_s=(5, 8))],
            subject=EVIL,
            label=EVIL,
            metadata={EVIL: EVIL},
            repairs=(EVIL,),
            video=video,
        ),
        Input(name=f"b{EVIL}", error=DatasetError(EVIL)),
        Input(name=f"c{EVIL}", error=NoSamplesError(EVIL)),
        name=EVIL,
        chosen={EVIL: EVIL},
    )
    video.unlink()
    page = page_of(dataset)
    assert "script" not in page.tags
    assert page.tags.count("style") == 1
    assert not set(page.tags) & {"frac", "a", "svg", "iframe", "object"}
    for heading in (
        f"Dataset {EVIL}",
        "Where it comes from",
        "Labels",
        "People",
        "Streams",
        "Examples",
        "Videos",
        "What ingest noticed",
        "Repaired recordings",
        "Left out: broken or wrong",
        "Left out: no samples in them by their nature",
    ):
        assert EVIL in heading + page.sections[heading]
    assert f"traces of a{EVIL}" in page.alternatives


def test_very_long_texts_are_cut(tmp_path: Path) -> None:
    reason = "x" * 100_000
    dataset = dataset_of(
        tmp_path, Input(name="a", samples=[imu(5)]), Input(name="b", error=DatasetError(reason))
    )
    page = page_of(dataset)
    left_out = page.sections["Left out: broken or wrong"]
    assert "xxx..." in left_out
    assert len(left_out) < 1000


def test_names_in_any_script_give_no_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    name = "跑步 جري дорожка 🏃‍♀️ $x_{1}$ %s {0}"
    channels = (Channel(name=f"_{name}", unit=name), Channel(name=f"_{name}2", unit=name))
    video = write_video(tmp_path / "clip.mp4", num_frames=10)
    one = Input(
        name=f"läufe/{name}",
        samples=[imu(30, stream=name, channels=channels), track(30, (0.01, 0.01), (60, 10))],
        subject=name,
        label=name,
        video=video,
    )
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        page = page_of(dataset_of(tmp_path, one, name=name))
    assert not caplog.records
    assert name in page.sections["Labels"]
    assert f"traces of läufe/{name}" in page.alternatives


@pytest.mark.parametrize(
    ("extent_deg", "centre"),
    [
        ((0.0, 0.0), (48.0, 11.0)),
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


def test_rates_far_apart_are_told_and_drawn(tmp_path: Path) -> None:
    rates_hz = [0.1, 3000.0, *np.linspace(1, 2, 14).tolist()]
    inputs = [
        Input(name=f"r{n:02d}", samples=[imu(20 / rate_hz, rate_hz=rate_hz)])
        for n, rate_hz in enumerate(rates_hz)
    ]
    dataset = dataset_of(tmp_path, *inputs)
    page = page_of(dataset)
    assert "rate 0.1 to 3000 Hz" in page.sections["Streams"]
    assert "rates of imu" in page.alternatives


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
    dataset = dataset_of(
        tmp_path, *[Input(name=path.stem, video=path, samples=[imu(2)]) for path in paths]
    )
    paths[0].unlink()
    paths[1].write_bytes(paths[1].read_bytes()[:500])
    page = page_of(dataset)
    text = page.sections["Videos"]
    assert "Not shown" in text
    assert f"a: {paths[0]} cannot be shown: " in text
    assert f"b: {paths[1]} cannot be shown: " in text
    assert "c: no label" in page.alternatives
    assert "In 3 recordings nobody said when the video started" in opening_of(page)
    paths[2].unlink()
    assert "c: no label" not in page_of(dataset).alternatives


def test_two_reports_of_one_dataset_are_equal_byte_for_byte(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4")
    inputs = [
        Input(name=name, samples=[imu(30), track(30, (0.01, 0.02), (48, 11))], label=name)
        for name in "abc"
    ]
    dataset = dataset_of(tmp_path, *inputs, Input(name="d", video=video))
    reports = []
    for _ in range(2):
        folder = Path(write_report(dataset)).parent
        reports.append({path.name: path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
        dataset = open_dataset(dataset.uri)
    assert len(reports[0]) == 1 + 3 + 3 + 1
    assert reports[0] == reports[1]


def test_a_missing_file_of_streams_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, Input(name="a", samples=[imu(5)]))
    shutil.rmtree(tmp_path / "dataset" / "streams")
    with pytest.raises(DatasetError, match="lacks its file streams/"):
        write_report(dataset)


@settings(max_examples=30, deadline=None)
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
