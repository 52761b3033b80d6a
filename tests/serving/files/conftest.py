from __future__ import annotations

from collections.abc import Iterator

import pytest

from motoric.core.settings import Settings
from motoric.serving.files.reading import Readers
from whole_files import FileServer


@pytest.fixture(scope="session")
def readers() -> Iterator[Readers]:
    made = Readers()
    yield made
    made.close()


@pytest.fixture
def served(local: Settings, key: str, readers: Readers) -> FileServer:
    """A server of one model, which a test releases, and a key."""
    return FileServer(local.storage_uri, key, readers)
