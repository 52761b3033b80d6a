"""Stands before the HAProxy that Ray Serve starts, and keeps it to this machine.

Ray's template binds the statistics and metrics ports on every interface and gives no setting for
it, so `up` names a script of this file as `RAY_SERVE_HAPROXY_BINARY_PATH`. It rewrites the
configuration that Ray has just written and then becomes the real binary: same process id, same
arguments, so that Ray's reloads (`-sf`, `-x`) work unchanged.

Requests that went well are not logged: the template sends a line of each to port 514.

It also gives gRPC a default. Calls pick an application by the metadata key `application`, and the
template refuses those without it as soon as there are two applications; they go to the platform's,
which finds the model in the message.

Run by file name with `python -I -S`, so only the standard library is imported here.
"""

import os
import re
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1"
_BIND = re.compile(r"^(\s*bind\s+)(?:\*|0\.0\.0\.0|\[::\]|::)?:(\d+)", re.MULTILINE)
_ADMIN_MODE = re.compile(r"^(\s*stats\s+socket\s+\S+\s+mode\s+)666\b", re.MULTILINE)
_LOG = re.compile(r"^(\s*)option httplog$", re.MULTILINE)
# The backend of the platform's application, and where the template gives calls up.
_PLATFORM = re.compile(r"^\s*acl is_(\S+) req\.hdr\(application\) -m str platform$", re.MULTILINE)
_NO_DEFAULT = re.compile(r"^(\s*)(default_backend default_grpc_backend)$", re.MULTILINE)


def default_to_platform(configuration: str) -> str:
    """Send gRPC calls that name no application to the platform's, where it runs."""
    found = _PLATFORM.search(configuration)
    if found is None:
        return configuration
    use = f"use_backend {found[1]} if !{{ req.hdr(application) -m found }}"
    return _NO_DEFAULT.sub(rf"\g<1>{use}\n\g<1>\g<2>", configuration)


def keep_to_loopback(configuration: str) -> str:
    """Bind every wildcard address on loopback, and close the admin socket to other users."""
    bound = _BIND.sub(rf"\g<1>{LOOPBACK}:\g<2>", configuration)
    return _ADMIN_MODE.sub(r"\g<1>600", bound)


def log_failures_alone(configuration: str) -> str:
    """Log no request that went well."""
    return _LOG.sub(r"\g<0>\n\g<1>option dontlog-normal", configuration)


def script(python: str, binary: str) -> str:
    """The text of the executable that Ray is given."""
    return f'#!/bin/sh\nexec "{python}" -I -S "{Path(__file__).resolve()}" "{binary}" "$@"\n'


def main(arguments: list[str]) -> None:
    """Rewrite the file after `-f`, then become the binary."""
    binary, *options = arguments
    if "-f" in options:
        path = Path(options[options.index("-f") + 1])
        partial = path.with_name(f"{path.name}.loopback")
        configuration = log_failures_alone(keep_to_loopback(path.read_text()))
        partial.write_text(default_to_platform(configuration))
        partial.replace(path)
    os.execv(binary, [binary, *options])


if __name__ == "__main__":
    main(sys.argv[1:])
