"""What a client of a live session sends, as text (JSON) or bytes; `replies` has the way back.

    open      {"type": "open", "rate_hz": 50.0, "channels": ["acc_x", ...], "units": ["g", ...],
               "timed": false, "resume": {...}}
    samples   {"first": n, "samples": [[c0, c1, ...], ...], "times": [t0, ...]}, or in binary
    end       {"type": "end"}

Samples are numbered from 0 by the client and leave no number out; `first` is the number of a
chunk's first. Without `timed`, sample n is at n / rate_hz seconds, and what a sensor missed is sent
as missing values: null in JSON, NaN in binary. With `timed`, every chunk has its times in seconds.

A binary chunk is little-endian and has no padding:

    bytes  0 to 4    b"MOT1"
    bytes  4 to 8    u32 flags: 1 if there are times, else 0
    bytes  8 to 16   u64 number of the first sample
    bytes 16 to 20   u32 number of samples, T
    bytes 20 to 24   u32 number of channels, C
    then             T float64 times, if the flag says so
    then             T x C float32 values, sample by sample

Axes: T samples, C channels.
"""

from __future__ import annotations

import itertools
import struct
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from motoric.core.settings import describe
from motoric.serving.streams.closing import StreamError

MAGIC = b"MOT1"
# Whole numbers up to it are the same in every JSON reader.
MAX_NUMBER = 2**53 - 1
MAX_CHANNELS = 256

_HEADER = struct.Struct("<4sIQII")
_TIMED_FLAG = 1
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_CHUNK_HINT = 'send {"first": number, "samples": [[...channels] x samples]}'


class Resume(BaseModel):
    """Where a stream is: all that a server needs to know to go on with it.

    Servers send it, clients keep the last one and send it back in `open`, unread but for
    `replay_from`.

    Attributes:
        replay_from: Number of the earliest sample that may be needed again.
        next_prediction: Number of the next prediction.
        row: Earliest row of the windows' grid that may be needed again.
        next_row: Where the next window of the segment that holds `row` starts.
        origin_s: Time of row 0: that of sample 0.
        windows: How windows are cut; rows mean nothing where it differs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    replay_from: int = Field(ge=0, le=MAX_NUMBER)
    next_prediction: int = Field(ge=0, le=MAX_NUMBER)
    row: int = Field(ge=0, le=MAX_NUMBER)
    next_row: int = Field(ge=0, le=MAX_NUMBER)
    origin_s: float = Field(allow_inf_nan=False)
    windows: str = Field(max_length=200)

    @model_validator(mode="after")
    def _check(self) -> Resume:
        if self.next_row < self.row:
            raise ValueError("next_row lies before row: send `resume` back as it came")
        return self


class Open(BaseModel):
    """The first message of a connection.

    Attributes:
        rate_hz: Nominal rate of the samples.
        channels: What the columns of the samples are, by name.
        units: Of these channels; an empty one, or all left out, is the model's own.
        timed: Whether samples come with times.
        resume: After a dropped connection, what the last message of the server said.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    type: Literal["open"] = "open"
    rate_hz: float = Field(gt=0, allow_inf_nan=False)
    channels: tuple[str, ...] = Field(min_length=1, max_length=MAX_CHANNELS)
    units: tuple[str, ...] | None = Field(default=None, max_length=MAX_CHANNELS)
    timed: bool = False
    resume: Resume | None = None

    def encode(self) -> str:
        """The message as text."""
        return self.model_dump_json(exclude_none=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Consecutive samples.

    Attributes:
        first: Number of the first.
        values_TC: Shape (T, C), float32, T and C at least 1; what is not finite is missing.
        time_s: Shape (T,), or None where the rate says the times.
    """

    first: int
    values_TC: NDArray[np.float32]
    time_s: NDArray[np.float64] | None = None

    def encode(self) -> bytes:
        """The chunk as a binary frame."""
        num_samples, num_channels = self.values_TC.shape
        flags = 0 if self.time_s is None else _TIMED_FLAG
        header = _HEADER.pack(MAGIC, flags, self.first, num_samples, num_channels)
        times = b"" if self.time_s is None else self.time_s.astype("<f8").tobytes()
        return b"".join((header, times, self.values_TC.astype("<f4").tobytes()))

    def encode_json(self) -> str:
        """The chunk as a text frame; missing values become null."""
        rows: list[list[float]] = self.values_TC.astype(np.float64).tolist()
        message: dict[str, Any] = {"first": self.first, "samples": rows}
        if self.time_s is not None:
            message["times"] = self.time_s.tolist()
        return orjson.dumps(message).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """The client has no more samples and wants what is left."""

    def encode(self) -> str:
        """The message as text."""
        return '{"type":"end"}'


ClientMessage = Open | Chunk | End


def parse_client_message(frame: str | bytes) -> ClientMessage:
    """Read a frame from a client.

    Raises:
        StreamError: It is none of the messages above.
    """
    if isinstance(frame, bytes):
        return _parse_binary(frame)
    try:
        content = orjson.loads(frame)
    except orjson.JSONDecodeError as error:
        raise StreamError(f"the message is not JSON ({error.msg}): {_CHUNK_HINT}") from error
    if not isinstance(content, dict):
        raise StreamError(f"a message must be a JSON object: {_CHUNK_HINT}")
    kind = content.get("type")
    if "samples" in content and kind in (None, "samples"):
        return _parse_json_chunk(content)
    if kind == "end" and len(content) == 1:
        return End()
    if kind == "open":
        try:
            return Open.model_validate_json(frame, strict=True)
        except ValidationError as error:
            raise StreamError(f"the open message is wrong: {describe(error)}") from error
    raise StreamError(
        f"a message of type {kind!r:.40} is not known: the types are open, samples and end"
    )


def _parse_binary(frame: bytes) -> Chunk:
    if len(frame) < _HEADER.size:
        raise StreamError(
            f"a binary message of {len(frame)} bytes is shorter than its header of"
            f" {_HEADER.size} bytes"
        )
    magic, flags, first, num_samples, num_channels = _HEADER.unpack_from(frame)
    if magic != MAGIC:
        raise StreamError(f"a binary message must begin with {MAGIC!r}, not {magic!r}")
    if flags not in (0, _TIMED_FLAG):
        raise StreamError(f"the flags of a binary message are 0 or {_TIMED_FLAG}, not {flags}")
    if not 1 <= num_channels <= MAX_CHANNELS or num_samples < 1:
        raise StreamError(
            f"a chunk of {num_samples} samples of {num_channels} channels: it needs at least 1 of"
            f" each, and at most {MAX_CHANNELS} channels"
        )
    _checked_first(first)
    num_time_bytes = 8 * num_samples if flags else 0
    num_bytes = _HEADER.size + num_time_bytes + 4 * num_samples * num_channels
    if len(frame) != num_bytes:
        raise StreamError(
            f"a chunk of {num_samples} samples of {num_channels} channels"
            f"{' with times' if flags else ''} has {num_bytes} bytes, this message {len(frame)}"
        )
    time_s = np.frombuffer(frame, "<f8", num_samples, _HEADER.size) if flags else None
    values = np.frombuffer(frame, "<f4", offset=_HEADER.size + num_time_bytes)
    return Chunk(first=first, values_TC=values.reshape(num_samples, num_channels), time_s=time_s)


def _parse_json_chunk(content: dict[str, Any]) -> Chunk:
    unknown = sorted(set(content) - {"type", "first", "samples", "times"})
    if unknown:
        raise StreamError(f"unknown key {', '.join(map(repr, unknown[:5]))}: {_CHUNK_HINT}")
    first, rows = _checked_first(content.get("first")), content["samples"]
    if not isinstance(rows, list) or not rows or set(map(type, rows)) != {list}:
        raise StreamError("'samples' must be a list of samples, each a list of numbers")
    lengths = set(map(len, rows))
    if len(lengths) > 1 or not 1 <= max(lengths) <= MAX_CHANNELS:
        raise StreamError(
            f"the samples have {', '.join(map(str, sorted(lengths)[:5]))} numbers: each must have"
            f" one a channel, 1 to {MAX_CHANNELS}"
        )
    flat = _numbers(list(itertools.chain.from_iterable(rows)), "samples", is_null_missing=True)
    too_large = np.abs(flat) > _FLOAT32_MAX
    if too_large.any():
        raise StreamError(f"the value {flat[too_large][0]:g} is out of the range of float32")
    values_TC = flat.astype(np.float32).reshape(len(rows), -1)
    times = content.get("times")
    if times is None:
        return Chunk(first=first, values_TC=values_TC)
    if not isinstance(times, list) or len(times) != len(rows):
        raise StreamError("'times' must be a list of seconds, one a sample")
    return Chunk(
        first=first, values_TC=values_TC, time_s=_numbers(times, "times", is_null_missing=False)
    )


def _numbers(flat: list[Any], name: str, *, is_null_missing: bool) -> NDArray[np.float64]:
    allowed = {float, int, type(None)} if is_null_missing else {float, int}
    odd = set(map(type, flat)) - allowed
    if odd:
        wrong = next(item for item in flat if type(item) in odd)
        raise StreamError(f"{name!r} holds {orjson.dumps(wrong).decode():.40}, not a number")
    return np.array(flat, dtype=np.float64)


def _checked_first(first: Any) -> int:
    if type(first) is not int or not 0 <= first <= MAX_NUMBER:
        raise StreamError(
            f"'first' is {first!r:.40}: it must be the number of the chunk's first sample, 0 or"
            " more"
        )
    return first
