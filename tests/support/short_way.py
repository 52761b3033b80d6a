"""A replica's HTTP server with what stands before Serve, and the little of Serve it needs."""

from __future__ import annotations

import contextlib
import socket
import time
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import uvicorn

from live import LOOPBACK, TIMEOUT_S, Background
from motoric.serving.ingress.shortcut import ReadWhenAsked, Shortcut
from motoric.serving.model_server import ModelServer

with warnings.catch_warnings():  # of Ray's own settings
    warnings.simplefilter("ignore")
    from ray.serve._private.common import DeploymentID
    from ray.serve._private.utils import Semaphore


class Metrics:
    """Counts as Serve's manager of a replica's metrics does, and keeps what it would report."""

    def __init__(self) -> None:
        self._cached_metrics_enabled = True
        counts: Any = defaultdict(lambda: defaultdict(int))
        latencies: Any = defaultdict(lambda: defaultdict(list))
        self._cached_ingress_request_counter = counts
        self._cached_ingress_processing_latencies = latencies
        self.num_ongoing = 0
        self.num_answered = 0

    def _should_emit_request_ingress_metrics(self, _: Any) -> bool:
        return True

    def inc_num_ongoing_requests(self, _: Any) -> None:
        self.num_ongoing += 1

    def dec_num_ongoing_requests(self, _: Any) -> None:
        self.num_ongoing -= 1

    def record_request_metrics(self, **_: Any) -> None:
        self.num_answered += 1

    def record_ingress_request_metrics(self, *, protocol: Any, status_code: str, **_: Any) -> None:
        self._cached_ingress_request_counter[protocol][status_code] += 1


class ServeReplica:
    """What `ingress` sees of Serve's replica; `handle` is Serve's own way, which is counted.

    Args:
        server: The model's application.
        max_ongoing: Slots for requests.
    """

    def __init__(self, server: ModelServer, max_ongoing: int) -> None:
        self._user_callable_asgi_app = server
        self._user_callable_wrapper = SimpleNamespace(_run_user_code_in_separate_thread=False)
        self._metrics_manager = Metrics()
        self._semaphore = Semaphore(lambda: max_ongoing)
        self._route_prefix = f"/v1/models/{server.model}"
        self._deployment_id = DeploymentID(name="model", app_name=server.model)
        self.num_long = 0

    def _can_accept_request(self, _: Any) -> bool:
        return True

    async def handle(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request as Serve does."""
        self.num_long += 1
        await self._user_callable_asgi_app(
            {**scope, "root_path": self._route_prefix}, receive, send
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One response: `headers` without the date."""

    status: int
    headers: dict[str, str]
    body: bytes


class ShortWay:
    """A replica that listens on loopback.

    Args:
        server: The model's application; what is released is loaded once.
        http: uvicorn's protocol class.
        max_ongoing: Slots for requests.
        keep_alive_s: How long an idle connection is kept.
    """

    def __init__(
        self, server: ModelServer, http: Any, *, max_ongoing: int = 8, keep_alive_s: int = 5
    ) -> None:
        self.server = server
        self.replica = ServeReplica(server, max_ongoing)
        self.shortcut = Shortcut(ReadWhenAsked(self.replica.handle))
        self.background = Background()
        config = uvicorn.Config(
            self.shortcut,
            http=http,
            host=LOOPBACK,
            port=0,
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_keep_alive=keep_alive_s,
            timeout_graceful_shutdown=5,
        )
        self.uvicorn = uvicorn.Server(config)
        server.access.poll()
        server.releases.poll()
        self._serving = self.background.start(self.uvicorn.serve())
        while not self.uvicorn.started:
            if self._serving.done():
                raise AssertionError("uvicorn ended")
        self.port: int = self.uvicorn.servers[0].sockets[0].getsockname()[1]

    @property
    def num_short(self) -> int:
        """Requests that went around Serve."""
        return self.server.num_short_requests

    @property
    def metrics(self) -> Metrics:
        """What Serve would report."""
        return self.replica._metrics_manager

    def settled(self) -> Metrics:
        """What Serve would report when nothing is under way; an answer is counted once it is sent.

        Raises:
            AssertionError: Something is under way for long.
        """
        until_s = time.monotonic() + TIMEOUT_S
        while self.metrics.num_ongoing:
            assert time.monotonic() < until_s, "a request was never counted as over"
            time.sleep(0.005)
        return self.metrics

    @contextlib.contextmanager
    def connect(self) -> Iterator[Connection]:
        """A connection."""
        with socket.create_connection((LOOPBACK, self.port), timeout=TIMEOUT_S) as sock:
            yield Connection(sock)

    def stop(self) -> None:
        """Stop, as Serve does."""
        if not self.uvicorn.should_exit:
            self.uvicorn.should_exit = True
            self._serving.result(TIMEOUT_S)
            self.background.close()


class Connection:
    """A client that sends what it likes."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._held = b""

    def send(self, *parts: bytes) -> None:
        """Send bytes, each part as a packet of its own as far as the system allows."""
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for part in parts:
            self.sock.sendall(part)

    def receive(self) -> Answer:
        """Read one response; fails if none comes."""
        while b"\r\n\r\n" not in self._held:
            self._more()
        head, _, self._held = self._held.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        if first.split(" ")[1] == "100":
            return self.receive()
        length = int(headers["content-length"])
        while len(self._held) < length:
            self._more()
        body, self._held = self._held[:length], self._held[length:]
        headers.pop("date", None)
        return Answer(status=int(first.split(" ")[1]), headers=headers, body=body)

    def is_silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing more comes for a while."""
        self.sock.settimeout(seconds)
        try:
            return not self._held and self.sock.recv(1) == b""
        except TimeoutError:
            return True
        finally:
            self.sock.settimeout(TIMEOUT_S)

    def is_closed(self) -> bool:
        """Whether the server closes it, and sends nothing before."""
        try:
            return not self._held and self.sock.recv(1) == b""
        except ConnectionResetError:
            return True

    def _more(self) -> None:
        data = self.sock.recv(2**16)
        if not data:
            raise ConnectionError(f"closed after {self._held!r}")
        self._held += data


def post(
    path: str, body: bytes, headers: Sequence[tuple[str, str]], *, length: int | None = None
) -> bytes:
    """A POST request as HAProxy writes it: names in lower case."""
    size = len(body) if length is None else length
    pairs = [("host", "test"), *headers, ("content-length", str(size))]
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in pairs), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body
