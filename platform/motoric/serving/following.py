"""How a replica follows its control documents.

In: the access snapshot and the release of one model, polled. Out: an `AccessGate` in force and a
`ServedModel` to answer with. A version is loaded beside the one that serves and swapped by one
assignment; a load that fails keeps the old one and is tried again, later and later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from motoric.core.access import AccessGate, AccessSnapshot, snapshot_uri
from motoric.core.documents import DocumentWatcher
from motoric.core.errors import MotoricError
from motoric.core.releases import Release, ReleasedVersion, release_uri
from motoric.serving.served import ServedModel

logger = logging.getLogger(__name__)

MAX_RETRY_S = 30.0
Load = Callable[[ReleasedVersion], ServedModel]


class AccessFollower:
    """Keeps a gate up to date."""

    def __init__(self, storage_uri: str) -> None:
        self.gate = AccessGate()
        self._watcher = DocumentWatcher(snapshot_uri(storage_uri), AccessSnapshot)

    def poll(self) -> None:
        """Look once (blocking)."""
        snapshot = self._watcher.poll()
        if snapshot is not None:
            self.gate.update(snapshot)

    def age_s(self) -> float | None:
        """Age of the snapshot in force."""
        snapshot = self._watcher.current
        return None if snapshot is None else time.time() - snapshot.issued_at_s

    def is_fresh(self) -> bool:
        """Whether keys can be checked now."""
        snapshot, age_s = self._watcher.current, self.age_s()
        return snapshot is not None and age_s is not None and age_s <= snapshot.max_age_s


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """Why a version is not served."""

    version: int
    digest: str
    kind: str
    message: str
    num_tries: int
    next_try_s: float


class ReleaseFollower:
    """Keeps the served version up to date.

    Args:
        storage_uri: The platform's storage.
        model: The model's name.
        load: Loads a version (blocking).
        clock: Monotonic seconds.
    """

    def __init__(
        self, storage_uri: str, model: str, load: Load, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.served: ServedModel | None = None
        self.release: Release | None = None
        self.failure: LoadFailure | None = None
        self._watcher = DocumentWatcher(release_uri(storage_uri, model), Release)
        self._load = load
        self._clock = clock

    @property
    def document_error(self) -> str | None:
        """Why the newest release document cannot be read."""
        return self._watcher.error

    def poll(self) -> None:
        """Look once, and load what is new (blocking)."""
        release = self._watcher.poll()
        if release is not None:
            self.release = release
            self.failure = None
            if release.mode != "plain" or release.candidate is not None:
                logger.warning(
                    "release of %s: mode %r and candidate are not served yet; version %d is",
                    release.model,
                    release.mode,
                    release.primary.version,
                )
        if self.release is None or self._is_served(self.release.primary):
            return
        if self.failure is None or self._clock() >= self.failure.next_try_s:
            self._try(self.release.primary)

    def _is_served(self, wanted: ReleasedVersion) -> bool:
        served = self.served
        return served is not None and (served.version, served.digest) == (
            wanted.version,
            wanted.digest,
        )

    def _try(self, wanted: ReleasedVersion) -> None:
        try:
            loaded = self._load(wanted)
        except Exception as error:  # what serves must go on serving, whatever a new version raises
            num_tries = 1 if self.failure is None else self.failure.num_tries + 1
            self.failure = LoadFailure(
                version=wanted.version,
                digest=wanted.digest,
                kind=error.kind if isinstance(error, MotoricError) else "internal-error",
                message=str(error),
                num_tries=num_tries,
                next_try_s=self._clock() + min(MAX_RETRY_S, 2.0 ** (num_tries - 1)),
            )
            kept = "nothing" if self.served is None else f"version {self.served.version}"
            logger.exception(
                "version %d did not load (try %d); %s is served", wanted.version, num_tries, kept
            )
            return
        # Requests that hold the old version finish on it; then it is garbage, its thread included.
        self.served, self.failure = loaded, None
        logger.info(
            "serving version %d of %s (%s), loaded in %.2f s, %s batches",
            loaded.version,
            loaded.model,
            loaded.digest[:19],
            loaded.load_s,
            "inline" if loaded.inline else "threaded",
        )


async def follow(poll: Callable[[], object], period_s: float) -> None:
    """Call `poll` in a thread for ever, `period_s` apart; an exception is logged, never fatal."""
    while True:
        await asyncio.sleep(period_s)
        try:
            await asyncio.to_thread(poll)
        except Exception:
            logger.exception("polling a control document failed; the last good one stays in force")
