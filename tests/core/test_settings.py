from __future__ import annotations

from pathlib import Path

import pytest

from motoric.core.errors import SettingsError
from motoric.core.settings import load

DEFINITION = """
cluster_name: x
provider: {type: local}
metadata:
  motoric:
    profiles:
      local:
        storage_uri: "{home}/elsewhere"
        ports: {http: 9001}
      cloud:
        storage_uri: s3://CHANGE-ME/motoric
"""


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("STORAGE_URI", "URL", "HOME", "PORTS__HTTP", "PROFILE", "CLUSTER_FILE"):
        monkeypatch.delenv(f"MOTORIC_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def test_without_a_definition_everything_lies_in_the_home(tmp_path: Path) -> None:
    settings = load(home=tmp_path / "h")
    assert settings.storage_uri == str(tmp_path / "h" / "storage")
    assert settings.registry_uri == f"sqlite:///{tmp_path}/h/registry/mlflow.db"
    assert settings.base_url == "http://127.0.0.1:8000"


def test_the_profile_is_used_and_the_environment_overrides_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.yaml").write_text(DEFINITION)
    monkeypatch.setenv("MOTORIC_HOME", str(tmp_path / "h"))
    settings = load()
    assert settings.storage_uri == str(tmp_path / "h" / "elsewhere")
    assert settings.base_url == "http://127.0.0.1:9001"
    monkeypatch.setenv("MOTORIC_STORAGE_URI", "/data")
    monkeypatch.setenv("MOTORIC_PORTS__HTTP", "9002")
    settings = load()
    assert (settings.storage_uri, settings.ports.http) == ("/data", 9002)
    assert settings.base_url == "http://127.0.0.1:9002"


def test_a_placeholder_in_the_chosen_profile_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cluster.yaml").write_text(DEFINITION)
    monkeypatch.setenv("MOTORIC_PROFILE", "cloud")
    with pytest.raises(SettingsError, match="placeholder 's3://CHANGE-ME/motoric'"):
        load()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("ports: {http: 9001}", "ports: {htpp: 9001}"), "unknown key ports.htpp"),
        (("ports: {http: 9001}", "ports: {http: 70000}"), "ports.http"),
        (("      local:", "      laptop:"), "no profile 'local'"),
        (("metadata:", "metadata: ]"), "not valid YAML"),
    ],
)
def test_a_wrong_definition_is_named(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    (tmp_path / "cluster.yaml").write_text(DEFINITION.replace(*change))
    with pytest.raises(SettingsError, match=message):
        load()


def test_the_definition_that_the_environment_names_must_be_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MOTORIC_CLUSTER_FILE", "/nowhere/cluster.yaml")
    with pytest.raises(SettingsError, match=r"/nowhere/cluster\.yaml"):
        load()


def test_another_process_sees_the_same_settings_and_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(home=tmp_path / "h", api_key="mk_secret", storage_uri="/data")
    assert not any("mk_secret" in value for value in settings.environment().values())
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    again = load()
    assert again.storage_uri == "/data"
    assert again.registry_uri == settings.registry_uri
    assert "mk_secret" not in repr(settings)
