from __future__ import annotations

import base64
import pickle

import orjson
import pytest

from motoric.core.errors import SettingsError
from motoric.serving.streams.tokens import (
    AUDIENCE,
    ExpiredTokenError,
    StreamTokens,
    TokenError,
    WrongModelTokenError,
    _encode,
)

SECRET = b"0123456789abcdef0123456789abcdef"
NOW_S = 1.7e9


@pytest.fixture
def tokens() -> StreamTokens:
    return StreamTokens(SECRET)


def forged(tokens: StreamTokens, claims: object, header: object = None) -> str:
    parts = ({"alg": "HS256", "typ": "JWT"} if header is None else header, claims)
    signed = b".".join(_encode(orjson.dumps(part)) for part in parts)
    return (signed + b"." + _encode(tokens._sign(signed))).decode()


def claims(**changes: object) -> dict[str, object]:
    known = {"aud": AUDIENCE, "sub": "k", "model": "m", "iat": int(NOW_S), "exp": int(NOW_S) + 60}
    return {**known, **changes}


def test_a_token_says_who_made_it_and_for_which_model(tokens):
    token = tokens.issue(key_id="ab12", model="gym", now_s=NOW_S, lifetime_s=60)
    grant = StreamTokens(SECRET).verify(token, model="gym", now_s=NOW_S + 59)
    assert (grant.key_id, grant.model, grant.expires_at_s) == ("ab12", "gym", NOW_S + 60)


def test_the_signature_is_that_of_the_standard():
    # RFC 7515, appendix A.1.
    key = base64.urlsafe_b64decode(
        "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow=="
    )
    signed = (
        b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9."
        b"eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ"
    )
    signature = _encode(StreamTokens(key)._sign(signed))
    assert signature == b"dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"


def test_an_old_token_and_one_of_another_model_are_told_apart(tokens):
    token = tokens.issue(key_id="k", model="m", now_s=NOW_S, lifetime_s=60)
    with pytest.raises(ExpiredTokenError):
        tokens.verify(token, model="m", now_s=NOW_S + 91)
    with pytest.raises(WrongModelTokenError, match="for model 'm', not 'n'"):
        tokens.verify(token, model="n", now_s=NOW_S)
    with pytest.raises(TokenError, match="of the future"):
        tokens.verify(token, model="m", now_s=NOW_S - 31)


def test_no_letter_of_a_token_can_be_changed(tokens):
    token = tokens.issue(key_id="k", model="m", now_s=NOW_S)
    for place in range(0, len(token) - 1, 3):
        letter = "A" if token[place] != "A" else "B"
        with pytest.raises(TokenError):
            tokens.verify(token[:place] + letter + token[place + 1 :], model="m", now_s=NOW_S)


@pytest.mark.parametrize("token", ["", "..", "a.b", "a.b.c.d", "é.b.c", "a" * 3000, "a.b.!"])
def test_what_is_no_token_is_refused_and_not_repeated(tokens, token):
    with pytest.raises(TokenError) as caught:
        tokens.verify(token, model="m", now_s=NOW_S)
    assert len(token) < 3 or token not in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [{"aud": "other"}, {"sub": 1}, {"model": None}, {"exp": "x"}, {"exp": int(NOW_S) + 601},
     {"iat": None}, {"exp": 1e300}],
)  # fmt: skip
def test_a_signed_token_of_another_kind_is_none_for_streams(tokens, change):
    assert tokens.verify(forged(tokens, claims()), model="m", now_s=NOW_S).key_id == "k"
    with pytest.raises(TokenError, match="none for streams"):
        tokens.verify(forged(tokens, claims(**change)), model="m", now_s=NOW_S)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS256"])
def test_only_one_algorithm_is_accepted(tokens, algorithm):
    token = forged(tokens, claims(), {"alg": algorithm, "typ": "JWT"})
    with pytest.raises(TokenError):
        tokens.verify(token, model="m", now_s=NOW_S)
    unsigned = f"{token.rpartition('.')[0]}."
    with pytest.raises(TokenError):
        tokens.verify(unsigned, model="m", now_s=NOW_S)


def test_tokens_of_another_platform_are_refused(tokens):
    token = StreamTokens(SECRET[::-1]).issue(key_id="k", model="m", now_s=NOW_S)
    with pytest.raises(TokenError, match="not made by this platform"):
        tokens.verify(token, model="m", now_s=NOW_S)


@pytest.mark.parametrize("lifetime_s", [0.0, -1.0, 600.1, float("nan"), float("inf")])
def test_no_token_lives_longer_than_ten_minutes(tokens, lifetime_s):
    with pytest.raises(TokenError, match="cannot be made"):
        tokens.issue(key_id="k", model="m", now_s=NOW_S, lifetime_s=lifetime_s)


def test_the_secret_is_long_and_shows_nowhere(tokens):
    with pytest.raises(SettingsError, match="needs 32 random ones") as caught:
        StreamTokens(SECRET[:31])
    assert "0123" not in str(caught.value)
    assert "0123" not in repr(tokens)
    with pytest.raises(TypeError, match="not written"):
        pickle.dumps(tokens)
