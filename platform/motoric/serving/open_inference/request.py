"""A request of the Open Inference Protocol v2 and its answer, whatever carries them.

In: tensors as HTTP or gRPC brought them. Out: an `InferRequest` that fits its model, and from what
the model gave, an `InferAnswer`. Both transports read into and write from these, so that the same
input gives the same output on each.

Axes: B examples, T samples or frames, C channels, K classes, X what the signature's output has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS, Probabilities
from motoric.artefact.preprocessing import check_clips, check_windows
from motoric.core.errors import InputError, MalformedBodyError, MotoricError
from motoric.serving.open_inference.metadata import LABEL, VALUE, ModelSpec
from motoric.serving.open_inference.tensors import (
    Array,
    Parameters,
    TensorSpec,
    bytes_tensor,
    shown,
    timeout_s,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedOutput:
    """An output that a client asked for; `binary` is without meaning over gRPC."""

    name: str
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """A request that fits its model.

    Attributes:
        id: The client's, given back in the answer; empty where it sent none.
        inputs: By name, checked, in the datatype that the model takes: arguments of
            `Predictor.predict`, or the windows of a `Batcher`.
        outputs: What to answer, in this order.
        timeout_s: How long the client lets it wait for its turn, by the parameter `timeout`.
        parameters: As they were sent; those of other names than the protocol's have no effect.
    """

    id: str
    inputs: Mapping[str, Array]
    outputs: tuple[WantedOutput, ...]
    timeout_s: float | None
    parameters: Parameters


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTensor:
    """One output; BYTES as an array of objects that are bytes."""

    name: str
    datatype: str
    values: Array
    binary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class InferAnswer:
    """What a model gave for a request."""

    id: str
    model: str
    version: str
    outputs: tuple[AnswerTensor, ...]


def find_input(spec: ModelSpec, name: object, taken: Mapping[str, Array]) -> TensorSpec:
    """The input that a client means.

    Raises:
        MalformedBodyError: The name is not a string, or came before.
        InputError: The model has no such input.
    """
    if not isinstance(name, str):
        raise MalformedBodyError(f"an input needs a name that is a string, not {shown(name)}")
    if name in taken:
        raise MalformedBodyError(f"input {shown(name)} was sent twice")
    for item in spec.inputs:
        if item.name == name:
            return item
    raise InputError(f"there is no input {shown(name)}: {_takes(spec)}")


def find_outputs(
    spec: ModelSpec, names: Sequence[tuple[object, bool]], *, binary: bool
) -> tuple[WantedOutput, ...]:
    """The outputs that a client means.

    Args:
        spec: The model.
        names: Of the outputs asked for, each with whether it is wanted as binary; none asks for
            all.
        binary: Whether all are wanted as binary where none is named.

    Raises:
        MalformedBodyError: A name is not a string, or came before.
        InputError: The model has no such output.
    """
    if not names:
        return tuple(WantedOutput(name=item.name, binary=binary) for item in spec.outputs)
    known = [item.name for item in spec.outputs]
    wanted: dict[str, WantedOutput] = {}
    for name, is_binary in names:
        if not isinstance(name, str):
            raise MalformedBodyError(f"an output needs a name that is a string, not {shown(name)}")
        if name in wanted:
            raise MalformedBodyError(f"output {shown(name)} was asked for twice")
        if name not in known:
            raise InputError(
                f"there is no output {shown(name)}: model {spec.model!r} gives {', '.join(known)}"
            )
        wanted[name] = WantedOutput(name=name, binary=is_binary)
    return tuple(wanted.values())


def build_request(
    spec: ModelSpec,
    *,
    request_id: str,
    inputs: Mapping[str, Array],
    outputs: tuple[WantedOutput, ...],
    parameters: Parameters,
) -> InferRequest:
    """Check the inputs together, and their values.

    Args:
        spec: The model.
        request_id: Of the client, or empty.
        inputs: Each of the datatype and shape that the model takes.
        outputs: From `find_outputs`.
        parameters: From `check_parameters`.

    Raises:
        InputError: One that is needed is missing, they are of different numbers of examples, or
            values are NaN or infinite.
    """
    missing = [item.name for item in spec.inputs if not item.optional and item.name not in inputs]
    if missing:
        raise InputError(f"input {missing[0]!r} was not sent: {_takes(spec)}")
    if WINDOWS not in inputs and CLIPS not in inputs:
        raise InputError(f"neither windows nor clips were sent: {_takes(spec)}")
    counts = {name: len(values) for name, values in inputs.items()}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
        raise InputError(f"the inputs differ in their number of examples: {listed}")
    checked = dict(inputs)
    if WINDOWS in checked:
        checked[WINDOWS] = check_windows(checked[WINDOWS], spec.signature.sensors)
    if CLIPS in checked:
        clip = spec.signature.clip_input
        assert clip is not None
        checked[CLIPS] = check_clips(checked[CLIPS], clip)
    if PRESENT in checked:
        _check_present(checked)
    return InferRequest(
        id=request_id,
        inputs=checked,
        outputs=outputs,
        timeout_s=timeout_s(parameters),
        parameters=parameters,
    )


def _check_present(inputs: Mapping[str, Array]) -> None:
    present_B2: NDArray[np.bool_] = inputs[PRESENT]
    if not present_B2.any(axis=1).all():
        raise InputError("input 'present' says of an example that it has neither window nor clip")
    for column, name in enumerate((WINDOWS, CLIPS)):
        if name not in inputs and present_B2[:, column].any():
            raise InputError(f"input 'present' says that there are {name}, but none were sent")


def build_answer(request: InferRequest, spec: ModelSpec, values_BX: Probabilities) -> InferAnswer:
    """The answer, from what the predictor gave.

    Args:
        request: What was asked.
        spec: The version that ran.
        values_BX: Probabilities (B, K), values (B, 1) or quantiles (B, Q).

    Raises:
        MotoricError: The model gave NaN.
    """
    if not np.isfinite(values_BX).all():
        raise MotoricError("the model gave NaN or infinity for this input")
    datatypes = {item.name: item.datatype for item in spec.outputs}
    return InferAnswer(
        id=request.id,
        model=spec.model,
        version=spec.version,
        outputs=tuple(
            AnswerTensor(
                name=wanted.name,
                datatype=datatypes[wanted.name],
                values=_output(wanted.name, spec, values_BX),
                binary=wanted.binary,
            )
            for wanted in request.outputs
        ),
    )


def _output(name: str, spec: ModelSpec, values_BX: Probabilities) -> Array:
    if name == LABEL:
        classes = spec.signature.classes
        return bytes_tensor([classes[k].encode() for k in values_BX.argmax(axis=1).tolist()])
    if name == VALUE:
        return values_BX.reshape(-1)
    return values_BX


def _takes(spec: ModelSpec) -> str:
    listed = ", ".join(
        f"{item.name} {item.datatype} {list(item.shape)}{' (optional)' if item.optional else ''}"
        for item in spec.inputs
    )
    return f"model {spec.model!r} takes {listed}"
