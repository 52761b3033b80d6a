"""Where the time of Motoric's replica goes under load, by py-spy.

    python benchmarks/profile_replica.py json1          # or bytes1, batch64, streams
    python benchmarks/profile_replica.py bytes1 --svg flame.svg --native

Prints the functions in which samples ended (self) and those that were on the stack (with all they
called), as shares of the samples of the replica's threads that were at work. py-spy needs the right
to trace processes: root, or `kernel.yama.ptrace_scope=0`.
"""

from __future__ import annotations

import argparse
import collections
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import machine
from loads import wrk
from peers.running import Options, Server, model_processes, running
from scenarios.plan import Plan, generate, stream_spec
from scenarios.rates import REQUESTS, Request
from tabulate import tabulate
from workload import MODEL, MODEL_APART, write_workload

_NUM_LINES = 40
_MARGIN_S = 4
# Threads that wait in C, which py-spy takes for work.
_WAITING = ("main_loop (ray/_private/worker.py", "PythonGCThread", "_poll_wrapper", "_worker (")


def main() -> None:
    """Parse, load, profile, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("request", choices=(*REQUESTS, "streams"))
    parser.add_argument("--peer", default="motoric", help="a server whose model runs in Python")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--native", action="store_true", help="show C functions too; slower")
    parser.add_argument("--svg", type=Path, help="write a flame graph here as well")
    arguments = parser.parse_args()
    machine.raise_file_limit()
    is_stream = arguments.request == "streams"
    options = Options(model=MODEL_APART if is_stream else MODEL)
    with tempfile.TemporaryDirectory(prefix="msb", dir="/tmp", ignore_cleanup_errors=True) as name:
        plan = Plan(
            workload=write_workload(Path(name)),
            names=(arguments.peer,),
            num_rounds=1,
            seconds=arguments.seconds + _MARGIN_S,
        )
        with running(arguments.peer, plan.workload, options) as server:
            load = partial(_stream, plan, server)
            if not is_stream:
                load = partial(_request, plan, server, REQUESTS[arguments.request])
            with ThreadPoolExecutor(1) as executor:
                loaded = executor.submit(load)
                stacks = _record(
                    model_processes(server)[0].pid,
                    plan.workload.folder / "stacks.txt",
                    arguments.seconds,
                    is_native=arguments.native,
                    svg=arguments.svg,
                )
                print(f"{loaded.result()}\n\n{summary(stacks)}")


def _request(plan: Plan, server: Server, request: Request) -> str:
    bodies = [
        server.peer.body(request.kind, each) for each in plan.workload.batches(request.num_windows)
    ]
    done = wrk.run(
        server.url(request.kind),
        script=wrk.write_script(plan.workload.folder / "wrk", bodies, plan.workload.key),
        seconds=plan.seconds,
        mark=server.mark,
        num_connections=request.num_connections or plan.num_connections,
        core=machine.LOAD_CORE,
    )
    return f"{done.requests_per_s:,.0f} requests/s while profiled"


def _stream(plan: Plan, server: Server) -> str:
    spec = stream_spec(
        plan,
        server,
        MODEL_APART,
        num_sessions=plan.num_connections,
        seconds=plan.seconds,
        pace=False,
    )
    done = generate("streams", spec, core=machine.LOAD_CORE)
    return f"{done['windows_per_s']:,.0f} windows/s while profiled"


def _record(
    pid: int, path: Path, seconds: int, *, is_native: bool, svg: Path | None
) -> dict[str, int]:
    """Samples of each stack, frames between semicolons, the outermost first."""
    spy = Path(sys.executable).parent / "py-spy"
    command = [str(spy), "record", "--pid", str(pid), "--rate", "200", "--threads"]
    command += ["--native"] if is_native else []
    outputs = [(path, "raw", seconds)] + ([(svg, "flamegraph", 3)] if svg else [])
    for output, kind, length in outputs:
        options = ["--duration", str(length), "--format", kind, "--output", str(output)]
        subprocess.run([*command, *options], check=True, capture_output=True, timeout=300)
    stacks: dict[str, int] = {}
    for line in path.read_text().splitlines():
        stack, _, num = line.rpartition(" ")
        if not any(each in stack for each in _WAITING):
            stacks[stack] = int(num)
    return stacks


def summary(stacks: dict[str, int]) -> str:
    """Two tables: by the innermost function, and by all functions on the stack."""
    own: collections.Counter[str] = collections.Counter()
    whole: collections.Counter[str] = collections.Counter()
    for stack, num in stacks.items():
        frames = [_without_line(each) for each in stack.split(";")]
        own[frames[-1]] += num
        for each in set(frames):
            whole[each] += num
    total = max(1, sum(stacks.values()))
    tables = []
    for title, counts in (("self", own), ("with all it calls", whole)):
        rows = [[f"{num / total:.1%}", frame] for frame, num in counts.most_common(_NUM_LINES)]
        tables.append(str(tabulate(rows, [title, "function"], tablefmt="github")))
    return f"{total} samples\n\n" + "\n\n".join(tables)


def _without_line(frame: str) -> str:
    name, found, rest = frame.rpartition(":")
    return f"{name})" if found and rest.rstrip(")").isdigit() else frame


if __name__ == "__main__":
    main()
