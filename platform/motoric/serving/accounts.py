"""The store of API keys: the authority behind the access snapshot.

In: names of people and programs. Out: keys, shown once and stored hashed, and the snapshot that
replicas check. SQLite by default, in a file that only its owner can read; PostgreSQL by its URL.
Only the command line and the platform application open it. A change and the snapshot that tells of
it are one transaction under one lock, so that an older snapshot never overwrites a newer one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import (
    Column,
    Connection,
    DateTime,
    Engine,
    MetaData,
    String,
    Table,
    create_engine,
    event,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from motoric.core.access import AccessSnapshot, KeyGrant, NewKey, make_key, snapshot_uri
from motoric.core.documents import write_document
from motoric.core.errors import NotFoundError, PlatformError, SettingsError, UserError
from motoric.core.settings import Settings

_LOCK_ID = 0x6D6F746F  # PostgreSQL's advisory lock of the publishers
_MAX_NAME_LENGTH = 100

_metadata = MetaData()
_keys = Table(
    "api_keys",
    _metadata,
    Column("key_id", String(16), primary_key=True),
    Column("name", String(_MAX_NAME_LENGTH), nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("revoked_at", DateTime(timezone=True)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """A valid key, without its secret."""

    key_id: str
    name: str
    created_at: datetime


class Accounts:
    """API keys and the snapshot made from them.

    Args:
        engine: The database.
        storage_uri: Where the snapshot is published.
    """

    def __init__(self, engine: Engine, storage_uri: str) -> None:
        self._engine = engine
        self._storage_uri = storage_uri
        with self._locked() as connection:
            _metadata.create_all(connection)

    def list_keys(self) -> tuple[KeyRecord, ...]:
        """Valid keys, oldest first."""
        query = (
            select(_keys.c.key_id, _keys.c.name, _keys.c.created_at)
            .where(_keys.c.revoked_at.is_(None))
            .order_by(_keys.c.created_at, _keys.c.key_id)
        )
        with self._locked() as connection:
            rows = connection.execute(query).all()
        return tuple(
            KeyRecord(key_id=row.key_id, name=row.name, created_at=_as_utc(row.created_at))
            for row in rows
        )

    def create_key(self, name: str) -> NewKey:
        """Make a key, store its hash, and publish.

        Raises:
            UserError: The name is empty or too long.
        """
        name = name.strip()
        if not 0 < len(name) <= _MAX_NAME_LENGTH:
            raise UserError(
                f"a key needs a name of 1 to {_MAX_NAME_LENGTH} characters, not {name!r:.40}"
            )
        key = make_key(name)
        with self._locked() as connection:
            grant = key.grant
            connection.execute(
                insert(_keys).values(
                    key_id=grant.key_id,
                    name=name,
                    sha256=grant.sha256,
                    created_at=datetime.now(UTC),
                )
            )
            self._publish(connection)
        return key

    def revoke_key(self, key_id: str) -> None:
        """End a key, and publish; replicas refuse it within a second or two.

        Raises:
            NotFoundError: There is no such valid key.
        """
        with self._locked() as connection:
            ended = connection.execute(
                update(_keys)
                .where(_keys.c.key_id == key_id, _keys.c.revoked_at.is_(None))
                .values(revoked_at=datetime.now(UTC))
            )
            if ended.rowcount == 0:
                raise NotFoundError(
                    f"there is no valid key {key_id!r}; `motoric keys list` shows them"
                )
            self._publish(connection)

    def publish(self) -> AccessSnapshot:
        """Write the access snapshot anew; its age counts from now."""
        with self._locked() as connection:
            return self._publish(connection)

    def close(self) -> None:
        """Let the database go."""
        self._engine.dispose()

    def _publish(self, connection: Connection) -> AccessSnapshot:
        query = (
            select(_keys.c.key_id, _keys.c.name, _keys.c.sha256)
            .where(_keys.c.revoked_at.is_(None))
            .order_by(_keys.c.created_at, _keys.c.key_id)
        )
        grants = tuple(
            KeyGrant(key_id=row.key_id, name=row.name, sha256=row.sha256)
            for row in connection.execute(query)
        )
        snapshot = AccessSnapshot(issued_at_s=time.time(), keys=grants)
        # Stream tokens are signed by what follows from the hashes.
        write_document(snapshot_uri(self._storage_uri), snapshot, is_private=True)
        return snapshot

    @contextmanager
    def _locked(self) -> Iterator[Connection]:
        """A transaction that excludes every other."""
        try:
            with self._engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_ID})")
                yield connection
        except SQLAlchemyError as error:
            where = self._engine.url.render_as_string(hide_password=True)
            raise PlatformError(f"the accounts database {where} failed: {error}") from error


def open_accounts(settings: Settings) -> Accounts:
    """Open the store of keys, making it where there is none.

    Raises:
        SettingsError: `accounts_uri` is not a database URL this installation can open.
        PlatformError: The database does not answer.
    """
    try:
        url = make_url(settings.accounts_uri)
        if url.get_backend_name() == "sqlite":
            engine = _sqlite(settings.accounts_uri, url.database)
        else:
            engine = create_engine(url, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise SettingsError(
            f"MOTORIC_ACCOUNTS_URI is not a database this installation can open: {error}"
        ) from error
    return Accounts(engine, settings.storage_uri)


def _sqlite(uri: str, database: str | None) -> Engine:
    if not database or database == ":memory:":
        raise SettingsError(f"MOTORIC_ACCOUNTS_URI must name a file, not {uri!r}")
    path = Path(database)
    if not path.parent.exists():
        path.parent.mkdir(parents=True, mode=0o700)
    # Made before SQLite makes it, so that it is never readable by others; its journal copies the
    # mode.
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    path.chmod(0o600)
    engine = create_engine(uri, connect_args={"timeout": 30})

    # The driver's own transactions take the write lock late; ours take it at once.
    @event.listens_for(engine, "connect")
    def _no_driver_transactions(connection: object, _record: object) -> None:
        connection.isolation_level = None  # type: ignore[attr-defined]

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _as_utc(moment: datetime) -> datetime:
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
