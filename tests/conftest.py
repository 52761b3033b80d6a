"""What every test of a platform in a temporary folder needs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from motoric.core import settings
from motoric.core.settings import Settings

if TYPE_CHECKING:
    from motoric.serving.accounts import Accounts

# How long an example takes says nothing on a machine that is shared.
hypothesis.settings.register_profile("motoric", deadline=None)
hypothesis.settings.load_profile("motoric")


@pytest.fixture
def local(tmp_path: Path) -> Settings:
    """Settings of a platform that lies in a temporary folder."""
    return settings.load(
        home=tmp_path / "home",
        storage_uri=str(tmp_path / "storage"),
        accounts_uri=f"sqlite:///{tmp_path}/home/accounts/accounts.db",
    )


@pytest.fixture
def accounts(local: Settings) -> Iterator[Accounts]:
    """The store of keys."""
    from motoric.serving.accounts import open_accounts

    opened = open_accounts(local)
    yield opened
    opened.close()


@pytest.fixture
def key(accounts: Accounts) -> str:
    """A valid key."""
    return accounts.create_key("tests").secret
