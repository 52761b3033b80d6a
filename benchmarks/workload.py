"""What the servers run and are asked: a GRU with random weights, and windows of noise.

In: an empty folder. Out: below it the ONNX file that peers load, and what Motoric needs: artefact,
releases and a key.

Axes: B windows, T samples, C channels, K classes.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

MODEL = "bench-gru"  # windows of 2 s, every second
MODEL_APART = "bench-gru-apart"  # the same, every 2 s: windows do not overlap
RATE_HZ, LENGTH_S = 50.0, 2.0
NUM_SAMPLES, NUM_CHANNELS, NUM_CLASSES, NUM_HIDDEN = 100, 6, 7, 64
CHANNELS = tuple(f"channel_{index}" for index in range(NUM_CHANNELS))
NUM_BODIES = 16
LARGE_WINDOWS = 64  # of a request of many


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What was written.

    Attributes:
        folder: Of all of it.
        model: The ONNX file.
        key: For Motoric; the peers get it too and do not look at it.
        windows_BTC: `NUM_BODIES` windows.
    """

    folder: Path
    model: Path
    key: str
    windows_BTC: NDArray[np.float32]

    @property
    def storage(self) -> Path:
        """What Motoric's replicas read."""
        return self.folder / "storage"

    def batches(self, num_windows: int) -> list[NDArray[np.float32]]:
        """Requests of so many windows, each other windows."""
        repeated_BTC = np.concatenate([self.windows_BTC] * (num_windows // NUM_BODIES + 2))
        return [repeated_BTC[index : index + num_windows] for index in range(NUM_BODIES)]


def export_model() -> bytes:
    """A GRU with random weights as ONNX."""
    import torch
    from torch import Tensor, nn

    warnings.simplefilter("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gru = nn.GRU(NUM_CHANNELS, NUM_HIDDEN, batch_first=True)
            self.head = nn.Linear(NUM_HIDDEN, NUM_CLASSES)

        def forward(self, windows: Tensor) -> Tensor:
            outputs, _ = self.gru(windows)
            return torch.softmax(self.head(outputs[:, -1]), dim=-1)

    torch.manual_seed(0)
    network = Network().eval()
    program = torch.onnx.export(
        network,
        (torch.randn(2, NUM_SAMPLES, NUM_CHANNELS),),
        input_names=["windows"],
        output_names=["probabilities"],
        dynamic_shapes={"windows": {0: torch.export.Dim("batch", min=1, max=4096)}},
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    content: bytes = program.model_proto.SerializeToString()
    return content


def write_workload(folder: Path) -> Workload:
    """Write the model and all that Motoric needs to serve it under `folder`."""
    from motoric.core import settings
    from motoric.serving.accounts import open_accounts

    model = folder / "model.onnx"
    model.write_bytes(export_model())
    for name, hop_s in ((MODEL, 1.0), (MODEL_APART, LENGTH_S)):
        _release(name, hop_s, model.read_bytes(), str(folder / "storage"))
    found = settings.load(home=folder / "home", storage_uri=str(folder / "storage"))
    accounts_uri = f"sqlite:///{folder}/home/accounts/accounts.db"
    accounts = open_accounts(found.model_copy(update={"accounts_uri": accounts_uri}))
    key = accounts.create_key("benchmark").secret
    accounts.close()
    generator = np.random.default_rng(0)
    windows_BTC = generator.normal(0, 5, (NUM_BODIES, NUM_SAMPLES, NUM_CHANNELS)).round(5)
    return Workload(folder=folder, model=model, key=key, windows_BTC=windows_BTC.astype(np.float32))


def _release(name: str, hop_s: float, model: bytes, storage: str) -> None:
    from motoric.artefact import files
    from motoric.artefact.signature import Channel, ClassesOutput, SensorInput, Signature
    from motoric.core.releases import Release, ReleasedVersion, write_release

    channels = tuple(Channel(name=channel, unit="m/s^2") for channel in CHANNELS)
    signature = Signature(
        inputs=(SensorInput(channels=channels, rate_hz=RATE_HZ, length_s=LENGTH_S, hop_s=hop_s),),
        outputs=(ClassesOutput(classes=tuple(f"exercise-{i}" for i in range(NUM_CLASSES))),),
    )
    content = dict.fromkeys(files.REQUIRED, b"benchmark")
    content |= {files.MODEL: model, files.SIGNATURE: signature.model_dump_json().encode()}
    digest = files.write_artefact(f"{storage}/artefacts/{name}/1", content)
    released = ReleasedVersion(version=1, digest=digest, artefact=f"artefacts/{name}/1")
    write_release(storage, Release(model=name, primary=released))


class Reference:
    """onnxruntime alone, on one thread: what answers are compared with, and the roof of rates."""

    def __init__(self, model: Path) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(model, options)

    def run(self, windows_BTC: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities (B, K)."""
        probabilities_BK: NDArray[np.float32] = self._session.run(None, {"windows": windows_BTC})[0]
        return probabilities_BK
