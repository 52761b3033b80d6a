from __future__ import annotations

import time
from pathlib import Path

import pytest

from motoric.core.errors import NotFoundError, PlatformError
from motoric.core.releases import read_release
from motoric.registry.promotion import promote
from motoric.registry.registry import Registry


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    return Registry(f"sqlite:///{folder}/deep/mlflow.db", str(folder / "storage"))


def add(registry: Registry, model: str, number: int, storage: Path) -> int:
    run_id = registry.start_run("tests", f"run-{number}", {"train": {"epochs": 3}, "name": "x"})
    registry.log_metrics(run_id, {"loss": 0.5}, step=1)
    made = registry.register(
        model,
        artefact_uri=f"{storage}/artefacts/{number}",
        digest=f"sha256:{number}",
        run_id=run_id,
        figures={"accuracy": "0.9"},
    )
    registry.end_run(run_id)
    return made.version


def test_versions_count_up_and_aliases_move(registry: Registry, tmp_path: Path) -> None:
    assert [add(registry, "moves", number, tmp_path) for number in (1, 2)] == [1, 2]
    promote(registry, str(tmp_path), "moves", "champion", 1)
    promote(registry, str(tmp_path), "moves", "candidate", 2)
    assert registry.by_alias("moves", "champion").version == 1
    before = read_release(str(tmp_path), "moves")
    assert (before.primary.version, before.primary.artefact) == (1, "artefacts/1")
    promote(registry, str(tmp_path), "moves", "champion", 2)
    versions = registry.versions("moves")
    assert [item.version for item in versions] == [2, 1]
    assert versions[0].aliases == ("candidate", "champion")
    assert versions[1].aliases == ()
    assert versions[0].figures == {"accuracy": "0.9"}
    assert versions[0].created_at_s == pytest.approx(time.time(), abs=600)
    assert read_release(str(tmp_path), "moves").primary.digest == "sha256:2"


def test_moving_candidate_releases_nothing(registry: Registry, tmp_path: Path) -> None:
    add(registry, "quiet", 1, tmp_path)
    promote(registry, str(tmp_path), "quiet", "candidate", 1)
    with pytest.raises(NotFoundError):
        read_release(str(tmp_path), "quiet")


def test_what_is_not_there_is_named(registry: Registry, tmp_path: Path) -> None:
    add(registry, "known", 1, tmp_path)
    with pytest.raises(NotFoundError, match=r"no model 'other' is registered .*known"):
        registry.versions("other")
    with pytest.raises(NotFoundError, match=r"has no version 7 \(it has: 1\)"):
        promote(registry, str(tmp_path), "known", "champion", 7)
    with pytest.raises(NotFoundError, match="no version of known has the alias 'champion'"):
        registry.by_alias("known", "champion")


def test_a_registry_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"this is not a database" * 100)
    with pytest.raises(PlatformError, match=r"mlflow\.db cannot be opened"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db", str(tmp_path))
