"""What the client of a live stream keeps, so that it can connect anew and go on.

In: samples, and the messages of servers. Out: what to send. Samples are held until a server
acknowledges that they are not needed any more; after a dropped connection all that are held are
sent again, to whichever server answers. Pure: no network and no clock.

Axes: T samples, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from motoric.core.errors import InputError
from motoric.serving.streams.closing import CloseCode, StreamError
from motoric.serving.streams.messages import Chunk, Open, Resume
from motoric.serving.streams.replies import Acknowledged, Ended, Opened, Prediction


class BufferFullError(InputError):
    """More samples were given than may wait; try again when some were acknowledged."""

    title = "Too many samples wait"
    kind = "buffer-full"


class ReplayBuffer:
    """The samples of one stream that a server may still need.

    On each connection: `open_message`, then `opened`, then `next_chunk` until it gives None, as
    samples are appended. `predicted`, `acknowledged` and `ended` take what comes.

    Args:
        rate_hz: Nominal rate of the samples.
        channels: What their columns are.
        units: Of the channels; by default the model's own.
        timed: Whether samples come with times.
        max_samples: Most samples that are held.
    """

    def __init__(
        self,
        *,
        rate_hz: float,
        channels: Sequence[str],
        units: Sequence[str] | None = None,
        timed: bool = False,
        max_samples: int = 2**20,
    ) -> None:
        self._open = Open(
            rate_hz=rate_hz,
            channels=tuple(channels),
            units=None if units is None else tuple(units),
            timed=timed,
        )
        self._max_samples = max_samples
        self._values_TC = np.empty((0, len(channels)), dtype=np.float32)
        self._time_s_T: NDArray[np.float64] = np.empty(0)
        self._first = 0
        self._next = 0  # sample that is sent next on this connection
        self._resume: Resume | None = None
        self._opened: Opened | None = None
        self.next_prediction = 0

    @property
    def num_held(self) -> int:
        """Samples that may have to be sent again, or were not sent yet."""
        return len(self._values_TC)

    @property
    def num_samples(self) -> int:
        """Samples that were appended in all: the number of the next."""
        return self._first + len(self._values_TC)

    @property
    def replay_from(self) -> int:
        """Number of the earliest sample held."""
        return self._first

    @property
    def num_unsent(self) -> int:
        """Samples that were not sent on this connection."""
        return self.num_samples - self._next

    def append(self, values: ArrayLike, time_s: ArrayLike | None = None) -> int:
        """Take the next samples.

        Args:
            values: Shape (T, C); NaN is a missing value.
            time_s: Shape (T,), increasing, if the stream is timed.

        Returns:
            The number of the first of them.

        Raises:
            InputError: The shapes do not fit, or the times do not increase.
            BufferFullError: There is no room; nothing was taken.
        """
        values_TC = np.asarray(values, dtype=np.float32)
        if values_TC.ndim != 2 or values_TC.shape[1] != self._values_TC.shape[1]:
            raise InputError(
                f"samples of shape {list(values_TC.shape)} were given: each needs"
                f" {self._values_TC.shape[1]} channels"
            )
        times_T = self._checked_times(time_s, len(values_TC))
        if self.num_held + len(values_TC) > self._max_samples:
            raise BufferFullError(
                f"{self.num_held} samples wait to be acknowledged, and {len(values_TC)} more are"
                f" over the limit of {self._max_samples}: wait for the server, or raise it"
            )
        first = self.num_samples
        self._values_TC = np.concatenate([self._values_TC, values_TC])
        self._time_s_T = np.concatenate([self._time_s_T, times_T])
        return first

    def open_message(self) -> Open:
        """The first message of a new connection; all that is held will be sent again."""
        self._next = self._first
        self._opened = None
        return self._open.model_copy(update={"resume": self._resume})

    def opened(self, reply: Opened) -> None:
        """Check that a server goes on where this stream is.

        Raises:
            StreamError: It does not.
            InputError: It may need more samples than are held.
        """
        if (reply.next_sample, reply.next_prediction) != (self._first, self.next_prediction):
            raise StreamError(
                f"the server wants sample {reply.next_sample} and prediction"
                f" {reply.next_prediction} next, the stream is at {self._first} and"
                f" {self.next_prediction}",
                CloseCode.WRONG_NUMBER,
            )
        if reply.replay_s * self._open.rate_hz > self._max_samples:
            raise InputError(
                f"this model may need the samples of {reply.replay_s:g} s again, and at most"
                f" {self._max_samples} are held: raise max_samples to"
                f" {2 * int(reply.replay_s * self._open.rate_hz) + 1}"
            )
        self._opened = reply

    def next_chunk(self) -> Chunk | None:
        """What to send next, within the server's limits; None where nothing is left to send.

        Raises:
            ValueError: The connection is not open.
        """
        if self._opened is None:
            raise ValueError("`opened` comes before the first chunk")
        start, stop = self._next, min(self.num_samples, self._next + self._opened.max_chunk)
        if start == stop:
            return None
        most_s = self._opened.max_chunk_s
        if self._open.timed:
            before = max(start - self._first - 1, 0)
            until_s = self._time_s_T[before] + most_s
            stop = min(stop, self._first + int(np.searchsorted(self._time_s_T, until_s)))
        else:
            stop = min(stop, start + int(most_s * self._open.rate_hz))
        stop = max(stop, start + 1)
        inside = slice(start - self._first, stop - self._first)
        self._next = stop
        return Chunk(
            first=start,
            values_TC=self._values_TC[inside],
            time_s=self._time_s_T[inside] if self._open.timed else None,
        )

    def predicted(self, reply: Prediction) -> None:
        """Take a prediction; after this it may be handed on.

        Raises:
            StreamError: It is not the next one, or acknowledges what was never sent.
        """
        if reply.number != self.next_prediction:
            raise StreamError(
                f"the server sent prediction {reply.number}, and {self.next_prediction} is next",
                CloseCode.WRONG_NUMBER,
            )
        self._forget(reply.resume, reply.number + 1)

    def acknowledged(self, reply: Acknowledged) -> None:
        """Take an acknowledgement.

        Raises:
            StreamError: It leaves predictions out, or acknowledges what was never sent.
        """
        self._forget(reply.resume, self.next_prediction)

    def ended(self, reply: Ended) -> None:
        """Check that a stream is complete.

        Raises:
            StreamError: Predictions are missing, or samples were not sent.
        """
        if reply.num_predictions != self.next_prediction or self.num_unsent:
            raise StreamError(
                f"the server ended the stream after {reply.num_predictions} predictions, of which"
                f" {self.next_prediction} came, with {self.num_unsent} samples unsent",
                CloseCode.WRONG_NUMBER,
            )

    def _forget(self, resume: Resume, next_prediction: int) -> None:
        if resume.next_prediction != next_prediction:
            raise StreamError(
                f"the server goes on with prediction {resume.next_prediction}, and"
                f" {next_prediction} is next",
                CloseCode.WRONG_NUMBER,
            )
        if not self._first <= resume.replay_from <= self._next:
            raise StreamError(
                f"the server acknowledges the samples before {resume.replay_from}: samples"
                f" {self._first} to {self._next} were sent and not acknowledged",
                CloseCode.WRONG_NUMBER,
            )
        num_old = resume.replay_from - self._first
        self._values_TC = self._values_TC[num_old:]
        self._time_s_T = self._time_s_T[num_old:]
        self._first = resume.replay_from
        self._resume = resume
        self.next_prediction = next_prediction

    def _checked_times(self, time_s: ArrayLike | None, num_samples: int) -> NDArray[np.float64]:
        if not self._open.timed:
            if time_s is not None:
                raise InputError("times were given: make the stream with timed=True")
            return np.empty(0)
        times_T = np.asarray([] if time_s is None else time_s, dtype=np.float64)
        if times_T.shape != (num_samples,):
            raise InputError(
                f"{num_samples} samples need as many times, not shape {list(times_T.shape)}"
            )
        all_T = np.concatenate([self._time_s_T[-1:], times_T])
        if not (np.isfinite(all_T).all() and (np.diff(all_T) > 0).all()):
            raise InputError("the times of a stream must increase: order the samples")
        return times_T
