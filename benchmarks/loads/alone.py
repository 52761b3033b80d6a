"""onnxruntime in a loop, with nothing around it: the roof of what a server can reach on one core.

python -m loads.alone MODEL BATCH SECONDS    # in benchmarks/; prints windows a second
"""

from __future__ import annotations

import sys
import time

import numpy as np
import onnxruntime as ort


def main(model: str, num_windows: int, seconds: float) -> float:
    """Windows a second of batches of `num_windows`, on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model, options)
    windows_BTC = np.random.default_rng(0).normal(0, 5, (num_windows, 100, 6)).astype(np.float32)
    session.run(None, {"windows": windows_BTC})
    num_runs, started_s = 0, time.perf_counter()
    while (used_s := time.perf_counter() - started_s) < seconds:
        session.run(None, {"windows": windows_BTC})
        num_runs += 1
    return num_runs * num_windows / used_s


if __name__ == "__main__":
    print(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
