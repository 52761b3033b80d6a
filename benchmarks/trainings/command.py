"""A command of Motoric as a process, with a home of its own; all it started ends with the block."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import machine
import yaml

from motoric.training.recipe import Recipe

_ROOT = Path(__file__).parents[2]
_WAIT_S, _END_S = 120.0, 40.0


def write_recipe(home: Path, recipe: Recipe, *, epochs: int) -> Path:
    """The recipe as a file."""
    home.mkdir(parents=True, exist_ok=True)
    content = recipe.model_dump(mode="json", exclude_unset=True)
    content["train"]["epochs"] = epochs
    path = home / f"{recipe.name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


class Command:
    """A command of Python's.

    Args:
        folder: Of the platform's home and of the command's settings.
        arguments: After `python`; paths are below the repository.
        more: Environment variables besides.
    """

    def __init__(
        self, folder: Path, arguments: list[str], more: dict[str, str] | None = None
    ) -> None:
        self._mark = uuid.uuid4().hex
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MOTORIC_", "RAY_"))
        }
        own |= {
            machine.MARK: self._mark,
            "MOTORIC_HOME": str(folder / "home"),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONUNBUFFERED": "1",
            **(more or {}),
        }
        self._log = folder / "log"
        self.began_s = time.time()
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=_ROOT,
                env=own,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_for_line(self, text: str) -> None:
        """Wait until it has printed this.

        Raises:
            RuntimeError: It ended before, or it takes too long.
        """
        self._wait(self._log, text)

    def wait_for_mark(self, path: Path, text: str) -> None:
        """Wait until this stands in a file.

        Raises:
            RuntimeError: As `wait_for_line`.
        """
        self._wait(path, text)

    def _wait(self, path: Path, text: str) -> None:
        until_s = time.monotonic() + _WAIT_S
        pause = threading.Event()
        while not (path.exists() and text in path.read_text()):
            if self._process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"no {text!r} came:\n{self._log.read_text()[-3000:]}")
            pause.wait(0.1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_S)
        machine.end(self._mark)
