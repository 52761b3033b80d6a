from __future__ import annotations

import json
import logging
import shutil
import warnings
from pathlib import Path

import pytest

from motoric.core.errors import DatasetError, NoSamplesError
from motoric.data.dataset import open_dataset
from motoric.data.ingest.settings import AlignmentSettings, IngestSettings, SensorSettings
from motoric.data.recording import Channel
from motoric.data.report.facts import gather_facts
from motoric.data.report.findings import findings
from motoric.data.report.page import write_report
from recordings import SineSource, write_dataset
from reports import Input, Page, dataset_of, imu, opening_of, page_of, size_of, track
from videos import write_video

EVIL = '<script>alert("x")</script> & $\\frac{1}$'


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a dataset without any trouble."""
    uri = str(tmp_path_factory.mktemp("sound"))
    write_dataset(uri, SineSource(num_subjects=3, duration_s=40.0))
    return Path(write_report(open_dataset(uri)))


def test_a_sound_dataset_has_its_counts_rates_people_and_labels_and_no_warning(sound: Path) -> None:
    page = Page(sound.read_text())
    opening = opening_of(page)
    for figure in ("9 recordings", "6.0 min recorded", "3 people", "3 labels", "0 videos"):
        assert figure in opening
    assert "Nothing stands out" in opening
    assert "Worth a look" not in opening
    digest = open_dataset(str(sound.parents[1])).card.content_digest
    assert digest in page.sections["Where it comes from"]
    assert "setting " not in page.sections["Where it comes from"]
    for label in ("jump", "squat", "walk"):
        assert f"{label} 3 2.0 min" in page.sections["Labels"]
    assert "s2 3 2.0 min" in page.sections["People"]
    streams = page.sections["Streams"]
    for fact in ("rate 20 Hz", "samples 7,200", "gaps none", "recordings 9", "m/s^2 acc_x, acc_y"):
        assert fact in streams
    assert "Nothing." in page.sections["What ingest noticed"]
    assert "Left out" not in " ".join(page.sections)


def test_the_page_shows_its_pictures_without_any_other_file(sound: Path) -> None:
    pictures = sorted(sound.parent.glob("*.png"))
    assert [picture.name for picture in pictures] == [f"traces_{n}.png" for n in (1, 2, 3, 4)]
    assert all(size_of(picture)[0] > 400 for picture in pictures)
    content = sound.read_text()
    assert content.count('src="data:image/png;base64,') == content.count("src=") == 4


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Page]:
    """Findings and page of a dataset with troubles of every kind."""
    heart = (Channel(name="heart_rate", unit=""),)
    mixed = (Channel(name="acc_x", unit="g"),)
    dataset = dataset_of(
        tmp_path_factory.mktemp("troubled"),
        *[Input(name=f"a{n}", samples=[imu(4)], label="run") for n in range(9)],
        Input(name="a9", samples=[imu(60, gap_s=(30, 33))], label="run"),
        Input(name="b", samples=[imu(60, gap_s=(10, 22), channels=mixed)], label="rest"),
        Input(name="c", samples=[imu(60, rate_hz=5.0)], subject="unknown:c", repairs=("cut <1>",)),
        Input(name="d", samples=[imu(60, rate_hz=1.0, stream="workout", channels=heart)]),
        Input(name="e", error=DatasetError("the header is gone")),
        *[Input(name=f"f{n}", error=NoSamplesError("a plan")) for n in range(5)],
        Input(name="g", error=NoSamplesError("a map")),
    )
    facts = gather_facts(dataset, num_sensor_examples=1, num_video_examples=1)
    return findings(facts), page_of(dataset)


def test_gaps_flags_repairs_and_what_is_left_out_are_told_with_their_reasons(
    troubled: tuple[list[str], Page],
) -> None:
    _, page = troubled
    opening = opening_of(page)
    for figure in ("13 recordings", "1 repaired", "1 left out, broken", "6 skipped, empty"):
        assert figure in opening
    streams = page.sections["Streams"]
    assert "gaps 2, 14.9 s in all" in streams
    assert "Worst: b 1 of 11.9 s; a9 1 of 3.0 s" in streams
    assert "rate 5 to 20 Hz" in streams
    assert "channels in g acc_x (in 1)" in streams
    assert "channels in unit unknown heart_rate" in streams
    noticed = page.sections["What ingest noticed"]
    assert "gap 2 2 a9: " in noticed
    assert noticed.index("truncated repair 1 1 c: cut <1>") < noticed.index("gap 2")
    assert page.sections["Repaired recordings"].endswith("c in/c cut <1>")
    assert "1 the header is gone in/e" in page.sections["Left out: broken or wrong"]
    skipped = page.sections["Left out: no samples in them by their nature"]
    assert "5 a plan in/f0, in/f1, in/f2, and 2 more" in skipped
    assert skipped.index("a plan") < skipped.index("1 a map in/g")


def test_the_gravest_findings_come_first_and_no_more_than_eight_are_listed(
    troubled: tuple[list[str], Page],
) -> None:
    found, page = troubled
    starts = [
        "1 of 14 inputs is broken",
        "1 recording was damaged",
        "2 of 13 recordings have no label",
        "Who is recorded is unknown in 1 recording:",
        "People known: 1.",
        "Recordings differ in units: acc_x of stream imu is in m/s^2 and in g.",
        "Nobody said the unit of channel heart_rate of stream workout.",
        "Time is missing in gaps: 6.9% of stream imu.",
        "Recordings differ in rate: stream imu runs at 5 to 20 Hz.",
        "Labels are uneven: run is in 10 recordings, rest in 1.",
        "Of 13 recordings, not all have each stream: imu is in 12; workout is in 1.",
        "Not all recordings that have the stream have channels acc_y, acc_z of stream imu.",
    ]
    assert len(found) == len(starts)
    for line, start in zip(found, starts, strict=True):
        assert line.startswith(start)
    opening = opening_of(page)
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
        (["unknown:r0"], "unknown people"),
        (["ana", "unknown:r1"], "1 people"),
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
    assert "unknown 1 " in page.sections["People"]
    assert "unknown person" in page.sections["Examples"]


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
    assert "setting " not in text
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


def test_a_video_put_on_the_clock_of_sensors_without_a_reason_is_a_finding(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", num_frames=10)
    dataset = dataset_of(
        tmp_path,
        Input(name="a", samples=[imu(2)], video=video),
        Input(name="b", video=video),
        Input(name="c", samples=[imu(2)]),
    )
    found = findings(gather_facts(dataset, num_sensor_examples=1, num_video_examples=1))
    assert any(line.startswith("In 1 recording nobody said when the video") for line in found)


def test_two_reports_of_one_dataset_are_equal_byte_for_byte(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4")
    samples = [imu(30), track(30, (0.01, 0.02), (48, 11))]
    dataset = dataset_of(tmp_path, Input(name="a", samples=samples, label="run", video=video))
    reports = []
    for _ in range(2):
        folder = Path(write_report(dataset)).parent
        reports.append({path.name: path.read_bytes() for path in folder.iterdir()})
        shutil.rmtree(folder)
        dataset = open_dataset(dataset.uri)
    assert len(reports[0]) == 4
    assert reports[0] == reports[1]


def test_a_missing_file_of_streams_is_an_error_that_names_it(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, Input(name="a", samples=[imu(5)]))
    shutil.rmtree(tmp_path / "dataset" / "streams")
    with pytest.raises(DatasetError, match="lacks its file streams/"):
        write_report(dataset)
