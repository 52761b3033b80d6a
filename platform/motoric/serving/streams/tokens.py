"""Short-lived tokens for browsers, which cannot send an API key with a WebSocket.

In: an API key that was checked, and a model. Out: a token for the handshake, and back. It is a JSON
Web Token (RFC 7519) signed by HMAC SHA-256 (RFC 7515, 7518: HS256); no other algorithm is ever
accepted. The secret follows from the key's hash in the access snapshot (`tokens_of`): every replica
has it, nothing more is stored, and a revoked key takes its tokens with it. So whoever can read the
snapshot can make tokens, though no keys: only the platform may read its storage.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import math
from dataclasses import dataclass
from typing import Any

import orjson

from motoric.core.access import KeyGrant
from motoric.core.errors import AccessError, SettingsError

MAX_LIFETIME_S = 600.0
MIN_SECRET_BYTES = 32
AUDIENCE = "motoric:stream"
# Clocks of two nodes differ.
_LEEWAY_S = 30.0
_MAX_TOKEN_LENGTH = 2048
_PURPOSE = b"motoric:stream-token:1"
_HEADER = {"alg": "HS256", "typ": "JWT"}


class TokenError(AccessError):
    """A stream token that is not valid."""

    title = "Wrong stream token"
    kind = "stream-token"


class ExpiredTokenError(TokenError):
    """It was valid."""

    title = "Stream token expired"
    kind = "stream-token-expired"


class WrongModelTokenError(TokenError):
    """It is valid, for another model."""

    title = "Stream token of another model"
    kind = "stream-token-model"


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenGrant:
    """What a token says.

    Attributes:
        key_id: Of the API key it was made with.
        model: The one model it is for.
        expires_at_s: Seconds since the epoch; a connection made before may go on.
    """

    key_id: str
    model: str
    expires_at_s: float


class StreamTokens:
    """Makes and checks tokens of one secret.

    Args:
        secret: Bytes that nobody can guess and all replicas have, 32 or more.

    Raises:
        SettingsError: It is shorter.
    """

    __slots__ = ("_secret",)

    def __init__(self, secret: bytes) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise SettingsError(
                f"the secret of stream tokens has {len(secret)} bytes: it needs"
                f" {MIN_SECRET_BYTES} random ones or more (RFC 7518, 3.2)"
            )
        self._secret = secret

    def __repr__(self) -> str:
        return "StreamTokens(secret=...)"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError("a secret is not written into messages or files; pass it apart")

    def issue(
        self, *, key_id: str, model: str, now_s: float, lifetime_s: float = MAX_LIFETIME_S
    ) -> str:
        """Make a token.

        Args:
            key_id: Of an API key that was checked.
            model: What it may be used for.
            now_s: Seconds since the epoch.
            lifetime_s: At most `MAX_LIFETIME_S`.

        Raises:
            TokenError: The lifetime is not above 0, or too long.
        """
        if not 0 < lifetime_s <= MAX_LIFETIME_S:
            raise TokenError(
                f"a stream token of {lifetime_s:g} s cannot be made: give up to"
                f" {MAX_LIFETIME_S:g} s"
            )
        claims = {
            "aud": AUDIENCE,
            "sub": key_id,
            "model": model,
            "iat": math.floor(now_s),
            "exp": math.floor(now_s + lifetime_s),
        }
        signed = b".".join(_encode(orjson.dumps(part)) for part in (_HEADER, claims))
        return (signed + b"." + _encode(self._sign(signed))).decode("ascii")

    def verify(self, token: str, *, model: str, now_s: float) -> TokenGrant:
        """Check a token.

        Raises:
            TokenError: It was not made here, or was changed; no message repeats it.
            ExpiredTokenError: It is too old.
            WrongModelTokenError: It is for another model.
        """
        signed, signature = _split(token)
        expected = self._sign(signed)
        if not hmac.compare_digest(expected, _decode(signature)):
            raise TokenError("the stream token was not made by this platform: ask for a new one")
        header, claims = (_object(_decode(part)) for part in signed.split(b"."))
        issued_s, expires_s = claims.get("iat"), claims.get("exp")
        key_id, of_model = claims.get("sub"), claims.get("model")
        if (
            header != _HEADER
            or claims.get("aud") != AUDIENCE
            or not (isinstance(key_id, str) and isinstance(of_model, str))
            or not (isinstance(issued_s, int) and isinstance(expires_s, int))
            or not 0 <= expires_s - issued_s <= MAX_LIFETIME_S
        ):
            raise TokenError("the token is none for streams: ask for a stream token")
        if now_s >= expires_s + _LEEWAY_S:
            raise ExpiredTokenError("the stream token has expired: ask for a new one")
        if now_s < issued_s - _LEEWAY_S:
            raise TokenError("the stream token is of the future: the servers' clocks disagree")
        if of_model != model:
            raise WrongModelTokenError(
                f"the stream token is for model {of_model!r}, not {model!r}: ask for one of this"
            )
        return TokenGrant(key_id=key_id, model=model, expires_at_s=float(expires_s))

    def _sign(self, signed: bytes) -> bytes:
        return hmac.new(self._secret, signed, hashlib.sha256).digest()


def tokens_of(grant: KeyGrant) -> StreamTokens:
    """The tokens of one API key; its hash is as random as a secret must be."""
    return StreamTokens(hmac.new(grant.sha256.encode(), _PURPOSE, hashlib.sha256).digest())


def key_id_of(token: str) -> str:
    """Which key a token says it is of; nothing of it is checked yet.

    Raises:
        TokenError: It is no token.
    """
    signed, _ = _split(token)
    key_id = _object(_decode(signed.partition(b".")[2])).get("sub")
    if not isinstance(key_id, str):
        raise TokenError("the token is none for streams: ask for a stream token")
    return key_id


def _split(token: str) -> tuple[bytes, bytes]:
    """What was signed, and the signature."""
    if len(token) > _MAX_TOKEN_LENGTH or not token.isascii() or token.count(".") != 2:
        raise TokenError("the stream token is malformed: ask for a new one")
    signed, _, signature = token.encode("ascii").rpartition(b".")
    return signed, signature


def _encode(content: bytes) -> bytes:
    return base64.urlsafe_b64encode(content).rstrip(b"=")


def _decode(text: bytes) -> bytes:
    try:
        return base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise TokenError("the stream token is malformed: ask for a new one") from error


def _object(content: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise TokenError("the stream token is malformed: ask for a new one") from error
    if not isinstance(found, dict):
        raise TokenError("the stream token is malformed: ask for a new one")
    return found
