"""A network of each family with its exported graph, made once a session: an export takes seconds.

Axes: B examples, T samples or frames, H height, W width, C channels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from motoric.artefact.files import LoadedArtefact
from motoric.artefact.predictor import Predictor
from motoric.artefact.signature import (
    Channel,
    ClassesOutput,
    ClipInput,
    Normaliser,
    Preprocessing,
    SensorInput,
    Signature,
)
from motoric.models.catalogue import MODELS, build_model, parse_config
from motoric.models.closed_form import ClosedFormNetwork
from motoric.models.heads import ClassesHead
from motoric.models.shapes import ClipShape, InputShapes, SensorShape
from motoric.optimization.export import export_onnx
from recordings import CHANNELS, LABELS, RATE_HZ

NUM = 9
# Odd in every axis, and short: the exporter unrolls recurrent cells.
WINDOW = {"stream": "imu", "length_s": 0.65, "hop_s": 1.0}
CLIP = {"num_frames": 3, "height": 15, "width": 18}
_CHANNELS = tuple(Channel(name=item.name, unit=item.unit) for item in CHANNELS)
SENSOR_INPUT = SensorInput(
    name="imu", channels=_CHANNELS, rate_hz=RATE_HZ, length_s=0.65, hop_s=1.0
)
OUTPUT = ClassesOutput(classes=LABELS)
GREY = ("frame_recurrent",)
# What one family leaves at its defaults another one changes.
MODEL: dict[str, dict[str, Any]] = {
    "frame_recurrent": {"channels": [4], "frame_features": 8, "hidden_size": 4},
    "fusion": {
        "sensors": {"name": "recurrent", "cell": "lstm", "hidden_size": 4, "stem_channels": 4},
        "clip": {
            "name": "r2plus1d",
            "stages": [4],
            "stem_channels": 4,
            "pooling": "max",
            "frame_differences": False,
        },
        "embedding_size": 8,
        "joint_size": 8,
    },
    "inception": {"depth": 3, "filters": 4},
    "late_fusion": {
        "sensors": {"name": "random_kernels", "num_features": 84},
        "clip": {"name": "r2plus1d", "stages": [4], "stem_channels": 4},
    },
    "patch_transformer": {"patch_samples": 4, "stride_samples": 2, "width": 16, "depth": 1},
    "r2plus1d": {"stages": [4], "stem_channels": 4},
    "random_kernels": {"num_features": 168, "representations": ["raw", "diff"]},
    "recurrent": {"hidden_size": 4, "stem_channels": 4},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A network that is never trained further, its head, and the graph of both."""

    network: nn.Module
    head: nn.Module
    signature: Signature
    model: bytes

    def predictor(self, signature: Signature) -> Predictor:
        """Of the graph, with a signature of the same inputs and output."""
        return Predictor(LoadedArtefact(uri="x", digest="", signature=signature, model=self.model))


def model_of(name: str, *, optional: bool = False, **changes: Any) -> dict[str, Any]:
    """What `release_small` needs for one family; `changes` are of its clips.

    Args:
        name: Of the family.
        optional: A fused one may lack either input.
        changes: Of the clip input.
    """
    made = exported(name)
    inputs = []
    for item in made.signature.inputs:
        update = changes if isinstance(item, ClipInput) else {}
        inputs.append(item.model_copy(update={**update, "optional": optional}))
    signature = made.signature.model_copy(update={"inputs": tuple(inputs)})
    return {"graph": made.model, "signature": signature}


@functools.cache
def exported(name: str) -> Exported:
    """The family that the catalogue calls `name`."""
    network, head, signature = network_of(name), ClassesHead(), signature_of(name)
    model = export_onnx(network, head, signature)
    return Exported(network=network, head=head, signature=signature, model=model)


def clip_input_of(name: str) -> ClipInput:
    """Clips of one family."""
    colour = "grey" if name in GREY else "rgb"
    return ClipInput(**CLIP, colour=colour, length_s=0.65, hop_s=1.0)


def signature_of(name: str) -> Signature:
    """Of one family, with normalisers that change something."""
    inputs: list[SensorInput | ClipInput] = []
    normaliser = clip_normaliser = None
    if "sensors" in MODELS[name].takes:
        inputs.append(SENSOR_INPUT)
        normaliser = Normaliser(mean=(0.1, -0.2, 0.3), std=(0.8, 0.7, 1.1))
    if "clip" in MODELS[name].takes:
        inputs.append(clip_input_of(name))
        num = inputs[-1].num_channels
        clip_normaliser = Normaliser(mean=(0.3, 0.2, 0.1)[:num], std=(0.2, 0.3, 0.25)[:num])
    return Signature(
        inputs=tuple(inputs),
        outputs=(OUTPUT,),
        preprocessing=Preprocessing(normaliser=normaliser, clip_normaliser=clip_normaliser),
    )


def network_of(name: str) -> nn.Module:
    """A network that has seen something, so that normalisation layers are not as they began."""
    torch.manual_seed(0)
    takes, num_colours = MODELS[name].takes, clip_input_of(name).num_channels
    shapes = InputShapes(
        sensors=SensorShape(num_samples=13, num_channels=3, rate_hz=RATE_HZ)
        if "sensors" in takes
        else None,
        clip=ClipShape(**CLIP, num_channels=num_colours) if "clip" in takes else None,
    )
    network = build_model(parse_config({**MODEL.get(name, {}), "name": name}), shapes, len(LABELS))
    inputs = [torch.from_numpy(value).float() for value in values_of(name, seed=1).values()]
    for part in network.modules():
        if isinstance(part, ClosedFormNetwork):
            part.initialise(inputs[0], torch.Generator().manual_seed(0))
            part.solve(part.features(inputs[0]), torch.arange(NUM) % len(LABELS))
    if not isinstance(network, ClosedFormNetwork):
        network.train()
        network(*inputs)
    return network.eval()


def values_of(name: str, seed: int = 0) -> dict[str, NDArray[Any]]:
    """Inputs of a graph by their names; of a fused one rows with either missing, and both."""
    rng = np.random.default_rng(seed)
    takes = MODELS[name].takes
    found: dict[str, NDArray[Any]] = {}
    if "sensors" in takes:
        found["windows"] = rng.normal(size=(NUM, 13, 3)).astype(np.float32)
    if "clip" in takes:
        found["clips"] = rng.integers(0, 256, (NUM, *clip_input_of(name).shape)).astype(np.uint8)
    if len(takes) == 2:
        kinds = [[1, 0], [1, 1], [0, 1], [0, 0]]
        found["present"] = np.array([kinds[index % 4] for index in range(NUM)], dtype=np.float32)
    return found
