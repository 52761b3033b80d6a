"""A replica of Serve, as far as requests that go around it need it.

What Serve decides by is kept: the slots of `max_ongoing_requests`, the counts that autoscaling and
draining look at, and its metrics. All of it leans on what Ray 2.60 does inside; where that is
otherwise, there is no `Replica`, and requests go Serve's way.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

logger = logging.getLogger(__name__)

if TYPE_CHECKING:
    from motoric.serving.model_server import ModelServer

_PREDICT = "/predict"
_OK = 200


class Replica:
    """The replica of Serve in whose process a model's application runs.

    Args:
        replica: Serve's own object, which lives as long as the process.

    Attributes:
        server: The model's application.
        prefix: Its base path.
        path: Of predict.
    """

    def __init__(self, replica: Any) -> None:
        self._replica = replica
        self.server: ModelServer = replica._user_callable_asgi_app
        self._metrics = replica._metrics_manager
        self._slots = replica._semaphore
        self.prefix: str = replica._route_prefix
        self.path = self.prefix + _PREDICT
        # Made once: nothing in it is of one request.
        self._metadata, self._protocol = _metadata(replica, self.prefix)
        self._answered = _Answered.of(self._metrics, self._protocol, self._metadata)

    def is_free(self) -> bool:
        """Whether a request can be taken on here and now."""
        return not self._slots.locked() and self._replica._can_accept_request(self._metadata)

    def begin(self) -> float:
        """Take a slot, of which one is free, and count a request; returns the time for `end`."""
        started_s = time.perf_counter()
        try:
            self._slots.acquire().send(None)
        except StopIteration:
            pass
        else:
            raise RuntimeError("Serve has no free slot, and said that it had one")
        self._metrics.inc_num_ongoing_requests(self._metadata)
        self.server.num_short_requests += 1
        return started_s

    def end(self, started_s: float, status: int) -> None:
        """Give the slot back, and record how it went; status 0 where nothing was answered."""
        self._metrics.dec_num_ongoing_requests(self._metadata)
        self._slots.release()
        latency_ms = (time.perf_counter() - started_s) * 1e3
        self._metrics.record_request_metrics(
            route=self.prefix, latency_ms=latency_ms, is_error=False
        )
        if status == _OK and self._answered is not None:
            self._answered.record(latency_ms)
        elif status:
            self._metrics.record_ingress_request_metrics(
                protocol=self._protocol,
                method="POST",
                route=self.prefix,
                app_name=self._metadata.app_name,
                deployment_name=self._replica._deployment_id.name,
                latency_ms=latency_ms,
                is_error=status >= 400,
                status_code=str(status),
            )


class _Answered:
    """Where Serve gathers what it has answered well, until it reports it some times a second.

    Its own call works the same labels out for each request.
    """

    def __init__(self, metrics: Any, protocol: Any, labels: frozenset[tuple[str, str]]) -> None:
        self._metrics = metrics
        self._protocol = protocol
        self._labels = labels

    @classmethod
    def of(cls, metrics: Any, protocol: Any, metadata: Any) -> _Answered | None:
        """None where Serve reports each request by itself."""
        from ray.serve._private.request_ingress_metrics import RequestIngressMetrics

        if not metrics._cached_metrics_enabled:
            return None
        labels = RequestIngressMetrics.request_tags(
            route=metadata.route,
            method=metadata._http_method,
            application=metadata.app_name,
            status_code=str(_OK),
        )
        return cls(metrics, protocol, frozenset(labels.items()))

    def record(self, latency_ms: float) -> None:
        """Count one answer."""
        metrics, protocol, labels = self._metrics, self._protocol, self._labels
        if metrics._should_emit_request_ingress_metrics(protocol):
            metrics._cached_ingress_request_counter[protocol][labels] += 1
            metrics._cached_ingress_processing_latencies[protocol][labels].append(latency_ms)


def find_replica(app: Any) -> Replica | None:
    """The replica behind an application, unless it is another's or Ray does otherwise."""
    for _ in range(8):
        if (replica := getattr(app, "__self__", None)) is not None:
            break
        app = getattr(app, "_app", None) or getattr(app, "app", None)
    else:
        return None
    try:
        # By name: the process of a proxy has no need of what a replica imports.
        if type(replica._user_callable_asgi_app).__name__ != "ModelServer":
            return None
        if replica._user_callable_wrapper._run_user_code_in_separate_thread:
            return None
        return Replica(replica)
    except (AttributeError, ImportError, TypeError) as error:
        logger.warning("requests go the long way, since this Ray is unknown: %s", error)
        return None


def _metadata(replica: Any, route: str) -> tuple[Any, Any]:
    from ray.serve._private.common import RequestMetadata, RequestProtocol

    metadata = RequestMetadata(
        request_id="",
        internal_request_id="",
        route=route,
        app_name=replica._deployment_id.app_name,
        is_streaming=True,
        _request_protocol=RequestProtocol.HTTP,
        _http_method="POST",
        is_direct_ingress=True,
    )
    return metadata, RequestProtocol.HTTP
