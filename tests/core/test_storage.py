from __future__ import annotations

import threading
from pathlib import Path

import pytest

from motoric.core import storage
from motoric.core.errors import NotFoundError, SettingsError


def test_relative_uris_lie_under_the_storage() -> None:
    assert storage.resolve("datasets/x", "s3://bucket/m") == "s3://bucket/m/datasets/x"
    assert storage.resolve("/data/x/", "s3://bucket/m") == "/data/x"
    assert storage.resolve("gs://other/x", "/home/m") == "gs://other/x"


def test_a_relative_uri_cannot_leave_the_storage() -> None:
    with pytest.raises(SettingsError, match="leaves the storage"):
        storage.resolve("../etc/passwd", "/home/m")


def test_an_unknown_scheme_is_named() -> None:
    with pytest.raises(SettingsError, match="carrier-pigeon"):
        storage.read_bytes("carrier-pigeon://x/y")


def test_what_is_not_there_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"nothing\.bin"):
        storage.read_bytes(str(tmp_path / "nothing.bin"))
    assert storage.list_names(str(tmp_path / "nowhere")) == []
    assert storage.fingerprint(str(tmp_path / "nothing.bin")) is None


def test_a_reader_sees_the_old_content_or_the_new(tmp_path: Path) -> None:
    uri = str(tmp_path / "deep" / "document")
    versions = [bytes([number]) * 200_000 for number in (1, 2)]
    storage.write_bytes(uri, versions[0])
    stop = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not stop.is_set():
            content = storage.read_bytes(uri)
            if content not in versions:
                torn.append(len(content))

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(200):
        storage.write_bytes(uri, versions[number % 2])
    stop.set()
    reader.join()
    assert torn == []
    assert storage.list_names(str(tmp_path / "deep")) == ["document"]


def test_file_uris_and_paths_are_the_same_place(tmp_path: Path) -> None:
    storage.write_bytes(f"file://{tmp_path}/a", b"1")
    assert storage.read_bytes(str(tmp_path / "a")) == b"1"
    assert storage.exists(f"file://{tmp_path}/a")
