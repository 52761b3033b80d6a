"""The servers that are compared: how each is started, asked, and what its answers look like.

Axes: B windows, T samples, C channels, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from machine import free_ports, max_connections
from numpy.typing import NDArray
from workload import MODEL, NUM_CLASSES

Kind = Literal["json", "bytes"]
Windows = NDArray[np.float32]
Probabilities = NDArray[np.float32]

_TYPES: dict[Kind, str] = {"json": "application/json", "bytes": "application/octet-stream"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A request, and the headers it needs."""

    content: bytes
    headers: dict[str, str]


def plain_body(kind: Kind, windows_BTC: Windows) -> Body:
    """What all servers but Triton take."""
    headers = {"content-type": _TYPES[kind], "accept": _TYPES[kind]}
    if kind == "bytes":
        return Body(content=windows_BTC.astype("<f4").tobytes(), headers=headers)
    # Six digits, as a client sends what a sensor with float32 gives.
    rows = windows_BTC.astype(np.float64).round(5).tolist()
    return Body(content=json.dumps({"windows": rows}).encode(), headers=headers)


def plain_answer(kind: Kind, content: bytes) -> Probabilities:
    """Probabilities (B, K) of an answer."""
    if kind == "bytes":
        return np.frombuffer(content, "<f4").reshape(-1, NUM_CLASSES)
    found = json.loads(content)
    rows = found["predictions"] if isinstance(found, dict) else found
    for row in rows:
        best = max(row["probabilities"], key=row["probabilities"].__getitem__)
        if row["label"] != best:
            raise ValueError(f"the label is {row['label']}, and {best} is the most probable")
    return np.array([list(row["probabilities"].values()) for row in rows], dtype=np.float32)


def triton_body(kind: Kind, windows_BTC: Windows) -> Body:
    """The Open Inference Protocol: all in JSON, or with the binary tensor extension."""
    tensor: dict[str, Any] = {
        "name": "windows",
        "shape": list(windows_BTC.shape),
        "datatype": "FP32",
    }
    if kind == "json":
        tensor["data"] = windows_BTC.astype(np.float64).round(5).ravel().tolist()
        content = json.dumps({"inputs": [tensor]}).encode()
        return Body(content=content, headers={"content-type": _TYPES["json"]})
    raw = windows_BTC.astype("<f4").tobytes()
    tensor["parameters"] = {"binary_data_size": len(raw)}
    output = {"name": "probabilities", "parameters": {"binary_data": True}}
    head = json.dumps({"inputs": [tensor], "outputs": [output]}).encode()
    headers = {
        "content-type": _TYPES["bytes"],
        "inference-header-content-length": str(len(head)),
    }
    return Body(content=head + raw, headers=headers)


def triton_answer(kind: Kind, content: bytes) -> Probabilities:
    """Probabilities (B, K) of an answer."""
    if kind == "json":
        (output,) = json.loads(content)["outputs"]
        return np.array(output["data"], dtype=np.float32).reshape(-1, NUM_CLASSES)
    head, end = json.JSONDecoder().raw_decode(content.decode("latin-1"))
    (output,) = head["outputs"]
    return np.frombuffer(content[end:], "<f4").reshape(output["shape"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One server.

    Attributes:
        title: In tables.
        folder: Of its `server.py` and `requirements.txt`, below this one.
        paths: Where each kind of body goes.
        is_ours: It runs in the environment of the benchmark, with a Ray of its own, and says READY.
        is_motoric: It gets the environment that `motoric up` gives.
        has_haproxy: Ray Serve is told to use it, with the throughput options.
        is_system: It needs the Python of the system.
        arguments: Of its server; `{port}` is replaced.
        module: It is run as a module with these arguments instead of its `server.py`.
        body: Makes its requests.
        answer: Reads its answers.
    """

    title: str
    folder: str
    paths: dict[Kind, str] = field(default_factory=lambda: {"json": "/json", "bytes": "/bytes"})
    is_ours: bool = False
    is_motoric: bool = False
    has_haproxy: bool = False
    is_system: bool = False
    arguments: tuple[str, ...] = ()
    module: str | None = None
    body: Callable[[Kind, Windows], Body] = plain_body
    answer: Callable[[Kind, bytes], Probabilities] = plain_answer


_PREDICT = f"/v1/models/{MODEL}/predict"
_TRITON = "/v2/models/gru/infer"
PEERS: dict[str, Peer] = {
    "motoric": Peer(
        title="Motoric (HAProxy, key check)",
        folder="motoric",
        paths={"json": _PREDICT, "bytes": _PREDICT},
        is_ours=True,
        is_motoric=True,
        has_haproxy=True,
    ),
    "mosec": Peer(
        title="mosec 0.9",
        folder="mosec",
        arguments=("--address", "127.0.0.1", "--port", "{port}", "--log-level", "error"),
    ),
    "triton": Peer(
        title="Triton (nvidia-pytriton 0.7)",
        folder="triton",
        paths={"json": _TRITON, "bytes": _TRITON},
        is_system=True,
        body=triton_body,
        answer=triton_answer,
    ),
    "litserve": Peer(title="LitServe 0.2", folder="litserve"),
    "bentoml": Peer(
        title="BentoML 1.4",
        folder="bentoml",
        paths={"json": "/json", "bytes": "/bytes/"},
        module="bentoml",
        arguments=("serve", "server:Service", "--host", "127.0.0.1", "--port", "{port}"),
    ),
    "ray_serve_tuned": Peer(
        title="Ray Serve + FastAPI, HAProxy and throughput options",
        folder="ray_serve",
        is_ours=True,
        has_haproxy=True,
    ),
    "ray_serve": Peer(title="Ray Serve + FastAPI, as installed", folder="ray_serve", is_ours=True),
}


def haproxy_environment(folder: Path) -> dict[str, str]:
    """Ray Serve with HAProxy and throughput options, apart from any other Ray on this host.

    Names are short: the paths of sockets may have 97 characters.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stats, metrics, fallback, fallback_grpc, low = free_ports(5)
    low = min(low, 65_000)
    return {
        "RAY_SERVE_ENABLE_HA_PROXY": "1",
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        "RAY_SERVE_HAPROXY_STATS_PORT": str(stats),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(metrics),
        "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(folder),
        "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(folder / "server-state"),
        "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(folder / "haproxy.cfg"),
        "RAY_SERVE_HAPROXY_SOCKET_PATH": str(folder / "a"),
        "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(folder / "m"),
        "RAY_SERVE_HAPROXY_MAXCONN": str(max_connections()),
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(fallback),
        "RAY_SERVE_FALLBACK_PROXY_GRPC_PORT": str(fallback_grpc),
        "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": str(low),
        "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": str(low + 100),
    }
