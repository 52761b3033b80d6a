"""The environment and the command line of a head: pure functions of settings, ports and folders.

Names and defaults are those of Ray 2.60. What a person has set already is kept where it is a matter
of tuning, and overruled where it decides what listens where.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from motoric.cluster.ports import LOOPBACK, NUM_REPLICA_PORTS, InternalPorts
from motoric.cluster.processes import INSTANCE_VARIABLE
from motoric.core.settings import Settings
from motoric.serving.config import MAX_MESSAGE_MIB

# Room for many replicas, which are mostly idle.
MIN_NUM_CPUS = 8
OBJECT_STORE_BYTES = 512 * 2**20
_MAX_MESSAGE_BYTES = MAX_MESSAGE_MIB * 2**20

NO_TELEMETRY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
}
SERVE_OPTIONS = {
    "RAY_SERVE_ENABLE_HA_PROXY": "1",
    "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
    # Short requests take a short way, and live streams are read no faster than they are answered.
    "RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "motoric.serving.ingress.middlewares",
    # A proxy that takes longer to start is killed, and whoever deploys meanwhile gets an error:
    # the default of 5 s is too short for a machine that is busy with something else.
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "30",
}
SERVE_TUNING = {
    # A killed HAProxy is back in seconds instead of half a minute.
    "RAY_SERVE_PROXY_HEALTH_CHECK_PERIOD_S": "1",
    "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "2",
    # Every deploy reloads HAProxy; the old process keeps its WebSockets for a day, not two minutes.
    "RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S": "86400",
    # Follows the line above by default, and replicas would run out of ports within the day.
    "RAY_SERVE_PORT_QUARANTINE_S": "150",
    # Replicas count requests themselves; HAProxy would tell of each in a line that Python parses.
    "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
    # Its threads would only take the replicas' cores: one passes tens of thousands a second on.
    "RAY_SERVE_HAPROXY_NBTHREAD": str(max(1, (os.cpu_count() or 1) // 8)),
    # Looking at all deployments ten times a second would take 4 % of a core for ever.
    "RAY_SERVE_CONTROL_LOOP_INTERVAL_S": "0.25",
    # Of a message over gRPC; Serve's own limit is 2 GiB.
    "RAY_SERVE_GRPC_MAX_MESSAGE_SIZE": str(_MAX_MESSAGE_BYTES),
    # Of a call between replicas, which bears such a message; Serve's own limit is 4 MiB.
    "RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": str(_MAX_MESSAGE_BYTES + 2**20),
}
# A shell that talks to a cluster, a job's driver, or a person's key: nothing for a head.
_NOT_INHERITED = (
    "RAY_ADDRESS",
    "RAY_API_SERVER_ADDRESS",
    "RAY_DASHBOARD_ADDRESS",
    "RAY_AUTH_TOKEN",
    "RAY_JOB_CONFIG_JSON_ENV_VAR",
    "RAY_NAMESPACE",
    "MOTORIC_API_KEY",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folders and files of one head."""

    instance_id: str
    folder: Path
    """Private to the user: Ray opens its own temporary folder, below, to everybody."""
    token_path: Path
    python: Path
    """The interpreter of the head; its folder leads the path, so that jobs find it as `python`."""

    @property
    def temp_dir(self) -> Path:
        """Ray's temporary folder."""
        return self.folder / "t"

    @property
    def haproxy_folder(self) -> Path:
        """HAProxy's configuration and sockets; short, since socket paths are limited."""
        return self.folder / "h"

    @property
    def haproxy_script(self) -> Path:
        """The executable given to Ray as HAProxy."""
        return self.folder / "haproxy"


def head_environment(
    settings: Settings, ports: InternalPorts, places: Places, inherited: Mapping[str, str]
) -> dict[str, str]:
    """The environment of the head's processes.

    Args:
        settings: Where things are.
        ports: Ports picked for this start.
        places: Folders of this start.
        inherited: The environment of whoever starts it.
    """
    environment = {key: value for key, value in inherited.items() if key not in _NOT_INHERITED}
    folder = places.haproxy_folder
    grpc_first = ports.replica_first + NUM_REPLICA_PORTS
    return (
        SERVE_TUNING
        | environment
        | NO_TELEMETRY
        | SERVE_OPTIONS
        | settings.environment()
        | {
            INSTANCE_VARIABLE: places.instance_id,
            "PATH": f"{places.python.parent}:{inherited.get('PATH', '/usr/bin:/bin')}",
            "MOTORIC_PORTS__HTTP": str(settings.ports.http),
            "MOTORIC_PORTS__GRPC": str(settings.ports.grpc),
            "MOTORIC_PORTS__DASHBOARD": str(settings.ports.dashboard),
            "MOTORIC_PORTS__GCS": str(settings.ports.gcs),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(places.token_path),
            "RAY_TMPDIR": str(places.temp_dir),
            # One node: Ray then binds its own services on loopback.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_preload_python_modules": "motoric.cluster.worker_loopback",
            # A worker for each logical CPU at the first driver would cost more than it saves.
            "RAY_prestart_worker_first_driver": "0",
            "AUTOSCALER_METRIC_PORT": str(ports.autoscaler_metrics),
            "DASHBOARD_METRIC_PORT": str(ports.dashboard_metrics),
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(places.haproxy_script),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(ports.haproxy_stats),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(ports.haproxy_metrics),
            "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(ports.fallback_http),
            "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(ports.fallback_grpc),
            "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(ports.replica_first),
            "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(grpc_first - 1),
            "RAY_SERVE_DIRECT_INGRESS_MIN_GRPC_PORT": str(grpc_first),
            "RAY_SERVE_DIRECT_INGRESS_MAX_GRPC_PORT": str(grpc_first + NUM_REPLICA_PORTS - 1),
        }
    )


def head_options(settings: Settings, ports: InternalPorts, places: Places) -> list[str]:
    """The arguments of `ray start` for the head."""
    options = {
        "port": settings.ports.gcs,
        "node-ip-address": LOOPBACK,
        "dashboard-host": LOOPBACK,
        "dashboard-port": settings.ports.dashboard,
        "temp-dir": places.temp_dir,
        "num-cpus": settings.num_cpus or max(MIN_NUM_CPUS, os.cpu_count() or 1),
        "num-gpus": settings.num_gpus or 0,
        "object-store-memory": OBJECT_STORE_BYTES,
        "object-manager-port": ports.object_manager,
        "node-manager-port": ports.node_manager,
        "ray-client-server-port": ports.client_server,
        "dashboard-agent-listen-port": ports.agent_http,
        "dashboard-agent-grpc-port": ports.agent_grpc,
        "runtime-env-agent-port": ports.runtime_env_agent,
        "metrics-export-port": ports.metrics_export,
        # 0: workers take what the system gives them, not Ray's fixed block from 10002 on.
        "min-worker-port": 0,
        "max-worker-port": 0,
    }
    return [
        "--head",
        "--disable-usage-stats",
        *(f"--{name}={value}" for name, value in options.items()),
    ]


def client_environment(dashboard_url: str, token_path: Path) -> dict[str, str]:
    """What a shell needs for `ray job submit`, `serve deploy` and `serve status`."""
    return {
        "RAY_ADDRESS": dashboard_url,
        "RAY_API_SERVER_ADDRESS": dashboard_url,
        "RAY_DASHBOARD_ADDRESS": dashboard_url,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        # Else `ray.init("127.0.0.1:...")` dials the machine's outer address, where nobody listens.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }


def node_environment(settings: Settings) -> dict[str, str]:
    """What a node of `ray up` exports before `ray start`; they need more than loopback."""
    return (
        SERVE_TUNING
        | NO_TELEMETRY
        | SERVE_OPTIONS
        | {"RAY_AUTH_MODE": "token"}
        | settings.environment()
    )
