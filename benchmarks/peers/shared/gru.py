"""What the servers of all peers share: the model in onnxruntime, and bodies to and from it.

In: bodies of one or more windows. Out: probabilities, or the answer that Motoric gives in JSON.

Axes: B windows of a request or batch, T samples, C channels, K classes.
"""

import os
from typing import Any

import numpy as np
import onnxruntime as ort
import orjson
from numpy.typing import NDArray

PORT = int(os.environ.get("BENCH_PORT", "0"))
MAX_BATCH = int(os.environ.get("BENCH_MAX_BATCH", "32"))
NUM_SAMPLES, NUM_CHANNELS = 100, 6

Windows = NDArray[np.float32]
Probabilities = NDArray[np.float32]


class Gru:
    """The model on one thread."""

    def __init__(self) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(os.environ["BENCH_MODEL"], options)

    def run(self, windows_BTC: Windows) -> Probabilities:
        """Probabilities (B, K)."""
        probabilities_BK: Probabilities = self._session.run(None, {"windows": windows_BTC})[0]
        return probabilities_BK

    def run_many(self, requests: list[Windows]) -> list[Probabilities]:
        """Probabilities of several requests, computed as one batch."""
        if len(requests) == 1:
            return [self.run(requests[0])]
        ends = np.cumsum([len(each) for each in requests])[:-1]
        return np.split(self.run(np.concatenate(requests)), ends)


def from_json(body: bytes) -> Windows:
    """Windows of `{"windows": [[[...] x T] x B]}`."""
    return np.array(orjson.loads(body)["windows"], dtype=np.float32)


def from_bytes(body: bytes) -> Windows:
    """Windows of little-endian float32."""
    return np.frombuffer(body, "<f4").reshape(-1, NUM_SAMPLES, NUM_CHANNELS)


def predictions(probabilities_BK: Probabilities) -> list[dict[str, Any]]:
    """What Motoric says of each window."""
    found = []
    for row in probabilities_BK.tolist():
        best = max(range(len(row)), key=row.__getitem__)
        found.append(
            {
                "label": f"exercise-{best}",
                "probability": row[best],
                "probabilities": {f"exercise-{index}": value for index, value in enumerate(row)},
            }
        )
    return found


def to_json(probabilities_BK: Probabilities) -> bytes:
    """The answer in JSON."""
    return orjson.dumps({"predictions": predictions(probabilities_BK)})
