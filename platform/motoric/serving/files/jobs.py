"""What the process that reads files is told, and what it says: the two ends of its pipes.

In: one `Job` as JSON on its input. Out: messages, each a kind, a length and content:

    E   a chunk of examples: starts and ends, then the arrays of `Rows`, of shapes that both know
    D   done: `Done` as JSON
    F   failed: `Failure` as JSON

Nothing that comes out is trusted: numbers are checked, and no message says which code to run.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from motoric.artefact.signature import Signature
from motoric.serving.batching import Rows
from motoric.serving.bodies.adaptation import Given
from motoric.serving.bodies.examples import input_names

HEAD = struct.Struct("<cI")
EXAMPLES, DONE, FAILURE = b"E", b"D", b"F"
MAX_TEXT_BYTES = 2**16
_SPAN = np.dtype("<f8")


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceFile(_Message):
    """A file on this machine, and what its name ended in."""

    path: str
    suffix: str


class Job(_Message):
    """Files of one recording, and what to cut from them.

    Attributes:
        signature: Of the model.
        sensors: The sensor file, if there is one.
        video: The video, if there is one.
        given: What the client says of the columns of a table.
        video_offset_s: Time of the recording at which the video's first frame was taken.
        chunk: Most examples of a message.
        max_examples: Most examples of a recording.
        max_duration_s: Longest recording.
        max_memory_mib: What the process may take beyond its libraries.
        max_cpu_s: Its time on a processor.
    """

    signature: Signature
    sensors: SourceFile | None = None
    video: SourceFile | None = None
    given: Given = Given()
    video_offset_s: float = 0.0
    chunk: int = Field(ge=1)
    max_examples: int = Field(ge=1)
    max_duration_s: float = Field(gt=0)
    max_memory_mib: int = Field(ge=1)
    max_cpu_s: float = Field(gt=0)


class Done(_Message):
    """All examples were given out.

    Attributes:
        duration_s: Of the recording.
        repairs: What was wrong with the files and put right, a line each.
    """

    duration_s: float = Field(ge=0, allow_inf_nan=False)
    repairs: tuple[str, ...] = ()


class Failure(_Message):
    """Why the files give no examples.

    Attributes:
        kind: As of a `MotoricError`; others are for the log.
        message: For the client.
        trace: For the log.
    """

    kind: str
    message: str
    trace: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive examples of a recording.

    Attributes:
        start_s_B: Where each starts, in the recording's time.
        end_s_B: Where each ends.
        rows: As the batcher takes them.
    """

    start_s_B: NDArray[np.float64]
    end_s_B: NDArray[np.float64]
    rows: Rows


def arrays_of(signature: Signature) -> list[tuple[np.dtype[Any], tuple[int, ...]]]:
    """Type and shape of one example in each array of `Rows`."""
    sensors, clip = signature.sensor_input, signature.clip_input
    found: list[tuple[np.dtype[Any], tuple[int, ...]]] = []
    if sensors is not None:
        found.append((np.dtype("<f4"), (sensors.num_input_samples, sensors.num_channels)))
    if clip is not None:
        found.append((np.dtype(np.uint8), clip.shape))
    if len(input_names(signature)) == 3:
        found.append((np.dtype(np.bool_), (2,)))
    return found


def example_bytes(signature: Signature) -> int:
    """Bytes of one example in a message."""
    arrays = arrays_of(signature)
    return 16 + sum(dtype.itemsize * int(np.prod(shape)) for dtype, shape in arrays)


def write_chunk(pipe: BinaryIO, chunk: Chunk) -> None:
    """Write a chunk of examples."""
    pipe.write(HEAD.pack(EXAMPLES, len(chunk.start_s_B)))
    for values in (chunk.start_s_B, chunk.end_s_B, *chunk.rows):
        pipe.write(np.ascontiguousarray(values).data.cast("B"))
    pipe.flush()


def write_text(pipe: BinaryIO, kind: bytes, message: Done | Failure) -> None:
    """Write the last message."""
    content = message.model_dump_json().encode()
    pipe.write(HEAD.pack(kind, len(content)) + content)
    pipe.flush()


def read_chunk(content: bytes, num: int, signature: Signature) -> Chunk:
    """A chunk from what stands behind its head: `num * example_bytes` bytes."""
    place = 0
    values: list[NDArray[Any]] = []
    for dtype, shape in [(_SPAN, ()), (_SPAN, ()), *arrays_of(signature)]:
        count = num * int(np.prod(shape))
        if dtype == np.bool_:  # any byte but 0 and 1 would be no boolean
            flat = np.frombuffer(content, np.uint8, count, place) != 0
        else:
            flat = np.frombuffer(content, dtype, count, place)
        values.append(flat.reshape(num, *shape))
        place += count * dtype.itemsize
    start_s_B, end_s_B, *rows = values
    return Chunk(start_s_B=start_s_B, end_s_B=end_s_B, rows=tuple(rows))
