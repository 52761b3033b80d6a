from __future__ import annotations

import asyncio
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from artefacts import CLASSES, window_of
from motoric.serving.config import Limits
from whole_files import RATE_HZ, ROOT, FileServer, columns_of, csv_of, heart_model

GOOD = csv_of(columns_of([0] * 30), rate_hz=RATE_HZ)
LONG = csv_of(columns_of([1] * 20_000), rate_hz=RATE_HZ)


def form(*parts: tuple[str, str, bytes], boundary: str = "b0") -> tuple[bytes, str]:
    """A form as it is sent, and its Content-Type."""
    body = b""
    for name, file_name, content in parts:
        said = f'form-data; name="{name}"'
        if file_name:
            said += f'; filename="{file_name}"'
        body += f"--{boundary}\r\nContent-Disposition: {said}\r\n\r\n".encode() + content + b"\r\n"
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def test_a_form_is_read_by_the_ending_of_the_name_alone(served: FileServer, tmp_path: Path) -> None:
    served.release()
    expected = served.answer(GOOD, "text/csv")
    for name in ("walk.csv", "../../etc/cron.d/walk.CSV", "/tmp/x.csv", "ü .csv"):
        assert served.answer(*form(("file", name, GOOD))) == expected
    assert "cannot be read: its name must end in" in served.problem(
        415, *form(("file", "walk.exe", GOOD))
    )


@pytest.mark.parametrize(
    ("content", "content_type", "status", "says"),
    [
        (*form(), 400, "has no part"),
        (*form(("data", "a.csv", GOOD)), 400, "has a part 'data'"),
        (*form(("file", "a.csv", GOOD), ("file", "b.csv", GOOD)), 400, "two files are of sensors"),
        (*form(("sensors", "a.mp4", GOOD)), 400, "the part 'sensors' is a .mp4 file"),
        (*form(("video", "a.csv", GOOD)), 400, "the part 'video' is a .csv file"),
        (*form(("file", "", GOOD)), 415, "a file called ''"),
        (*form(("file", "a.csv", b"")), 400, "is empty (0 bytes)"),
        (form(("file", "a.csv", GOOD))[0][:-9], "multipart/form-data; boundary=b0", 400, "cut off"),
        (form(("file", "a.csv", GOOD))[0], "multipart/form-data", 400, "must name its boundary"),
        (
            form(("file", "a.csv", GOOD))[0],
            "multipart/form-data; boundary=x",
            400,
            "cannot be read",
        ),
        (b"--b0\r\n" + b"a: b\r\n" * 99, "multipart/form-data; boundary=b0", 400, "cannot be read"),
        (b"--b0\r\na" + b"a" * 9999, "multipart/form-data; boundary=b0", 400, "cannot be read"),
    ],
)
def test_a_broken_form_is_refused_with_the_reason(
    served: FileServer, content: bytes, content_type: str, status: int, says: str
) -> None:
    served.release()
    assert says in served.problem(status, content, content_type)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.binary(max_size=4)), max_size=5), st.integers(0, 40)
)
def test_a_changed_form_is_never_a_failure_of_the_server(
    served: FileServer, changes: list[tuple[int, bytes]], num_cut: int
) -> None:
    served.release()
    served.set_files(max_windows=1)  # so that a form that is sound after all is refused soon
    content, content_type = form(("file", "a.npz", GOOD))
    for place, new in changes:
        content = content[:place] + new + content[place + len(new) :]
    content = content[: len(content) - num_cut]
    assert served.post(content, content_type).status_code in (400, 413, 415, 422)


def test_a_file_over_the_limit_is_refused_before_it_is_read(served: FileServer) -> None:
    served.release()
    served.set_files(max_mib=0.001)
    num_read = 0

    async def scenario(client: httpx.AsyncClient) -> httpx.Response:
        async def endless() -> Any:
            nonlocal num_read
            while True:
                num_read += 1
                yield b" " * 100

        headers = {"content-type": "text/csv", "content-length": "5000000000"}
        return await client.post(f"{ROOT}/predict", content=endless(), headers=headers)

    response = served.run(scenario)
    assert response.status_code == 413
    assert response.headers["connection"] == "close"
    assert "files.max_mib" in response.json()["detail"]
    assert num_read <= 1
    headers = {"content-length": "many", "content-type": "text/csv"}
    assert "not a number" in served.problem(400, b"x", headers=headers)


def test_an_endless_file_without_a_length_is_given_up(served: FileServer) -> None:
    served.release()
    served.set_files(max_mib=0.01)

    async def endless() -> Any:
        while True:
            yield b" " * 1000

    assert "over the limit" in served.problem(413, endless(), "video/mp4")
    assert "over the limit" in served.problem(413, endless(), form()[1])


def test_a_file_that_does_not_come_to_its_end_is_given_up(served: FileServer) -> None:
    served.release()
    served.set_files(max_s=0.1)

    async def trickle() -> Any:
        yield GOOD[:100]
        await asyncio.sleep(5)

    assert "within 0.1 s" in served.problem(408, trickle(), "text/csv")
    assert "within 0.1 s" in served.problem(408, trickle(), form()[1])


def test_no_key_no_file(served: FileServer) -> None:
    served.release()
    served.headers = {}
    assert "API key" in served.problem(401, GOOD, "text/csv")


def test_before_the_first_release_the_answer_is_try_again(served: FileServer) -> None:
    assert "no release yet" in served.problem(503, GOOD, "text/csv")


@pytest.mark.parametrize("accept", ["application/x-npy", "text/html"])
def test_an_answer_is_json_alone(served: FileServer, accept: str) -> None:
    served.release()
    served.problem(406, GOOD, "text/csv", headers={"accept": accept})


def test_windows_are_answered_while_a_long_file_is_read(served: FileServer) -> None:
    served.release()
    served.answer(GOOD, "text/csv")  # a process is ready from here on

    async def scenario(client: httpx.AsyncClient) -> tuple[dict[str, Any], int]:
        headers = {"content-type": "text/csv"}
        file = asyncio.create_task(client.post(f"{ROOT}/predict", content=LONG, headers=headers))
        num = 0
        while not file.done():
            answer = await client.post(f"{ROOT}/predict", json={"windows": window_of(2)})
            assert answer.json()["predictions"][0]["label"] == CLASSES[2]
            num += 1
        return (await file).json(), num

    answer, num = served.run(scenario)
    assert answer["num_windows"] == 3999
    assert [item["label"] for item in answer["segments"]] == [CLASSES[1]]
    assert num > 10


def test_more_files_than_are_read_at_once_wait_and_many_more_are_refused(
    served: FileServer,
) -> None:
    served.release()
    served.set_files(max_at_once=1)

    async def scenario(client: httpx.AsyncClient) -> list[int]:
        headers = {"content-type": "text/csv"}
        posts = (client.post(f"{ROOT}/predict", content=GOOD, headers=headers) for _ in range(6))
        return [response.status_code for response in await asyncio.gather(*posts)]

    statuses = served.run(scenario)
    assert sorted(statuses) == [200] * 4 + [503] * 2


def test_a_file_that_takes_too_long_is_given_up_and_its_process_ended(served: FileServer) -> None:
    served.release()
    started_s = time.monotonic()
    detail = served.problem(413, LONG * 20, "text/csv", headers={"x-timeout-ms": "200"})
    assert "takes more than" in detail
    assert time.monotonic() - started_s < 20


def test_nothing_is_left_behind(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "spool"))
    (tmp_path / "spool").mkdir()
    served.release()
    served.answer(GOOD, "text/csv")
    served.problem(400, b"\0" * 100, "text/csv")
    served.problem(400, form(("file", "a.csv", GOOD))[0][:-9], form()[1])
    served._readers.close()
    assert list((tmp_path / "spool").iterdir()) == []
    children = [child.cmdline() for child in psutil.Process().children()]
    assert not [words for words in children if "motoric.serving.files.worker" in words]


@pytest.mark.parametrize(
    ("module", "name"), [("fitdecode", "a.fit"), ("gpxpy", "a.gpx"), ("lxml", "a.tcx")]
)
def test_without_the_extra_the_answer_names_it_and_tables_are_still_read(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str
) -> None:
    """A package of the extra that cannot be imported stands before the real one."""
    served._readers.close()
    missing = f"raise ModuleNotFoundError('No module named {module}', name={module!r})\n"
    (tmp_path / f"{module}.py").write_text(missing)
    monkeypatch.syspath_prepend(str(tmp_path))
    served.release(**heart_model())
    detail = served.problem(415, files={"file": (name, b"x" * 100)})
    assert "lacks the extra `ingest` (pip install 'motoric[ingest]')" in detail
    table = csv_of(columns_of([1] * 30)[:, 1:2] * 240, "heart_rate", rate_hz=1.0)
    assert served.answer(table, "text/csv")["num_windows"] == 5
    served._readers.close()


def test_a_worker_gets_no_secrets_and_limits_itself(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that tells what it sees stands in for the real one."""
    monkeypatch.setenv("MOTORIC_API_KEY", "secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    served._readers.close()
    telling = (
        "import os, resource\n"
        "from motoric.core.errors import UnreadableError\n"
        "def tell():\n"
        "    kinds = ('AS', 'CPU', 'FSIZE', 'NOFILE', 'CORE')\n"
        "    most = [resource.getrlimit(getattr(resource, 'RLIMIT_' + k))[1] for k in kinds]\n"
        "    raise UnreadableError(f'{most} {sorted(os.environ)}')\n"
        "class FitReader:\n"
        "    def __init__(self, *a, **k): tell()\n"
        "class CrcCheck: READONLY = 1\n"
        "class ErrorHandling: IGNORE = 1\n"
    )
    (tmp_path / "fitdecode").mkdir()
    (tmp_path / "fitdecode" / "__init__.py").write_text(telling)
    broken = "class FitError(Exception): pass\nclass FitEOFError(FitError): pass\n"
    (tmp_path / "fitdecode" / "exceptions.py").write_text(broken)
    (tmp_path / "fitdecode" / "processors.py").write_text(
        "FIT_DATETIME_MIN = 0\nFIT_UTC_REFERENCE = 0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    served.release(**heart_model())
    served.set_files(max_s=33)
    content = b"\x0e\x10\xee\x07\xcd\x15\x00\x00.FIT" + b"\0" * 100
    detail = served.problem(400, content, "application/vnd.ant.fit")
    served._readers.close()
    assert "AWS" not in detail
    assert "MOTORIC" not in detail
    memory, seconds, *rest = map(int, detail.partition("[")[2].partition("]")[0].split(","))
    assert 2**30 < memory < 2**32
    assert seconds <= 36
    assert rest == [0, 64, 0]
    assert resource.getrlimit(resource.RLIMIT_AS)[1] == resource.RLIM_INFINITY


def test_a_process_that_dies_is_one_refusal(
    served: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served._readers.close()
    crash = "import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n"
    (tmp_path / "gpxpy.py").write_text(crash)
    monkeypatch.syspath_prepend(str(tmp_path))
    served.release(**heart_model())
    detail = served.problem(400, b"<gpx/>", "application/gpx+xml")
    served._readers.close()
    assert "its decoder failed (code -11)" in detail


def test_small_bodies_of_json_are_windows_as_before(served: FileServer) -> None:
    served.release()
    served.set_files(limits=Limits(max_body_mib=0.01))
    answer = served.answer(json={"windows": window_of(0)})
    assert answer["predictions"][0]["label"] == CLASSES[0]
    assert "lacks the key 'windows'" in served.problem(400, json={"url": "/x"})
