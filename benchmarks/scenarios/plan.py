"""What all scenarios share: what to measure, servers side by side, generators, tables.

A scenario takes a `Plan` and returns a section of Markdown.
"""

from __future__ import annotations

import base64
import contextlib
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import machine
from peers.environments import UnavailableError
from peers.running import Options, Server, headers, running
from tabulate import tabulate
from workload import CHANNELS, LENGTH_S, RATE_HZ, Workload

FOLDER = Path(__file__).parents[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to measure.

    Attributes:
        workload: What is served and asked.
        names: The peers, Motoric first.
        num_rounds: Rounds, interleaved; medians are reported.
        seconds: Of a round.
        num_connections: Of the load on single windows.
        notes: What the report has to say besides figures; scenarios add to it.
    """

    workload: Workload
    names: tuple[str, ...]
    num_rounds: int
    seconds: float
    num_connections: int = 32
    notes: list[str] = field(default_factory=list)


def say(text: str) -> None:
    """Show progress."""
    print(text, flush=True)


@contextlib.contextmanager
def side_by_side(plan: Plan, names: Sequence[str], options: Options) -> Iterator[list[Server]]:
    """Servers that give right answers; what cannot run here is noted and left out."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name in names:
            try:
                server = stack.enter_context(running(name, plan.workload, options))
            except UnavailableError as error:
                plan.notes.append(f"{name} was left out: {error}")
                say(plan.notes[-1])
                continue
            servers.append(server)
            say(f"{name} answers right after {server.start_s:.1f} s")
        yield servers


def generate(program: str, spec: dict[str, Any], *, core: int | None) -> dict[str, Any]:
    """Run a generator of `loads/` in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    done = subprocess.run(
        machine.pinned([sys.executable, "-m", f"loads.{program}"], core),
        input=json.dumps(spec),
        capture_output=True,
        text=True,
        check=False,
        cwd=FOLDER,
    )
    if done.returncode:
        raise RuntimeError(f"{program} failed: {done.stderr[-3000:]}")
    if done.stderr:
        say(done.stderr.strip()[-500:])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def stream_spec(
    plan: Plan, server: Server, model: str, *, num_sessions: int, seconds: float, pace: bool
) -> dict[str, Any]:
    """The spec of `loads/streams.py`; at a pace, messages and hops are of one second."""
    return {
        "port": server.port,
        "path": f"/v1/models/{model}/stream",
        "headers": headers(plan.workload),
        "sessions": num_sessions,
        "seconds": seconds,
        "rate_hz": RATE_HZ,
        "length_s": LENGTH_S,
        "hop_s": 1.0 if pace else LENGTH_S,
        "message_s": 1.0 if pace else LENGTH_S,
        "channels": CHANNELS,
        "windows": base64.b64encode(plan.workload.windows_BTC.astype("<f4").tobytes()).decode(),
        "pace": pace,
    }


def load_core(options: Options) -> int | None:
    """Where the load belongs: apart from a server that is kept on its core."""
    return None if options.core is None else machine.LOAD_CORE


def median(values: Sequence[float]) -> float:
    """The median; NaN of nothing."""
    return statistics.median(values) if values else float("nan")


def table(rows: Sequence[Sequence[str]], columns: str) -> str:
    """Markdown; the columns' names stand between bars."""
    return str(tabulate(rows, columns.split("|"), tablefmt="github", disable_numparse=True))
