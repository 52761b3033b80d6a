from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from motoric.core.access import AccessGate, AccessSnapshot, snapshot_uri
from motoric.core.documents import read_document
from motoric.core.errors import AccessError, NotFoundError, PlatformError, SettingsError, UserError
from motoric.serving.accounts import open_accounts


def gate_of(local) -> AccessGate:
    gate = AccessGate()
    gate.update(read_document(snapshot_uri(local.storage_uri), AccessSnapshot))
    return gate


def database_of(local) -> Path:
    return Path(local.accounts_uri.removeprefix("sqlite:///"))


def test_a_new_key_is_accepted_at_once(accounts, local):
    key = accounts.create_key("Ada's laptop")
    assert gate_of(local).check(f"Bearer {key.secret}").name == "Ada's laptop"
    (record,) = accounts.list_keys()
    assert (record.key_id, record.name) == (key.grant.key_id, "Ada's laptop")
    assert record.created_at.tzinfo is not None


def test_a_revoked_key_is_refused_and_no_longer_listed(accounts, local):
    kept, ended = accounts.create_key("kept"), accounts.create_key("ended")
    accounts.revoke_key(ended.grant.key_id)
    assert [record.name for record in accounts.list_keys()] == ["kept"]
    gate = gate_of(local)
    gate.check(f"Bearer {kept.secret}")
    with pytest.raises(AccessError):
        gate.check(f"Bearer {ended.secret}")


@pytest.mark.parametrize("twice", [True, False])
def test_revoking_what_is_not_valid_says_so(accounts, twice):
    key_id = accounts.create_key("once").grant.key_id if twice else "12345678"
    if twice:
        accounts.revoke_key(key_id)
    with pytest.raises(NotFoundError, match=key_id):
        accounts.revoke_key(key_id)


def test_no_secret_is_stored_anywhere(accounts, local):
    key = accounts.create_key("secret")
    secret = key.secret.split("_", 2)[2].encode()
    database = database_of(local)
    written = [path for path in database.parent.iterdir() if path.is_file()]
    assert written
    for path in [*written, Path(snapshot_uri(local.storage_uri))]:
        assert secret not in path.read_bytes()


def test_the_database_is_its_owners_alone(accounts, local):
    database = database_of(local)
    assert stat.S_IMODE(database.stat().st_mode) == 0o600
    assert stat.S_IMODE(database.parent.stat().st_mode) == 0o700


def test_keys_outlive_the_process(accounts, local):
    accounts.create_key("first")
    accounts.close()
    again = open_accounts(local)
    assert [record.name for record in again.list_keys()] == ["first"]
    again.close()


def test_concurrent_writers_lose_no_key(accounts, local):
    others = [open_accounts(local) for _ in range(3)]

    def make(index: int) -> str:
        others[index % 3].publish()
        return others[index % 3].create_key(f"key {index}").secret

    with ThreadPoolExecutor(6) as executor:
        secrets = list(executor.map(make, range(18)))
    gate = gate_of(local)
    assert {gate.check(f"Bearer {secret}").name for secret in secrets} == {
        f"key {index}" for index in range(18)
    }
    for each in others:
        each.close()


def test_a_key_that_cannot_be_published_is_not_made(accounts, local):
    snapshot = Path(snapshot_uri(local.storage_uri))
    snapshot.parent.parent.mkdir(parents=True, exist_ok=True)
    snapshot.parent.write_text("a file where a folder should be")
    with pytest.raises(OSError, match="control"):
        accounts.create_key("lost")
    assert accounts.list_keys() == ()


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_a_key_needs_a_name(accounts, name):
    with pytest.raises(UserError, match="name"):
        accounts.create_key(name)


@pytest.mark.parametrize(
    "uri", ["nonsense", "sqlite://", "nosuchdatabase://host/x", "sqlite:///:memory:"]
)
def test_a_wrong_url_is_a_settings_error(local, uri):
    with pytest.raises(SettingsError, match="MOTORIC_ACCOUNTS_URI"):
        open_accounts(local.model_copy(update={"accounts_uri": uri}))


def test_a_file_that_is_no_database_is_named(local):
    database = database_of(local)
    database.parent.mkdir(parents=True)
    database.write_bytes(b"not a database" * 100)
    with pytest.raises(PlatformError, match=r"accounts\.db"):
        open_accounts(local)


def test_a_locked_database_is_waited_for(accounts, local):
    with sqlite3.connect(
        database_of(local), isolation_level=None, check_same_thread=False
    ) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as executor:
            making = executor.submit(accounts.create_key, "patient")
            assert not making.done()
            other.execute("COMMIT")
            assert making.result(timeout=20).grant.name == "patient"
    other.close()


def test_the_snapshot_is_read_by_its_owner_alone(local, accounts):
    """Stream tokens are signed by what follows from the hashes in it."""
    accounts.create_key("a")
    path = Path(local.storage_uri) / "control" / "access.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
