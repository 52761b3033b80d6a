"""Control documents: small JSON documents under the storage URI that tell replicas what to do.

In: a pydantic model. Out: one atomic object. A replica watches a document with `DocumentWatcher`; a
document that cannot be read leaves the last good one in force, and the failure is kept to be
reported.
"""

from __future__ import annotations

import logging
import time
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from motoric.core import storage
from motoric.core.errors import MotoricError, NotFoundError, PlatformError

logger = logging.getLogger(__name__)

CONTROL_FOLDER = "control"
_TIME_RESOLUTION_NS = 3_000_000_000


class ControlDocument(BaseModel):
    """Base of the documents; `schema_version` grows when a field changes its meaning."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: int = 1


Document = TypeVar("Document", bound=ControlDocument)


def control_uri(storage_uri: str, *parts: str) -> str:
    """Where a control document lies."""
    return storage.join(storage_uri, CONTROL_FOLDER, *parts)


def write_document(uri: str, document: ControlDocument, *, is_private: bool = False) -> None:
    """Write a document atomically; a private one on a local disk only its owner can read."""
    content = document.model_dump_json(indent=1).encode()
    storage.write_bytes(uri, content, is_private=is_private)


def read_document(uri: str, kind: type[Document]) -> Document:
    """Read a document.

    Raises:
        NotFoundError: There is none.
        PlatformError: It is not a document of this kind.
    """
    content = storage.read_bytes(uri)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        raise PlatformError(f"{uri} is not a valid {kind.__name__}: {error}") from error


def _is_recent(seen: tuple[int, int]) -> bool:
    """Whether a second write of the same size could bear the same time: S3's has whole seconds."""
    return time.time_ns() - seen[1] < _TIME_RESOLUTION_NS


class DocumentWatcher(Generic[Document]):
    """Follows one document.

    Args:
        uri: Where the document lies, or will lie.
        kind: Its model.
    """

    def __init__(self, uri: str, kind: type[Document]) -> None:
        self.uri = uri
        self.kind = kind
        self.current: Document | None = None
        self.error: str | None = None
        self._seen: tuple[int, int] | None = None

    def poll(self) -> Document | None:
        """Look once (blocking); return the document if it is new since the last call, else None."""
        try:
            seen = storage.fingerprint(self.uri)
            if seen is None or (seen == self._seen and not _is_recent(seen)):
                return None
            document = read_document(self.uri, self.kind)
        except NotFoundError:
            return None
        except (MotoricError, OSError) as error:
            if str(error) != self.error:
                logger.warning("keeping the last good document: %s", error)
            self.error = str(error)
            return None
        self.error = None
        self._seen = seen
        if document == self.current:
            return None
        self.current = document
        return document
