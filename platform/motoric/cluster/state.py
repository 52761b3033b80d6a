"""What runs, as a small JSON file: `$MOTORIC_HOME/run/platform.json`.

The file is written before anything is started, so that whatever a crash leaves behind can be found.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from motoric.cluster import folders
from motoric.core.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class PlatformState:
    """One start of the local platform."""

    instance_id: str
    ray_address: str
    dashboard_url: str
    http_url: str
    folder: Path
    """Everything temporary; removed on `down`."""
    temp_dir: Path
    token_path: Path
    started_at_s: float
    gcs_pid: int = 0
    """0 until Ray has started."""
    raylet_pid: int = 0

    @property
    def log_folder(self) -> Path:
        """Where Ray, Serve and the replicas log."""
        return self.temp_dir / "session_latest" / "logs"


def state_path(settings: Settings) -> Path:
    """Where the state file lies."""
    return folders.run_folder(settings.home) / "platform.json"


def read_state(settings: Settings) -> PlatformState | None:
    """What the file says, alive or not; None where there is none or it is cut off."""
    try:
        found: dict[str, Any] = json.loads(state_path(settings).read_text())
        for name in ("folder", "temp_dir", "token_path"):
            found[name] = Path(found[name])
        return PlatformState(**found)
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def write_state(settings: Settings, state: PlatformState) -> None:
    """Write the file atomically."""
    path = state_path(settings)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(json.dumps(dataclasses.asdict(state), default=str, indent=1))
    partial.replace(path)


def remove_state(settings: Settings) -> None:
    """Forget what ran."""
    state_path(settings).unlink(missing_ok=True)


@contextmanager
def locked(settings: Settings) -> Iterator[None]:
    """Only one `up` or `down` at a time."""
    folder = folders.run_folder(settings.home)
    folders.make_private(folder)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
