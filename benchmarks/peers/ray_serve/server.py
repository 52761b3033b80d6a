"""Plain Ray Serve, with no more than HAProxy and the throughput options told from outside."""

import os
from typing import Any

from application import Plain
from ray import serve
from ray_process import serve_until_closed


def deploy() -> None:
    """One deployment at the root."""
    deployment: Any = Plain  # Serve's decorator has no types
    if os.environ.get("RAY_SERVE_THROUGHPUT_OPTIMIZED") == "1":
        deployment = deployment.options(logging_config={"enable_access_log": False})
    deployment = deployment.options(num_replicas=int(os.environ["BENCH_REPLICAS"]))
    serve.run(deployment.bind(), name="plain", route_prefix="/")


if __name__ == "__main__":
    serve_until_closed(deploy)
