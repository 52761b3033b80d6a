"""Live sessions over WebSocket.

Windows a second, beside mosec's single requests; and how many sessions one replica keeps up with.
"""

from __future__ import annotations

import json
from typing import Any

import machine
import numpy as np
from loads import wrk
from peers.running import TOLERANCE, Options, Server
from scenarios.plan import Plan, generate, load_core, median, say, side_by_side, stream_spec, table
from scenarios.rates import give_way
from workload import LENGTH_S, MODEL, MODEL_APART, NUM_SAMPLES, RATE_HZ, Reference

NUM_SESSIONS = 1000
_STEPS = (1.25, 1.12, 1.06)  # of the search, coarse to fine
_STEP_DOWN = 0.95
_WINDOWS_A_MESSAGE = (1, 8)  # as they come, and a recording that is played fast
_SEARCH_S = 15.0


def rates(plan: Plan) -> str:
    """Samples in, a prediction back for each window; mosec takes a request a window."""
    ours = Options(model=MODEL_APART)
    found: dict[int, list[tuple[dict[str, Any], float]]] = {num: [] for num in _WINDOWS_A_MESSAGE}
    peers: list[wrk.Round] = []
    with (
        side_by_side(plan, ["motoric"], ours) as (motoric,),
        side_by_side(plan, ["mosec"], Options()) as (mosec,),
    ):
        spec = stream_spec(
            plan,
            motoric,
            MODEL_APART,
            num_sessions=plan.num_connections,
            seconds=plan.seconds,
            pace=False,
        )
        specs = {num: spec | {"message_s": num * LENGTH_S} for num in _WINDOWS_A_MESSAGE}
        give_way(motoric, [motoric, mosec])
        for spec in specs.values():
            _check(plan, generate("streams", spec | {"seconds": 1}, core=load_core(ours)), 2.0)
        script = wrk.write_script(
            plan.workload.folder / f"wrk-{mosec.mark}",
            [mosec.peer.body("bytes", each) for each in plan.workload.batches(1)],
            plan.workload.key,
        )
        for number in range(plan.num_rounds):
            give_way(motoric, [motoric, mosec])
            for num, spec in specs.items():
                found[num].append(_round(plan, motoric, spec, ours))
            give_way(mosec, [motoric, mosec])
            peers.append(
                wrk.run(
                    mosec.url("bytes"),
                    script=script,
                    seconds=plan.seconds,
                    mark=mosec.mark,
                    num_connections=plan.num_connections,
                    core=load_core(ours),
                )
            )
            rates = ", ".join(f"{each[-1][0]['windows_per_s']:,.0f}" for each in found.values())
            say(
                f"streams, round {number + 1}: {rates} windows/s with"
                f" {', '.join(map(str, found))} a message; mosec {peers[-1].requests_per_s:,.0f}/s"
            )
    peer = median([each.requests_per_s for each in peers])
    rows = [_rate_row(num, rounds, peer) for num, rounds in found.items()]
    rows.append(
        [
            "mosec, one float32 request a window",
            f"{peer:,.0f}",
            "1",
            f"{median([each.p50_ms for each in peers]):.1f}",
            f"{median([each.p99_ms for each in peers]):.1f}",
            f"{median([each.cpu_us for each in peers]):,.0f}",
        ]
    )
    columns = "server|windows/s|of mosec|p50 ms|p99 ms|CPU us a window"
    busy = max(result["busy"] for rounds in found.values() for result, _ in rounds)
    return (
        f"### streams: {plan.num_connections} live sessions, one message on its way in each"
        f" (servers on core {machine.SERVER_CORE}, load on core {machine.LOAD_CORE}; the"
        f" generator was busy for at most {busy:.0%})\n\n{table(rows, columns)}"
    )


def _round(
    plan: Plan, server: Server, spec: dict[str, Any], options: Options
) -> tuple[dict[str, Any], float]:
    """What the load measured, and the CPU microseconds of a window."""
    before_s = machine.cpu_s(server.mark)
    result = generate("streams", spec, core=load_core(options))
    # The load warms up for a second that is not counted as windows.
    share = plan.seconds / (plan.seconds + 1)
    used_s = (machine.cpu_s(server.mark) - before_s) * share
    return result, used_s / max(1.0, result["windows_per_s"] * plan.seconds) * 1e6


def _rate_row(num: int, rounds: list[tuple[dict[str, Any], float]], peer: float) -> list[str]:
    rate = median([result["windows_per_s"] for result, _ in rounds])
    return [
        f"Motoric, WebSocket, {num} window{'s' if num > 1 else ''} a message",
        f"{rate:,.0f}",
        f"{rate / peer:.2f}",
        f"{median([result['p50_ms'] for result, _ in rounds]):.1f}",
        f"{median([result['p99_ms'] for result, _ in rounds]):.1f}",
        f"{median([cpu_us for _, cpu_us in rounds]):,.0f}",
    ]


def sessions(plan: Plan, minute_s: float) -> str:
    """1,000 sessions for a minute, and the most that one replica serves with none late."""
    highest = machine.max_connections() - 100
    options = Options(max_sessions=highest)
    rows = []
    with side_by_side(plan, ["motoric"], options) as (server,):
        first = _paced(plan, server, NUM_SESSIONS, minute_s, options)
        _check(plan, first, 1.0)
        rows.append(_row(NUM_SESSIONS, minute_s, first))
        most, least_bad = (0, highest) if first["num_late"] else (NUM_SESSIONS, highest)
        search_s = min(_SEARCH_S, minute_s)
        for step in _STEPS:
            num = int(max(most, 100) * step)
            while num < least_bad:
                result = _paced(plan, server, num, search_s, options)
                rows.append(_row(num, search_s, result))
                if result["num_late"] or result["num_dropped"]:
                    least_bad = num
                    break
                most, num = num, int(num * step)
        # What went well for some seconds may not for a minute.
        while most > NUM_SESSIONS:
            result = _paced(plan, server, most, minute_s, options)
            rows.append(_row(most, minute_s, result))
            if not result["num_late"] and not result["num_dropped"]:
                break
            most = max(NUM_SESSIONS, int(most * _STEP_DOWN))
    columns = (
        "sessions|for s|windows|late|missing|lost sessions|p50 ms|p99 ms|longest ms"
        "|the load's own lag ms"
    )
    return (
        "### sessions: live sessions of 50 Hz data, a message a second, a window of 2 s every"
        f" second, one replica on core {machine.SERVER_CORE}; late is more than a hop (1 s) after"
        f" its last sample was due\n\n{table(rows, columns)}\n\nThe largest number without a late"
        f" window: {most:,}, found in runs of {search_s:g} s and held for {minute_s:g} s."
    )


def _paced(
    plan: Plan, server: Server, num: int, seconds: float, options: Options
) -> dict[str, Any]:
    spec = stream_spec(plan, server, MODEL, num_sessions=num, seconds=seconds, pace=True)
    result = generate("streams", spec, core=load_core(options))
    say(
        f"{num:,} sessions for {seconds:g} s: {result['num_late']} of {result['num_windows']}"
        f" late, p99 {result['p99_ms']:.0f} ms, the load busy for {result['busy']:.0%}"
    )
    return result


def _row(num: int, seconds: float, result: dict[str, Any]) -> list[str]:
    keys = ("num_windows", "num_late", "num_missing", "num_dropped")
    times = ("p50_ms", "p99_ms", "max_ms", "max_lag_ms")
    return [
        f"{num:,}",
        f"{seconds:g}",
        *(f"{result[key]:,}" for key in keys),
        *(f"{result[key]:.0f}" for key in times),
    ]


def _check(plan: Plan, result: dict[str, Any], hop_s: float) -> None:
    """Compare the first predictions of a session with onnxruntime.

    Raises:
        RuntimeError: They differ, or there are none.
    """
    if not result["kept"]:
        raise RuntimeError("no prediction came over the stream")
    flat_TC = plan.workload.windows_BTC.reshape(-1, plan.workload.windows_BTC.shape[2])
    endless_TC = np.concatenate([flat_TC, flat_TC])
    reference = Reference(plan.workload.model)
    for number, text in enumerate(result["kept"]):
        prediction = json.loads(text)
        start = round(number * hop_s * RATE_HZ) % len(flat_TC)
        wanted_K = reference.run(endless_TC[None, start : start + NUM_SAMPLES])[0]
        got_K = np.array(list(prediction["probabilities"].values()))
        if prediction["number"] != number or abs(got_K - wanted_K).max() > TOLERANCE:
            raise RuntimeError(f"prediction {number} is {prediction}, onnxruntime says {wanted_K}")
