"""Requests of the Open Inference Protocol over HTTP, to be sent to small models and read back."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from artefacts import NUM_CHANNELS, NUM_SAMPLES, small_signature
from motoric.artefact.signature import ClipInput
from motoric.serving.open_inference.http import read_request
from motoric.serving.open_inference.metadata import ModelSpec, model_spec
from motoric.serving.open_inference.request import InferRequest

SIGNATURE = small_signature()
SPEC = model_spec(SIGNATURE, model="lifts", version=3)
CLIP = ClipInput(num_frames=2, height=3, width=4, optional=True)
FUSED = model_spec(
    SIGNATURE.model_copy(
        update={"inputs": (SIGNATURE.sensors.model_copy(update={"optional": True}), CLIP)}
    ),
    model="both",
    version=1,
)
SHAPE = (NUM_SAMPLES, NUM_CHANNELS)
WINDOW = np.arange(NUM_SAMPLES * NUM_CHANNELS, dtype=np.float32).reshape(1, *SHAPE)


def read_http(document: Any, raw: bytes = b"", spec: ModelSpec = SPEC) -> InferRequest:
    """What the server reads of a document with raw tensors behind it."""
    text = orjson.dumps(document)
    return read_request(text + raw, b"%d" % len(text) if raw else None, spec)


def tensor(**changes: Any) -> dict[str, Any]:
    """The input `windows` as JSON; None leaves a key out."""
    found = {"name": "windows", "datatype": "FP32", "shape": [1, *SHAPE], "data": WINDOW.tolist()}
    return {key: value for key, value in {**found, **changes}.items() if value is not None}


def binary(size: int, **changes: Any) -> dict[str, Any]:
    """The input `windows` with its bytes behind the JSON."""
    return tensor(data=None, parameters={"binary_data_size": size}, **changes)
