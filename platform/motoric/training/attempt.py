"""Who trains a run now: a mark in its folder, left anew by each driver that begins or goes on.

Workers find their driver's mark before they train, which shows that they share its storage, and
before they write a checkpoint, which shows that no other driver has taken the run over.
"""

from __future__ import annotations

import socket
import uuid

from motoric.core import storage
from motoric.core.errors import NotFoundError, SettingsError, UserError

_MARKER = "begun"


def begin_attempt(run_uri: str) -> str:
    """Leave a mark in a run's folder; returns what it says."""
    attempt = uuid.uuid4().hex
    storage.write_bytes(storage.join(run_uri, _MARKER), attempt.encode())
    return attempt


def check_storage(run_uri: str, attempt: str) -> None:
    """See whether this node has the storage that the driver has.

    Raises:
        SettingsError: It does not see the driver's mark.
    """
    if _found(run_uri) != attempt:
        raise SettingsError(
            f"node {socket.gethostname()} does not see what the driver wrote to {run_uri}:"
            " all nodes must share the storage. Set storage_uri to a bucket (s3://…, gs://…) or"
            " to a folder that is mounted on all of them"
        )


def check_newest(run_uri: str, attempt: str) -> None:
    """See whether a run is still this driver's.

    Raises:
        UserError: Another driver goes on with it.
    """
    if _found(run_uri) != attempt:
        raise UserError(
            f"another `motoric train --resume` goes on with the run in {run_uri}: this one ends"
            " here, and writes no more checkpoints"
        )


def _found(run_uri: str) -> str | None:
    try:
        return storage.read_bytes(storage.join(run_uri, _MARKER)).decode()
    except (NotFoundError, OSError):
        return None
