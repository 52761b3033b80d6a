from __future__ import annotations

import os
from pathlib import Path

import pytest

from motoric.core import storage
from motoric.core.documents import DocumentWatcher, read_document, write_document
from motoric.core.errors import NotFoundError, PlatformError, UserError
from motoric.core.releases import (
    Release,
    ReleasedVersion,
    check_model_name,
    read_release,
    release_uri,
    write_release,
)


def make_release(version: int) -> Release:
    return Release(
        model="m",
        primary=ReleasedVersion(
            version=version, digest=f"sha256:{version}", artefact=f"a/{version}"
        ),
    )


def test_a_watcher_tells_each_change_once(tmp_path: Path) -> None:
    uri = str(tmp_path / "r.json")
    watcher = DocumentWatcher(uri, Release)
    assert watcher.poll() is None
    write_document(uri, make_release(1))
    assert watcher.poll() == make_release(1)
    assert watcher.poll() is None
    write_document(uri, make_release(22))
    assert watcher.poll() == make_release(22)


def test_two_writes_that_look_alike_from_outside_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    watcher = DocumentWatcher(str(path), Release)
    write_document(str(path), make_release(1))
    before = path.stat()
    watcher.poll()
    write_document(str(path), make_release(2))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert watcher.poll() == make_release(2)


def test_a_broken_document_leaves_the_last_good_one_in_force(tmp_path: Path) -> None:
    uri = str(tmp_path / "r.json")
    watcher = DocumentWatcher(uri, Release)
    write_document(uri, make_release(1))
    watcher.poll()
    storage.write_bytes(uri, b'{"half": ')
    assert watcher.poll() is None
    assert watcher.current == make_release(1)
    assert watcher.error is not None
    write_document(uri, make_release(2))
    assert watcher.poll() == make_release(2)
    assert watcher.error is None


def test_a_document_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    uri = str(tmp_path / "r.json")
    storage.write_bytes(uri, b'{"model": "m", "surprise": 1}')
    with pytest.raises(PlatformError, match="surprise"):
        read_document(uri, Release)


def test_a_missing_release_names_those_there_are(tmp_path: Path) -> None:
    write_release(str(tmp_path), make_release(1))
    assert read_release(str(tmp_path), "m") == make_release(1)
    with pytest.raises(NotFoundError, match=r"'other' is released \(released: m\)"):
        read_release(str(tmp_path), "other")


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-a", "A", "a" * 64, "a b", ".json", "a\n"])
def test_a_name_that_cannot_stand_in_a_url_or_path_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="model name"):
        check_model_name(name)
    with pytest.raises(UserError, match="model name"):
        release_uri("/storage", name)
