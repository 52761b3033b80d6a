"""The client of a platform: `Client` blocks, `AsyncClient` awaits; both say and do the same."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from numpy.typing import ArrayLike

from motoric.client import requests
from motoric.client.blocking import Stream
from motoric.client.exchange import Backoff, Outcome, Send, Step, Wait, exchange
from motoric.client.requests import Request
from motoric.client.results import Health, Predictions, ReleasedModel, ServedModel, Timeline
from motoric.client.streams import AsyncStream, StreamOptions
from motoric.core.errors import AccessError, SettingsError

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 30.0
Answer = TypeVar("Answer")


class _Base:
    """Where the platform is, and how to ask."""

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        self.url = (url or os.environ.get("MOTORIC_URL") or DEFAULT_URL).rstrip("/")
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"the address {self.url!r} must begin with http:// or https://")
        key = api_key or os.environ.get("MOTORIC_API_KEY")
        if not key:
            raise AccessError(
                f"no API key for {self.url}: give api_key, or set MOTORIC_API_KEY; `motoric keys"
                " create NAME` makes one"
            )
        self._authorization = f"Bearer {key}"
        self._timeout_s = timeout_s
        self._backoff = backoff or Backoff()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    def _exchange(
        self, request: Request[Answer], timeout_s: float | None
    ) -> Generator[Step, Outcome, Answer]:
        return exchange(
            request,
            url=self.url,
            timeout_s=self._allowed_s(timeout_s),
            backoff=self._backoff,
        )

    def _allowed_s(self, timeout_s: float | None) -> float:
        return self._timeout_s if timeout_s is None else timeout_s

    def _stream_options(
        self,
        name: str,
        channels: Sequence[str],
        rate_hz: float,
        units: Sequence[str] | None,
        timed: bool,
        max_offline_s: float,
    ) -> StreamOptions:
        return StreamOptions(
            url=f"ws{self.url.removeprefix('http')}{requests.base_path(name)}/stream",
            authorization=self._authorization,
            channels=tuple(channels),
            rate_hz=rate_hz,
            units=None if units is None else tuple(units),
            timed=timed,
            max_offline_s=max_offline_s,
            backoff=self._backoff,
        )


class Client(_Base):
    """Asks a platform, and waits for its answers. May be used from several threads.

    Args:
        url: Of the platform; `MOTORIC_URL`, else that of a local one.
        api_key: `MOTORIC_API_KEY` by default.
        timeout_s: How long a call may take in all, retries included.
        backoff: How long to wait between tries.

    Raises:
        AccessError: There is no key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout_s=timeout_s, backoff=backoff)
        headers = {"Authorization": self._authorization}
        self._http = httpx.Client(base_url=self.url, headers=headers, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self, *, timeout_s: float | None = None) -> tuple[ReleasedModel, ...]:
        """Released models."""
        return self._run(requests.models(), timeout_s)

    def model(self, name: str, *, timeout_s: float | None = None) -> ServedModel:
        """What is served of one model."""
        return self._run(requests.model(name), timeout_s)

    def health(self, name: str | None = None, *, timeout_s: float | None = None) -> Health:
        """Readiness of the platform, or of one model."""
        return self._run(requests.health(name), timeout_s)

    def predict(
        self,
        name: str,
        windows: ArrayLike | None = None,
        *,
        clips: ArrayLike | None = None,
        rate_hz: float | None = None,
        channels: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> Predictions:
        """Predict windows, clips, or as many of both.

        Args:
            name: Of the model.
            windows: Shape (B, T, C), finite.
            clips: Shape (B, T, H, W, C), uint8.
            rate_hz: Of the windows, where it is not the model's own; they are resampled.
            channels: What the columns of the windows are, where not in the model's order.
            units: Of these columns, where they are not the model's own.
            timeout_s: How long it may take in all; that of the client by default.

        Raises:
            InputError: What was given does not fit the model.
            AccessError: The key is not valid.
            DeadlineError: The time is up.
            PlatformError: The platform cannot answer now.
        """
        parts = requests.predict(
            name, windows, clips, rate_hz=rate_hz, channels=channels, units=units
        )
        until_s = time.monotonic() + self._allowed_s(timeout_s)
        return requests.joined([self._run(part, _left_s(until_s)) for part in parts])

    def predict_file(
        self,
        name: str,
        source: str | Path,
        *,
        with_windows: bool = False,
        timeout_s: float | None = None,
    ) -> Timeline:
        """Predict a whole recording: a file here, or a URI that the platform may read.

        Args:
            name: Of the model.
            source: The file or the URI.
            with_windows: Tell of each window too, before they are smoothed.
            timeout_s: As of `predict`.

        Raises:
            NotFoundError: There is no such file.
            InputError: It cannot be read, or does not fit the model.
            MotoricError: As `predict`.
        """
        return self._run(requests.predict_file(name, source, with_windows=with_windows), timeout_s)

    def stream(
        self,
        name: str,
        *,
        channels: Sequence[str],
        rate_hz: float,
        units: Sequence[str] | None = None,
        timed: bool = False,
        max_offline_s: float = 60.0,
    ) -> Stream:
        """A live stream; use it in a `with`.

        Args:
            name: Of the model.
            channels: What the columns of the samples are.
            rate_hz: Nominal rate of the samples.
            units: Of the columns, where they are not the model's own.
            timed: Whether samples come with times.
            max_offline_s: How long no server may be found before it gives up.
        """
        return Stream(self._stream_options(name, channels, rate_hz, units, timed, max_offline_s))

    def _run(self, request: Request[Answer], timeout_s: float | None) -> Answer:
        steps = self._exchange(request, timeout_s)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            if isinstance(step, Wait):
                outcome = None
                time.sleep(step.wait_s)
            else:
                outcome = self._try(request, step)

    def _try(self, request: Request[Answer], step: Send) -> Outcome:
        try:
            with request.files() as files:
                return self._http.request(
                    request.method,
                    request.path,
                    content=request.content,
                    files=files,
                    params=request.query,
                    headers=step.headers,
                    timeout=step.left_s,
                )
        except httpx.HTTPError as error:
            return error


class AsyncClient(_Base):
    """Asks a platform; every call of `Client` as a coroutine.

    Args:
        url: Of the platform; `MOTORIC_URL`, else that of a local one.
        api_key: `MOTORIC_API_KEY` by default.
        timeout_s: How long a call may take in all, retries included.
        backoff: How long to wait between tries.

    Raises:
        AccessError: There is no key.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        backoff: Backoff | None = None,
    ) -> None:
        super().__init__(url, api_key, timeout_s=timeout_s, backoff=backoff)
        headers = {"Authorization": self._authorization}
        self._http = httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def models(self, *, timeout_s: float | None = None) -> tuple[ReleasedModel, ...]:
        """Released models."""
        return await self._run(requests.models(), timeout_s)

    async def model(self, name: str, *, timeout_s: float | None = None) -> ServedModel:
        """What is served of one model."""
        return await self._run(requests.model(name), timeout_s)

    async def health(self, name: str | None = None, *, timeout_s: float | None = None) -> Health:
        """Readiness of the platform, or of one model."""
        return await self._run(requests.health(name), timeout_s)

    async def predict(
        self,
        name: str,
        windows: ArrayLike | None = None,
        *,
        clips: ArrayLike | None = None,
        rate_hz: float | None = None,
        channels: Sequence[str] | None = None,
        units: Sequence[str] | None = None,
        timeout_s: float | None = None,
    ) -> Predictions:
        """Predict windows, clips, or as many of both; arguments and errors as of `Client`."""
        parts = requests.predict(
            name, windows, clips, rate_hz=rate_hz, channels=channels, units=units
        )
        until_s = time.monotonic() + self._allowed_s(timeout_s)
        answers = [await self._run(part, _left_s(until_s)) for part in parts]
        return requests.joined(answers)

    async def predict_file(
        self,
        name: str,
        source: str | Path,
        *,
        with_windows: bool = False,
        timeout_s: float | None = None,
    ) -> Timeline:
        """Predict a whole recording; arguments and errors as of `Client`."""
        return await self._run(
            requests.predict_file(name, source, with_windows=with_windows), timeout_s
        )

    def stream(
        self,
        name: str,
        *,
        channels: Sequence[str],
        rate_hz: float,
        units: Sequence[str] | None = None,
        timed: bool = False,
        max_offline_s: float = 60.0,
    ) -> AsyncStream:
        """A live stream; use it in an `async with`. Arguments as of `Client`."""
        return AsyncStream(
            self._stream_options(name, channels, rate_hz, units, timed, max_offline_s)
        )

    async def _run(self, request: Request[Answer], timeout_s: float | None) -> Answer:
        steps = self._exchange(request, timeout_s)
        outcome: Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration as done:
                answer: Answer = done.value
                return answer
            if isinstance(step, Wait):
                outcome = None
                await asyncio.sleep(step.wait_s)
            else:
                outcome = await self._try(request, step)

    async def _try(self, request: Request[Answer], step: Send) -> Outcome:
        try:
            with request.files() as files:
                async with asyncio.timeout(step.left_s):
                    return await self._http.request(
                        request.method,
                        request.path,
                        content=request.content,
                        files=files,
                        params=request.query,
                        headers=step.headers,
                        timeout=step.left_s,
                    )
        except TimeoutError:
            return httpx.ReadTimeout("the time is up")
        except httpx.HTTPError as error:
            return error


def _left_s(until_s: float) -> float:
    """Seconds left; a request whose time is up says so itself."""
    return max(until_s - time.monotonic(), 1e-3)
