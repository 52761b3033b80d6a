"""As many requests as each server answers: one window as JSON or as bytes, or 64 as bytes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass

import machine
from loads import wrk
from loads.wrk import Round
from peers.catalogue import PEERS, Kind
from peers.running import Options, Server
from scenarios.plan import FOLDER, Plan, load_core, median, say, side_by_side, table
from workload import LARGE_WINDOWS


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent.

    Attributes:
        title: Of a section.
        kind: Of the bodies.
        num_windows: A request.
        num_connections: None is as many as the plan says.
    """

    title: str
    kind: Kind
    num_windows: int = 1
    num_connections: int | None = None


REQUESTS = {
    "json1": Request(title="One window a request, JSON", kind="json"),
    "bytes1": Request(title="One window a request, float32 bytes both ways", kind="bytes"),
    "batch64": Request(
        title=f"{LARGE_WINDOWS} windows a request, float32 bytes both ways",
        kind="bytes",
        num_windows=LARGE_WINDOWS,
        num_connections=8,
    ),
}
ALONE = "onnxruntime alone, in a loop on the same core"


def measure(plan: Plan, wanted: list[str], *, is_pinned: bool) -> str:
    """All wanted requests, on servers started once."""
    options = Options() if is_pinned else Options(core=None)
    where = (
        f"servers on core {machine.SERVER_CORE}, load on core {machine.LOAD_CORE}"
        if is_pinned
        else "nothing pinned"
    )
    sections = []
    with side_by_side(plan, plan.names, options) as servers:
        idle = sum(machine.idle_share(each.mark) for each in servers)
        plan.notes.append(f"idle, all servers together took {idle:.0%} of a core ({where})")
        for name in wanted:
            request = REQUESTS[name]
            rounds = measured(plan, request, servers, options)
            sections.append(f"### {name}: {request.title} ({where})\n\n{_report(rounds, request)}")
    return "\n\n".join(sections)


def replicas(plan: Plan) -> str:
    """How Motoric's rate grows from one replica to two, nothing pinned."""
    rows, rates = [], []
    for num_replicas in (1, 2):
        options = Options(core=None, num_replicas=num_replicas)
        for name in ("json1", "bytes1"):
            with side_by_side(plan, ["motoric"], options) as servers:
                found = measured(plan, REQUESTS[name], servers, options)["motoric"]
            rates.append(rate(found))
            first = rates[0] if name == "json1" else rates[1]
            rows.append(
                [
                    str(num_replicas),
                    name,
                    f"{rates[-1]:,.0f}",
                    _span([each.requests_per_s for each in found]),
                    f"{rates[-1] / first:.2f}",
                    f"{median([each.cpu_us for each in found]):,.0f}",
                ]
            )
    columns = "replicas|request|requests/s|range|of one replica|CPU us a request"
    return (
        "### replicas: from 1 to 2 replicas (nothing pinned; HAProxy and wrk share the cores with"
        f" them)\n\n{table(rows, columns)}"
    )


def measured(
    plan: Plan, request: Request, servers: list[Server], options: Options
) -> dict[str, list[Round]]:
    """Rounds of all servers by turns, after one of each that does not count."""
    scripts = {
        server.name: wrk.write_script(
            plan.workload.folder / f"wrk-{server.mark}-{request.kind}-{request.num_windows}",
            [
                server.peer.body(request.kind, each)
                for each in plan.workload.batches(request.num_windows)
            ],
            plan.workload.key,
        )
        for server in servers
    }
    num_connections = request.num_connections or plan.num_connections
    rounds: dict[str, list[Round]] = {server.name: [] for server in servers}
    if request.num_windows > 1:
        rounds[ALONE] = []
    for number in range(plan.num_rounds + 1):
        seconds = plan.seconds if number else min(2.0, plan.seconds)
        for server in servers:
            if options.core is not None:
                give_way(server, servers)
            found = wrk.run(
                server.url(request.kind),
                script=scripts[server.name],
                seconds=seconds,
                mark=server.mark,
                num_connections=num_connections,
                core=load_core(options),
            )
            if number:
                rounds[server.name].append(found)
                say(
                    f"{request.kind} x {request.num_windows}, round {number}, {server.name}:"
                    f" {found.requests_per_s:,.0f}/s, {found.cpu_us:,.0f} us CPU"
                )
        if ALONE in rounds and number:
            if options.core is not None:
                give_way(None, servers)
            rounds[ALONE].append(_alone(plan, request, seconds, options))
    return rounds


def give_way(server: Server | None, servers: list[Server]) -> None:
    """Leave the servers' core to one of them: what the others do while idle would slow it."""
    for each in servers:
        machine.move(each.mark, machine.SERVER_CORE if each is server else machine.LOAD_CORE)


def _alone(plan: Plan, request: Request, seconds: float, options: Options) -> Round:
    arguments = [str(plan.workload.model), str(request.num_windows), str(seconds)]
    done = subprocess.run(
        machine.pinned([sys.executable, "-m", "loads.alone", *arguments], options.core),
        capture_output=True,
        text=True,
        check=True,
        cwd=FOLDER,
    )
    per_s = float(done.stdout) / request.num_windows
    say(f"onnxruntime alone: {per_s * request.num_windows:,.0f} windows/s")
    latency_ms = 1e3 / per_s
    return Round(requests_per_s=per_s, p50_ms=latency_ms, p99_ms=latency_ms, cpu_us=1e6 / per_s)


def rate(rounds: list[Round]) -> float:
    """The median rate of rounds, in requests a second."""
    return median([each.requests_per_s for each in rounds])


def _span(values: list[float]) -> str:
    return f"{min(values):,.0f} to {max(values):,.0f}"


def _report(rounds: dict[str, list[Round]], request: Request) -> str:
    ours = rate(rounds["motoric"]) if "motoric" in rounds else float("nan")
    rows = [
        [
            PEERS[name].title if name in PEERS else name,
            f"{rate(found) * request.num_windows:,.0f}",
            _span([each.requests_per_s * request.num_windows for each in found]),
            "" if name == "motoric" else f"{ours / rate(found):.2f}",
            f"{median([each.p50_ms for each in found]):.1f}",
            f"{median([each.p99_ms for each in found]):.1f}",
            f"{median([each.cpu_us for each in found]):,.0f}",
        ]
        for name, found in sorted(rounds.items(), key=lambda item: -rate(item[1]))
    ]
    return table(rows, "server|windows/s|range|Motoric is times it|p50 ms|p99 ms|CPU us a request")
