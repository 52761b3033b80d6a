"""What an engineer would write without Motoric, and the inputs both are given.

Run as a script it reads every CSV of a folder with pyarrow and numpy in one process and one thread,
writes Parquet, and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
from av.video.reformatter import VideoReformatter

CHANNELS = ("acc_x_g", "acc_y_g", "acc_z_g", "gyr_x_dps", "gyr_y_dps", "gyr_z_dps")
STANDARD_GRAVITY_M_S2 = 9.80665


def write_tables(folder: Path, *, num_files: int, num_rows: int, rate_hz: float) -> list[Path]:
    """Sensor tables of random walks; each file is about 50 bytes a row."""
    folder.mkdir(parents=True)
    paths = []
    for number in range(num_files):
        rng = np.random.default_rng(number)
        path = folder / f"r{number:03d}.csv"
        paths.append(path)
        with pcsv.CSVWriter(path, _table(rng, 0, 1, rate_hz).schema) as writer:
            for first in range(0, num_rows, 60_000):
                count = min(60_000, num_rows - first)
                writer.write_table(_table(rng, first, count, rate_hz))
    return paths


def _table(rng: np.random.Generator, first: int, count: int, rate_hz: float) -> pa.Table:
    columns = {"time_s": np.round((first + np.arange(count)) / rate_hz, 3)}
    for name in CHANNELS:
        columns[name] = np.round(np.cumsum(rng.standard_normal(count)) * 0.01, 4)
    return pa.table(columns)


def write_video(path: Path, *, seconds: int) -> None:
    """A moving square, 320 x 240 at 25 frames a second."""
    path.parent.mkdir(parents=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(25 * seconds):
            picture = np.full((240, 320, 3), 40, dtype=np.uint8)
            left = number * 3 % 280
            picture[100:140, left : left + 40] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def clip(path: str, num_frames: int, size: int, reformatter: VideoReformatter) -> np.ndarray:
    """Evenly spread frames of a video, decoded in one go."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "NONE"
        wanted = ((np.arange(num_frames) + 0.5) * stream.frames / num_frames).astype(int)
        frames: list[np.ndarray] = []
        for number, frame in enumerate(container.decode(stream)):
            while len(frames) < num_frames and wanted[len(frames)] == number:
                small = reformatter.reformat(frame, size, size, "rgb24")
                frames.append(small.to_ndarray())
        return np.stack(frames)


def _clips(paths: list[str], num_frames: int, size: int) -> int:
    reformatter = VideoReformatter()
    return sum(len(clip(path, num_frames, size, reformatter)) > 0 for path in paths)


def clips_on_cores(paths: list[str], num_frames: int, size: int, num_cores: int) -> int:
    """Clips of all videos, by a process a core; the clips stay where they were made."""
    with ProcessPoolExecutor(num_cores) as pool:
        parts = [paths[number::num_cores] for number in range(num_cores)]
        counts = pool.map(_clips, parts, [num_frames] * num_cores, [size] * num_cores)
        return sum(counts)


def convert(folder: Path, out: Path) -> None:
    """Read, convert units, sort, write."""
    for path in sorted(folder.glob("*.csv")):
        table = pcsv.read_csv(path, read_options=pcsv.ReadOptions(use_threads=False))
        time_s = table["time_s"].to_numpy()
        values_TC = np.stack([table[name].to_numpy() for name in CHANNELS], axis=1)
        values_TC[:, :3] *= STANDARD_GRAVITY_M_S2
        values_TC[:, 3:] *= np.pi / 180
        order = np.argsort(time_s, kind="stable")
        values_TC = values_TC[order].astype(np.float32)
        columns = {name: values_TC[:, index] for index, name in enumerate(CHANNELS)}
        made = pa.table({"time_s": time_s[order], **columns})
        pq.write_table(made, out / f"{path.stem}.parquet", compression="zstd")


def main() -> None:
    """Convert the folder named on the command line."""
    pa.set_cpu_count(1)
    pa.set_io_thread_count(1)
    with tempfile.TemporaryDirectory() as out:
        started_s = time.perf_counter()
        convert(Path(sys.argv[1]), Path(out))
        print(json.dumps({"seconds": time.perf_counter() - started_s}))


if __name__ == "__main__":
    main()
