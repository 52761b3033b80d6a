"""Small real artefacts for tests: an ONNX graph that adds up the samples of each channel.

The probability of class k is softmax over `sum over time of channel k + bias[k]`, so that a test
can say which class a window belongs to, and a new `bias` makes a version that answers differently.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from motoric.artefact import files
from motoric.artefact.signature import Channel, ClassesOutput, SensorInput, Signature
from motoric.core.releases import Release, ReleasedVersion, write_release

CLASSES = ("raise", "rotate", "rest")
NUM_SAMPLES = 10
NUM_CHANNELS = 4


def small_signature(classes: Sequence[str] = CLASSES, **changes: object) -> Signature:
    """Windows of 10 samples of 4 channels; `changes` are of their input."""
    channels = tuple(Channel(name=f"acc_{name}", unit="m/s^2") for name in "xyzw")
    sensors = SensorInput.model_validate(
        {"channels": channels, "rate_hz": 10.0, "length_s": 1.0, "hop_s": 0.5, **changes}
    )
    return Signature(inputs=(sensors,), outputs=(ClassesOutput(classes=tuple(classes)),))


def small_graph(
    bias: Sequence[float], *, num_samples: int = NUM_SAMPLES, num_channels: int = NUM_CHANNELS
) -> bytes:
    """The graph."""
    num_classes = len(bias)
    weights = np.zeros((num_channels, num_classes), np.float32)
    np.fill_diagonal(weights, 1.0)
    constants = {"weights": weights, "bias": np.asarray(bias, np.float32), "axis": np.array([1])}
    nodes = [
        helper.make_node("ReduceSum", ["windows", "axis"], ["sums"], keepdims=0),
        helper.make_node("MatMul", ["sums", "weights"], ["scores"]),
        helper.make_node("Add", ["scores", "bias"], ["biased"]),
        helper.make_node("Softmax", ["biased"], ["probabilities"], axis=-1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [
            helper.make_tensor_value_info(
                "windows", TensorProto.FLOAT, ["B", num_samples, num_channels]
            )
        ],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["B", num_classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def write_small_artefact(
    uri: str,
    classes: Sequence[str] = CLASSES,
    bias: Sequence[float] = (0.0, 0.0, 0.0),
    *,
    graph: bytes | None = None,
    signature: Signature | None = None,
) -> str:
    """Write an artefact; returns its digest. `graph` replaces the real one, to break it."""
    return files.write_artefact(
        uri,
        {
            files.MODEL: small_graph(bias) if graph is None else graph,
            files.WEIGHTS: b"none",
            files.RECIPE: b"version: 1\n",
            files.SIGNATURE: (signature or small_signature(classes))
            .model_dump_json(indent=1)
            .encode(),
            files.METRICS: json.dumps({"accuracy": 1.0}).encode(),
            files.CARD: b"# A model for tests\n",
        },
    )


def release_small(
    storage_uri: str,
    model: str,
    version: int,
    *,
    bias: Sequence[float] = (0.0, 0.0, 0.0),
    **more: object,
) -> ReleasedVersion:
    """Write version `version` of `model` and release it."""
    artefact = f"artefacts/{model}/{version}"
    digest = write_small_artefact(f"{storage_uri}/{artefact}", bias=bias, **more)  # type: ignore[arg-type]
    released = ReleasedVersion(version=version, digest=digest, artefact=artefact)
    write_release(storage_uri, Release(model=model, primary=released))
    return released


def window_of(class_index: int) -> list[list[float]]:
    """A window that belongs to a class (with an even bias)."""
    return [
        [0.5 if channel == class_index else 0.0 for channel in range(NUM_CHANNELS)]
    ] * NUM_SAMPLES
