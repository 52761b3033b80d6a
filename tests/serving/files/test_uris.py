from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from motoric.core.errors import ForbiddenError
from motoric.serving.config import Files
from motoric.serving.files.places import allowed_place, parse_place
from whole_files import RATE_HZ, FileServer, columns_of, csv_of, write

GOOD = csv_of(columns_of([0] * 30), rate_hz=RATE_HZ)
PREFIXES = ("/data", "s3://bucket/prefix", "gs://other")


@pytest.mark.parametrize(
    ("uri", "opened"),
    [
        ("/data/a.csv", "/data/a.csv"),
        ("/data/deep/er/a b.csv", "/data/deep/er/a b.csv"),
        ("file:///data/a.csv", "/data/a.csv"),
        ("s3://bucket/prefix/a.csv", "s3://bucket/prefix/a.csv"),
        ("gs://other/ü/a.csv", "gs://other/ü/a.csv"),
    ],
)
def test_files_under_a_prefix_are_allowed(uri: str, opened: str) -> None:
    place, prefix = allowed_place(uri, PREFIXES)
    assert place.uri == opened
    assert prefix.uri in PREFIXES


REFUSED = [
    *("", " ", "a.csv", "./a.csv", "data/a.csv", "/", "//data/a.csv", "///data/a.csv"),
    *("/data-secret/a.csv", "/dat/a.csv", "/etc/passwd", "/DATA/a.csv", "~/a.csv", "~root/a.csv"),
    *("/data/../etc/passwd", "/data/a/../../etc/passwd", "/data/..", "/data/./a.csv"),
    *("/data//a.csv", "/data/a.csv\n", "/data/a.csv\0", "\t/data/a.csv", " /data/a.csv"),
    *("/data/%2e%2e/etc/passwd", "/data/..%2fetc%2fpasswd", "%2fdata/a.csv", "/data/a%00.csv"),
    *("\\data\\a.csv", "/data\\..\\etc/passwd", "/data/\u202e.csv", "/etc/passwd#/data"),
    *("file:/data/a.csv", "file://data/a.csv", "file://localhost/data/a.csv", "FILE:///data/a.csv"),
    *("file:////data/a.csv", "file://127.0.0.1/data/a.csv", "file:///data/../etc/passwd"),
    *("file:///data/a.csv?x=1", "/data/a.csv?x", "/data/a.csv#x"),
    *(
        "s3://bucket/prefix2/a.csv",
        "s3://bucket/a.csv",
        "s3://bucket/prefi/x",
        "s3://bucket2/prefix/x",
    ),
    *("s3://bucket/prefix/../a.csv", "s3://bucket/prefix//a.csv", "s3:///bucket/prefix/a.csv"),
    *("s3://key:secret@bucket/prefix/a.csv", "s3://bucket@evil/prefix/a.csv"),
    *("s3://bucket:80/prefix/a.csv", "s3://bucket.evil.com/prefix/a.csv", "S3://bucket/prefix/x"),
    *(
        "s3://bucket/prefix/a.csv?endpoint_override=127.0.0.1:80&scheme=http",
        "s3a://bucket/prefix/x",
    ),
    *("s3://", "s3://bucket", "s3:bucket/prefix/a.csv", "s3://bucket/prefix%2fa.csv"),
    *("gs://other2/a.csv", "gs://", "gcs://other/a.csv", "hdfs://data/a.csv", "mock:///data/a.csv"),
    *(
        "http://127.0.0.1/data/a.csv",
        "https://bucket.s3.amazonaws.com/prefix/a.csv",
        "ftp://data/a",
    ),
    *("http://169.254.169.254/latest/meta-data", "//127.0.0.1/data/a.csv", "concat:/data/a.csv"),
    *("data:text/csv,a", "gopher://x/data", "pipe:0", "/data/" + "a" * 3000),
]


@pytest.mark.parametrize("uri", REFUSED)
def test_everything_else_is_refused(uri: str) -> None:
    with pytest.raises(ForbiddenError) as caught:
        allowed_place(uri, PREFIXES)
    assert caught.value.status == 403
    assert "is not allowed" in caught.value.message


@given(st.text(alphabet="/.data-%2e\\s3:~?#@b \x00", max_size=30))
def test_what_is_allowed_has_one_reading_only(uri: str) -> None:
    try:
        place, _ = allowed_place(uri, ("/data", "s3://b/a"))
    except ForbiddenError:
        return
    assert place.uri.startswith(("/data", "s3://b/a"))
    if place.scheme == "file":
        assert os.path.normpath(place.uri) == place.uri
        assert Path(place.uri).is_relative_to("/data")


def test_by_default_no_uri_is_read(served: FileServer) -> None:
    served.release()
    detail = served.problem(403, json={"uri": "/etc/passwd"})
    assert "upload the file" in detail
    assert "files.uri_prefixes" in detail


@pytest.mark.parametrize("prefix", ["data", "/", "http://x/y", "s3://", "/a/../b", "/a%20b"])
def test_a_prefix_that_could_be_read_in_two_ways_is_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match=r"not allowed|whole disk"):
        Files(uri_prefixes=(prefix,))
    assert parse_place("/a/b/").uri == "/a/b"


def test_a_file_under_the_prefix_is_answered_as_its_upload(
    served: FileServer, tmp_path: Path
) -> None:
    served.release()
    folder = tmp_path / "data"
    write(folder / "in" / "a.csv", GOOD)
    served.set_files(uri_prefixes=(str(folder),))
    expected = served.answer(GOOD, "text/csv", "?windows=true")
    for uri in (f"{folder}/in/a.csv", f"file://{folder}/in/a.csv"):
        assert served.answer(json={"uri": uri}, query="?windows=true") == expected


def test_links_and_odd_files_lead_nowhere(served: FileServer, tmp_path: Path) -> None:
    served.release()
    folder = tmp_path / "data"
    write(folder / "a.csv", GOOD)
    write(tmp_path / "data-secret" / "a.csv", GOOD)
    (folder / "out.csv").symlink_to(tmp_path / "data-secret" / "a.csv")
    (folder / "away").symlink_to(tmp_path / "data-secret")
    (folder / "inside.csv").symlink_to(folder / "a.csv")
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    served.set_files(uri_prefixes=(str(folder),))
    for name, status, says in (
        ("out.csv", 403, "leads out of"),
        ("away/a.csv", 403, "leads out of"),
        ("none.csv", 404, "no file lies"),
        ("a.csv/b.csv", 404, "no file lies"),
        ("folder.csv", 404, "is no file"),
        ("pipe.csv", 404, "is no file"),
        ("a.exe", 415, "its name must end in"),
    ):
        assert says in served.problem(status, json={"uri": f"{folder}/{name}"}), name
    served.answer(json={"uri": f"{folder}/inside.csv"})


def test_a_prefix_that_is_a_link_is_followed_by_whoever_set_it(
    served: FileServer, tmp_path: Path
) -> None:
    served.release()
    write(tmp_path / "real" / "a.csv", GOOD)
    (tmp_path / "data").symlink_to(tmp_path / "real")
    served.set_files(uri_prefixes=(str(tmp_path / "data"),))
    served.answer(json={"uri": f"{tmp_path}/data/a.csv"})


def test_a_file_over_the_limit_is_refused_by_its_size(served: FileServer, tmp_path: Path) -> None:
    served.release()
    with (tmp_path / "a.csv").open("wb") as file:
        file.truncate(2**40)  # of holes: reading it would take for ever
    served.set_files(uri_prefixes=(str(tmp_path),))
    assert "1048576.0 MiB" in served.problem(413, json={"uri": f"{tmp_path}/a.csv"})


@pytest.mark.parametrize(
    ("content", "status", "says"),
    [
        ({"uri": 7}, 400, "must be strings"),
        ({"uri": "/x", "windows": []}, 400, "unknown key 'windows'"),
        ({"uri": "http://127.0.0.1:1/x.csv"}, 403, "http:// is never fetched"),
        ({"uri": "s3://bucket/x.csv?endpoint_override=127.0.0.1"}, 403, "no query"),
    ],
)
def test_a_body_that_names_no_allowed_file_says_why(
    served: FileServer, tmp_path: Path, content: dict[str, object], status: int, says: str
) -> None:
    served.release()
    served.set_files(uri_prefixes=(str(tmp_path),))
    assert says in served.problem(status, json=content)
