"""A Ray to run work on: a job's own, the running local platform, or one just for this work.

Ray is always joined or started by an explicit address: a bare `ray.init()` attaches to whatever
cluster it finds.
"""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from motoric.cluster import folders, processes
from motoric.cluster.environment import NO_TELEMETRY, OBJECT_STORE_BYTES
from motoric.cluster.local import running
from motoric.cluster.ports import LOOPBACK
from motoric.core.settings import Settings

NAMESPACE = "motoric"
MIN_NUM_CPUS = 4
_LOG_LEVEL = logging.WARNING
_ONE_NODE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def ray_session(settings: Settings, *, num_cpus: int | None = None) -> Iterator[str]:
    """Connect this process to a Ray, and disconnect at the end.

    In this order: the Ray this process is connected to already (and stays so); the one that Ray
    named for a job (`RAY_ADDRESS`); the running local platform; a Ray of its own, which ends with
    the session and leaves nothing behind.

    Args:
        settings: Where things are.
        num_cpus: Logical CPUs of a Ray of its own; at least 4, so that two training workers and
            their data fit on small machines.

    Yields:
        The address of GCS.
    """
    import ray  # takes a second, which most commands do not need

    job_address = os.environ.get("RAY_ADDRESS", "")
    state = running(settings)
    if ray.is_initialized():
        yield ray.get_runtime_context().gcs_address
    elif job_address and "://" not in job_address:  # with a scheme it is for `ray job submit`
        with _joined(job_address):
            yield job_address
    elif state is not None:
        with _environment(_loopback(state.token_path)), _joined(state.ray_address):
            yield state.ray_address
    else:
        with _own_ray(max(MIN_NUM_CPUS, num_cpus or os.cpu_count() or 1)) as address:
            yield address


@contextmanager
def _joined(address: str) -> Iterator[None]:
    import ray

    ray.init(address=address, namespace=NAMESPACE, log_to_driver=False, logging_level=_LOG_LEVEL)
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def _own_ray(num_cpus: int) -> Iterator[str]:
    import ray

    instance_id = uuid.uuid4().hex
    folder = folders.make_short_temp_dir()
    token_path = folder / "token"
    folders.write_token(token_path)
    own = NO_TELEMETRY | {
        processes.INSTANCE_VARIABLE: instance_id,
        "RAY_TMPDIR": str(folder / "t"),
    }
    try:
        with _environment(own | _loopback(token_path)):
            try:
                ray.init(
                    address="local",
                    num_cpus=num_cpus,
                    object_store_memory=OBJECT_STORE_BYTES,
                    namespace=NAMESPACE,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=_LOG_LEVEL,
                    _temp_dir=str(folder / "t"),
                    _node_ip_address=LOOPBACK,
                )
                yield ray.get_runtime_context().gcs_address
            finally:
                ray.shutdown()
    finally:
        processes.end(instance_id)
        folders.remove(folder)


def _loopback(token_path: Path) -> dict[str, str]:
    return {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token_path),
        # Without it Ray takes 127.0.0.1 for the machine's outer address, and dials or binds that.
        _ONE_NODE: "0",
    }


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for this process, restore them afterwards, and have Ray read both."""
    # Would overrule the path, and name another cluster's token.
    before = {name: os.environ.get(name) for name in (*variables, "RAY_AUTH_TOKEN")}
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ.update(variables)
    _reload()
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        _reload()


def _reload() -> None:
    """Have Ray read its environment again; it keeps these values from the first look."""
    from ray._private import ray_constants
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    ray_constants.ENABLE_RAY_CLUSTER = os.environ.get(_ONE_NODE) != "0"
    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
