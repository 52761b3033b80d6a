"""Motoric's endpoints beside their peers: the same model, the same load, one run.

    python benchmarks/serving.py                               # all; more than an hour
    python benchmarks/serving.py --only json1,bytes1 --peers motoric,mosec --rounds 3

Needs wrk, and the extras train and bench; peers get environments of their own (README.md). Answers
are compared with onnxruntime's before anything is timed. Medians go to RESULTS.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import machine
from peers.catalogue import PEERS
from results import append, circumstances
from scenarios import cold, latency, rates, streams
from scenarios.plan import Plan, say
from workload import NUM_CHANNELS, NUM_HIDDEN, NUM_SAMPLES, write_workload

SCENARIOS = ("json1", "bytes1", "batch64", "p99", "replicas", "cold", "streams", "sessions")
SIDE_BY_SIDE = ("json1", "bytes1", "batch64")
PACKAGES = ("ray", "onnxruntime", "fastapi", "uvicorn", "orjson", "numpy")


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="interleaved; medians are reported")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round")
    parser.add_argument("--session-seconds", type=float, default=60.0, help="of live sessions")
    parser.add_argument("--only", default=",".join(SCENARIOS), help="scenarios, by commas")
    parser.add_argument("--peers", default=",".join(PEERS), help="by commas")
    parser.add_argument(
        "--pinning",
        choices=("pinned", "unpinned", "both"),
        default="both",
        help="of json1, bytes1 and batch64",
    )
    parser.add_argument("--no-results", action="store_true", help="leave RESULTS.md alone")
    arguments = parser.parse_args()
    wanted = _chosen(parser, arguments.only, SCENARIOS)
    names = _chosen(parser, arguments.peers, tuple(PEERS))
    if shutil.which("wrk") is None:
        sys.exit("wrk, the load generator, is missing: install it (apt-get install wrk)")
    machine.raise_file_limit()
    load_before = os.getloadavg()
    # Short, since sockets of Ray lie below it.
    with tempfile.TemporaryDirectory(
        prefix="msb", dir="/tmp", ignore_cleanup_errors=True
    ) as folder:
        say("writing the model")
        plan = Plan(
            workload=write_workload(Path(folder)),
            names=tuple(names),
            num_rounds=arguments.rounds,
            seconds=arguments.seconds,
        )
        sections: list[str] = []
        try:
            for section in _measure(plan, wanted, arguments.pinning, arguments.session_seconds):
                sections.append(section)  # noqa: PERF402 - those before a failure are kept
        finally:
            if sections:
                text = _report(plan, sections, load_before)
                print(text)
                if not arguments.no_results:
                    append(text)


def _chosen(parser: argparse.ArgumentParser, text: str, known: tuple[str, ...]) -> list[str]:
    chosen = [part.strip() for part in text.split(",") if part.strip()]
    for each in chosen:
        if each not in known:
            parser.error(f"{each!r} is none of {', '.join(known)}")
    return [each for each in known if each in chosen]


def _measure(plan: Plan, wanted: list[str], pinning: str, session_s: float) -> Iterator[str]:
    """The sections of a report, one after the other."""
    beside = [each for each in wanted if each in SIDE_BY_SIDE]
    if beside and pinning != "unpinned":
        yield rates.measure(plan, beside, is_pinned=True)
    if beside and pinning != "pinned":
        yield rates.measure(plan, beside, is_pinned=False)
    if "p99" in wanted:
        yield latency.measure(plan)
    if "replicas" in wanted:
        yield rates.replicas(plan)
    if "cold" in wanted:
        yield cold.measure(plan)
    if "streams" in wanted:
        yield streams.rates(plan)
    if "sessions" in wanted:
        yield streams.sessions(plan, session_s)


def _report(plan: Plan, sections: list[str], load_before: tuple[float, ...]) -> str:
    head = (
        f"## serving, {datetime.now(UTC):%Y-%m-%d}\n\nGRU-{NUM_HIDDEN} in onnxruntime on one"
        f" thread, windows of {NUM_SAMPLES} x {NUM_CHANNELS}. Medians of {plan.num_rounds}"
        f" interleaved rounds of {plan.seconds:g} s; {plan.num_connections} connections (8 for 64"
        " windows) on the same machine. CPU is that of all processes of a server. Motoric checks"
        " an API key; the others have none."
    )
    notes = "\n".join(f"- {each}" for each in dict.fromkeys(plan.notes))
    lines = circumstances(PACKAGES, script="serving.py", load_before=load_before)
    return "\n\n".join([head, *sections, "\n".join([*([notes] if notes else []), *lines])])


if __name__ == "__main__":
    main()
