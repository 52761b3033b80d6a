from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from motoric.core.errors import DatasetError, NotFoundError
from motoric.data.ingest.listing import list_recordings
from motoric.data.ingest.manifest import Manifest
from motoric.data.ingest.settings import IngestSettings

ROWS = [
    {"recording_id": "a", "subject": "s1", "label": "run", "sensors": "x/a.csv"},
    {"recording_id": "b", "subject": "s2", "label": "", "sensors": "x/b b.csv"},
]


def read(path: Path, *, annotations: Path | None = None, **settings: object) -> Manifest:
    return list_recordings(
        str(path),
        IngestSettings.model_validate(settings),
        sensor_suffixes={".csv", ".fit", ".fit.gz"},
        video_suffixes={".mp4"},
        annotations_uri=None if annotations is None else str(annotations),
    )


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    lines = [",".join(names), *(",".join(str(row.get(name, "")) for name in names) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def reasons(manifest: Manifest) -> dict[str, str]:
    return {item.source: item.reason for item in manifest.quarantined}


def test_csv_parquet_and_json_lines_say_the_same(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "m.parquet")
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    write(tmp_path / "m.csv", ROWS)
    found = [read(tmp_path / f"m.{suffix}") for suffix in ("csv", "parquet", "jsonl")]
    assert found[0].rows == found[1].rows == found[2].rows
    first, second = found[0].rows
    assert (first.recording_id, first.subject, first.label) == ("a", "s1", "run")
    assert first.sensors == str(tmp_path / "x/a.csv")
    assert second.sensors == str(tmp_path / "x/b b.csv")


def test_ids_stay_text_and_other_columns_are_metadata(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text(
        "\ufeffrecording_id;subject;sensors;coach\r\n007;Zoë;läufe/跑步 1.csv;Müller\r\n",
        encoding="utf-8",
    )
    manifest = read(path)
    (row,) = manifest.rows
    assert (row.recording_id, row.subject, row.metadata) == ("007", "Zoë", {"coach": "Müller"})
    assert row.sensors == str(tmp_path / "läufe/跑步 1.csv")
    assert manifest.extra_columns == ("coach",)


def test_a_table_of_a_spreadsheet_that_is_not_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_bytes("recording_id,subject,sensors\na,Jürgen,a.csv\n".encode("cp1252"))
    assert read(path).rows[0].subject == "Jürgen"


def test_an_unknown_subject_is_a_person_of_its_own_name(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", [{"recording_id": "a", "sensors": "a.csv"}])
    assert read(path).rows[0].subject == "unknown:a"


def test_the_second_row_of_an_id_is_quarantined(tmp_path: Path) -> None:
    path = write(tmp_path / "m.csv", [*ROWS, {**ROWS[0], "sensors": "x/c.csv"}])
    manifest = read(path)
    assert [row.sensors for row in manifest.rows if row.recording_id == "a"] == [
        str(tmp_path / "x/a.csv")
    ]
    assert "same recording_id" in reasons(manifest)["m.csv, row 4"]


@pytest.mark.parametrize(
    "place", ["../secret.csv", "x/../../secret.csv", "/etc/passwd", "s3://other/a.csv", "file:///x"]
)
def test_a_path_out_of_the_manifests_folder_is_quarantined(tmp_path: Path, place: str) -> None:
    (tmp_path / "in").mkdir()
    rows = [ROWS[0], {"recording_id": "evil", "sensors": place}]
    manifest = read(write(tmp_path / "in/m.csv", rows))
    assert [row.recording_id for row in manifest.rows] == ["a"]
    assert "lies outside the manifest's folder" in reasons(manifest)["m.csv, row 3"]


def test_a_link_out_of_the_folder_is_quarantined(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.csv").write_text("1")
    (tmp_path / "in/link.csv").symlink_to(tmp_path / "secret.csv")
    path = write(tmp_path / "in/m.csv", [ROWS[0], {"recording_id": "e", "sensors": "link.csv"}])
    assert "lies outside" in reasons(read(path))["m.csv, row 3"]
    assert [item.source for item in read(tmp_path / "in", path_pattern=None).quarantined]


def test_allowed_roots_open_other_folders(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    path = write(
        tmp_path / "in/m.csv",
        [{"recording_id": "a", "sensors": "../more/a.csv", "video": "s3://clips/team/a.mp4"}],
    )
    manifest = read(path, allowed_roots=[str(tmp_path / "more"), "s3://clips/team"])
    assert manifest.quarantined == ()
    assert manifest.rows[0].sensors == str(tmp_path / "more/a.csv")
    assert manifest.rows[0].video == "s3://clips/team/a.mp4"


def test_rows_with_nothing_to_read_are_quarantined(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        ROWS[0],
        {"recording_id": "", "sensors": "a.csv"},
        {"recording_id": "c"},
        {"recording_id": "d", "sensors": "d.csv", "start_time": "yesterday"},
        {"recording_id": "e", "sensors": "e.csv", "video_offset_s": "nan"},
    ]
    found = reasons(read(write(tmp_path / "m.csv", rows)))
    assert "has no recording_id" in found["m.csv, row 3"]
    assert "neither sensors nor video" in found["m.csv, row 4"]
    assert "'yesterday'" in found["m.csv, row 5"]
    assert "video_offset_s is 'nan'" in found["m.csv, row 6"]


def test_times_are_utc_where_no_zone_is_given(tmp_path: Path) -> None:
    rows = [
        {
            **ROWS[0],
            "start_time": "1970-01-01T00:01:00",
            "video_start_time": "1970-01-01T01:01:02+01:00",
        }
    ]
    (row,) = read(write(tmp_path / "m.csv", rows)).rows
    assert (row.start_time_s, row.video_start_time_s) == (60, 62)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("recording,subject,sensors", "did you mean 'recording_id' by 'recording'"),
        ("recording_id,subject,labels,sensors", "'labels' is not known, did you mean 'label'"),
        ("recording_id,subject", "needs the column recording_id, and sensors or video"),
        ("recording_id,Subject,sensors", "'Subject' is not known, did you mean 'subject'"),
    ],
)
def test_columns_that_look_mistyped_are_an_error(tmp_path: Path, header: str, message: str) -> None:
    (tmp_path / "m.csv").write_text(f"{header}\n{','.join('a' * len(header.split(',')))}\n")
    with pytest.raises(DatasetError, match=message):
        read(tmp_path / "m.csv")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", "no rows"),
        ("m.csv", b"recording_id,sensors\n", "no rows"),
        ("m.csv", b"recording_id,sensors\na,b,c,d\n", "cannot be read as .csv"),
        ("m.parquet", b"PAR1 but not really", "cannot be read as .parquet"),
        ("m.jsonl", b'{"recording_id": "a"', "cannot be read as .jsonl"),
        ("m.jsonl", b"[1, 2]", "must be a JSON object"),
    ],
)
def test_a_broken_manifest_is_one_clear_error(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        read(tmp_path / name)


def test_nothing_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no manifest and no folder"):
        read(tmp_path / "nowhere.csv")


def test_a_folder_gives_one_recording_a_file(tmp_path: Path) -> None:
    (tmp_path / "week 1").mkdir()
    for name in ("week 1/Lauf 1.FIT", "a.csv", "a.mp4", "b.fit.gz", "LICENSE.txt", ".hidden.csv"):
        (tmp_path / name).write_text("x")
    manifest = read(tmp_path)
    assert [row.recording_id for row in manifest.rows] == [
        "a.csv",
        "a.mp4",
        "b.fit.gz",
        "week 1/Lauf 1.FIT",
    ]
    assert {row.subject for row in manifest.rows} == {
        f"unknown:{row.recording_id}" for row in manifest.rows
    }
    (skipped,) = manifest.quarantined
    assert (skipped.source, skipped.kind) == ("LICENSE.txt", "skipped")


def test_a_path_pattern_reads_people_and_labels_from_folders(tmp_path: Path) -> None:
    for name in ("anna/squat", "ben/lunge", "rest"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.csv").write_text("x")
    manifest = read(tmp_path, path_pattern=r"(?P<subject>\w+)/(?P<label>\w+)/")
    assert [(row.recording_id, row.subject, row.label) for row in manifest.rows] == [
        ("anna/squat/1.csv", "anna", "squat"),
        ("ben/lunge/1.csv", "ben", "lunge"),
    ]
    assert "does not fit path_pattern" in reasons(manifest)["rest/1.csv"]


def test_a_folder_with_a_manifest_is_read_by_it(tmp_path: Path) -> None:
    write(tmp_path / "manifest.csv", ROWS)
    (tmp_path / "other.csv").write_text("x")
    assert [row.recording_id for row in read(tmp_path).rows] == ["a", "b"]


def test_annotations_beside_the_manifest_are_taken_and_wrong_ones_quarantined(
    tmp_path: Path,
) -> None:
    write(tmp_path / "m.csv", ROWS)
    write(
        tmp_path / "annotations.csv",
        [
            {"recording_id": "a", "start_s": 5, "end_s": 9.5, "label": "sprint"},
            {"recording_id": "a", "start_s": 1, "end_s": 2, "label": "walk"},
            {"recording_id": "a", "start_s": 9, "end_s": 9, "label": "stop"},
            {"recording_id": "z", "start_s": 1, "end_s": 2, "label": "walk"},
            {"recording_id": "a", "start_s": "soon", "end_s": 2, "label": "walk"},
        ],
    )
    manifest = read(tmp_path / "m.csv")
    assert [item.label for item in manifest.rows[0].annotations] == ["walk", "sprint"]
    found = reasons(manifest)
    assert "not after its start" in found["annotations.csv, row 4"]
    assert "which the manifest does not have" in found["annotations.csv, row 5"]
    assert "'soon'" in found["annotations.csv, row 6"]


def test_annotations_without_their_columns_are_an_error(tmp_path: Path) -> None:
    write(tmp_path / "m.csv", ROWS)
    path = write(tmp_path / "marks.csv", [{"recording_id": "a", "begin": 1}])
    with pytest.raises(DatasetError, match="lacks the column"):
        read(tmp_path / "m.csv", annotations=path)
