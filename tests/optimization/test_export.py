from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from exported import SENSOR_INPUT, clip_input_of, exported, signature_of, values_of
from motoric.artefact.signature import QuantilesOutput, Signature
from motoric.core.errors import ArtefactError
from motoric.models.catalogue import MODELS
from motoric.models.heads import QuantilesHead
from motoric.optimization.export import example_inputs, export_onnx, input_names, verify_onnx


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_graph_says_what_the_network_says_at_any_batch_size(name: str) -> None:
    found, values = exported(name), values_of(name)
    graph = onnx.load_from_string(found.model)
    onnx.checker.check_model(graph)
    assert tuple(item.name for item in graph.graph.input) == input_names(found.signature)
    assert [item.name for item in graph.graph.output] == ["probabilities"]
    assert verify_onnx(found.model, found.network, found.head, found.signature, values) < 1e-4
    other = copy.deepcopy(found.network)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    with pytest.raises(ArtefactError, match="differs from the network"):
        verify_onnx(found.model, other, found.head, found.signature, values)


def test_the_head_of_a_forecast_is_in_the_graph() -> None:
    output = QuantilesOutput(of="acc_y", unit="g", horizon_s=1.0, quantiles=(0.1, 0.5, 0.9))
    signature = Signature(task="forecast", inputs=(SENSOR_INPUT,), outputs=(output,))
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(13 * 3, 3)).eval()
    head = QuantilesHead(channel=1, mean=10.0, std=2.0, scale=3.0)
    model = export_onnx(network, head, signature)
    values = values_of("recurrent")
    assert verify_onnx(model, network, head, signature, values) < 1e-4
    graph = onnx.load_from_string(model).graph
    assert [item.name for item in graph.output] == ["quantiles"]
    present_B = torch.from_numpy(values["windows"])[:, -1, 1] * 2.0 + 10.0
    untrained_BQ = head(torch.zeros(len(present_B), 3), torch.from_numpy(values["windows"]))
    np.testing.assert_allclose(untrained_BQ[:, 1], present_B, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("recurrent", ("windows",)),
        ("frame_recurrent", ("clips",)),
        ("fusion", ("windows", "clips", "present")),
    ],
)
def test_the_inputs_of_a_graph_follow_from_the_signature(name: str, names: tuple[str, ...]) -> None:
    signature = signature_of(name)
    assert input_names(signature) == names
    clips = clip_input_of(name).shape
    shapes = {"windows": (2, 13, 3), "clips": (2, *clips), "present": (2, 2)}
    examples = example_inputs(signature, 2)
    assert [tuple(item.shape) for item in examples] == [shapes[name] for name in names]
    if "clips" in names:
        assert examples[names.index("clips")].dtype == torch.uint8
