"""A virtual environment for each peer, since their packages do not get along with ours.

They lie in a cache (`MOTORIC_BENCH_CACHE`, else ~/.cache/motoric-benchmarks), named by the digest
of their requirements, and are made when they are first needed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parent
# Triton's stub loads this very libpython (apt-get install python3.11-venv libpython3.11).
SYSTEM_PYTHON = Path("/usr/bin/python3.11")


class UnavailableError(Exception):
    """A peer cannot run here; the message says what is missing."""


def python_of(peer: str, *, is_system: bool = False) -> Path:
    """The interpreter of a peer's environment, which is made if it is not there yet.

    Raises:
        UnavailableError: It cannot be made.
    """
    requirements = PEERS / peer / "requirements.txt"
    base = SYSTEM_PYTHON if is_system else Path(sys.executable)
    if is_system and not (base.exists() and list(Path("/usr/lib").rglob("libpython3.11.so.1.0"))):
        raise UnavailableError(
            f"{peer} needs {SYSTEM_PYTHON} with libpython3.11: apt-get install python3.11-venv"
            " libpython3.11"
        )
    digest = hashlib.sha256(requirements.read_bytes() + str(base).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("MOTORIC_BENCH_CACHE", "~/.cache/motoric-benchmarks")).expanduser()
    folder = cache / f"{peer}-{digest}"
    if not (folder / "complete").exists():
        print(f"making the environment of {peer} in {folder}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        _run([str(base), "-m", "venv", str(folder)], peer)
        # Without dependencies: the file names all of them, so that nothing else (a GPU build of
        # torch, say) is ever pulled in.
        pip = [str(folder / "bin/python"), "-m", "pip", "install", "--quiet", "--no-deps"]
        _run([*pip, "--requirement", str(requirements)], peer)
        (folder / "complete").touch()
    return folder / "bin/python"


def _run(command: list[str], peer: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"the environment of {peer} cannot be made: {done.stderr[-1000:]}")
