"""Keeps the gRPC servers of Serve's replicas on loopback; Ray imports it at the start of workers.

A replica opens a server for calls between deployments on `[::]` and a random port, with neither the
cluster's token nor a setting of its own, and unpickles what arrives there: whoever reaches the port
runs code. Its server for clients' calls over gRPC, and that of Serve's fallback proxy, are on
`[::]` as well. On a head of one machine nobody else needs them. Named in
`RAY_preload_python_modules` (see `environment.py`), so importing it is what puts it in force.
"""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from ray._common import tls_utils

_WILDCARDS = ("[::]:", "0.0.0.0:")
_SERVER_MODULE = "grpc.aio._server"
_add_port = tls_utils.add_port_to_grpc_server


def on_loopback(address: str) -> str:
    """An address to bind, without its wildcard."""
    for wildcard in _WILDCARDS:
        if address.startswith(wildcard):
            return f"127.0.0.1:{address.removeprefix(wildcard)}"
    return address


def _add_loopback_port(server: Any, address: str) -> Any:
    return _add_port(server, on_loopback(address))  # type: ignore[no-untyped-call]


class _WhenImported(MetaPathFinder):
    """Changes a module as soon as it is imported, since most workers never do and it is slow."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        if fullname != _SERVER_MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute: Callable[[ModuleType], None] = spec.loader.exec_module

        def execute_and_change(module: ModuleType) -> None:
            execute(module)
            _keep_servers_on_loopback(module)

        spec.loader.exec_module = execute_and_change  # type: ignore[method-assign]
        return spec


def _keep_servers_on_loopback(module: Any) -> None:
    add_insecure, add_secure = module.Server.add_insecure_port, module.Server.add_secure_port
    module.Server.add_insecure_port = lambda self, address: add_insecure(self, on_loopback(address))
    module.Server.add_secure_port = lambda self, address, credentials: add_secure(
        self, on_loopback(address), credentials
    )


tls_utils.add_port_to_grpc_server = _add_loopback_port
if _SERVER_MODULE in sys.modules:
    _keep_servers_on_loopback(sys.modules[_SERVER_MODULE])
else:
    sys.meta_path.insert(0, _WhenImported())
