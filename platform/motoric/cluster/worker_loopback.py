"""Keeps the gRPC servers of Serve's replicas on loopback; Ray imports it at the start of workers.

A replica opens a server for calls between deployments on `[::]` and a random port, with neither the
cluster's token nor a setting of its own, and unpickles what arrives there: whoever reaches the port
runs code. On a head of one machine nobody else needs it. Named in `RAY_preload_python_modules`
(see `environment.py`), so importing it is what puts it in force.
"""

from typing import Any

from ray._common import tls_utils

_WILDCARDS = ("[::]:", "0.0.0.0:")
_add_port = tls_utils.add_port_to_grpc_server


def _add_loopback_port(server: Any, address: str) -> Any:
    for wildcard in _WILDCARDS:
        if address.startswith(wildcard):
            address = f"127.0.0.1:{address.removeprefix(wildcard)}"
    return _add_port(server, address)  # type: ignore[no-untyped-call]


tls_utils.add_port_to_grpc_server = _add_loopback_port
