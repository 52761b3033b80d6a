"""Requests at a fixed mean rate, whether or not the server keeps up (an open loop).

    python -m loads.paced < spec.json    # in benchmarks/; prints what it measured, as JSON

The times at which requests are due are drawn beforehand (a Poisson process, seeded), and latency
counts from there, so that a slow answer is not hidden by the requests that waited behind it. The
program polls without sleeping: give it a core of its own.

Spec: {"port", "path", "headers": {}, "bodies": [base64, ...], "rate", "seconds", "connections"}.
"""

from __future__ import annotations

import base64
import json
import select
import socket
import sys
import time
from collections import deque
from typing import Any

import numpy as np

_END_OF_CHUNKS = b"0\r\n\r\n"
_GRACE_S = 10.0


class Connection:
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.due_s = 0.0
        self._received = b""
        self._unsent = memoryview(b"")

    def send(self, request: bytes, due_s: float) -> None:
        """Begin a request."""
        self.due_s, self._received, self._unsent = due_s, b"", memoryview(request)
        self.flush()

    def flush(self) -> None:
        """Send what the socket takes."""
        while self._unsent:
            try:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            except BlockingIOError:
                return

    @property
    def is_unsent(self) -> bool:
        """Whether a part of the request is still to be sent."""
        return bool(self._unsent)

    def receive(self) -> bytes | None:
        """The whole answer once it is there.

        Raises:
            ConnectionError: The server closed the connection.
        """
        part = self.socket.recv(262_144)
        if not part:
            raise ConnectionError("the server closed a connection")
        self._received += part
        head, found, body = self._received.partition(b"\r\n\r\n")
        if not found:
            return None
        lowered = head.lower()
        if b"transfer-encoding: chunked" in lowered:
            return self._received if body.endswith(_END_OF_CHUNKS) else None
        length = int(lowered.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        return self._received if len(body) >= length else None


def requests_of(spec: dict[str, Any]) -> list[bytes]:
    """The requests as they go over the wire."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in spec["headers"].items())
    head = f"POST {spec['path']} HTTP/1.1\r\nhost: 127.0.0.1:{spec['port']}\r\n{fields}"
    bodies = [base64.b64decode(each) for each in spec["bodies"]]
    return [f"{head}content-length: {len(body)}\r\n\r\n".encode() + body for body in bodies]


def run(spec: dict[str, Any]) -> dict[str, float]:
    """Send all requests; returns counts, and latencies in ms."""
    requests = requests_of(spec)
    num = int(spec["rate"] * spec["seconds"])
    gaps_s = np.random.default_rng(0).exponential(1 / spec["rate"], num)
    due_s: list[float] = (np.cumsum(gaps_s) + time.perf_counter() + 0.1).tolist()
    poller = select.epoll()
    connections = {}
    for _ in range(spec["connections"]):
        connection = Connection(spec["port"])
        connections[connection.socket.fileno()] = connection
        poller.register(connection.socket, select.EPOLLIN)
    free, sending = deque(connections.values()), set()
    latencies_s: list[float] = []
    num_sent = num_failed = 0
    max_lag_s = 0.0
    while len(latencies_s) + num_failed < num:
        now_s = time.perf_counter()
        if now_s > due_s[-1] + _GRACE_S:
            break
        while num_sent < num and due_s[num_sent] <= now_s and free:
            connection = free.popleft()
            connection.send(requests[num_sent % len(requests)], due_s[num_sent])
            max_lag_s = max(max_lag_s, now_s - due_s[num_sent])
            if connection.is_unsent:
                sending.add(connection)
            num_sent += 1
        for connection in tuple(sending):
            connection.flush()
            if not connection.is_unsent:
                sending.discard(connection)
        for number, _ in poller.poll(0):
            connection = connections[number]
            answer = connection.receive()
            if answer is None:
                continue
            if answer.startswith(b"HTTP/1.1 200"):
                latencies_s.append(time.perf_counter() - connection.due_s)
            else:
                num_failed += 1
            free.append(connection)
    found_ms = np.array(latencies_s or [np.nan]) * 1e3
    return {
        "num_requests": num,
        "num_failed": num - len(latencies_s),
        "p50_ms": float(np.percentile(found_ms, 50)),
        "p99_ms": float(np.percentile(found_ms, 99)),
        "p999_ms": float(np.percentile(found_ms, 99.9)),
        # How long the latest request waited for a free connection or for this program.
        "max_lag_ms": max_lag_s * 1e3,
    }


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))))
