"""Export a network to ONNX and verify that the graph says what the network says.

In: a torch network, its head, and the signature. Out: the bytes of one graph with a dynamic batch:
`windows` (B, T, C), prepared; `clips` (B, T, H, W, C), uint8; `present` (B, 2), where there are
both; to `probabilities` (B, K), `value` (B, 1) or `quantiles` (B, Q).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS
from motoric.artefact.signature import Signature
from motoric.core.errors import ArtefactError

TOLERANCE = 1e-4


class Graph(nn.Module):
    """The whole of what is exported: clips as bytes are normalised, the head comes last.

    Args:
        network: Gives raw outputs.
        head: See `motoric.models.heads`.
        signature: Its inputs, in their order, and the normaliser of clips.
    """

    def __init__(self, network: nn.Module, head: nn.Module, signature: Signature) -> None:
        super().__init__()
        self.network = network
        self.head = head
        self.has_sensors = signature.sensor_input is not None
        self.has_clip = signature.clip_input is not None
        normaliser = signature.preprocessing.clip_normaliser
        self.clip_mean_C: Tensor
        self.clip_std_C: Tensor
        self.register_buffer("clip_mean_C", torch.tensor(normaliser.mean if normaliser else 0.0))
        self.register_buffer("clip_std_C", torch.tensor(normaliser.std if normaliser else 1.0))

    def forward(self, *inputs: Tensor) -> Tensor:
        """What the signature promises."""
        items = list(inputs)
        if self.has_clip:
            place = 1 if self.has_sensors else 0
            clips_BTHWC = items[place].to(torch.float32) / 255
            items[place] = (clips_BTHWC - self.clip_mean_C) / self.clip_std_C
        found: Tensor = self.head(self.network(*items), items[0] if self.has_sensors else None)
        return found


def input_names(signature: Signature) -> tuple[str, ...]:
    """Names of the graph's inputs, in their order."""
    names = [WINDOWS] if signature.sensor_input is not None else []
    if signature.clip_input is not None:
        names.append(CLIPS)
    return (*names, PRESENT) if len(names) == 2 else tuple(names)


def example_inputs(signature: Signature, num: int) -> tuple[Tensor, ...]:
    """Inputs of zeros of the graph's shapes and types."""
    items = []
    if signature.sensor_input is not None:
        shape = (num, signature.sensors.num_samples, signature.num_prepared_channels)
        items.append(torch.zeros(shape))
    if signature.clip_input is not None:
        items.append(torch.zeros((num, *signature.clip_input.shape), dtype=torch.uint8))
    return (*items, torch.ones(num, 2)) if len(items) == 2 else tuple(items)


def export_onnx(network: nn.Module, head: nn.Module, signature: Signature) -> bytes:
    """Export `network` with its head on top."""
    module = Graph(network, head, signature).eval()
    names = input_names(signature)
    batch = torch.export.Dim("batch")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("onnxscript").setLevel(logging.ERROR)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        program = torch.onnx.export(
            module,
            example_inputs(signature, 2),
            input_names=list(names),
            output_names=[signature.output.name],
            dynamic_shapes={"inputs": tuple({0: batch} for _ in names)},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return bytes(program.model_proto.SerializeToString())


def verify_onnx(
    model: bytes,
    network: nn.Module,
    head: nn.Module,
    signature: Signature,
    inputs: Mapping[str, NDArray[Any]],
) -> float:
    """Largest difference between the graph and the network, as a share of the output's size.

    The graph is run at several batch sizes, 1 among them.

    Args:
        model: From `export_onnx`.
        network: The network.
        head: Its head.
        signature: Of both.
        inputs: By the graph's names: windows prepared, clips as bytes.

    Raises:
        ArtefactError: It is above `TOLERANCE`.
    """
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    tensors = [torch.from_numpy(inputs[name]) for name in input_names(signature)]
    with torch.no_grad():
        expected = Graph(network, head, signature).eval()(*tensors).numpy()
    size = max(1.0, float(np.abs(expected).max()))
    worst = 0.0
    for num in {1, min(7, len(expected)), len(expected)}:
        found = session.run(None, {name: values[:num] for name, values in inputs.items()})[0]
        worst = float(np.maximum(worst, np.abs(found - expected[:num]).max() / size))
    # A graph that gives NaN is wrong too, and compares as neither.
    if not worst <= TOLERANCE:
        raise ArtefactError(f"the exported graph differs from the network by {worst:.2g}")
    return worst
