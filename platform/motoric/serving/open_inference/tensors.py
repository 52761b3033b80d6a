"""Tensors of the Open Inference Protocol v2, whatever carries them: datatypes, bytes, checks.

In: raw bytes or flat values of a tensor that a client names, with its datatype and shape. Out:
arrays that fit the model, and every refusal as an error that says what to send instead.

    datatype    BOOL, INT8 to INT64, UINT8 to UINT64, FP16, FP32, FP64: little-endian, row by row
                BYTES: each element with its length before it, as uint32

What a model takes is converted in two cases and refused in all others: FP64 where it takes FP32,
rounded, and FP32 of 0 and 1 where it takes BOOL.

Source: https://github.com/kserve/open-inference-protocol, and Triton's binary tensor data
extension (protocol/extension_binary_data.md of triton-inference-server/server).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import InputError, MalformedBodyError

Array = NDArray[Any]
Parameters = Mapping[str, bool | int | float | str]

BYTES = "BYTES"
DTYPES: dict[str, np.dtype[Any]] = {
    "BOOL": np.dtype("?"),
    "INT8": np.dtype("i1"),
    "INT16": np.dtype("<i2"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "UINT8": np.dtype("u1"),
    "UINT16": np.dtype("<u2"),
    "UINT32": np.dtype("<u4"),
    "UINT64": np.dtype("<u8"),
    "FP16": np.dtype("<f2"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}

# Wanted datatype -> what is converted to it.
CONVERTED = {"FP32": ("FP64",), "BOOL": ("FP32",)}

_LENGTH = struct.Struct("<I")
_MAX_SHOWN = 80
_MICROSECONDS = 1e6
# Parameters that would change the answer, and are refused rather than left out.
_REFUSED_PREFIXES = ("sequence_", "shared_memory_", "classification")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """A tensor that a model takes or gives; -1 in `shape` is any size, of at least 1."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    optional: bool = False


def shown(value: object) -> str:
    """A value as an error may show it: quoted, and not longer than a line."""
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]}..."


def check_header(spec: TensorSpec, datatype: object, shape: object) -> tuple[str, tuple[int, ...]]:
    """Check datatype and shape of an input before its values are looked at.

    Raises:
        MalformedBodyError: There is no such datatype, or the shape is not a list of sizes.
        InputError: The model takes another datatype or another shape.
    """
    if not isinstance(datatype, str) or (datatype not in DTYPES and datatype != BYTES):
        raise MalformedBodyError(
            f"input {spec.name!r}: there is no datatype {shown(datatype)}; this model takes"
            f" {spec.datatype}"
        )
    if datatype != spec.datatype and datatype not in CONVERTED.get(spec.datatype, ()):
        raise InputError(
            f"input {spec.name!r} has datatype {datatype}, which is not converted: send"
            f" {' or '.join((spec.datatype, *CONVERTED.get(spec.datatype, ())))}"
        )
    if not isinstance(shape, Sequence) or not all(type(size) is int for size in shape):
        raise MalformedBodyError(
            f"input {spec.name!r}: its shape must be a list of whole numbers, not {shown(shape)}"
        )
    sizes = tuple(shape)
    fits = len(sizes) == len(spec.shape) and all(
        1 <= size < 2**31 if wanted == -1 else size == wanted
        for size, wanted in zip(sizes, spec.shape, strict=True)
    )
    if not fits:
        raise InputError(
            f"input {spec.name!r} has shape {shown(list(sizes))}, and the model takes"
            f" {list(spec.shape)}, where -1 is any size of at least 1"
        )
    return datatype, sizes


def array_of_bytes(
    name: str, datatype: str, shape: tuple[int, ...], raw: bytes | memoryview
) -> Array:
    """A tensor from its raw bytes, without a copy where the bytes lie aligned.

    Raises:
        MalformedBodyError: The number of bytes is not what shape and datatype need, a BOOL is
            neither 0 nor 1, or the lengths in a BYTES tensor do not add up.
    """
    num = math.prod(shape)
    if datatype == BYTES:
        return decode_bytes(name, raw, num).reshape(shape)
    dtype = DTYPES[datatype]
    if len(raw) != num * dtype.itemsize:
        raise MalformedBodyError(
            f"tensor {name!r} has {len(raw)} bytes, and {datatype} of shape"
            f" {shown(list(shape))} needs {num * dtype.itemsize}"
        )
    if datatype == "BOOL":
        numbers = np.frombuffer(raw, np.uint8)
        if num and numbers.max() > 1:
            raise MalformedBodyError(f"tensor {name!r}: a BOOL is the byte 0 or 1")
        return numbers.view(np.bool_).reshape(shape)
    values = np.frombuffer(raw, dtype)
    # onnxruntime reads the memory of an array as it lies.
    return (values if values.flags.aligned else values.copy()).reshape(shape)


def decode_bytes(name: str, raw: bytes | memoryview, num_elements: int) -> Array:
    """Elements of a BYTES tensor, as an array of objects.

    Raises:
        MalformedBodyError: A length reaches past the end, or there are more or fewer elements.
    """
    elements: list[bytes] = []
    start = 0
    while start < len(raw):
        if len(elements) == num_elements or start + _LENGTH.size > len(raw):
            break
        (length,) = _LENGTH.unpack_from(raw, start)
        start += _LENGTH.size
        if length > len(raw) - start:
            raise MalformedBodyError(
                f"tensor {name!r}: element {len(elements)} says that it has {length} bytes, and"
                f" {len(raw) - start} are left"
            )
        elements.append(bytes(raw[start : start + length]))
        start += length
    if start != len(raw) or len(elements) != num_elements:
        raise MalformedBodyError(
            f"tensor {name!r}: its {len(raw)} bytes do not hold the {num_elements} elements of its"
            " shape, each with its length before it as uint32"
        )
    return _objects(elements)


def encode_bytes(values: Array) -> bytes:
    """The raw bytes of a BYTES tensor, row by row."""
    return b"".join(_LENGTH.pack(len(item)) + item for item in values.ravel().tolist())


def raw_bytes(datatype: str, values: Array) -> bytes:
    """The raw bytes of a tensor."""
    if datatype == BYTES:
        return encode_bytes(values)
    return values.astype(DTYPES[datatype], copy=False).tobytes()


def bytes_tensor(elements: Sequence[bytes]) -> Array:
    """An array of objects of shape (N,)."""
    return _objects(list(elements))


def convert(spec: TensorSpec, datatype: str, values: Array) -> Array:
    """Values in the datatype that the model takes.

    Raises:
        InputError: FP64 too large for FP32, or FP32 for BOOL that is neither 0 nor 1.
    """
    if datatype == spec.datatype:
        return values
    if spec.datatype == "BOOL":
        if not np.isin(values, (0.0, 1.0)).all():
            raise InputError(f"input {spec.name!r} must be 0 or 1 where it is sent as FP32")
        return values.astype(np.bool_)
    with np.errstate(over="ignore"):
        converted = values.astype(DTYPES[spec.datatype])
    if not np.array_equal(np.isfinite(converted), np.isfinite(values)):
        raise InputError(
            f"input {spec.name!r} has values over {np.finfo(np.float32).max:.3g}, which its"
            " datatype FP32 cannot hold"
        )
    return converted


def check_parameters(parameters: object, place: str) -> Parameters:
    """Check parameters of a request, an input or an output.

    Raises:
        MalformedBodyError: Not an object of strings, numbers, true and false.
        InputError: One asks for what is not done here.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, Mapping):
        raise MalformedBodyError(f"{place}: parameters must be an object, not {shown(parameters)}")
    for name, value in parameters.items():
        if type(value) not in (bool, int, float, str):
            raise MalformedBodyError(
                f"{place}: parameter {shown(name)} must be a string, a number, true or false,"
                f" not {shown(value)}"
            )
        if name.startswith(_REFUSED_PREFIXES):
            raise InputError(
                f"{place}: parameter {shown(name)} is not supported: there are no sequences,"
                " shared memory or class lists here; leave it out"
            )
    return parameters


def timeout_s(parameters: Parameters) -> float | None:
    """The parameter `timeout`, which the protocol has in microseconds; 0 is none.

    Raises:
        MalformedBodyError: It is not a whole number of at least 0.
    """
    value = parameters.get("timeout")
    if value is None:
        return None
    if type(value) is not int or value < 0:
        raise MalformedBodyError(
            f"the parameter timeout must be a whole number of microseconds, not {shown(value)}"
        )
    return value / _MICROSECONDS if value else None


def _objects(elements: list[bytes]) -> Array:
    # np.array of bytes would cut trailing zeros off and make them all of one length.
    values = np.empty(len(elements), dtype=np.object_)
    values[:] = elements
    return values
