"""Ports of the local platform: the four that people dial are fixed, all others are picked free."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from dataclasses import dataclass

from motoric.core.errors import PlatformError, SettingsError
from motoric.core.settings import Ports

LOOPBACK = "127.0.0.1"
NUM_REPLICA_PORTS = 1000
# Below the range from which Linux hands out ports by itself (32768 and up).
_REPLICA_RANGE = (20_000, 32_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class InternalPorts:
    """Ports that only the platform's own processes dial."""

    object_manager: int
    node_manager: int
    client_server: int
    agent_http: int
    agent_grpc: int
    runtime_env_agent: int
    metrics_export: int
    autoscaler_metrics: int
    dashboard_metrics: int
    haproxy_stats: int
    haproxy_metrics: int
    fallback_http: int
    fallback_grpc: int
    replica_first: int
    """First of `NUM_REPLICA_PORTS` for the HTTP side of replicas; as many for gRPC follow."""


def check_free(ports: Ports) -> None:
    """Check that the fixed ports can be bound.

    Raises:
        SettingsError: One is taken; the message names the setting that moves it.
    """
    for name, port in ports:
        if not is_free(port):
            raise SettingsError(
                f"port {port} on {LOOPBACK} is taken by another program: stop that, or choose "
                f"another with MOTORIC_PORTS__{name.upper()}=PORT"
            )


def is_free(port: int) -> bool:
    """Whether a port on loopback can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def pick(fixed: Ports) -> InternalPorts:
    """Pick free ports beside the fixed ones.

    All are held open until all are picked, so that none is picked twice.

    Raises:
        PlatformError: No block of free ports for replicas is left.
    """
    names = [name for name in InternalPorts.__dataclass_fields__ if name != "replica_first"]
    taken = {port for _, port in fixed}
    with ExitStack() as held:
        picked: dict[str, int] = {}
        while len(picked) < len(names):
            probe = held.enter_context(socket.socket())
            probe.bind((LOOPBACK, 0))
            port = int(probe.getsockname()[1])
            # The fixed ones are free too until the platform starts, and may lie in the same range.
            if port not in taken:
                picked[names[len(picked)]] = port
        return InternalPorts(**picked, replica_first=_pick_replica_block(taken))


def _pick_replica_block(taken: set[int]) -> int:
    size = 2 * NUM_REPLICA_PORTS
    starts = list(range(_REPLICA_RANGE[0], _REPLICA_RANGE[1] - size, 500))
    random.SystemRandom().shuffle(starts)
    for start in starts:
        block = range(start, start + size)
        if taken.isdisjoint(block) and all(is_free(port) for port in block):
            return start
    raise PlatformError(
        f"no {size} free ports in a row are left between {_REPLICA_RANGE[0]} and "
        f"{_REPLICA_RANGE[1]} for replicas"
    )
