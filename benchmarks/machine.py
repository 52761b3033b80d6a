"""Processes on this machine: which cores they run on, what they use, and how they end.

A server and all it starts, however deep, is a family: its processes carry the same mark in their
environment, so that one that has left its parent (HAProxy does) still counts and is still stopped.
"""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

MARK = "BENCH_FAMILY"
SERVER_CORE = min(os.sched_getaffinity(0))
LOAD_CORE = max(os.sched_getaffinity(0))


def pinned(command: list[str], core: int | None) -> list[str]:
    """The command, kept on one core; None leaves it where the system puts it."""
    return command if core is None else ["taskset", "-c", str(core), *command]


def free_ports(num_ports: int) -> list[int]:
    """Free ports of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_ports)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def raise_file_limit() -> int:
    """Let this process and all it starts open as many files as the system allows: how many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def max_connections() -> int:
    """Connections that HAProxy can hold: it wants two files for each, and some for checks."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(20_000, (hard - 1_000) // 3)


def family(mark: str) -> list[psutil.Process]:
    """The live processes whose environment carries the mark."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError, psutil.NoSuchProcess):
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(psutil.Process(int(folder.name)))
    return found


def move(mark: str, core: int) -> None:
    """Keep every thread of a family on another core from now on."""
    for each in family(mark):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{each.pid}/task").iterdir():
                with contextlib.suppress(OSError):
                    os.sched_setaffinity(int(task.name), {core})


def end(mark: str) -> None:
    """Stop a family: first by asking, then by force."""
    for force in (False, True):
        processes = family(mark)
        for each in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                if force:
                    each.kill()
                else:
                    each.terminate()
        psutil.wait_procs(processes, timeout=10)


def cpu_s(mark: str) -> float:
    """CPU seconds that a family's live processes have used."""
    total = 0.0
    for each in family(mark):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def idle_share(mark: str, seconds: float = 3.0) -> float:
    """Share of one core that a family takes while nobody asks it anything."""
    before, started_s = cpu_s(mark), time.perf_counter()
    time.sleep(seconds)
    return (cpu_s(mark) - before) / (time.perf_counter() - started_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """MiB of some processes: what is theirs with their part of what is shared, and all of it."""

    pss_mib: float
    rss_mib: float


def holding(mark: str, part: str) -> list[psutil.Process]:
    """The processes of a family that have mapped a file with `part` in its path."""
    found = []
    for each in family(mark):
        with contextlib.suppress(OSError):
            if part in Path(f"/proc/{each.pid}/maps").read_text():
                found.append(each)
    return found


def memory(processes: list[psutil.Process]) -> Memory:
    """Memory of some processes."""
    pss = rss = 0.0
    for each in processes:
        with contextlib.suppress(psutil.Error):
            full = each.memory_full_info()
            pss += full.pss
            rss += full.rss
    return Memory(pss_mib=pss / 2**20, rss_mib=rss / 2**20)
