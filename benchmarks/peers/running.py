"""One server from its start to its end, and whether it answers what onnxruntime does."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import machine
import numpy as np
import psutil
from peers.catalogue import PEERS, Kind, Peer, Windows, haproxy_environment
from peers.environments import python_of
from workload import MODEL, Reference, Workload

FOLDER = Path(__file__).parent
START_TIMEOUT_S = 180.0
TOLERANCE = 2e-5  # JSON has six decimals


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How servers are started for one measurement.

    Attributes:
        core: Which one they are kept on; None leaves them free.
        num_replicas: Of Ray Serve and Motoric.
        max_batch: Most windows of a batch.
        max_ongoing: Requests that one replica of Motoric takes on.
        max_sessions: Live sessions that one replica of Motoric takes on.
        model: Which one Motoric serves.
    """

    core: int | None = machine.SERVER_CORE
    num_replicas: int = 1
    max_batch: int = 32
    max_ongoing: int = 128
    max_sessions: int = 1000
    model: str = MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """A server that answers.

    Attributes:
        name: In `PEERS`.
        mark: Of its family.
        port: Of 127.0.0.1.
        start_s: From starting its first process to its first right answer.
        deploy_s: With Ray, from deploying to a replica that Serve calls running; else None.
    """

    name: str
    mark: str
    port: int
    start_s: float
    deploy_s: float | None

    @property
    def peer(self) -> Peer:
        """What it is."""
        return PEERS[self.name]

    def url(self, kind: Kind) -> str:
        """Where requests go."""
        return f"http://127.0.0.1:{self.port}{self.peer.paths[kind]}"


def _environment(peer: Peer, workload: Workload, port: int, options: Options) -> dict[str, str]:
    dropped = ("RAY_", "MOTORIC_", "BENCH_", "PYTHONPATH")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    path = [str(FOLDER / "shared"), str(FOLDER / peer.folder)]
    if peer.is_ours:
        path.append(os.environ.get("PYTHONPATH", ""))
    kept |= {
        "PYTHONPATH": os.pathsep.join(part for part in path if part),
        "PYTHONDONTWRITEBYTECODE": "1",
        "BENCH_MODEL": str(workload.model),
        "BENCH_PORT": str(port),
        "BENCH_NAME": options.model,
        "BENCH_REPLICAS": str(options.num_replicas),
        "BENCH_MAX_BATCH": str(options.max_batch),
        "BENCH_MAX_ONGOING": str(options.max_ongoing),
        "BENCH_MAX_SESSIONS": str(options.max_sessions),
        "BENTOML_HOME": str(workload.folder / "bentoml"),
        "BENTOML_DO_NOT_TRACK": "True",
    }
    if peer.is_ours:
        kept |= {
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "BENCH_RAY_FOLDER": str(workload.folder / f"r{port}"),
            "MOTORIC_HOME": str(workload.folder / "home"),
            "MOTORIC_STORAGE_URI": str(workload.storage),
        }
    if peer.has_haproxy:
        kept |= haproxy_environment(workload.folder / f"h{port}")
    if peer.is_motoric:
        from motoric.cluster.environment import SERVE_OPTIONS, SERVE_TUNING

        kept |= SERVE_OPTIONS | SERVE_TUNING
    return kept


def _command(peer: Peer, port: int) -> list[str]:
    if peer.is_ours:
        python = Path(sys.executable)
    else:
        python = python_of(peer.folder, is_system=peer.is_system)
    program = ["-m", peer.module] if peer.module else [str(FOLDER / peer.folder / "server.py")]
    return [str(python), *program, *(each.format(port=port) for each in peer.arguments)]


def model_processes(server: Server) -> list[psutil.Process]:
    """The processes that run the model."""
    found = machine.holding(server.mark, "onnxruntime_pybind11")
    if server.peer.is_ours:  # the one that deploys and the platform's have imported it, too
        titles = {each: " ".join(each.cmdline()) for each in found}
        model = [each for each in found if "ServeReplica:" in titles[each]]
        return [each for each in model if "ServeReplica:platform:" not in titles[each]]
    return found


@contextlib.contextmanager
def running(name: str, workload: Workload, options: Options) -> Iterator[Server]:
    """A server that gives right answers, stopped with everything it started.

    Raises:
        UnavailableError: It cannot run here.
        RuntimeError: It ended, did not answer in time, or answers something else.
    """
    peer, mark = PEERS[name], uuid.uuid4().hex
    (port,) = machine.free_ports(1)
    command = machine.pinned(_command(peer, port), options.core)
    environment = _environment(peer, workload, port, options) | {machine.MARK: mark}
    log = workload.folder / f"{name}-{port}.log"
    with log.open("w") as stream:
        started_s = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=FOLDER / peer.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if peer.is_ours else stream,
            stderr=stream,
            text=True,
        )
        try:
            deploy_s = _await_ready(process, log) if peer.is_ours else None
            server = Server(name=name, mark=mark, port=port, start_s=0.0, deploy_s=deploy_s)
            _check_answers(server, workload, options, process, log)
            start_s = time.perf_counter() - started_s
            yield Server(name=name, mark=mark, port=port, start_s=start_s, deploy_s=deploy_s)
        finally:
            _stop(process, mark, peer)


def _await_ready(process: subprocess.Popen[str], log: Path) -> float:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("READY"):
            return float(line.split()[1])
    raise RuntimeError(f"the server ended: {log.read_text()[-3000:]}")


def _stop(process: subprocess.Popen[str], mark: str, peer: Peer) -> None:
    assert process.stdin is not None
    process.stdin.close()
    if peer.is_ours:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=30)
    machine.end(mark)
    process.wait()


# -------------------------------------------------------------------------------------- checking


def headers(workload: Workload) -> dict[str, str]:
    """What every request has besides the headers of its body."""
    return {"authorization": f"Bearer {workload.key}"}


def _check_answers(
    server: Server,
    workload: Workload,
    options: Options,
    process: subprocess.Popen[Any],
    log: Path,
) -> None:
    """Wait for the first answer, then compare single windows and batches with onnxruntime."""
    if options.model != MODEL:
        _await_port(server, process, log)
        return
    reference = Reference(workload.model)
    kinds: tuple[Kind, ...] = ("json", "bytes")
    with httpx.Client(headers=headers(workload), timeout=30) as client:
        for kind in kinds:
            _await_answer(client, server, kind, workload.windows_BTC[:1], process, log)
        for kind in kinds:
            for windows_BTC in [*workload.batches(1), workload.batches(64)[0]]:
                body = server.peer.body(kind, windows_BTC)
                reply = client.post(server.url(kind), content=body.content, headers=body.headers)
                got_BK = server.peer.answer(kind, reply.raise_for_status().content)
                wanted_BK = reference.run(windows_BTC)
                if got_BK.shape != wanted_BK.shape or abs(got_BK - wanted_BK).max() > TOLERANCE:
                    raise RuntimeError(
                        f"{server.name} answers {got_BK[0]} to {kind}, onnxruntime {wanted_BK[0]}"
                    )


def _await_port(server: Server, process: subprocess.Popen[Any], log: Path) -> None:
    """Wait until anything is answered: another model is checked by who asks it."""
    url = server.url("json").replace(f"/{MODEL}/predict", "")
    _await(lambda: httpx.get(url).status_code < 500, server, process, log)


def _await_answer(
    client: httpx.Client,
    server: Server,
    kind: Kind,
    windows_BTC: Windows,
    process: subprocess.Popen[Any],
    log: Path,
) -> None:
    body = server.peer.body(kind, np.asarray(windows_BTC))
    url = server.url(kind)
    _await(
        lambda: client.post(url, content=body.content, headers=body.headers).status_code == 200,
        server,
        process,
        log,
    )


def _await(is_ready: Any, server: Server, process: subprocess.Popen[Any], log: Path) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while True:
        with contextlib.suppress(httpx.TransportError):
            if is_ready():
                return
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"{server.name} gave no answer: {log.read_text()[-3000:]}")
        time.sleep(0.05)
