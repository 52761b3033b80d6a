"""API keys and the access snapshot (a control document).

A key is `mk_<id>_<secret>`; 256 random bits, so one SHA-256 is enough to store it (NIST SP 800-63B
asks for slow hashes only where the secret can be guessed). The store of accounts is the authority
(`serving/accounts.py`); the snapshot is what replicas check. A snapshot older than its maximum age
denies everybody.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass

from pydantic import Field

from motoric.core import documents
from motoric.core.errors import AccessError, PlatformError

SNAPSHOT_MAX_AGE_S = 900.0
_PREFIX = "mk"


class KeyGrant(documents.ControlDocument):
    """One key, hashed."""

    key_id: str
    name: str
    sha256: str


class AccessSnapshot(documents.ControlDocument):
    """All keys that are valid, as of `issued_at_s` (seconds since the epoch)."""

    issued_at_s: float
    max_age_s: float = Field(default=SNAPSHOT_MAX_AGE_S, gt=0)
    keys: tuple[KeyGrant, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A key just made; `secret` is shown once and never stored."""

    grant: KeyGrant
    secret: str


def snapshot_uri(storage_uri: str) -> str:
    """Where the access snapshot lies."""
    return documents.control_uri(storage_uri, "access.json")


def hash_key(secret: str) -> str:
    """SHA-256 of a key, in hexadecimal."""
    return hashlib.sha256(secret.encode()).hexdigest()


def make_key(name: str) -> NewKey:
    """Make a key for a person or a program called `name`."""
    key_id = secrets.token_hex(4)
    secret = f"{_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    return NewKey(grant=KeyGrant(key_id=key_id, name=name, sha256=hash_key(secret)), secret=secret)


class AccessGate:
    """Checks `Authorization` headers against the newest snapshot; pure but for the clock."""

    def __init__(self) -> None:
        self._grants: dict[str, KeyGrant] = {}
        self._by_id: dict[str, KeyGrant] = {}
        self._expires_at_s = 0.0

    def update(self, snapshot: AccessSnapshot) -> None:
        """Put a new snapshot in force."""
        self._grants = {grant.sha256: grant for grant in snapshot.keys}
        self._by_id = {grant.key_id: grant for grant in snapshot.keys}
        self._expires_at_s = snapshot.issued_at_s + snapshot.max_age_s

    def check(self, authorization: str | None, now_s: float | None = None) -> KeyGrant:
        """Return the grant of the key in an `Authorization` header.

        Raises:
            AccessError: No key, not a bearer key, or an unknown one.
            PlatformError: The snapshot is missing or older than its maximum age.
        """
        if authorization is None:
            raise AccessError(
                "send an API key as 'Authorization: Bearer mk_...'; `motoric keys create` makes one"
            )
        scheme, _, secret = authorization.partition(" ")
        if scheme.lower() != "bearer" or not secret:
            raise AccessError("the Authorization header must be 'Bearer ' and an API key")
        self._check_age(now_s)
        # The look-up is by hash, so its timing tells nothing about a key.
        grant = self._grants.get(hash_key(secret.strip()))
        if grant is None:
            raise AccessError("this API key is not known here; `motoric keys list` shows which are")
        return grant

    def grant(self, key_id: str, now_s: float | None = None) -> KeyGrant:
        """Return the grant of a key that was checked before, if it is valid still.

        Raises:
            AccessError: It was revoked.
            PlatformError: The snapshot is missing or older than its maximum age.
        """
        self._check_age(now_s)
        grant = self._by_id.get(key_id)
        if grant is None:
            raise AccessError("the API key was revoked; `motoric keys list` shows which are valid")
        return grant

    def _check_age(self, now_s: float | None) -> None:
        if (time.time() if now_s is None else now_s) > self._expires_at_s:
            raise PlatformError(
                "the access snapshot is too old to trust, so all requests are denied: is the"
                " platform app running?"
            )
