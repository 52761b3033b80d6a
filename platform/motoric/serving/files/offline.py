"""Whole files through a predictor in this process: what the endpoint does, without one.

For files of one's own: a replica reads those of strangers in a process apart (`reading`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from motoric.artefact.predictor import Predictor
from motoric.core.errors import InputError, NotFoundError, UnreadableError
from motoric.serving.batching import Rows
from motoric.serving.bodies.adaptation import Given
from motoric.serving.config import Files
from motoric.serving.files.answers import joined, without_inputs, write_answer
from motoric.serving.files.cutting import Recording
from motoric.serving.files.jobs import Chunk, Job, SourceFile
from motoric.serving.files.kinds import VIDEO_SUFFIXES, suffix_of

_CHUNK = 16


def predict_file(
    predictor: Predictor, file: Path, about: dict[str, Any], *, with_windows: bool = False
) -> bytes:
    """The JSON that the endpoint answers for a file.

    Args:
        predictor: Of the model.
        file: Its name tells its kind.
        about: Model, version and digest.
        with_windows: As the query `windows`.

    Raises:
        NotFoundError: There is no file.
        InputError: It cannot be read, or does not fit the model.
        ContentTypeError: Nothing reads such files.
    """
    if not file.is_file():
        raise NotFoundError(f"no file at {file}")
    suffix = suffix_of(file.name)
    source = SourceFile(path=str(file), suffix=suffix)
    is_video = suffix in VIDEO_SUFFIXES
    limits = Files()
    signature = predictor.signature
    recording = Recording(
        Job(
            signature=signature,
            sensors=None if is_video else source,
            video=source if is_video else None,
            given=Given(),
            chunk=_CHUNK,
            max_examples=limits.max_windows,
            max_duration_s=limits.max_duration_s,
            max_memory_mib=limits.max_memory_mib,
            max_cpu_s=limits.max_s,
        )
    )
    chunks: list[Chunk] = []
    outputs = []
    try:
        for chunk in recording.chunks():
            outputs.append(_run(predictor, chunk.rows))
            chunks.append(without_inputs(chunk))
    except UnreadableError as error:
        raise InputError(f"{file} {error.message}") from error
    found = joined(chunks, outputs, recording.done())
    return write_answer(about, signature, found, with_windows=with_windows)


def _run(predictor: Predictor, rows: Rows) -> Any:
    if predictor.signature.sensor_input is None:
        return predictor.predict_checked(None, rows[0])
    return predictor.predict_checked(*rows)
