"""A load on one URL with wrk, and what it cost the server.

In: a URL, bodies to send in turn, the server's process. Out: a `Round` of figures.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

NUM_CONNECTIONS = 32
_LUA = """
local bodies = {}
for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end
local headers = {["Content-Type"] = "application/json", ["Authorization"] = "%(authorization)s"}
local requests, i = {}, 0
function init()
  for k, body in ipairs(bodies) do requests[k] = wrk.format("POST", nil, headers, body) end
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


def write_script(path: Path, *, bodies: Path, authorization: str) -> None:
    """Write the wrk script that sends the lines of `bodies` in turn."""
    path.write_text(_LUA % {"bodies": bodies, "authorization": authorization})


def run(url: str, *, script: Path, seconds: float, server_pid: int) -> Round:
    """One round of load on `url`.

    Raises:
        RuntimeError: A request failed.
    """
    before = cpu_s(server_pid)
    command = ["wrk", "-t1", f"-c{NUM_CONNECTIONS}", f"-d{seconds:g}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(script), url], check=True, capture_output=True, text=True
    )
    used = cpu_s(server_pid) - before
    found = json.loads(done.stdout.strip().splitlines()[-1])
    if found["errors"]:
        raise RuntimeError(f"{url}: {found['errors']} requests failed: {done.stdout}")
    return Round(
        requests_per_s=found["requests"] / found["duration_us"] * 1e6,
        p50_ms=found["p50_us"] / 1e3,
        p99_ms=found["p99_us"] / 1e3,
        cpu_us=used / found["requests"] * 1e6,
    )


def cpu_s(pid: int) -> float:
    """CPU seconds that a process and all below it have used."""
    total = 0.0
    for each in tree(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = each.cpu_times()
            total += times.user + times.system
    return total


def tree(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
