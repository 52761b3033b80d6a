"""As many requests as one server answers, by wrk, and what they cost it.

In: where a server listens, requests to send in turn, the server's family. Out: a `Round`.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import machine

if TYPE_CHECKING:
    from peers.catalogue import Body

_LUA = """
local requests, i = {}, 0
function init()
  for index = 1, %(num)d do
    local file = assert(io.open("%(folder)s/" .. index, "rb"))
    requests[index] = wrk.format("POST", nil, %(headers)s, file:read("*a"))
    file:close()
  end
end
function request()
  i = i %% #requests + 1
  return requests[i]
end
function done(summary, latency)
  local e = summary.errors
  io.write(string.format(
    '\\n{"requests": %%d, "duration_us": %%d, "errors": %%d, "p50_us": %%d, "p99_us": %%d}\\n',
    summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one round measured."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


def write_script(folder: Path, bodies: list[Body], key: str) -> Path:
    """Write a wrk script that sends bodies in turn, all with the headers of the first."""
    folder.mkdir(parents=True)
    for index, body in enumerate(bodies, start=1):
        (folder / str(index)).write_bytes(body.content)
    headers = {**bodies[0].headers, "authorization": f"Bearer {key}"}
    table = ", ".join(f'["{name}"] = "{value}"' for name, value in headers.items())
    script = folder / "load.lua"
    script.write_text(_LUA % {"num": len(bodies), "folder": folder, "headers": f"{{{table}}}"})
    return script


def run(
    url: str,
    *,
    script: Path,
    seconds: float,
    mark: str,
    num_connections: int,
    core: int | None,
) -> Round:
    """One round of load on `url`.

    Raises:
        RuntimeError: A request failed.
    """
    before = machine.cpu_s(mark)
    command = ["wrk", "-t1", f"-c{num_connections}", f"-d{seconds:g}s", "--timeout", "10s"]
    done = subprocess.run(
        machine.pinned([*command, "-s", str(script), url], core),
        check=True,
        capture_output=True,
        text=True,
    )
    used = machine.cpu_s(mark) - before
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["errors"] or not found["requests"]:
        raise RuntimeError(f"{url}: {found['errors']} requests failed: {done.stdout}")
    return Round(
        requests_per_s=found["requests"] / found["duration_us"] * 1e6,
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        cpu_us=used / found["requests"] * 1e6,
    )
