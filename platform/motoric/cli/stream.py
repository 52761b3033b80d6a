"""`motoric stream`: plays a recording to the live endpoint of a model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import orjson
import typer
from rich.live import Live

from motoric.cli.console import console, print_segments
from motoric.core.errors import UserError
from motoric.core.settings import load

if TYPE_CHECKING:
    from motoric.artefact.signature import Signature
    from motoric.cli.recordings import RecordedSamples
    from motoric.client import Stream
    from motoric.serving.streams.replies import Prediction

_CHUNK = 512
_TICK_S = 0.1
_MAX_SPEED = 1000.0
_ASK_TIMEOUT_S = 10.0


def stream(
    name: Annotated[str, typer.Argument(help="Name of a model.")],
    file: Annotated[
        Path, typer.Argument(help="CSV, FIT, GPX, TCX or Parquet; tables in its units.")
    ],
    realtime: Annotated[
        bool, typer.Option("--realtime", help="At the pace of the recording, not at full speed.")
    ] = False,
    speed: Annotated[
        float, typer.Option(min=0.01, max=_MAX_SPEED, help="With --realtime: times as fast.")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON lines.")] = False,
) -> None:
    """Play a recording to a model's live endpoint, and print predictions as they come.

    Example: motoric stream watch-exercises watch-005.csv --realtime --speed 4
    """
    from motoric.cli.endpoint import open_client
    from motoric.cli.recordings import read_samples
    from motoric.client import Backoff

    if speed != 1.0 and not realtime:
        raise UserError("--speed goes with --realtime; without it all is sent at full speed")
    with open_client(load(), backoff=Backoff()) as client:
        signature = client.model(name, timeout_s=_ASK_TIMEOUT_S).signature
        samples = read_samples(file, signature.sensors)
        live = client.stream(
            name,
            channels=[channel.name for channel in signature.sensors.channels],
            rate_hz=samples.rate_hz,
            timed=not samples.is_regular,
        )
        with live as opened, _display(as_json) as show:
            started_s = time.perf_counter()
            predictions = []
            for prediction in _play(opened, samples, speed if realtime else None):
                predictions.append(prediction)
                show.take(prediction)
            took_s = time.perf_counter() - started_s
        if not as_json:
            _summarise(predictions, signature, f"{file.name}: {name} version {opened.version}")
            console.print(
                f"[dim]{len(predictions)} predictions of {samples.time_s[-1]:.1f} s in {took_s:.1f}"
                f" s over {opened.num_connections} connection(s)[/]"
            )


def _play(opened: Stream, samples: RecordedSamples, speed: float | None) -> Iterator[Prediction]:
    """Send all samples, as fast as they can be or at a multiple of their own pace."""
    start, started_s = 0, time.perf_counter()
    while start < len(samples.values_TC):
        if speed is None:
            stop = start + _CHUNK
        else:
            now_s = (time.perf_counter() - started_s) * speed
            stop = int(np.searchsorted(samples.time_s, now_s, side="right"))
        if stop > start:
            times = None if samples.is_regular else samples.time_s[start:stop]
            opened.send(samples.values_TC[start:stop], times)
            start = stop
        yield from opened.received()
        if speed is not None and start < len(samples.values_TC):
            time.sleep(_TICK_S)
    opened.end()
    yield from opened


class _Display:
    """Prints predictions: JSON lines, a line that is written anew, or lines where nobody watches.

    Args:
        live: The line of a terminal.
        as_json: Print JSON lines.
    """

    def __init__(self, live: Live | None, as_json: bool) -> None:
        self._live = live
        self._as_json = as_json

    def take(self, prediction: Prediction) -> None:
        """Show one."""
        if self._as_json:
            shown = prediction.model_dump(exclude_none=True, exclude={"type", "resume"})
            typer.echo(orjson.dumps(shown).decode())
        elif self._live is not None:
            self._live.update(_line(prediction))
        else:
            console.print(_line(prediction))


@contextmanager
def _display(as_json: bool) -> Iterator[_Display]:
    if as_json or not console.is_terminal:
        yield _Display(None, as_json)
        return
    with Live(console=console, refresh_per_second=12, transient=True) as live:
        yield _Display(live, as_json)


def _line(prediction: Prediction) -> str:
    if prediction.label is not None:
        said = f"[bold]{prediction.label}[/] {prediction.probability:.1%}"
    elif prediction.value is not None:
        said = f"[bold]{prediction.value:.4g}[/]"
    else:
        levels = (prediction.quantiles or {}).items()
        said = "  ".join(f"{level}: [bold]{value:.4g}[/]" for level, value in levels)
    return f"{prediction.start_s:8.1f} to {prediction.end_s:.1f} s  {said}"


def _summarise(predictions: list[Prediction], signature: Signature, title: str) -> None:
    """The segments of the whole recording, as `predict --timeline` prints them."""
    rows = [item.probabilities for item in predictions if item.probabilities]
    if not rows:
        console.print(title)
        return
    from motoric.artefact.timeline import smooth

    probabilities_BK = np.array([list(row.values()) for row in rows])
    probabilities_BK /= probabilities_BK.sum(axis=1, keepdims=True)
    segments = smooth(
        [item.start_s for item in predictions],
        probabilities_BK,
        length_s=signature.sensors.length_s,
        hop_s=signature.sensors.hop_s,
        classes=signature.classes,
        settings=signature.timeline,
    )
    print_segments(
        title, ((item.start_s, item.end_s, item.label, item.probability) for item in segments)
    )
