"""Bodies of predict that are one .npy array (NEP 1), without evaluating their header."""

from __future__ import annotations

import math
import re
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import InputError, MalformedBodyError

# Type, shape, whether in Fortran order, and where the values start.
Header = tuple[np.dtype[Any], tuple[int, ...], bool, int]

_MAX_NPY_HEADER = 4096
_NPY_TYPES = {f"<{kind}{size}" for kind in "iu" for size in (2, 4, 8)} | {"|i1", "|u1"}
_NPY_TYPES |= {"<f2", "<f4", "<f8"}
_NPY_GROUPS = {"descr": "descr", "fortran_order": "flag", "shape": "shape"}
_NPY_ENTRY = re.compile(
    r"""\s*['"](?P<key>descr|fortran_order|shape)['"]\s*:\s*"""
    r"""(?:['"](?P<descr>[^'"]{1,32})['"]|(?P<flag>True|False)|\((?P<shape>[\d, L]{0,99})\))\s*,?"""
)


def npy_header(body: bytes) -> Header:
    """Type, shape, whether in Fortran order, and where the values start.

    Raises:
        MalformedBodyError: It is no .npy, or its header is not plain.
        InputError: Its type is not taken.
    """
    if body[:6] != b"\x93NUMPY" or len(body) < 12:
        raise MalformedBodyError(".npy: the body does not start as a .npy does: use numpy.save")
    version, code = body[6:8], "<H" if body[6] == 1 else "<I"
    if version not in (b"\x01\x00", b"\x02\x00", b"\x03\x00"):
        raise MalformedBodyError(f".npy: version {body[6]}.{body[7]} is unknown: send 1 to 3")
    start = 8 + struct.calcsize(code)
    length = struct.unpack_from(code, body, 8)[0]
    if length > _MAX_NPY_HEADER:
        raise MalformedBodyError(
            f".npy: the header says it has {length} bytes, and at most {_MAX_NPY_HEADER} are read"
        )
    text = body[start : start + length].decode("latin-1").strip()
    if len(body) < start + length or text[:1] != "{" or text[-1:] != "}":
        raise MalformedBodyError(".npy: the header is cut off or no dictionary: use numpy.save")
    found: dict[str, str] = {}
    place = 1
    while (entry := _NPY_ENTRY.match(text, place)) is not None:
        value = entry[_NPY_GROUPS[entry["key"]]]
        if value is not None:
            found[entry["key"]] = value
        place = entry.end()
    if len(found) < 3 or text[place:].strip() != "}":
        raise MalformedBodyError(
            f".npy: the header is not read: {text[:120]!r}; send a plain array of numbers"
            " (array.astype('<f4')), neither structured nor of objects, which would need pickle"
        )
    if found["descr"] not in _NPY_TYPES:
        raise InputError(
            f".npy: the type {found['descr']!r} is not taken: send little-endian floats or"
            " integers, such as array.astype('<f4')"
        )
    numbers = [part.strip().rstrip("L") for part in found["shape"].split(",")]
    if not all(number.isdecimal() for number in numbers if number):
        raise MalformedBodyError(f".npy: the shape ({found['shape']}) is not read")
    shape = tuple(int(number) for number in numbers if number)
    return np.dtype(found["descr"]), shape, found["fortran_order"] == "True", start + length


def npy_values(body: bytes, header: Header) -> NDArray[Any]:
    """The array of a body whose shape was found to fit.

    Raises:
        MalformedBodyError: The body has more or fewer values than its header says.
    """
    dtype, shape, is_fortran, start = header
    num_bytes = math.prod(shape) * dtype.itemsize
    if len(body) - start != num_bytes:
        raise MalformedBodyError(
            f".npy: the header says {num_bytes} bytes of {dtype} in shape {list(shape)}, and"
            f" {len(body) - start} follow: the body is cut off, or not one array"
        )
    flat = np.frombuffer(body, dtype, offset=start)
    return flat.reshape(shape, order="F" if is_fortran else "C")
