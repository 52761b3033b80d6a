from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from artefacts import CLASSES, release_small, window_of
from motoric.core import storage
from motoric.core.releases import Release, ReleasedVersion, release_uri, write_release
from motoric.serving import served
from motoric.serving.following import MAX_RETRY_S, ReleaseFollower
from motoric.serving.served import RunOptions, load_model

MODEL = "small"


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def follower(tmp_path, clock) -> ReleaseFollower:
    uri = str(tmp_path)
    return ReleaseFollower(
        uri, MODEL, lambda version: load_model(uri, MODEL, version, RunOptions()), clock
    )


def label(follower: ReleaseFollower, class_index: int) -> str:
    """What the served graph says of a window."""
    run = follower.served.batcher._run
    return CLASSES[run((np.array([window_of(class_index)], np.float32),)).argmax()]


def test_without_a_release_nothing_is_served_and_nothing_fails(follower):
    follower.poll()
    assert follower.served is None
    assert follower.failure is None


def test_a_new_release_is_swapped_in(follower, tmp_path):
    release_small(str(tmp_path), MODEL, 1)
    follower.poll()
    assert (follower.served.version, label(follower, 0)) == (1, CLASSES[0])
    release_small(str(tmp_path), MODEL, 2, bias=(0.0, 99.0, 0.0))
    follower.poll()
    assert (follower.served.version, label(follower, 0)) == (2, CLASSES[1])


def test_a_release_that_did_not_change_is_not_loaded_again(follower, tmp_path):
    release_small(str(tmp_path), MODEL, 1)
    follower.poll()
    loaded = follower.served
    follower.poll()
    assert follower.served is loaded


@pytest.mark.parametrize("breakage", ["graph", "missing", "digest"])
def test_a_release_that_does_not_load_keeps_the_old_version(follower, tmp_path, breakage):
    release_small(str(tmp_path), MODEL, 1)
    follower.poll()
    broken = {"graph": b"no graph"} if breakage == "graph" else {}
    released = release_small(str(tmp_path), MODEL, 2, **broken)
    if breakage == "missing":
        (Path(tmp_path) / released.artefact / "model.onnx").unlink()
    if breakage == "digest":
        wrong = released.model_copy(update={"digest": "sha256:1"})
        write_release(str(tmp_path), Release(model=MODEL, primary=wrong))
    follower.poll()
    assert follower.served.version == 1
    assert (follower.failure.version, follower.failure.kind) == (2, "artefact")
    assert label(follower, 0) == CLASSES[0]


def test_a_failed_load_is_tried_again_later_and_later(follower, tmp_path, clock):
    released = release_small(str(tmp_path), MODEL, 1)
    graph = Path(tmp_path) / released.artefact / "model.onnx"
    content = graph.read_bytes()
    graph.unlink()
    waits = []
    for _ in range(8):
        follower.poll()
        waits.append(follower.failure.next_try_s - clock.now_s)
        follower.poll()  # too early: not tried
        clock.now_s = follower.failure.next_try_s
    assert follower.failure.num_tries == 8
    assert waits == sorted(waits)
    assert waits[-1] == MAX_RETRY_S
    graph.write_bytes(content)
    follower.poll()
    assert follower.served.version == 1
    assert follower.failure is None


def test_a_new_release_is_tried_at_once_after_a_failed_one(follower, tmp_path):
    release_small(str(tmp_path), MODEL, 1, graph=b"no graph")
    follower.poll()
    release_small(str(tmp_path), MODEL, 2)
    follower.poll()
    assert follower.served.version == 2


def test_an_unreadable_release_document_keeps_the_old_version(follower, tmp_path):
    release_small(str(tmp_path), MODEL, 1)
    follower.poll()
    storage.write_bytes(release_uri(str(tmp_path), MODEL), b"{}")
    follower.poll()
    assert follower.served.version == 1
    assert "not a valid Release" in follower.document_error


def test_a_candidate_is_said_to_be_ignored(follower, tmp_path, caplog):
    released = release_small(str(tmp_path), MODEL, 1)
    candidate = ReleasedVersion(version=2, digest="sha256:2", artefact="artefacts/x")
    release = Release(model=MODEL, primary=released, candidate=candidate, mode="shadow")
    write_release(str(tmp_path), release)
    follower.poll()
    assert "not served yet" in caplog.text


def test_a_model_with_slow_batches_runs_in_a_thread(tmp_path, monkeypatch):
    version = release_small(str(tmp_path), MODEL, 1)
    assert load_model(str(tmp_path), MODEL, version, RunOptions()).inline
    monkeypatch.setattr(served, "INLINE_LIMIT_S", 0.0)
    assert not load_model(str(tmp_path), MODEL, version, RunOptions()).inline
