"""A Ray of its own for one server, up until whoever started it closes its input."""

import logging
import os
import sys
import time
from collections.abc import Callable

import ray
from ray import serve


def serve_until_closed(
    deploy: Callable[[], None], prepare: Callable[[], None] | None = None
) -> None:
    """Start Ray and Serve, deploy, say READY and the seconds that deploying took, then wait."""
    ray.init(
        address="local",
        num_cpus=8,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=os.environ["BENCH_RAY_FOLDER"],
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["BENCH_PORT"])})
    if prepare is not None:
        prepare()
    started_s = time.perf_counter()
    deploy()
    print(f"READY {time.perf_counter() - started_s:.3f}", flush=True)
    sys.stdin.read()
    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()
