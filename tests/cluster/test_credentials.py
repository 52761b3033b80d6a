import stat

import pytest

from motoric.cluster.credentials import credentials_path, read_key, store_key
from motoric.core.errors import SettingsError
from motoric.core.settings import load


@pytest.fixture(autouse=True)
def _own_settings_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("MOTORIC_API_KEY", raising=False)
    monkeypatch.delenv("MOTORIC_URL", raising=False)


def test_a_key_is_kept_for_its_address_only(tmp_path):
    store_key("http://a:1/", "mk_a")
    store_key("http://b:2", "mk_b")
    assert read_key(load(home=tmp_path, url="http://a:1")) == "mk_a"
    assert read_key(load(home=tmp_path, url="http://b:2")) == "mk_b"
    assert read_key(load(home=tmp_path, url="http://c:3")) is None


def test_the_environment_comes_before_the_file(tmp_path, monkeypatch):
    store_key("http://a:1", "mk_file")
    monkeypatch.setenv("MOTORIC_API_KEY", "mk_environment")
    assert read_key(load(home=tmp_path, url="http://a:1")) == "mk_environment"


def test_the_file_and_its_folder_are_closed_to_others():
    store_key("http://a:1", "mk_a")
    assert stat.S_IMODE(credentials_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(credentials_path().parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("content", ["{", "[]", '{"http://a:1": 5}'])
def test_a_broken_file_is_named(tmp_path, content):
    store_key("http://a:1", "mk_a")
    credentials_path().write_text(content)
    with pytest.raises(SettingsError, match=r"credentials\.json"):
        read_key(load(home=tmp_path, url="http://a:1"))
