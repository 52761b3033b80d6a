from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from motoric.artefact.signature import Channel, ClassesOutput, SensorInput, Signature
from motoric.core.errors import ArtefactError
from motoric.models.catalogue import MODELS, build_model, parse_config
from motoric.optimization.export import export_onnx, verify_onnx

SIGNATURE = Signature(
    inputs=(
        SensorInput(
            channels=tuple(Channel(name=name, unit="g") for name in "xyz"),
            rate_hz=20.0,
            length_s=2.0,
            hop_s=1.0,
        ),
    ),
    outputs=(ClassesOutput(classes=("a", "b", "c", "d")),),
)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_graph_says_what_the_network_says_at_any_batch_size(name: str) -> None:
    torch.manual_seed(0)
    network = build_model(parse_config({"name": name}), num_channels=3, num_classes=4)
    windows = np.random.default_rng(0).normal(size=(9, 40, 3)).astype(np.float32)
    network.train()
    network(torch.from_numpy(windows))  # moves what normalisation layers have seen
    network.eval()
    model = export_onnx(network, SIGNATURE)
    onnx.checker.check_model(onnx.load_from_string(model))
    assert verify_onnx(model, network, windows) < 1e-4
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
    with pytest.raises(ArtefactError, match="differs from the network"):
        verify_onnx(model, network, windows)
