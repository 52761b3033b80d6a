"""From nothing to the first right answer, and the memory that a server and its replica keep."""

from __future__ import annotations

import machine
from machine import Memory
from peers.catalogue import PEERS
from peers.environments import UnavailableError
from peers.running import Options, model_processes, running
from scenarios.plan import Plan, median, say, table


def measure(plan: Plan) -> str:
    """Start each server alone, as often as there are rounds."""
    rows = []
    for name in plan.names:
        start_s: list[float] = []
        deploy_s: list[float] = []
        whole: list[Memory] = []
        replica: list[Memory] = []
        idle: list[float] = []
        for _ in range(plan.num_rounds):
            try:
                with running(name, plan.workload, Options(core=None)) as server:
                    start_s.append(server.start_s)
                    deploy_s += [] if server.deploy_s is None else [server.deploy_s]
                    whole.append(machine.memory(machine.family(server.mark)))
                    replica.append(machine.memory(model_processes(server)))
                    idle.append(machine.idle_share(server.mark))
            except UnavailableError as error:
                plan.notes.append(f"{name} was left out: {error}")
                break
            say(f"cold, {name}: {start_s[-1]:.1f} s, {replica[-1]}")
        if start_s:
            rows.append(
                [
                    PEERS[name].title,
                    f"{median(start_s):.1f}",
                    f"{median(deploy_s):.1f}" if deploy_s else "",
                    f"{median([each.pss_mib for each in replica]):.0f}",
                    f"{median([each.rss_mib for each in replica]):.0f}",
                    f"{median([each.pss_mib for each in whole]):.0f}",
                    f"{median(idle):.1%}",
                ]
            )
    columns = (
        "server|first right answer s|a replica, from deploying s|processes with the model: PSS MiB"
        "|RSS MiB|all processes: PSS MiB|idle CPU of a core"
    )
    return (
        "### cold: start and memory (nothing pinned, each server alone; files are in the page"
        f" cache)\n\n{table(rows, columns)}\n\nLitServe and mosec have a process with the model for"
        " each of the two kinds of body."
    )
