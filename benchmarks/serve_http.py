"""Motoric's endpoint against plain Ray Serve with FastAPI: the same model, the same load, one run.

    python benchmarks/serve_http.py     # some 3 minutes; needs wrk and the extras train and bench

Motoric is measured as users get it: HAProxy, key check, JSON. Plain Ray Serve is as installed,
without a key check. Each server has a Ray of its own; the load (32 connections, one window a
request) goes to one after the other, round by round. Answers are compared with onnxruntime's
before anything is timed. Medians go to RESULTS.md.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import wrk
from inputs import MODEL, NUM_CHANNELS, NUM_CLASSES, NUM_HIDDEN, NUM_SAMPLES, write_inputs
from results import append, circumstances
from tabulate import tabulate
from wrk import NUM_CONNECTIONS, Round, tree, write_script

START_TIMEOUT_S = 120.0
PEERS = ("motoric", "plain")
NAMES = {
    "motoric": "Motoric (HAProxy, key check, JSON)",
    "plain": "Ray Serve as installed, FastAPI, no key",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that runs."""

    peer: str
    process: subprocess.Popen[str]
    url: str
    start_s: float


# ----------------------------------------------------------------- the servers (each in a process)


def serve_motoric(folder: Path, port: int) -> None:
    """The platform's application and one model, as `serve.yaml` deploys them."""
    from ray import serve

    from motoric.serving.config import Batching, ModelAppArgs
    from motoric.serving.model_app import build
    from motoric.serving.platform_app import PlatformAppArgs
    from motoric.serving.platform_app import build as build_platform

    _start_ray(folder, port)
    serve.run(build_platform(PlatformAppArgs()), name="platform", route_prefix="/")
    args = ModelAppArgs(model=MODEL, cpu=0.5, batching=Batching())
    started_s = time.perf_counter()
    serve.run(build(args), name=MODEL, route_prefix=f"/v1/models/{MODEL}")
    _ready(f"{time.perf_counter() - started_s:.2f}")


def serve_plain(folder: Path, port: int) -> None:
    """What the Ray Serve documentation shows, with the same ONNX model."""
    from plain_serve import Plain
    from ray import serve

    _start_ray(folder, port)
    application = Plain.bind(  # type: ignore[attr-defined]  # Serve's decorator has no types
        str(folder / "model.onnx"), NUM_CLASSES
    )
    started_s = time.perf_counter()
    serve.run(application, name=MODEL, route_prefix=f"/v1/models/{MODEL}")
    _ready(f"{time.perf_counter() - started_s:.2f}")


def _start_ray(folder: Path, port: int) -> None:
    import ray
    from ray import serve

    ray.init(
        address="local",
        num_cpus=4,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        _temp_dir=str(folder / f"r{port}"),
    )
    serve.start(http_options={"host": "127.0.0.1", "port": port})


def _ready(seconds: str) -> None:
    """Tell the parent, then serve until it closes our input."""
    print(f"READY {seconds}", flush=True)
    sys.stdin.read()
    import ray
    from ray import serve

    serve.shutdown()  # type: ignore[no-untyped-call]
    ray.shutdown()


# --------------------------------------------------------------------------- starting and stopping


def free_ports(num_ports: int) -> list[int]:
    """Free ports of 127.0.0.1."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(num_ports)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


def environment(peer: str, folder: Path) -> dict[str, str]:
    """The environment of a server: nothing for the plain one but what keeps two Rays apart."""
    kept = {
        key: value for key, value in os.environ.items() if not key.startswith(("RAY_", "MOTORIC_"))
    }
    kept |= {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    if peer == "plain":
        return kept
    state = folder / "haproxy"
    state.mkdir(exist_ok=True)
    stats, metrics, fallback, fallback_grpc, low = free_ports(5)
    return kept | {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(state),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(state / "server-state"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(state / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(state / "admin.sock"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(state / "metrics.sock"),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(min(low + 100, 65535)),
        "MOTORIC_HOME": str(folder / "home"),
        "MOTORIC_STORAGE_URI": str(folder / "storage"),
    }


@contextlib.contextmanager
def running(peer: str, folder: Path) -> Iterator[Server]:
    """A server, stopped with everything it started."""
    (port,) = free_ports(1)
    log = (folder / f"{peer}.log").open("w")
    process = subprocess.Popen(
        [sys.executable, __file__, "--server", peer, "--folder", str(folder), "--port", str(port)],
        env=environment(peer, folder),
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
    )
    try:
        yield Server(
            peer=peer,
            process=process,
            url=f"http://127.0.0.1:{port}/v1/models/{MODEL}/predict",
            start_s=_await_ready(process, folder / f"{peer}.log"),
        )
    finally:
        _stop(process)
        log.close()


def _await_ready(process: subprocess.Popen[str], log: Path) -> float:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY"):
            return float(line.split()[1])
    raise RuntimeError(f"the server ended: {log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[str]) -> None:
    family = tree(process.pid)
    assert process.stdin is not None
    process.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=30)
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(family, timeout=10)


# -------------------------------------------------------------------------- checking and measuring


def check_answers(
    server: Server, folder: Path, windows_BTC: np.ndarray[Any, np.dtype[np.float32]], key: str
) -> None:
    """Raise where a server's answer is not onnxruntime's."""
    import onnxruntime as ort

    session = ort.InferenceSession(folder / "model.onnx")
    expected_BK = session.run(None, {"windows": windows_BTC})[0]
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    with httpx.Client(headers=headers, timeout=30) as client:
        for body, row in zip((folder / "bodies.jsonl").open(), expected_BK, strict=True):
            _await_answer(client, server.url, body)
            answer = client.post(server.url, content=body).raise_for_status().json()
            (prediction,) = answer["predictions"]
            got = np.array(list(prediction["probabilities"].values()))
            if prediction["label"] != f"exercise-{row.argmax()}" or abs(got - row).max() > 1e-5:
                raise RuntimeError(f"{server.peer} answers {prediction}, onnxruntime {row}")


def _await_answer(client: httpx.Client, url: str, body: str) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while client.post(url, content=body).status_code in (404, 503):
        if time.monotonic() > deadline_s:
            raise RuntimeError(f"{url} did not become ready")
        time.sleep(0.2)


def _load(server: Server, script: Path, seconds: float) -> Round:
    return wrk.run(server.url, script=script, seconds=seconds, server_pid=server.process.pid)


def replica_mib(server: Server) -> float:
    """Memory of the model's replica that it shares with nobody."""
    for each in tree(server.process.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            if f"ServeReplica:{MODEL}" in " ".join(each.cmdline()):
                return float(each.memory_full_info().uss) / 2**20
    return float("nan")


# --------------------------------------------------------------------------------------- the table


def report(
    rounds: dict[str, list[Round]], servers: dict[str, Server], load_before: tuple[float, ...]
) -> str:
    """The results as Markdown."""
    rows = []
    for peer, found in rounds.items():
        rates = [each.requests_per_s for each in found]
        rows.append(
            [
                NAMES[peer],
                f"{statistics.median(rates):,.0f}",
                f"{min(rates):,.0f} to {max(rates):,.0f}",
                f"{statistics.median(each.p50_ms for each in found):.1f}",
                f"{statistics.median(each.p99_ms for each in found):.1f}",
                f"{statistics.median(each.cpu_us for each in found):,.0f}",
                f"{replica_mib(servers[peer]):.0f}",
                f"{servers[peer].start_s:.1f}",
            ]
        )
    columns = "server|requests/s|range|p50 ms|p99 ms|CPU us a request|replica MiB|cold start s"
    table = tabulate(rows, columns.split("|"), tablefmt="github", disable_numparse=True)
    medians = {
        peer: statistics.median(each.requests_per_s for each in found)
        for peer, found in rounds.items()
    }
    packages = ("ray", "onnxruntime", "fastapi", "uvicorn", "orjson", "numpy", "torch")
    num_rounds = len(rounds["motoric"])
    lines = [
        f"## serve_http, {datetime.now(UTC):%Y-%m-%d}",
        "",
        table,
        "",
        f"**{medians['motoric'] / medians['plain']:.1f} times** the requests of plain Ray Serve. "
        f"Medians of {num_rounds} interleaved rounds; wrk, {NUM_CONNECTIONS} connections, on the "
        f"same machine; GRU-{NUM_HIDDEN}, one window of {NUM_SAMPLES} x {NUM_CHANNELS} a request, "
        "one replica each. CPU is that of all server processes. Memory is the replica's own (USS). "
        "Cold start: from deploying to a ready replica.",
        "",
        *circumstances(packages, script="serve_http.py", load_before=load_before),
    ]
    return "\n".join(lines)


def compare(num_rounds: int, seconds: float, folder: Path) -> str:
    """Start both servers, check their answers, load them in turn; returns the report."""
    from motoric.core import settings
    from motoric.serving.accounts import open_accounts

    load_before = os.getloadavg()
    windows_BTC = write_inputs(folder)
    found = settings.load(home=folder / "home", storage_uri=str(folder / "storage"))
    accounts_uri = f"sqlite:///{folder}/home/accounts/accounts.db"
    accounts = open_accounts(found.model_copy(update={"accounts_uri": accounts_uri}))
    key = accounts.create_key("benchmark").secret
    accounts.close()
    script = folder / "load.lua"
    write_script(script, bodies=folder / "bodies.jsonl", authorization=f"Bearer {key}")
    with contextlib.ExitStack() as stack:
        servers = {}
        for peer in PEERS:
            servers[peer] = stack.enter_context(running(peer, folder))
            print(f"{peer} is up, its model after {servers[peer].start_s:.1f} s", flush=True)
        for server in servers.values():
            check_answers(server, folder, windows_BTC, key)
            _load(server, script, min(3.0, seconds))
        rounds: dict[str, list[Round]] = {peer: [] for peer in PEERS}
        for number in range(num_rounds):
            for peer, server in servers.items():
                rounds[peer].append(_load(server, script, seconds))
                print(f"round {number + 1}, {peer}: {rounds[peer][-1]}", flush=True)
        return report(rounds, servers, load_before)


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round")
    parser.add_argument(
        "--no-results", action="store_true", help="print only, leave RESULTS.md alone"
    )
    parser.add_argument("--server", choices=PEERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.server:
        serve = {"motoric": serve_motoric, "plain": serve_plain}[arguments.server]
        serve(arguments.folder, arguments.port)
        return
    if shutil.which("wrk") is None:
        sys.exit("wrk, the load generator, is missing: install it (apt-get install wrk)")
    # Short, since sockets lie below it.
    with tempfile.TemporaryDirectory(
        prefix="msb", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        section = compare(arguments.rounds, arguments.seconds, Path(folder))
    print(section)
    if not arguments.no_results:
        append(section)


if __name__ == "__main__":
    main()
