from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from bad_files import CASES, GOOD, write_good
from motoric.core.errors import DatasetError
from motoric.data.card import CARD
from motoric.data.dataset import Dataset, open_dataset
from motoric.data.ingest.build import BuildResult
from motoric.data.ingest.settings import IngestSettings
from motoric.data.sources.manifest_source import ManifestSource
from recordings import build_here

HEADER = "recording_id,subject,sensors,video,coach"
GOOD_ROWS = [
    "plain,s1,good.csv,,Ada",
    "Läufe 1/跑步,Zoë Ünal,wöche 1/läufe & 跑步.fit,,Grace",
    "both,s2,good.csv,clips/my clip (1) größer.mp4,",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class BadRow:
    """A row that must not stop the others; its place is a file or, mostly, a row of the table."""

    row: str
    reason: str
    place: str = ""


BAD_ROWS = {
    "the id of an earlier row": BadRow(row="plain,s1,good.fit,,", reason="same recording_id"),
    "no id": BadRow(row=",s1,good.csv,,", reason="has no recording_id"),
    "no file": BadRow(row="nothing,s1,,,", reason="names neither sensors nor video"),
    "a file that is missing": BadRow(
        row="gone,s1,sub/gone.csv,,", reason=r"no file at .*sub/gone\.csv", place="sub/gone.csv"
    ),
    "a video that is missing": BadRow(
        row="blind,s1,good.csv,gone.mp4,", reason=r"no file at .*gone\.mp4", place="good.csv"
    ),
    "a video that is empty": BadRow(
        row="dark,s1,good.csv,empty.mp4,",
        reason=r"its video empty\.mp4: the file is empty",
        place="good.csv",
    ),
    "a folder": BadRow(row="folder,s1,clips,,", reason="clips' is a directory", place="clips"),
    "a file of another kind": BadRow(
        row="notes,s1,notes.docx,,", reason=r"notes\.docx is not a sensor file", place="notes.docx"
    ),
    "a path upwards": BadRow(row="up,s1,../secret.csv,,", reason="'../secret.csv' lies outside"),
    "a path upwards in the midst": BadRow(
        row="down-up,s1,clips/../../secret.csv,,", reason="lies outside the manifest's folder"
    ),
    "a path upwards for the video": BadRow(row="up-v,s1,,../secret.mp4,", reason="lies outside"),
    "an absolute path": BadRow(row="root,s1,/etc/passwd,,", reason="'/etc/passwd' lies outside"),
    "a link outwards": BadRow(row="link,s1,link.csv,,", reason=r"'link\.csv' lies outside"),
}
EACH_ROW = pytest.mark.parametrize("kind", BAD_ROWS)


def written(folder: Path, rows: list[str], header: str = HEADER) -> Path:
    """A folder with a manifest, its files, and a secret beside it."""
    source = folder / "in"
    for name in ("clips", "wöche 1"):
        (source / name).mkdir(parents=True)
    write_good(source)
    (source / "good.fit").rename(source / "wöche 1" / "läufe & 跑步.fit")
    (source / "good.mp4").rename(source / "clips" / "my clip (1) größer.mp4")
    (source / "empty.mp4").write_bytes(b"")
    (source / "notes.docx").write_bytes(b"squats on Monday")
    (folder / "secret.csv").write_text("time_s,acc_x\n0,1\n1,2\n")
    (source / "link.csv").symlink_to(folder / "secret.csv")
    (source / "manifest.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return source / "manifest.csv"


def build(manifest: Path, uri: Path, *, strict: bool = False) -> BuildResult:
    source = ManifestSource(str(manifest), IngestSettings())
    return build_here(source, str(uri), strict=strict)


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All good and bad rows in one manifest."""
    folder = tmp_path_factory.mktemp("manifest")
    manifest = written(folder, [*GOOD_ROWS, *(bad.row for bad in BAD_ROWS.values())])
    build(manifest, folder / "out")
    return open_dataset(str(folder / "out"))


def test_rows_with_spaces_and_unicode_are_whole_beside_bad_ones(together: Dataset) -> None:
    found = {item.recording_id: item for item in together.recordings()}
    assert set(found) == {"plain", "Läufe 1/跑步", "both"}
    run = found["Läufe 1/跑步"]
    assert (run.subject, run.metadata["coach"]) == ("Zoë Ünal", "Grace")
    assert len(run.streams[0].time_s) == GOOD["good.fit"]
    assert run.streams[0].name == "workout"
    video = found["both"].video
    assert video is not None
    assert video.num_frames == GOOD["good.mp4"]
    assert Path(together.video_uri(video)).name == "my clip (1) größer.mp4"
    assert len(found["plain"].streams[0].time_s) == GOOD["good.csv"]
    assert not any(item.flags for item in found.values())


@EACH_ROW
def test_each_bad_row_is_quarantined_with_its_place(together: Dataset, kind: str) -> None:
    bad = BAD_ROWS[kind]
    number = 2 + len(GOOD_ROWS) + list(BAD_ROWS).index(kind)
    rows = [
        row
        for row in together.quarantine_table().to_pylist()
        if row["recording_id"] == bad.row.split(",")[0]
    ]
    assert len(rows) == 1
    assert rows[0]["kind"] == "rejected"
    assert re.search(bad.reason, rows[0]["reason"])
    assert "\n" not in rows[0]["reason"]
    if bad.place:
        assert rows[0]["source"].endswith(f"/in/{bad.place}")
    else:
        assert rows[0]["source"] == f"manifest.csv, row {number}"


def test_nothing_of_a_file_outside_the_folder_is_kept(together: Dataset) -> None:
    assert together.card.num_quarantined == len(BAD_ROWS)
    assert not any("secret" in row["source"] for row in together.quarantine_table().to_pylist())
    assert together.card.num_recordings == len(GOOD_ROWS)


@EACH_ROW
def test_strict_stops_at_one_bad_row_and_commits_nothing(tmp_path: Path, kind: str) -> None:
    manifest = written(tmp_path, [GOOD_ROWS[0], BAD_ROWS[kind].row])
    with pytest.raises(DatasetError, match=BAD_ROWS[kind].reason) as caught:
        build(manifest, tmp_path / "out", strict=True)
    assert "1 inputs are broken or needed repair" in caught.value.message
    assert not (tmp_path / "out" / CARD).exists()


def test_strict_takes_a_manifest_of_good_rows(tmp_path: Path) -> None:
    manifest = written(tmp_path, GOOD_ROWS)
    assert build(manifest, tmp_path / "out", strict=True).card.num_recordings == len(GOOD_ROWS)


def test_columns_nobody_knows_are_metadata_and_mistyped_ones_an_error(tmp_path: Path) -> None:
    manifest = written(tmp_path, ["a,good.csv,left"], header="recording_id,sensors,hand")
    build(manifest, tmp_path / "out")
    (recording,) = open_dataset(str(tmp_path / "out")).recordings()
    assert recording.metadata == {"hand": "left"}
    manifest.write_text("recording_id,sensors,subjekt\na,good.csv,s1\n")
    with pytest.raises(DatasetError, match=r"manifest\.csv: .*'subjekt'.*'subject'"):
        build(manifest, tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_broken_file_keeps_its_label_and_subject_when_it_can_be_repaired(tmp_path: Path) -> None:
    manifest = written(tmp_path, ["a,s7,run,cut.fit"], header="recording_id,subject,label,sensors")
    CASES["fit cut"].write(manifest.parent / "cut.fit")
    build(manifest, tmp_path / "out")
    (recording,) = open_dataset(str(tmp_path / "out")).recordings()
    assert recording.subject == "s7"
    (annotation,) = recording.annotations
    assert (annotation.label, annotation.end_s) == ("run", 25)


# Real recordings

# Reasons by file; every other file below `workouts` is kept.
NOT_KEPT = {
    "rejected": {
        "fit/DeveloperData.fit": "has 3 records but no times",
        "gpx/track-with-extremes.gpx": "has 25 points but no times",
        "gpx/track-with-small-floats.gpx": "has 3 points but no times",
        "gpx/track_with_dilution_errors.gpx": "has 1 points but no times",
    },
    "skipped": {
        "fit/LICENSE.txt": "neither a sensor file nor a video",
        "fit/MonitoringFile.fit": "is a FIT monitoring_b file",
        "fit/Settings.fit": "is a FIT settings file",
        "fit/Settings2.fit": "is a FIT settings file",
        "fit/WeightScaleMultiUser.fit": "is a FIT weight file",
        "fit/WeightScaleSingleUser.fit": "is a FIT weight file",
        "fit/WorkoutCustomTargetValues.fit": "is a FIT workout file",
        "fit/WorkoutIndividualSteps.fit": "is a FIT workout file",
        "fit/WorkoutRepeatGreaterThanStep.fit": "is a FIT workout file",
        "fit/WorkoutRepeatSteps.fit": "is a FIT workout file",
        "gpx/LICENSE.txt": "neither a sensor file nor a video",
        "gpx/custom_schema_locations.gpx": "is a GPX file without track points",
        "gpx/default_schema_locations.gpx": "is a GPX file without track points",
        "gpx/gpx1.1_with_extensions.gpx": "routes or waypoints",
        "gpx/gpx1.1_with_extensions_without_namespaces.gpx": "routes or waypoints",
        "gpx/gpx_with_garmin_extension.gpx": "routes or waypoints",
        "gpx/route.gpx": "routes or waypoints",
        "gpx/unicode.gpx": "routes or waypoints",
        "gpx/unicode_with_bom.gpx": "routes or waypoints",
        "gpx/unicode_with_bom_noencoding.gpx": "routes or waypoints",
    },
}
# Samples and repairs of the broken activities.
INVALID = {
    "activity-activity-filecrc.fit": (28, {"wrong_crc", "clock_jump"}),
    "activity-filecrc.fit": (14, {"wrong_crc"}),
    "activity-settings-corruptheader.fit": (14, {"truncated"}),
    "activity-settings-nodata.fit": (14, {"truncated"}),
    "activity-unexpected-eof.fit": (14, {"truncated"}),
    "elemnt-bolt-no-application-id-inside-developer-data-id.fit": (132, set()),
}


def real(folder: str) -> Path:
    root = os.environ.get("MOTORIC_TEST_DATA")
    if root is None:
        pytest.skip("MOTORIC_TEST_DATA names no folder of real recordings")
    return Path(root) / folder


def check_invalid(dataset: Dataset, prefix: str) -> None:
    for name, (num_samples, repairs) in INVALID.items():
        recording = dataset.recording(f"{prefix}{name}")
        assert len(recording.stream("workout").time_s) == num_samples
        assert {flag.kind for flag in recording.flags if flag.is_repair} == repairs


def test_broken_real_activities_keep_their_samples(tmp_path: Path) -> None:
    result = build(real("workouts/fit/invalid"), tmp_path)
    assert (result.card.num_recordings, result.card.num_quarantined) == (len(INVALID), 0)
    check_invalid(open_dataset(str(tmp_path)), "")


def test_broken_real_activities_stop_strict(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="5 inputs are broken or needed repair"):
        build(real("workouts/fit/invalid"), tmp_path, strict=True)
    assert not (tmp_path / CARD).exists()


def test_real_videos_are_all_kept(tmp_path: Path) -> None:
    result = build(real("videos"), tmp_path)
    assert (result.card.num_videos, result.card.num_recordings) == (6, 6)
    assert (result.card.num_quarantined, result.card.num_repaired) == (0, 0)
    flagged = {
        item.recording_id: [flag.kind for flag in item.flags]
        for item in open_dataset(str(tmp_path)).outlines()
        if item.flags
    }
    (name,) = flagged
    assert "cartwheel" in name
    assert flagged[name] == ["metadata_not_utf8"]


@pytest.mark.long
def test_real_workouts_are_kept_or_left_out_with_their_reasons(tmp_path: Path) -> None:
    folder = real("workouts")
    card = build(folder, tmp_path).card
    num_files = sum(path.is_file() for path in folder.rglob("*"))
    assert card.num_recordings == num_files - sum(map(len, NOT_KEPT.values())) == 40
    dataset = open_dataset(str(tmp_path))
    rows = dataset.quarantine_table().to_pylist()
    for kind, reasons in NOT_KEPT.items():
        found = {row["source"]: row["reason"] for row in rows if row["kind"] == kind}
        assert set(found) == set(reasons)
        for name, reason in reasons.items():
            assert reason in found[name]
    check_invalid(dataset, "fit/invalid/")
    assert all(item.streams for item in dataset.recordings())
