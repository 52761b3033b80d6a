"""Processes that the tests here share: starting them takes longer than most tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ranks import Ranks


@pytest.fixture(scope="package")
def pair() -> Iterator[Ranks]:
    with Ranks(2) as ranks:
        yield ranks


@pytest.fixture(scope="package")
def alone() -> Iterator[Ranks]:
    with Ranks(1) as ranks:
        yield ranks
