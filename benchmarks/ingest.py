"""Ingest and reading measured: clips, sensor tables, windows, and the memory of workers.

    python benchmarks/ingest.py --utd FOLDER [--videos FOLDER] [--rounds 3] [--only clips csv ...]

Each part stands beside a peer or a plain loop in the same run; rounds of both are interleaved, and
medians are given. Times count after Ray's start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import plain_ingest
import psutil
import ray
from results import append, circumstances
from tabulate import tabulate

import motoric.data
from motoric.cluster.session import ray_session
from motoric.core.settings import load
from motoric.data.ingest.build import build_dataset
from motoric.data.ingest.settings import IngestSettings
from motoric.data.sources.manifest_source import ManifestSource

NUM_FRAMES, SIZE = 16, 112
PARTS = ("clips", "csv", "windows", "memory", "digest")
_POLL_S = 0.02


def quiet() -> None:
    """Keep Ray Data from printing."""
    import logging

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def timed(work: Callable[[], int]) -> float:
    """Things a second."""
    started_s = time.perf_counter()
    count = work()
    return count / (time.perf_counter() - started_s)


def interleaved(works: dict[str, Callable[[], int]], rounds: int) -> dict[str, list[float]]:
    """Rates of each in every round; a first round warms workers and files up and is left out."""
    rates: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            rate = timed(work)
            if number:
                rates[name].append(rate)
    return rates


def table(rates: dict[str, list[float]], unit: str) -> str:
    """Medians and ranges."""
    rows = [
        [name, f"{statistics.median(found):,.1f}", f"{min(found):,.1f} to {max(found):,.1f}"]
        for name, found in rates.items()
    ]
    made = tabulate(rows, headers=["", unit, "range"], tablefmt="github", disable_numparse=True)
    return str(made)


def ratio(rates: dict[str, list[float]], first: str, second: str) -> float:
    """How many times the second's median the first's is."""
    return statistics.median(rates[first]) / statistics.median(rates[second])


def ingest(folder: Path, out: str, **settings: Any) -> Any:
    """Ingest a folder or manifest into a dataset."""
    chosen = IngestSettings.model_validate(settings)
    return build_dataset(ManifestSource(str(folder), chosen), out)


# Clips


def clips(utd: Path, videos: Path | None, work: Path, rounds: int) -> list[str]:
    """Clips from the UTD videos against Ray Data's own reader and a plain PyAV loop."""
    uri = str(work / "utd")
    ingest(utd, uri)
    paths = sorted(str(path) for path in (utd / "video").glob("*.mp4"))

    def motoric_clips() -> int:
        quiet()
        found = motoric.data.read_clips(
            uri, num_frames=NUM_FRAMES, height=SIZE, width=SIZE, resize="stretch"
        )
        return sum(len(batch["clip"]) for batch in found.iter_batches(batch_size=32))

    def plain() -> int:
        return plain_ingest.clips_on_cores(paths, NUM_FRAMES, SIZE, os.cpu_count() or 1)

    some = paths[:: max(1, len(paths) // 120)]

    def read_videos() -> int:
        quiet()
        # Whole videos as rows of frames: its user still has to pick 16 of each.
        found = ray.data.read_videos(some, resize=(SIZE, SIZE))
        sum(len(batch["frame"]) for batch in found.iter_batches(batch_size=64))
        return len(some)

    rates = interleaved(
        {"Motoric read_clips": motoric_clips, "plain PyAV loop, all cores": plain}, rounds
    )
    rates["ray.data.read_videos"] = [timed(read_videos) for _ in range(min(rounds, 2))]
    lines = [
        f"Clips of {NUM_FRAMES} frames at {SIZE} x {SIZE} from {len(paths)} UTD depth videos"
        f" (read_videos: {len(some)} of them, every frame):",
        "",
        table(rates, "clips/s"),
        "",
        f"**{ratio(rates, 'Motoric read_clips', 'ray.data.read_videos'):.1f} times**"
        " `ray.data.read_videos`,"
        f" **{ratio(rates, 'Motoric read_clips', 'plain PyAV loop, all cores'):.2f}** of the plain"
        " loop on the same cores.",
        "",
    ]
    if videos is not None:
        lines += _vp9(videos, work)
    return lines


def _vp9(videos: Path, work: Path) -> list[str]:
    clip = videos / "sports2d_demo_vp9.mp4"
    try:
        num_frames = ray.data.read_videos([str(clip)], resize=(SIZE, SIZE)).count()
        theirs = f"reads {num_frames} frames"
    except Exception as error:  # noqa: BLE001 - whatever it raises is the finding
        theirs = f"fails ({type(error).__name__})"
    folder = work / "vp9"
    folder.mkdir()
    (folder / clip.name).write_bytes(clip.read_bytes())
    ingest(folder, str(work / "vp9-dataset"))
    found = motoric.data.read_clips(str(work / "vp9-dataset"), num_frames=NUM_FRAMES, length_s=1.0)
    count = found.count()
    return [f"The VP9 clip of 1768 x 994: `read_videos` {theirs}, Motoric reads {count} clips.", ""]


# Sensor tables


def csv(work: Path, rounds: int) -> list[str]:
    """Sensor CSV to dataset against one process of pyarrow and numpy, by core."""
    folder = work / "csv"
    paths = plain_ingest.write_tables(folder, num_files=48, num_rows=60_000, rate_hz=100.0)
    num_bytes = sum(path.stat().st_size for path in paths)
    megabytes = round(num_bytes / 1e6)
    number = iter(range(1000))

    def all_cores() -> int:
        quiet()
        ingest(folder, str(work / f"csv-{next(number)}"))
        return megabytes

    def one_worker() -> int:
        # One task at a time: two at once slow each other down where cores are threads of one.
        options = ray.data.DataContext.get_current().execution_options
        options.resource_limits = ray.data.ExecutionResources(cpu=1)
        try:
            return all_cores()
        finally:
            options.resource_limits = ray.data.ExecutionResources()

    def plain() -> int:
        # In a process of its own, so that both have a fresh allocator.
        command = [sys.executable, str(Path(__file__).with_name("plain_ingest.py")), str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        plain_s.append(float(json.loads(done.stdout)["seconds"]))
        return megabytes

    plain_s: list[float] = []
    works = {
        "Motoric ingest, one worker": one_worker,
        "Motoric ingest, all cores": all_cores,
        "plain": plain,
    }
    rates = interleaved(works, rounds)
    rates["pyarrow + numpy, one process"] = [megabytes / seconds for seconds in plain_s[1:]]
    del rates["plain"]
    by_core = ratio(rates, "Motoric ingest, one worker", "pyarrow + numpy, one process")
    return [
        f"Sensor CSV to dataset: {len(paths)} files of 10 minutes at 100 Hz, {megabytes} MB. The"
        " plain process reads, converts units, sorts and writes Parquet; Motoric also digests,"
        " orders, flags, chunks and commits.",
        "",
        table(rates, "MB/s"),
        "",
        f"**{by_core:.2f}** of the plain process per core (one worker against one process).",
        "",
    ]


def windows(work: Path, rounds: int) -> list[str]:
    """Windows out of a dataset beside numpy's copy of sliding windows."""
    folder = work / "windows"
    plain_ingest.write_tables(folder, num_files=16, num_rows=60_000, rate_hz=100.0)
    uri = str(work / "windows-dataset")
    ingest(folder, uri)

    def motoric_windows() -> int:
        quiet()
        found = motoric.data.read_windows(uri, length_s=4.0, hop_s=0.5, labelled_only=False)
        return sum(len(batch["window"]) for batch in found.iter_batches(batch_size=256))

    values_TC = np.random.default_rng(0).standard_normal((60_000, 6)).astype(np.float32)

    def copies() -> int:
        count = 0
        for _ in range(16):
            views = np.lib.stride_tricks.sliding_window_view(values_TC, 400, axis=0)[::50]
            count += len(np.ascontiguousarray(views.transpose(0, 2, 1)))
        return count

    rates = interleaved(
        {"Motoric read_windows": motoric_windows, "numpy sliding_window_view, copied": copies},
        rounds,
    )
    return [
        "Windows of 4 s x 6 channels at 100 Hz, every 0.5 s, from storage to the driver:",
        "",
        table(rates, "windows/s"),
        "",
    ]


# Memory


@dataclass(slots=True)
class Peak:
    """Largest anonymous memory of a worker, in MiB: without the object store and mapped files."""

    worker_mib: float = 0.0


@contextmanager
def watched() -> Iterator[Peak]:
    """Watch Ray's task workers."""
    peak, stop = Peak(), threading.Event()

    def watch() -> None:
        while not stop.wait(_POLL_S):
            for process in psutil.process_iter(["name", "cmdline"]):
                title = " ".join(process.info["cmdline"] or [])[:40]
                # Workers name themselves by what they run.
                if not title.startswith("ray::") or "IDLE" in title:
                    continue
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                except OSError:  # it has just ended
                    continue
                own = next(line for line in status.splitlines() if line.startswith("RssAnon"))
                peak.worker_mib = max(peak.worker_mib, int(own.split()[1]) / 2**10)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def spilled_mib() -> float:
    """What Ray has written from the object store to disk since its start."""
    from ray._private.internal_api import get_memory_info_reply, get_state_from_address

    address = ray.get_runtime_context().gcs_address
    state: Any = get_state_from_address(address)  # type: ignore[no-untyped-call]
    reply: Any = get_memory_info_reply(state)  # type: ignore[no-untyped-call]
    return float(reply.store_stats.spilled_bytes_total) / 2**20


def memory(work: Path, settings: Any) -> list[str]:
    """Peak memory of a worker at 1, 4 and 16 times the data; each size on a fresh Ray."""
    cases: list[tuple[str, Path]] = []
    for times in (1, 4, 16):
        folder = work / f"many-{times}"
        plain_ingest.write_tables(folder, num_files=4 * times, num_rows=60_000, rate_hz=100.0)
        cases.append((f"{4 * times} recordings of 10 minutes at 100 Hz", folder))
    for hours in (0.5, 2, 8):
        folder = work / f"long-{hours}"
        num_rows = round(hours * 3600 * 100)
        plain_ingest.write_tables(folder, num_files=1, num_rows=num_rows, rate_hz=100.0)
        cases.append((f"1 recording of {hours:g} h at 100 Hz", folder))
    for minutes in (1, 4, 16):
        folder = work / f"video-{minutes}"
        plain_ingest.write_video(folder / "long.mp4", seconds=60 * minutes)
        cases.append((f"1 video of {minutes} minutes, 320 x 240", folder))
    lines = [
        [name, *_peaks(folder, work / f"out-{folder.name}", settings)] for name, folder in cases
    ]
    return [
        "Peak memory of a worker (anonymous, so without the object store), each line on a fresh"
        " Ray; reading is windows of 4 s every second, or clips of 16 frames of 2 s:",
        "",
        tabulate(
            lines,
            headers=["", "ingest MiB", "reading MiB", "spilled MiB"],
            tablefmt="github",
            disable_numparse=True,
        ),
        "",
    ]


def _peaks(folder: Path, out: Path, settings: Any) -> list[str]:
    with ray_session(settings):
        quiet()
        with watched() as ingesting:
            card = ingest(folder, str(out)).card
        with watched() as reading:
            found = (
                motoric.data.read_clips(str(out), num_frames=NUM_FRAMES, length_s=2.0)
                if card.num_videos
                else motoric.data.read_windows(
                    str(out), length_s=4.0, hop_s=1.0, labelled_only=False
                )
            )
            quiet()
            for _ in found.iter_batches(batch_size=64):
                pass
        spilled = spilled_mib()
    return [f"{ingesting.worker_mib:.0f}", f"{reading.worker_mib:.0f}", f"{spilled:.0f}"]


def digest(work: Path, settings: Any) -> list[str]:
    """The same input on 1, 2 and 4 workers."""
    folder = work / "digest"
    plain_ingest.write_tables(folder, num_files=40, num_rows=6_000, rate_hz=100.0)
    found = set()
    for workers in (1, 2, 4):
        with ray_session(settings):
            quiet()
            ray.data.DataContext.get_current().execution_options.resource_limits = (
                ray.data.ExecutionResources(cpu=workers)
            )
            found.add(ingest(folder, str(work / f"digest-{workers}")).card.content_digest)
    same = "the same digest" if len(found) == 1 else f"DIFFERENT digests: {sorted(found)}"
    return [f"One input on 1, 2 and 4 workers: {same}.", ""]


def main() -> None:
    """Measure, print, and append to RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--utd", type=Path, help="folder in the layout of utd-mhad")
    parser.add_argument("--videos", type=Path, help="folder with sports2d_demo_vp9.mp4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS)
    parser.add_argument("--no-append", action="store_true")
    arguments = parser.parse_args()
    load_before, settings = os.getloadavg(), load()
    lines: list[str] = []
    with tempfile.TemporaryDirectory(prefix="motoric-bench-") as name:
        work = Path(name)
        if {"clips", "csv", "windows"} & set(arguments.only):
            with ray_session(settings, num_cpus=os.cpu_count()):
                if "clips" in arguments.only and arguments.utd is not None:
                    lines += clips(arguments.utd, arguments.videos, work, arguments.rounds)
                if "csv" in arguments.only:
                    lines += csv(work, arguments.rounds)
                if "windows" in arguments.only:
                    lines += windows(work, arguments.rounds)
        if "memory" in arguments.only:
            lines += memory(work, settings)
        if "digest" in arguments.only:
            lines += digest(work, settings)
    packages = ("ray", "av", "pyarrow", "numpy")
    title = f"## ingest, {time.strftime('%Y-%m-%d', time.gmtime())}"
    section = "\n".join(
        [title, "", *lines, *circumstances(packages, script="ingest.py", load_before=load_before)]
    )
    print(section)
    if not arguments.no_append:
        append(section)


if __name__ == "__main__":
    main()
