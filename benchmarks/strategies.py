"""Strategies of training measured: time of a step, memory of a worker, bytes exchanged.

    python benchmarks/strategies.py [--width 256] [--depth 4] [--steps 5] [--rounds 3]

The same step (a patch Transformer, made-up windows of 200 x 6, AdamW) by one process and by two
workers under each strategy, one thread each, on this machine: rounds of all are interleaved.

Bytes of ddp, fsdp and tensor are what the kernel counted on the sockets of gloo (TCP_INFO), in the
process itself: sent and received, with the protocol's own. Those of the parameter server are the
sizes of the vectors that a worker pulled and pushed: on one machine they go through shared memory.
Memory is what a worker keeps between steps (parameters and optimiser), and the peak of its
resident memory over what the process had before it made the network.
"""

from __future__ import annotations

import argparse
import datetime
import os
import socket
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from results import append, circumstances
from tabulate import tabulate
from torch import Tensor, distributed, nn

from motoric.models.catalogue import build_model, parse_config
from motoric.models.shapes import InputShapes, SensorShape
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.run import Worker
from motoric.training.strategies.catalogue import STRATEGIES
from motoric.training.strategies.flat import layout_of
from motoric.training.strategies.parameter_slice import ParameterSlice
from motoric.training.strategies.sharded import local
from motoric.training.strategies.slices import cut

NUM_CLASSES, NUM_SAMPLES, NUM_CHANNELS = 7, 200, 6
_MIB = 2**20
# Of `struct tcp_info` in linux/tcp.h: tcpi_bytes_acked and tcpi_bytes_received.
_TCP_INFO_AT, _TCP_INFO_SIZE = 120, 136


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One worker's figures.

    Attributes:
        step_s: Of each step.
        kept_bytes: Parameters and optimiser between steps.
        peak_bytes: Most resident memory over that before the network.
        sent_bytes: A step.
        received_bytes: A step.
    """

    step_s: tuple[float, ...]
    kept_bytes: int
    peak_bytes: int
    sent_bytes: float
    received_bytes: float


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """The recipe of the measured step."""
    model = {
        "name": "patch_transformer",
        "width": arguments.width,
        "depth": arguments.depth,
        "num_heads": 4,
        "stem_channels": 0,
        "dropout": 0.0,
    }
    content = {"version": 1, "name": "measured", "dataset": "none", "model": model}
    content["train"] = {"batch_size": arguments.batch_size}
    return parse_recipe(content, "strategies.py")


def network_of(recipe: Recipe) -> nn.Module:
    """With the same weights in every process."""
    torch.manual_seed(0)
    sensors = SensorShape(num_samples=NUM_SAMPLES, num_channels=NUM_CHANNELS, rate_hz=50.0)
    return build_model(parse_config(recipe.model), InputShapes(sensors=sensors), NUM_CLASSES)


def windows_of(recipe: Recipe) -> tuple[Tensor, Tensor]:
    """Made-up windows and their classes."""
    generator = torch.Generator().manual_seed(0)
    size = recipe.train.batch_size
    windows_BTC = torch.randn(size, NUM_SAMPLES, NUM_CHANNELS, generator=generator)
    return windows_BTC, torch.arange(size) % NUM_CLASSES


class Peak:
    """The most resident memory of this process, looked at every few milliseconds."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._most = self._process.memory_info().rss
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def num_bytes(self) -> int:
        """Over those at the beginning."""
        return self._most - self._before

    def _watch(self) -> None:
        while True:
            self._most = max(self._most, self._process.memory_info().rss)
            time.sleep(0.005)


def tcp_bytes() -> tuple[int, int]:
    """Bytes that this process's TCP sockets have sent (acknowledged) and received so far."""
    sent = received = 0
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - a Path would open it
        try:
            made = socket.socket(fileno=os.dup(int(name)))
        except OSError:  # no socket, or the folder's own descriptor
            continue
        with made:
            try:
                info = made.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_SIZE)
            except OSError:
                continue
            if len(info) == _TCP_INFO_SIZE:
                acked, got = struct.unpack_from("=QQ", info, _TCP_INFO_AT)
                sent, received = sent + acked, received + got
    return sent, received


def step_worker(
    recipe: Recipe, strategy_name: str, rank: int, num: int, num_steps: int
) -> Measured:
    """Steps of one worker under a strategy; the first two are not counted."""
    peak = Peak()
    strategy = STRATEGIES[strategy_name](recipe, Worker(rank=rank, world_size=num))
    parallel = strategy.prepare(network_of(recipe))
    optimiser = torch.optim.AdamW(parallel.parameters(), lr=1e-3)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimiser, factor=1.0)
    windows_BTC, targets_B = windows_of(recipe)
    rows = slice(strategy.share, None, strategy.num_shares)
    times: list[float] = []
    before = (0, 0)
    for step in range(num_steps + 2):
        if step == 2:
            if num > 1:
                distributed.barrier()
            before = tcp_bytes()
        started_s = time.perf_counter()
        optimiser.zero_grad()
        with strategy.accumulate(is_last=True):
            loss = nn.functional.cross_entropy(parallel(windows_BTC[rows]), targets_B[rows])
            loss.backward()  # type: ignore[no-untyped-call]
        strategy.clip(parallel.parameters(), 1.0)
        strategy.step(optimiser, scheduler)
        times.append(time.perf_counter() - started_s)
    after = tcp_bytes()
    tensors = [*parallel.parameters()]
    tensors += [value for state in optimiser.state.values() for value in state.values()]
    return Measured(
        step_s=tuple(times[2:]),
        kept_bytes=sum(local(item).nbytes for item in tensors),
        peak_bytes=peak.num_bytes,
        sent_bytes=(after[0] - before[0]) / num_steps,
        received_bytes=(after[1] - before[1]) / num_steps,
    )


def _rank(rank: int, num: int, store: str, pipe: Any, work: tuple[Recipe, str, int]) -> None:
    torch.set_num_threads(1)
    recipe, strategy, num_steps = work
    if num > 1:
        distributed.init_process_group(
            "gloo",
            init_method=f"file://{store}",
            rank=rank,
            world_size=num,
            timeout=datetime.timedelta(seconds=120),
        )
    pipe.send(step_worker(recipe, strategy, rank, num, num_steps))
    if num > 1:
        distributed.barrier()
        distributed.destroy_process_group()


def by_collectives(recipe: Recipe, strategy: str, num: int, num_steps: int) -> list[Measured]:
    """Workers that step together, in processes of their own."""
    context = get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        pipes, processes = [], []
        for rank in range(num):
            ours, theirs = context.Pipe()
            arguments = (rank, num, store, theirs, (recipe, strategy, num_steps))
            process = context.Process(target=_rank, args=arguments)
            process.start()
            theirs.close()
            pipes.append(ours)
            processes.append(process)
        found = [pipe.recv() for pipe in pipes]
        for process in processes:
            process.join()
    return found


class Pusher:
    """A worker of the parameter server on made-up windows, as `ServerWorker` is on a dataset."""

    def __init__(self, recipe: Recipe) -> None:
        torch.set_num_threads(1)
        self._peak = Peak()
        self._network = network_of(recipe)
        self._layout = layout_of(self._network)
        self._windows_BTC, self._targets_B = windows_of(recipe)

    def run(self, servers: list[Any], first: int, num_steps: int) -> Measured:
        """Pull, one batch, push."""
        import ray

        times, num_bytes = [], [0, 0]
        own = self._network.state_dict()
        for step in range(num_steps):
            started_s = time.perf_counter()
            pulled = ray.get([server.pull.remote() for server in servers])
            values_P = np.concatenate([item.values_S for item in pulled])
            for name, value in self._layout.split(values_P).items():
                own[name].copy_(value)
            self._network.zero_grad()
            outputs_BK = self._network(self._windows_BTC)
            nn.functional.cross_entropy(outputs_BK, self._targets_B).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self._network.parameters(), 1.0)
            gradients = {
                name: item.grad
                for name, item in self._network.named_parameters()
                if item.grad is not None
            }
            vector_P = self._layout.join(gradients)
            parts = self._layout.slices(len(servers))
            ray.get(
                [
                    server.push.remote(first + step, vector_P[part], {})
                    for server, part in zip(servers, parts, strict=True)
                ]
            )
            times.append(time.perf_counter() - started_s)
            num_bytes[0] += vector_P.nbytes
            num_bytes[1] += values_P.nbytes
        return Measured(
            step_s=tuple(times),
            kept_bytes=sum(item.nbytes for item in self._network.parameters()),
            peak_bytes=self._peak.num_bytes,
            sent_bytes=num_bytes[0] / num_steps,
            received_bytes=num_bytes[1] / num_steps,
        )


def by_servers(recipe: Recipe, num: int, num_steps: int) -> list[Measured]:
    """Workers around one server, none waiting for the other."""
    import ray

    network = network_of(recipe)
    weights = {name: item.detach() for name, item in network.state_dict().items()}
    (state,) = cut(layout_of(network), weights, {}, num_steps=0, num_slices=1)
    total = 10 * num * (num_steps + 2)
    make_server: Any = ray.remote(ParameterSlice).options(num_cpus=0)
    make_pusher: Any = ray.remote(Pusher).options(num_cpus=1)
    server = make_server.remote(recipe, state, total)
    pushers = [make_pusher.remote(recipe) for _ in range(num)]
    for begin, steps in ((0, 2), (100, num_steps)):
        running = [
            pusher.run.remote([server], begin + 1000 * index, steps)
            for index, pusher in enumerate(pushers)
        ]
        found: list[Measured] = ray.get(running)
    for actor in (server, *pushers):
        ray.kill(actor)
    return found


@contextmanager
def own_ray() -> Iterator[None]:
    """A Ray that this program alone uses."""
    from motoric.cluster.session import ray_session
    from motoric.core.settings import load

    with tempfile.TemporaryDirectory() as home, ray_session(load(home=Path(home))):
        yield


def row(name: str, rounds: list[list[Measured]], batches: int, alone_s: float | None) -> list[str]:
    """A line of the table; figures are of the worker that had more."""
    step_s = statistics.median(
        statistics.median(max(times) for times in zip(*(one.step_s for one in found), strict=True))
        for found in rounds
    )
    workers = [one for found in rounds for one in found]
    last = rounds[-1]
    return [
        name,
        f"{step_s * 1e3:,.0f}",
        "" if alone_s is None else f"{batches * alone_s / step_s:.2f}",
        f"{max(one.kept_bytes for one in last) / _MIB:.1f}",
        f"{statistics.median(one.peak_bytes for one in workers) / _MIB:.0f}",
        f"{max(one.sent_bytes for one in last) / 1e6:.2f}",
        f"{max(one.received_bytes for one in last) / 1e6:.2f}",
    ]


def main() -> None:
    """Measure, print and append."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    load_before = os.getloadavg()
    recipe = recipe_of(arguments)
    steps = arguments.steps
    works: dict[str, tuple[int, Callable[[], list[Measured]]]] = {
        "one process": (1, partial(by_collectives, recipe, "ddp", 1, steps)),
        **{
            f"{name}, 2 workers": (1, partial(by_collectives, recipe, name, 2, steps))
            for name in STRATEGIES
        },
        "parameter_server, 2 workers": (2, partial(by_servers, recipe, 2, steps)),
    }
    found: dict[str, list[list[Measured]]] = {name: [] for name in works}
    with own_ray():
        for _ in range(arguments.rounds):
            for name, (_, work) in works.items():
                found[name].append(work())
    alone_s = statistics.median(
        statistics.median(one.step_s) for measured in found["one process"] for one in measured
    )
    headers = ["", "step ms", "batches, times alone", "kept MiB", "peak MiB", "sent MB", "got MB"]
    rows = [
        row(name, found[name], batches, None if name == "one process" else alone_s)
        for name, (batches, _) in works.items()
    ]
    table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
    num = sum(item.numel() for item in network_of(recipe).parameters())
    section = [
        f"## strategies, {datetime.datetime.now(tz=datetime.UTC):%Y-%m-%d}",
        "",
        f"A step of a patch Transformer of {num / 1e6:.2f} million parameters (width"
        f" {arguments.width}, {arguments.depth} blocks) on {recipe.train.batch_size} windows of"
        f" {NUM_SAMPLES} x {NUM_CHANNELS}, one thread a worker, gloo. Medians of"
        f" {arguments.rounds} interleaved rounds of {steps} steps; the slower worker counts. The"
        " workers of the parameter server each work a whole batch in a step of theirs, two steps"
        " at a time; those of the others one batch together.",
        "",
        str(table),
        "",
        "Kept: parameters and optimiser of a worker between steps. Peak: most resident memory over"
        " that before the network. Sent and got: a worker in a step; of ddp, fsdp and tensor by the"
        " kernel's count on the sockets, of the parameter server the sizes of the vectors.",
        "",
        *circumstances(["torch", "ray", "numpy"], script="strategies.py", load_before=load_before),
    ]
    print("\n".join(section))
    append("\n".join(section))


if __name__ == "__main__":
    main()
