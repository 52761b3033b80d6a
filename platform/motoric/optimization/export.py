"""Export a network to ONNX and verify that the graph says what the network says.

In: a torch network that gives logits. Out: the bytes of one graph with a dynamic batch: `windows`
(B, T, C), prepared, to `probabilities` (B, K).
"""

from __future__ import annotations

import logging
import warnings

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from motoric.artefact.signature import Signature
from motoric.core.errors import ArtefactError

TOLERANCE = 1e-4


class _Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, windows: Tensor) -> Tensor:
        return torch.softmax(self.network(windows), dim=-1)


def export_onnx(network: nn.Module, signature: Signature) -> bytes:
    """Export `network` with softmax on top."""
    module = _Probabilities(network).eval()
    sensors = signature.sensors
    example = torch.zeros(2, sensors.num_samples, signature.num_prepared_channels)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["windows"],
            output_names=["probabilities"],
            dynamic_shapes={"windows": {0: torch.export.Dim("batch")}},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def verify_onnx(model: bytes, network: nn.Module, prepared_BTC: NDArray[np.float32]) -> float:
    """Largest difference of a probability between the graph and the network.

    The graph is run at several batch sizes, 1 among them.

    Raises:
        ArtefactError: It is above `TOLERANCE`.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = _Probabilities(network).eval()(torch.from_numpy(prepared_BTC)).numpy()
    worst = 0.0
    for size in {1, min(7, len(prepared_BTC)), len(prepared_BTC)}:
        found = session.run(None, {"windows": prepared_BTC[:size]})[0]
        worst = max(worst, float(np.abs(found - expected[:size]).max()))
    if worst > TOLERANCE:
        raise ArtefactError(f"the exported graph differs from the network by {worst:.2g}")
    return worst
