"""One live session on a server, without a network, a clock or a model.

In: frames of a client, and what the model says about windows. Out: windows for the model, and
frames for the client, predictions in order. The caller moves bytes: it stops reading while
`is_full`, puts the windows of all sessions into one batcher, and on `StreamError` sends
`replies.failure_frame` and closes.

    waiting --open--> live --samples--> live --end--> ended --last prediction--> done

A session that begins with `resume` goes on where another one was, on whatever replica.

Axes: T samples of a chunk, C channels, K outputs.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.signature import Signature
from motoric.core.errors import InputError
from motoric.data.recording import GAP_PERIODS
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.columns import Columns, live_sensors
from motoric.serving.streams.cutting import CutWindow, LiveCutter, replay_s, windows_text
from motoric.serving.streams.limits import StreamLimits
from motoric.serving.streams.messages import Chunk, Open, parse_client_message
from motoric.serving.streams.replies import (
    Acknowledged,
    Ended,
    Moved,
    Opened,
    prediction_frame,
)

_TIME_TOLERANCE_S = 1e-6
# Beyond the samples of its nominal rate by this factor, a stream with times is too dense.
_MAX_DENSITY = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamModel:
    """The version that a session asks."""

    model: str
    version: int
    digest: str
    signature: Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReady:
    """A window for the model.

    Attributes:
        number: Of its prediction; hand it back to `answered`.
        values_TC: Raw window with its context, as the signature says; finite.
    """

    number: int
    values_TC: NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """What a frame led to."""

    windows: tuple[WindowReady, ...] = ()
    frames: tuple[str, ...] = ()


class _State(enum.Enum):
    WAITING = enum.auto()
    LIVE = enum.auto()
    ENDED = enum.auto()
    DONE = enum.auto()


@dataclass(slots=True)
class _Pending:
    window: CutWindow
    values_K: NDArray[np.floating[Any]] | None = None


@dataclass(slots=True, kw_only=True)
class _Live:
    """What `open` has fixed."""

    message: Open
    cutter: LiveCutter
    columns: Columns
    next_sample: int
    limit_s: float
    max_chunk_s: float
    acknowledge_every: int
    max_held: int
    acknowledged: int
    latest_s: float | None = None
    pending: deque[_Pending] = field(default_factory=deque)


class Session:
    """One connection.

    Args:
        served: What answers.
        now_s: The time, of any clock that only rises.
        limits: By default those of `StreamLimits`.

    Raises:
        StreamError: The model cannot be asked live.
    """

    def __init__(
        self, served: StreamModel, *, now_s: float, limits: StreamLimits | None = None
    ) -> None:
        self._served = served
        self._limits = limits or StreamLimits()
        self._sensors = live_sensors(served.signature, served.model)
        self._max_gap_s = served.signature.preprocessing.max_gap_s
        self._latest_frame_s = now_s
        self._state = _State.WAITING
        self._live: _Live | None = None

    @property
    def num_waiting(self) -> int:
        """Windows whose predictions were not sent."""
        return 0 if self._live is None else len(self._live.pending)

    @property
    def is_full(self) -> bool:
        """Whether nothing more should be read until predictions were sent."""
        return self.num_waiting >= self._limits.max_waiting

    @property
    def is_done(self) -> bool:
        """Whether all was said; close with `CloseCode.NORMAL`."""
        return self._state is _State.DONE

    def check_idle(self, now_s: float) -> float:
        """Seconds until the client is idle for too long.

        Time in which the server itself did not read counts too: call `touch` when it reads again.

        Raises:
            StreamError: It is.
        """
        left_s = self._latest_frame_s + self._limits.idle_timeout_s - now_s
        if left_s <= 0:
            raise StreamError(
                f"no message came for {self._limits.idle_timeout_s:g} s: connect and resume when"
                " there are samples",
                CloseCode.IDLE,
            )
        return left_s

    def touch(self, now_s: float) -> None:
        """Count idle time from now."""
        self._latest_frame_s = now_s

    def receive(self, frame: str | bytes, now_s: float) -> Received:
        """Take a frame of the client.

        Raises:
            StreamError: The session is over; the error says why and carries the close code.
        """
        if len(frame) > self._limits.max_frame_bytes:
            raise StreamError(
                f"a message of {len(frame)} is over the limit of {self._limits.max_frame_bytes}"
                " bytes: send smaller chunks",
                CloseCode.TOO_LARGE,
            )
        message = parse_client_message(frame)
        self.touch(now_s)
        if self._state is _State.WAITING:
            if not isinstance(message, Open):
                raise StreamError("the first message of a connection must be of type open")
            return self._open(message)
        if self._state is not _State.LIVE or self._live is None:
            raise StreamError("this stream was ended: no message may follow")
        if isinstance(message, Open):
            raise StreamError("this connection is open already: open comes once")
        if isinstance(message, Chunk):
            return self._take(self._live, self._push(self._live, message))
        self._state = _State.ENDED
        return self._take(self._live, self._live.cutter.finish())

    def answered(self, number: int, values_K: NDArray[np.floating[Any]]) -> tuple[str, ...]:
        """Take what the model says about a window; gives the frames that can be sent now.

        Answers may come in any order; predictions leave in that of their numbers.

        Raises:
            MotoricError: The model gave NaN.
        """
        live = self._live
        place = -1 if live is None or not live.pending else number - live.pending[0].window.number
        if live is None or not 0 <= place < len(live.pending):
            raise ValueError(f"no window {number} waits for an answer")
        if live.pending[place].values_K is not None:
            raise ValueError(f"window {number} was answered before")
        live.pending[place].values_K = values_K
        frames: list[str] = []
        while live.pending and (values := live.pending[0].values_K) is not None:
            window = live.pending.popleft().window
            frames.append(
                prediction_frame(
                    number=window.number,
                    start_s=window.start_s,
                    end_s=window.end_s,
                    resume=window.resume,
                    output=self._served.signature.output,
                    values_K=values,
                )
            )
            live.acknowledged = window.resume.replay_from
        return (*frames, *self._afterwards(live))

    def move(self, served: StreamModel) -> tuple[str, ...]:
        """Go on with another version of the model; no window may wait for an answer.

        Raises:
            StreamError: It takes other windows, so only a new stream can go on; or other channels,
                so the client must send the samples of the next window again.
        """
        if self.num_waiting:
            raise ValueError(f"{self.num_waiting} windows wait for the version before")
        sensors = live_sensors(served.signature, served.model)
        max_gap_s = served.signature.preprocessing.max_gap_s
        is_same_cut = windows_text(sensors, max_gap_s) == windows_text(
            self._sensors, self._max_gap_s
        )
        if self._live is not None and not is_same_cut:
            raise StreamError(
                f"version {served.version} of {served.model!r} was released and takes other"
                " windows: open a new stream",
                CloseCode.CHANGED,
            )
        if self._live is not None and sensors.channels != self._sensors.channels:
            raise StreamError(
                f"version {served.version} of {served.model!r} was released and takes other"
                " channels: connect again",
                CloseCode.RESTART,
            )
        self._served, self._sensors, self._max_gap_s = served, sensors, max_gap_s
        if self._live is None:
            return ()
        return (Moved(version=served.version, digest=served.digest).encode(),)

    def _open(self, message: Open) -> Received:
        sensors, resume, rate_hz = self._sensors, message.resume, message.rate_hz
        columns = Columns(sensors, message)
        cut = windows_text(sensors, self._max_gap_s)
        if resume is not None and resume.windows != cut:
            raise StreamError(
                f"the stream was cut into windows of {resume.windows}, and the model takes {cut}"
                " now: open a new stream",
                CloseCode.CHANGED,
            )
        limit_s = max(GAP_PERIODS / rate_hz, self._max_gap_s)
        # One sample may cover `limit_s`, and must be allowed.
        max_chunk_s = max(self._limits.max_chunk_s, 2 * limit_s)
        every = math.ceil(sensors.length_s * rate_hz)
        span_s = replay_s(sensors, rate_hz, self._max_gap_s) + every / rate_hz
        cutter = LiveCutter(
            sensors=sensors,
            max_gap_s=self._max_gap_s,
            native_rate_hz=rate_hz,
            origin_s=None if message.timed else 0.0,
            resume=resume,
        )
        first = 0 if resume is None else resume.replay_from
        rows = span_s * (rate_hz + sensors.rate_hz) + sensors.num_input_samples
        self._live = _Live(
            message=message,
            cutter=cutter,
            columns=columns,
            next_sample=first,
            limit_s=limit_s,
            max_chunk_s=max_chunk_s,
            acknowledge_every=every,
            max_held=_MAX_DENSITY * math.ceil(rows) + 2 * self._limits.max_chunk,
            acknowledged=first,
        )
        self._state = _State.LIVE
        opened = Opened(
            model=self._served.model,
            version=self._served.version,
            digest=self._served.digest,
            next_sample=first,
            next_prediction=cutter.next_prediction,
            rate_hz=sensors.rate_hz,
            length_s=sensors.length_s,
            hop_s=sensors.hop_s,
            max_chunk=self._limits.max_chunk,
            max_chunk_s=max_chunk_s,
            replay_s=span_s,
        )
        return Received(frames=(opened.encode(),))

    def _push(self, live: _Live, chunk: Chunk) -> list[CutWindow]:
        self._check(live, chunk)
        num_samples, time_s = len(chunk.values_TC), chunk.time_s
        if time_s is None:
            _check_seconds(live, (num_samples - (live.next_sample == 0)) / live.message.rate_hz)
        else:
            time_s = time_s.astype(np.float64, copy=False)
            _check_seconds(live, _covered_s(live, time_s))
            live.latest_s = float(time_s[-1])
        values_TC = live.columns.convert(chunk.values_TC)
        try:
            if time_s is None:
                windows = live.cutter.push_numbered(values_TC)
            else:
                windows = live.cutter.push(time_s, values_TC)
        except InputError as error:
            raise StreamError(error.message, CloseCode.UNFIT) from error
        live.next_sample += num_samples
        if live.cutter.num_held > live.max_held:
            raise StreamError(
                f"the samples come much denser than rate_hz {live.message.rate_hz:g}: give the"
                " rate at which the sensor runs",
                CloseCode.UNFIT,
            )
        return windows

    def _check(self, live: _Live, chunk: Chunk) -> None:
        num_samples, num_channels = chunk.values_TC.shape
        if chunk.first != live.next_sample:
            raise StreamError(
                f"a chunk begins with sample {chunk.first}, and {live.next_sample} is next: leave"
                " no number out and send none twice; what is missing is sent as NaN or null",
                CloseCode.WRONG_NUMBER,
            )
        if num_samples > self._limits.max_chunk:
            raise StreamError(
                f"a chunk of {num_samples} samples is over the limit of {self._limits.max_chunk}",
                CloseCode.TOO_LARGE,
            )
        if num_channels != live.columns.num_given:
            raise StreamError(
                f"the samples have {num_channels} values, open named {live.columns.num_given}"
                " channels",
                CloseCode.UNFIT,
            )
        if (chunk.time_s is not None) != live.message.timed:
            raise StreamError(
                "a chunk needs times if open says timed, and has none otherwise", CloseCode.UNFIT
            )

    def _take(self, live: _Live, windows: list[CutWindow]) -> Received:
        live.pending.extend(_Pending(window) for window in windows)
        ready = tuple(
            WindowReady(number=window.number, values_TC=window.values_TC) for window in windows
        )
        return Received(windows=ready, frames=self._afterwards(live))

    def _afterwards(self, live: _Live) -> tuple[str, ...]:
        """What is to be said when no prediction waits."""
        if live.pending:
            return ()
        if self._state is _State.ENDED:
            self._state = _State.DONE
            return (Ended(num_predictions=live.cutter.next_prediction).encode(),)
        if live.cutter.replay_from - live.acknowledged >= live.acknowledge_every:
            live.acknowledged = live.cutter.replay_from
            return (Acknowledged(resume=live.cutter.resume()).encode(),)
        return ()


def _covered_s(live: _Live, time_s: NDArray[np.float64]) -> float:
    """Seconds that a chunk can turn into rows."""
    before_s = time_s[:1] if live.latest_s is None else np.array([live.latest_s])
    steps_s = np.diff(np.concatenate([before_s, time_s]))
    return float(steps_s[steps_s <= live.limit_s].sum())


def _check_seconds(live: _Live, covered_s: float) -> None:
    if covered_s > live.max_chunk_s + _TIME_TOLERANCE_S:
        raise StreamError(
            f"a chunk covers {covered_s:g} s, over the limit of {live.max_chunk_s:g} s: send"
            " smaller chunks",
            CloseCode.TOO_LARGE,
        )
