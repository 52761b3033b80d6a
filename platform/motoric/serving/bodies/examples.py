"""Bodies of predict to the rows of a batch, whatever inputs the model has.

In: the header, the body and the query of a request. Out: one array an input of the graph, as
`Predictor.predict_checked` takes them: of a model of sensors its windows, of a model of clips its
clips, and of a fused one windows, clips, and which of both each example has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.predictor import CLIPS, PRESENT, WINDOWS
from motoric.artefact.preprocessing import Clips, Windows
from motoric.artefact.signature import Signature
from motoric.core.errors import InputError
from motoric.serving.batching import Rows


def input_names(signature: Signature) -> tuple[str, ...]:
    """The arrays of `Rows` of a model, in their order."""
    names = (
        *((WINDOWS,) if signature.sensor_input is not None else ()),
        *((CLIPS,) if signature.clip_input is not None else ()),
    )
    return names if len(names) == 1 else (*names, PRESENT)


def rows_of(
    signature: Signature,
    windows_BTC: Windows | None = None,
    clips_BTHWC: Clips | None = None,
    present_B2: NDArray[np.bool_] | None = None,
) -> Rows:
    """Checked inputs of a request as rows; what a fused model may lack is filled with zeros.

    Args:
        signature: Of the model.
        windows_BTC: Windows, if there are any.
        clips_BTHWC: As many clips, if there are any.
        present_B2: Of a fused model, which examples have which; by default all have what is given.

    Raises:
        InputError: An input that is needed is missing, or there is none at all.
    """
    sensors, clip = signature.sensor_input, signature.clip_input
    for name, given, wanted in ((WINDOWS, windows_BTC, sensors), (CLIPS, clips_BTHWC, clip)):
        if given is None and wanted is not None and not wanted.optional:
            raise InputError(f"this model needs {name}")
    given_first = windows_BTC if windows_BTC is not None else clips_BTHWC
    if given_first is None:
        raise InputError("neither windows nor clips were sent")
    if sensors is None or clip is None:
        return (given_first,)
    num = len(given_first)
    if present_B2 is None:
        there = [windows_BTC is not None, clips_BTHWC is not None]
        present_B2 = np.tile(np.array(there, dtype=np.bool_), (num, 1))
    if windows_BTC is None:
        shape = (num, sensors.num_input_samples, sensors.num_channels)
        windows_BTC = np.zeros(shape, dtype=np.float32)
    if clips_BTHWC is None:
        clips_BTHWC = np.zeros((num, *clip.shape), dtype=np.uint8)
    return windows_BTC, clips_BTHWC, present_B2


def empty_rows(signature: Signature, num: int) -> Rows:
    """Rows of zeros, to warm a model up with."""
    sensors, clip = signature.sensor_input, signature.clip_input
    return rows_of(
        signature,
        None
        if sensors is None
        else np.zeros((num, sensors.num_input_samples, sensors.num_channels), dtype=np.float32),
        None if clip is None else np.zeros((num, *clip.shape), dtype=np.uint8),
    )
