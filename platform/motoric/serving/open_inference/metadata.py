"""What the Open Inference Protocol v2 says of a server and its models, from a signature.

In: a signature with the name and version it is served under. Out: the tensors that a model takes
and gives, and the protocol's documents of them.

    inputs     windows        FP32  [-1, T, C]           of models of sensors, with their context
               clips          UINT8 [-1, T, H, W, C]     of models of video
               present        BOOL  [-1, 2]              optional, of fused models: whether each
                                                         example has its window and its clip
    outputs    probabilities  FP32  [-1, K]              of classes, and
               label          BYTES [-1]                 the name of the most probable class
               value          FP32  [-1]
               quantiles      FP32  [-1, Q]

Axes: -1 is the examples of a request (B), T samples or frames, C channels, H height, W width,
K classes, Q quantiles. Source: https://github.com/kserve/open-inference-protocol.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import motoric
from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS
from motoric.artefact.signature import ClassesOutput, QuantilesOutput, Signature
from motoric.core.errors import NotFoundError
from motoric.serving.open_inference.tensors import BYTES, TensorSpec

LABEL, PROBABILITIES, VALUE, QUANTILES = "label", "probabilities", "value", "quantiles"
SERVER_NAME = "motoric"
EXTENSIONS = ("binary_tensor_data",)
PLATFORM = "onnxruntime_onnx"  # as Triton calls it

RouteKind = Literal["server", "live", "ready", "model", "model_ready", "infer"]
_MODELS = "/v2/models/"
_SERVER_ROUTES: dict[str, RouteKind] = {
    "/v2": "server",
    "/v2/health/live": "live",
    "/v2/health/ready": "ready",
}
_MODEL_ROUTES: dict[tuple[str, ...], RouteKind] = {
    (): "model",
    ("ready",): "model_ready",
    ("infer",): "infer",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """One served version of a model, as the protocol sees it."""

    model: str
    version: str
    signature: Signature
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """What a path asks for; `model` and `version` are empty where it names none."""

    kind: RouteKind
    model: str = ""
    version: str = ""


def model_spec(signature: Signature, *, model: str, version: int) -> ModelSpec:
    """Describe a served version.

    Args:
        signature: Of its artefact.
        model: Its name.
        version: Its number.
    """
    return ModelSpec(
        model=model,
        version=str(version),
        signature=signature,
        inputs=_inputs(signature),
        outputs=_outputs(signature),
    )


def _inputs(signature: Signature) -> tuple[TensorSpec, ...]:
    sensors, clip = signature.sensor_input, signature.clip_input
    inputs: list[TensorSpec] = []
    if sensors is not None:
        shape = (-1, sensors.num_input_samples, sensors.num_channels)
        inputs.append(
            TensorSpec(name=WINDOWS, datatype="FP32", shape=shape, optional=sensors.optional)
        )
    if clip is not None:
        inputs.append(
            TensorSpec(
                name=CLIPS, datatype="UINT8", shape=(-1, *clip.shape), optional=clip.optional
            )
        )
    if len(inputs) > 1:
        inputs.append(TensorSpec(name=PRESENT, datatype="BOOL", shape=(-1, 2), optional=True))
    return tuple(inputs)


def _outputs(signature: Signature) -> tuple[TensorSpec, ...]:
    output = signature.output
    if isinstance(output, ClassesOutput):
        return (
            TensorSpec(name=PROBABILITIES, datatype="FP32", shape=(-1, len(output.classes))),
            TensorSpec(name=LABEL, datatype=BYTES, shape=(-1,)),
        )
    if isinstance(output, QuantilesOutput):
        shape = (-1, len(output.quantiles))
        return (TensorSpec(name=QUANTILES, datatype="FP32", shape=shape),)
    return (TensorSpec(name=VALUE, datatype="FP32", shape=(-1,)),)


def check_model(spec: ModelSpec, model: str, version: str) -> None:
    """Check that a request names this model, and this version or none.

    Raises:
        NotFoundError: It names others.
    """
    if model != spec.model:
        raise NotFoundError(f"there is no model {model!r} here; this is {spec.model!r}")
    if version not in ("", spec.version):
        raise NotFoundError(
            f"version {version!r} of model {model!r} is not served: version {spec.version} is; name"
            " it or none"
        )


def parse_route(path: str) -> Route:
    """Read a path of the protocol, from `/v2` on and with its escapes decoded.

    Raises:
        NotFoundError: The protocol has no such path.
    """
    kind = _SERVER_ROUTES.get(path.removesuffix("/"))
    if kind is not None:
        return Route(kind=kind)
    parts = path.removeprefix(_MODELS).split("/")
    if path.startswith(_MODELS) and all(parts):
        model, *rest = parts
        version = ""
        if len(rest) > 1 and rest[0] == "versions":
            version, rest = rest[1], rest[2:]
        kind = _MODEL_ROUTES.get(tuple(rest))
        if kind is not None:
            return Route(kind=kind, model=model, version=version)
    raise NotFoundError(
        f"nothing lies at {path}; the Open Inference Protocol has /v2, /v2/health/live,"
        " /v2/health/ready, and /v2/models/NAME[/versions/NUMBER] with /ready and /infer"
    )


def server_metadata() -> dict[str, Any]:
    """The document of `GET /v2`."""
    return {
        "name": SERVER_NAME,
        "version": motoric.__version__,
        "extensions": list(EXTENSIONS),
    }


def model_metadata(spec: ModelSpec) -> dict[str, Any]:
    """The document of `GET /v2/models/NAME`; the protocol cannot say that an input is optional."""
    return {
        "name": spec.model,
        "versions": [spec.version],
        "platform": PLATFORM,
        "inputs": [_tensor(item) for item in spec.inputs],
        "outputs": [_tensor(item) for item in spec.outputs],
    }


def live_document() -> dict[str, Any]:
    """The document of `GET /v2/health/live`."""
    return {"live": True}


def ready_document(is_ready: bool) -> dict[str, Any]:
    """The document of `GET /v2/health/ready`; clients look at the status, 200 or 503."""
    return {"ready": is_ready}


def model_ready_document(model: str, is_ready: bool) -> dict[str, Any]:
    """The document of `GET /v2/models/NAME/ready`; clients look at the status, 200 or 503."""
    return {"name": model, "ready": is_ready}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
