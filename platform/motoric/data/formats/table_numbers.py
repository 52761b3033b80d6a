"""Numbers out of the columns of a table, text or not.

In: Arrow arrays. Out: float64 with NaN for what is missing, and how many cells were no numbers.
Axes: T rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

# Cells that say that there is no value.
MISSING = (
    *("", "nan", "NaN", "NAN", "-nan", "na", "NA", "n/a", "N/A", "<na>", "<NA>", "null", "Null"),
    *("NULL", "none", "None", "-", "--", "?"),
)
_NUMBER = r"^[+-]?((\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[iI]nf(inity)?)$"


def is_text(kind: pa.DataType) -> bool:
    """Whether a column of that type holds text."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def is_number(kind: pa.DataType) -> bool:
    """Whether a column of that type holds numbers."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
        or pa.types.is_null(kind)
    )


def numbers(array: pa.Array, *, decimal_comma: bool = False) -> tuple[NDArray[np.float64], int]:
    """Values of an array.

    Args:
        array: T cells, numbers or text.
        decimal_comma: Text may have a comma where others have a point.

    Returns:
        Values, shape (T,), NaN where one is missing; how many cells held something else.
    """
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if not is_text(array.type):
        if pa.types.is_boolean(array.type):
            array = array.cast(pa.int8())
        return _to_numpy(array.cast(pa.float64(), safe=False)), 0
    try:
        return _to_numpy(array.cast(pa.float64())), 0
    except pa.ArrowInvalid:
        return _mixed(array, decimal_comma)


def _mixed(array: pa.Array, decimal_comma: bool) -> tuple[NDArray[np.float64], int]:
    text = pc.ascii_trim_whitespace(array.cast(pa.string()))
    if decimal_comma:
        text = pc.replace_substring(text, ",", ".")
    is_missing = pc.is_in(text, value_set=pa.array(MISSING))
    is_good = pc.fill_null(pc.match_substring_regex(text, _NUMBER), fill_value=False)
    is_bad = pc.invert(pc.or_(pc.or_(is_missing, is_good), pc.is_null(text)))
    num_bad = int(pc.sum(is_bad).as_py() or 0)
    # Arrow reads no leading plus.
    text = pc.utf8_ltrim(pc.if_else(is_good, text, None), characters="+")
    return _to_numpy(text.cast(pa.float64())), num_bad


def _to_numpy(array: pa.Array) -> NDArray[np.float64]:
    values: NDArray[np.float64] = array.to_numpy(zero_copy_only=False)
    return values
