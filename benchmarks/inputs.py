"""What the servers are asked: a GRU with random weights as an artefact, and bodies of JSON windows.

Axes: B windows, T samples, C channels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

MODEL = "bench-gru"
NUM_SAMPLES, NUM_CHANNELS, NUM_CLASSES, NUM_HIDDEN = 100, 6, 7, 64
NUM_BODIES = 16


def export_model() -> bytes:
    """A GRU with random weights as ONNX."""
    import torch
    from torch import Tensor, nn

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


def write_inputs(folder: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The artefact, its release and the bodies under `folder`; returns the windows (B, T, C)."""
    from motoric.artefact import files
    from motoric.artefact.signature import Channel, ClassesOutput, SensorInput, Signature
    from motoric.core.releases import Release, ReleasedVersion, write_release

    channels = tuple(Channel(name=f"channel_{i}", unit="m/s^2") for i in range(NUM_CHANNELS))
    signature = Signature(
        inputs=(SensorInput(channels=channels, rate_hz=50.0, length_s=2.0, hop_s=1.0),),
        outputs=(ClassesOutput(classes=tuple(f"exercise-{i}" for i in range(NUM_CLASSES))),),
    )
    model = export_model()
    content = dict.fromkeys(files.REQUIRED, b"benchmark")
    content |= {files.MODEL: model, files.SIGNATURE: signature.model_dump_json().encode()}
    storage = folder / "storage"
    digest = files.write_artefact(f"{storage}/artefacts/{MODEL}/1", content)
    released = ReleasedVersion(version=1, digest=digest, artefact=f"artefacts/{MODEL}/1")
    write_release(str(storage), Release(model=MODEL, primary=released))
    (folder / "model.onnx").write_bytes(model)
    generator = np.random.default_rng(0)
    shape = (NUM_BODIES, NUM_SAMPLES, NUM_CHANNELS)
    # Six digits, as a client sends what a sensor with float32 gives.
    windows_BTC = generator.normal(0, 5, shape).round(5)
    bodies = (json.dumps({"windows": [window.tolist()]}) for window in windows_BTC)
    (folder / "bodies.jsonl").write_text("".join(body + "\n" for body in bodies))
    return windows_BTC.astype(np.float32)
