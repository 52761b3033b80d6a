"""What a model said of a recording, as the JSON of predict for whole files.

    of classes      {"model", "version", "digest", "duration_s", "num_windows",
                     "segments": [{"start_s", "end_s", "label", "probability"}, ...]}
    of values       {..., "of", "unit", "series": [{"start_s", "end_s", "value"}, ...]}
    of quantiles    {..., "of", "unit", "horizon_s",
                     "series": [{"start_s", "end_s", "quantiles": {"0.1": x, ...}}, ...]}

With `windows=true` also `windows`: start, end, label, probability and probabilities of each one,
before they are smoothed; of a fused model the inputs that it had. `repairs`, where it is there,
says what was wrong with the file and put right.

Axes: B windows, K classes, values or quantiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from motoric.artefact.predictor import CLIPS, WINDOWS
from motoric.artefact.signature import ClassesOutput, Signature, ValueOutput
from motoric.artefact.timeline import smooth
from motoric.core.errors import MotoricError
from motoric.serving.files.jobs import Chunk, Done

_NUM_DECIMALS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictedRecording:
    """A recording with what the model gave for each of its windows.

    Attributes:
        start_s_B: Where windows start.
        end_s_B: Where they end.
        outputs_BK: What the model gave.
        present_B2: Of a fused model, which inputs each had.
        duration_s: Of the recording.
        repairs: What was put right.
    """

    start_s_B: NDArray[np.float64]
    end_s_B: NDArray[np.float64]
    outputs_BK: NDArray[np.float32]
    present_B2: NDArray[np.bool_] | None
    duration_s: float
    repairs: tuple[str, ...]


def without_inputs(chunk: Chunk) -> Chunk:
    """Of a chunk that has run, its times and, of a fused model, which inputs were there."""
    rows = (chunk.rows[2].copy(),) if len(chunk.rows) == 3 else ()
    return Chunk(start_s_B=chunk.start_s_B.copy(), end_s_B=chunk.end_s_B.copy(), rows=rows)


def joined(
    chunks: Sequence[Chunk], outputs: Sequence[NDArray[np.float32]], done: Done
) -> PredictedRecording:
    """A recording from its chunks, one or more, `without_inputs`, and the outputs of each."""
    is_fused = len(chunks[0].rows) == 1
    return PredictedRecording(
        start_s_B=np.concatenate([chunk.start_s_B for chunk in chunks]),
        end_s_B=np.concatenate([chunk.end_s_B for chunk in chunks]),
        outputs_BK=np.concatenate(outputs),
        present_B2=np.concatenate([chunk.rows[0] for chunk in chunks]) if is_fused else None,
        duration_s=done.duration_s,
        repairs=done.repairs,
    )


def is_whole(signature: Signature) -> bool:
    """Whether a recording is one movement, with one prediction."""
    sensors, clip = signature.sensor_input, signature.clip_input
    if sensors is not None:
        return sensors.span == "annotation"
    return clip is not None and clip.length_s is None


def write_answer(
    about: dict[str, Any],
    signature: Signature,
    found: PredictedRecording,
    *,
    with_windows: bool,
) -> bytes:
    """The JSON of an answer.

    Args:
        about: Model, version and digest.
        signature: Of the model.
        found: What it said.
        with_windows: Add what it said of each window.

    Raises:
        MotoricError: It gave values that are not finite.
    """
    if not np.isfinite(found.outputs_BK).all():
        raise MotoricError("the model gave NaN or infinite values for this file")
    answer: dict[str, Any] = {
        **about,
        "duration_s": round(found.duration_s, _NUM_DECIMALS),
        "num_windows": len(found.start_s_B),
    }
    if found.repairs:
        answer["repairs"] = list(found.repairs)
    output = signature.output
    if isinstance(output, ClassesOutput):
        answer["segments"] = _segments(signature, output, found)
        if with_windows:
            answer["windows"] = _labelled(output, found)
    else:
        answer |= {"of": output.of, "unit": output.unit}
        if not isinstance(output, ValueOutput):
            answer["horizon_s"] = output.horizon_s
        answer["series"] = _series(signature, found)
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _segments(
    signature: Signature, output: ClassesOutput, found: PredictedRecording
) -> list[dict[str, Any]]:
    if is_whole(signature):
        return _labelled(output, found)
    sensors, clip = signature.sensor_input, signature.clip_input
    if sensors is not None:
        length_s, hop_s = sensors.length_s, sensors.hop_s
    else:
        assert clip is not None
        assert clip.length_s is not None
        length_s, hop_s = clip.length_s, clip.hop_s or clip.length_s
    timeline = smooth(
        found.start_s_B,
        found.outputs_BK,
        length_s=length_s,
        hop_s=hop_s,
        classes=output.classes,
        settings=signature.timeline,
    )
    return [
        {
            "start_s": round(segment.start_s, _NUM_DECIMALS),
            "end_s": round(segment.end_s, _NUM_DECIMALS),
            "label": segment.label,
            "probability": round(segment.probability, _NUM_DECIMALS),
        }
        for segment in timeline
    ]


def _labelled(output: ClassesOutput, found: PredictedRecording) -> list[dict[str, Any]]:
    best_B = found.outputs_BK.argmax(axis=1).tolist()
    rows = np.round(found.outputs_BK.astype(np.float64), _NUM_DECIMALS).tolist()
    said = [
        {
            **span,
            "label": output.classes[best],
            "probability": row[best],
            "probabilities": dict(zip(output.classes, row, strict=True)),
        }
        for span, best, row in zip(_spans(found), best_B, rows, strict=True)
    ]
    if found.present_B2 is not None:
        for item, there in zip(said, found.present_B2.tolist(), strict=True):
            names = zip((WINDOWS, CLIPS), there, strict=True)
            item["inputs"] = [name for name, is_there in names if is_there]
    return said


def _series(signature: Signature, found: PredictedRecording) -> list[dict[str, Any]]:
    output = signature.output
    spans = _spans(found)
    if isinstance(output, ValueOutput):
        return [
            {**span, "value": value}
            for span, value in zip(spans, found.outputs_BK[:, 0], strict=True)
        ]
    assert not isinstance(output, ClassesOutput)
    names = [f"{quantile:g}" for quantile in output.quantiles]
    return [
        {**span, "quantiles": dict(zip(names, row, strict=True))}
        for span, row in zip(spans, found.outputs_BK, strict=True)
    ]


def _spans(found: PredictedRecording) -> list[dict[str, Any]]:
    starts = np.round(found.start_s_B, _NUM_DECIMALS).tolist()
    ends = np.round(found.end_s_B, _NUM_DECIMALS).tolist()
    return [
        {"start_s": start_s, "end_s": end_s} for start_s, end_s in zip(starts, ends, strict=True)
    ]
