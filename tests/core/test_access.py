from __future__ import annotations

import pytest

from motoric.core.access import AccessGate, AccessSnapshot, make_key
from motoric.core.errors import AccessError, PlatformError


def test_a_key_opens_and_only_its_hash_is_in_the_snapshot() -> None:
    made = make_key("phone")
    snapshot = AccessSnapshot(issued_at_s=100.0, keys=(made.grant,))
    assert made.secret not in snapshot.model_dump_json()
    gate = AccessGate()
    gate.update(snapshot)
    assert gate.check(f"Bearer {made.secret}", now_s=101.0) == made.grant
    assert gate.check(f"bearer {made.secret}", now_s=101.0) == made.grant


@pytest.mark.parametrize("header", [None, "", "Bearer ", "Basic abc", "Bearer mk_x_wrong", "mk_x"])
def test_anything_else_does_not(header: str | None) -> None:
    gate = AccessGate()
    gate.update(AccessSnapshot(issued_at_s=100.0, keys=(make_key("phone").grant,)))
    with pytest.raises(AccessError):
        gate.check(header, now_s=101.0)


def test_a_revoked_key_closes() -> None:
    made = make_key("phone")
    gate = AccessGate()
    gate.update(AccessSnapshot(issued_at_s=100.0, keys=(made.grant,)))
    gate.update(AccessSnapshot(issued_at_s=101.0, keys=()))
    with pytest.raises(AccessError, match="not known"):
        gate.check(f"Bearer {made.secret}", now_s=102.0)


def test_an_old_or_missing_snapshot_denies_everybody() -> None:
    made = make_key("phone")
    gate = AccessGate()
    with pytest.raises(PlatformError, match="too old"):
        gate.check(f"Bearer {made.secret}", now_s=1.0)
    gate.update(AccessSnapshot(issued_at_s=100.0, max_age_s=60.0, keys=(made.grant,)))
    gate.check(f"Bearer {made.secret}", now_s=159.0)
    with pytest.raises(PlatformError, match="too old"):
        gate.check(f"Bearer {made.secret}", now_s=161.0)
