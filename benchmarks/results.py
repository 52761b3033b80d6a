"""What every section of RESULTS.md says: the machine, the versions, the commit, the command."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import psutil

RESULTS = Path(__file__).parent / "RESULTS.md"
_PARTS = ("core", "data", "artefact", "models", "training", "serving")
_MEASURED = [f"../platform/motoric/{part}" for part in _PARTS]


def circumstances(
    packages: Sequence[str], *, script: str, load_before: tuple[float, ...]
) -> list[str]:
    """Lines of a section's end."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    command = " ".join(["python", f"benchmarks/{script}", *sys.argv[1:]])
    return [
        f"- Machine: {os.cpu_count()} cores ({_cpu_name()}), "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, "
        f"load before the run {load_before[0]:.2f}",
        f"- Versions: Python {platform.python_version()}, {versions}",
        f"- Commit: {_commit()}",
        f"- Command: `{command}`",
        "",
    ]


def _cpu_name() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, check=False, cwd=RESULTS.parent
        )
        return done.stdout.strip()

    changed = " with changes" if git("status", "--porcelain", "--", *_MEASURED) else ""
    return (git("rev-parse", "--short", "HEAD") or "unknown") + changed


def append(section: str) -> None:
    """Append a section to RESULTS.md."""
    head = (
        ""
        if RESULTS.exists()
        else "# Results of the benchmarks\n\nNewest last; each names its command.\n"
    )
    with RESULTS.open("a") as stream:
        stream.write(f"{head}\n{section}")
