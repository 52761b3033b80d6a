"""Stands before the HAProxy that Ray Serve starts, and keeps it to this machine.

Ray's template binds the statistics and metrics ports on every interface and gives no setting for
it, so `up` names a script of this file as `RAY_SERVE_HAPROXY_BINARY_PATH`. It rewrites the
configuration that Ray has just written and then becomes the real binary: same process id, same
arguments, so that Ray's reloads (`-sf`, `-x`) work unchanged.

Run by file name with `python -I -S`, so only the standard library is imported here.
"""

import os
import re
import sys
from pathlib import Path

LOOPBACK = "127.0.0.1"
_BIND = re.compile(r"^(\s*bind\s+)(?:\*|0\.0\.0\.0|\[::\]|::)?:(\d+)", re.MULTILINE)
_ADMIN_MODE = re.compile(r"^(\s*stats\s+socket\s+\S+\s+mode\s+)666\b", re.MULTILINE)


def keep_to_loopback(configuration: str) -> str:
    """Bind every wildcard address on loopback, and close the admin socket to other users."""
    bound = _BIND.sub(rf"\g<1>{LOOPBACK}:\g<2>", configuration)
    return _ADMIN_MODE.sub(r"\g<1>600", bound)


def script(python: str, binary: str) -> str:
    """The text of the executable that Ray is given."""
    return f'#!/bin/sh\nexec "{python}" -I -S "{Path(__file__).resolve()}" "{binary}" "$@"\n'


def main(arguments: list[str]) -> None:
    """Rewrite the file after `-f`, then become the binary."""
    binary, *options = arguments
    if "-f" in options:
        path = Path(options[options.index("-f") + 1])
        partial = path.with_name(f"{path.name}.loopback")
        partial.write_text(keep_to_loopback(path.read_text()))
        partial.replace(path)
    os.execv(binary, [binary, *options])


if __name__ == "__main__":
    main(sys.argv[1:])
