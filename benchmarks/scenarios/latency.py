"""Latency at half of a server's own highest rate: JSON, one window a request.

Each server runs alone on its core, first as fast as it goes, then at half of that rate.
"""

from __future__ import annotations

import base64

import machine
from peers.catalogue import PEERS
from peers.running import Options, Server, headers
from scenarios.plan import Plan, generate, median, say, side_by_side, table
from scenarios.rates import REQUESTS, measured, rate


def measure(plan: Plan) -> str:
    """One server after the other."""
    options = Options()
    rows = []
    for name in plan.names:
        with side_by_side(plan, [name], options) as servers:
            for server in servers:
                highest = rate(measured(plan, REQUESTS["json1"], servers, options)[name])
                rows.append(_row(plan, server, highest / 2))
    columns = "server|requests/s|p50 ms|p99 ms|p99.9 ms|failed|longest lag of the load ms"
    return (
        "### p99: latency at half of a server's own highest rate (JSON, one window; requests are"
        " due at random times, latency counts from when one was due; server on core"
        f" {machine.SERVER_CORE}, load on core {machine.LOAD_CORE})\n\n" + table(rows, columns)
    )


def _row(plan: Plan, server: Server, requests_per_s: float) -> list[str]:
    bodies = [server.peer.body("json", each) for each in plan.workload.batches(1)]
    spec = {
        "port": server.port,
        "path": server.peer.paths["json"],
        "headers": {**bodies[0].headers, **headers(plan.workload)},
        "bodies": [base64.b64encode(each.content).decode() for each in bodies],
        "rate": requests_per_s,
        "seconds": plan.seconds,
        "connections": plan.num_connections,
    }
    found = []
    for number in range(plan.num_rounds):
        found.append(generate("paced", spec, core=machine.LOAD_CORE))
        say(f"half load, round {number + 1}, {server.name}: {found[-1]}")
    times = ("p50_ms", "p99_ms", "p999_ms")
    return [
        PEERS[server.name].title,
        f"{requests_per_s:,.0f}",
        *(f"{median([each[key] for each in found]):.1f}" for key in times),
        f"{sum(each['num_failed'] for each in found):.0f}",
        f"{max(each['max_lag_ms'] for each in found):.1f}",
    ]
