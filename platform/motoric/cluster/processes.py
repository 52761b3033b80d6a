"""Finds and ends the processes of one local platform, and no others.

Everything that `up` starts inherits `MOTORIC_INSTANCE=<id>`: GCS, raylet, workers, replicas, job
drivers, HAProxy. Ray's own `ray stop` ends every Ray on the host, so it is never used.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import psutil

INSTANCE_VARIABLE = "MOTORIC_INSTANCE"
GCS = "gcs_server"
RAYLET = "raylet"
_POLL_S = 0.05


def find(instance_id: str) -> list[psutil.Process]:
    """The living processes of an instance: those that carry its id, and all they started."""
    mine = os.getpid()
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        if process.pid != mine and belongs(process, instance_id):
            found[process.pid] = process
    for process in list(found.values()):
        try:
            descendants = process.children(recursive=True)
        except psutil.Error:
            continue
        found.update((child.pid, child) for child in descendants if child.pid != mine)
    return [process for process in found.values() if _is_alive(process)]


def belongs(process: psutil.Process, instance_id: str) -> bool:
    """Whether a process was started with the id of this instance."""
    try:
        return process.environ().get(INSTANCE_VARIABLE) == instance_id
    except (psutil.Error, OSError):  # another user's, or gone
        return False


def named(processes: Iterable[psutil.Process], name: str) -> psutil.Process | None:
    """The first process whose executable has this name."""
    return next((process for process in processes if _name(process) == name), None)


def end(instance_id: str) -> int:
    """End all processes of an instance; returns how many there were.

    The raylet is asked first and takes its workers along; GCS last, since a raylet without it waits
    for its return. What is still there then is killed.
    """
    # Kept over the stages: a child whose parent went first is no longer found as its child.
    seen: dict[int, psutil.Process] = {}
    stages: tuple[tuple[signal.Signals, float, Callable[[str], bool]], ...] = (
        (signal.SIGTERM, 4.0, lambda name: name != GCS),
        (signal.SIGTERM, 1.0, lambda name: name == GCS),
        (signal.SIGKILL, 5.0, lambda _: True),
        (signal.SIGKILL, 5.0, lambda _: True),  # what a dying parent had just started
    )
    for sign, patience_s, wanted in stages:
        seen.update((process.pid, process) for process in find(instance_id))
        processes = [
            process for process in seen.values() if _is_alive(process) and wanted(_name(process))
        ]
        for process in processes:
            _signal(process, sign)
        _wait_gone(processes, patience_s)
    return len(seen)


def open_sockets(instance_id: str) -> list[tuple[str, str]]:
    """Listening sockets that can be reached from outside this machine, as (process, address)."""
    found = set()
    for process in find(instance_id):
        try:
            name = _title(process)
            connections = process.net_connections(kind="inet")
        except psutil.Error:
            continue
        for connection in connections:
            if connection.status == psutil.CONN_LISTEN and not is_loopback(connection.laddr.ip):
                found.add((name, f"{connection.laddr.ip}:{connection.laddr.port}"))
    return sorted(found)


def is_loopback(ip: str) -> bool:
    """Whether an address is this machine's own (`::ffff:127.0.0.1` is IPv4 in IPv6)."""
    return ip == "::1" or ip.removeprefix("::ffff:").startswith("127.")


def memory_bytes(instance_id: str) -> int:
    """Memory of an instance; what its processes share counts once (PSS)."""
    total = 0
    for process in find(instance_id):
        try:
            total += process.memory_full_info().pss
        except (psutil.Error, AttributeError):
            continue
    return total


def _title(process: psutil.Process) -> str:
    command = process.cmdline()
    return Path(command[0]).name.strip() if command else process.name()


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.Error:
        return ""


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _signal(process: psutil.Process, sign: signal.Signals) -> None:
    try:
        process.send_signal(sign)
    except psutil.Error:  # gone in the meantime
        return


def _wait_gone(processes: list[psutil.Process], patience_s: float) -> None:
    deadline_s = time.monotonic() + patience_s
    while any(_is_alive(process) for process in processes) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
