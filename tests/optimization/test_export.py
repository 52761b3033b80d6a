from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from filmed import CLIP_MODEL, FUSED_MODEL
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    ClipInput,
    Normaliser,
    Preprocessing,
    QuantilesOutput,
    SensorInput,
    Signature,
)
from motoric.core.errors import ArtefactError
from motoric.models.catalogue import MODELS, build_model, parse_config
from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.heads import ClassesHead, QuantilesHead
from motoric.models.shapes import ClipShape, InputShapes, SensorShape
from motoric.optimization.export import example_inputs, export_onnx, input_names, verify_onnx

NUM = 9
SENSORS = SensorInput(
    channels=tuple(Channel(name=name, unit="g") for name in "xyz"),
    rate_hz=20.0,
    length_s=2.0,
    hop_s=1.0,
)
CLIP = ClipInput(num_frames=6, height=16, width=16, colour="grey", length_s=2.0, hop_s=1.0)
CLASSES = ClassesOutput(classes=("a", "b", "c", "d"))
NORMALISER = Preprocessing(clip_normaliser=Normaliser(mean=(0.4,), std=(0.2,)))
SHAPES = {
    "sensors": SensorShape(num_samples=40, num_channels=3, rate_hz=20.0),
    "clip": ClipShape(num_frames=6, height=16, width=16, num_channels=1),
}
SMALL: dict[str, dict[str, Any]] = {
    "r2plus1d": CLIP_MODEL,
    "frame_recurrent": {"channels": [4, 4], "frame_features": 8, "hidden_size": 4},
    "fusion": FUSED_MODEL,
    "random_kernels": {"num_features": 168},
    "recurrent": {"hidden_size": 4, "stem_channels": 4},
}


def signature_of(takes: tuple[str, ...]) -> Signature:
    inputs = {"sensors": SENSORS, "clip": CLIP}
    return Signature(
        inputs=tuple(inputs[item] for item in takes),
        outputs=(CLASSES,),
        preprocessing=NORMALISER if "clip" in takes else Preprocessing(),
    )


def network_of(name: str, takes: tuple[str, ...], num_outputs: int = 4) -> nn.Module:
    """A network that has seen something, so that normalisation layers are not as they began."""
    torch.manual_seed(0)
    shapes = InputShapes(**{item: SHAPES[item] for item in takes})  # type: ignore[arg-type]
    config = parse_config({**SMALL.get(name, {}), "name": name})
    network = build_model(config, shapes, num_outputs)
    inputs = [torch.from_numpy(value).float() for value in values_of(takes, seed=1).values()]
    if isinstance(network, ClosedFormNetwork):
        network.initialise(inputs[0], torch.Generator().manual_seed(0))
        network.solve(network.features(inputs[0]), torch.arange(NUM) % num_outputs)
    else:
        network.train()
        network(*inputs)
    return network.eval()


def values_of(takes: tuple[str, ...], seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs of the graph by their names; of a fused one rows with either missing."""
    rng = np.random.default_rng(seed)
    found: dict[str, NDArray[Any]] = {}
    if "sensors" in takes:
        found["windows"] = rng.normal(size=(NUM, 40, 3)).astype(np.float32)
    if "clip" in takes:
        found["clips"] = rng.integers(0, 256, (NUM, *CLIP.shape)).astype(np.uint8)
    if len(takes) == 2:
        found["present"] = np.array([[1, 1], [1, 0], [0, 1]] * 3, dtype=np.float32)
    return found


@pytest.mark.parametrize("name", sorted(MODELS))
def test_the_graph_says_what_the_network_says_at_any_batch_size(name: str) -> None:
    takes = MODELS[name].takes
    network, head, signature = network_of(name, takes), ClassesHead(), signature_of(takes)
    model = export_onnx(network, head, signature)
    graph = onnx.load_from_string(model)
    onnx.checker.check_model(graph)
    assert tuple(item.name for item in graph.graph.input) == input_names(signature)
    assert [item.name for item in graph.graph.output] == ["probabilities"]
    assert verify_onnx(model, network, head, signature, values_of(takes)) < 1e-4
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(1.5)
    with pytest.raises(ArtefactError, match="differs from the network"):
        verify_onnx(model, network, head, signature, values_of(takes))


def test_the_head_of_a_forecast_is_in_the_graph() -> None:
    output = QuantilesOutput(of="y", unit="g", horizon_s=1.0, quantiles=(0.1, 0.5, 0.9))
    signature = Signature(task="forecast", inputs=(SENSORS,), outputs=(output,))
    network = network_of("recurrent", ("sensors",), 3)
    head = QuantilesHead(channel=1, mean=10.0, std=2.0, scale=3.0)
    model = export_onnx(network, head, signature)
    values = values_of(("sensors",))
    assert verify_onnx(model, network, head, signature, values) < 1e-4
    graph = onnx.load_from_string(model).graph
    assert [item.name for item in graph.output] == ["quantiles"]


@pytest.mark.parametrize(
    ("takes", "names"),
    [
        (("sensors",), ("windows",)),
        (("clip",), ("clips",)),
        (("sensors", "clip"), ("windows", "clips", "present")),
    ],
)
def test_the_inputs_of_a_graph_follow_from_the_signature(
    takes: tuple[str, ...], names: tuple[str, ...]
) -> None:
    signature = signature_of(takes)
    assert input_names(signature) == names
    shapes = {"windows": (2, 40, 3), "clips": (2, 6, 16, 16, 1), "present": (2, 2)}
    examples = example_inputs(signature, 2)
    assert [tuple(item.shape) for item in examples] == [shapes[name] for name in names]
    if "clip" in takes:
        assert examples[names.index("clips")].dtype == torch.uint8
