"""What the client asks, without a network: each request, and how its answer is read.

Axes: B windows or clips.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Generic, TypeVar
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import ArrayLike, NDArray

from motoric.client.results import Health, Predictions, ReleasedModel, ServedModel, Timeline
from motoric.core.errors import InputError, NotFoundError, PlatformError
from motoric.core.releases import check_model_name
from motoric.serving.files.kinds import suffix_of
from motoric.serving.media_types import ARROW_TYPE, JSON_TYPE, NPY_TYPE

# Well under what a replica takes by default.
_MAX_ROWS = 256
_MAX_PART_BYTES = 4 * 2**20

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Generic[Answer]):
    """One request.

    Attributes:
        method: Of HTTP.
        path: Below the platform's address.
        read: Makes the answer of a body.
        content: Its body.
        file: Is sent instead of a body, in a form.
        headers: Beside those that every request has.
        query: Of the address.
        good: Statuses that are answers.
    """

    method: str
    path: str
    read: Callable[[Any], Answer]
    content: bytes | None = None
    file: Path | None = None
    headers: dict[str, str] = field(default_factory=dict)
    query: dict[str, str] = field(default_factory=dict)
    good: tuple[int, ...] = (200,)

    @contextlib.contextmanager
    def files(self) -> Iterator[dict[str, tuple[str, BinaryIO]]]:
        """The parts of the form, open for one try; it is read as it is sent.

        Raises:
            InputError: The file cannot be read.
        """
        if self.file is None:
            yield {}
            return
        try:
            stream = self.file.open("rb")
        except OSError as error:
            raise InputError(f"{self.file} cannot be read: {error.strerror}") from error
        with stream:
            yield {"file": (self.file.name, stream)}


def models() -> Request[tuple[ReleasedModel, ...]]:
    """The catalogue."""

    def read(content: Any) -> tuple[ReleasedModel, ...]:
        return tuple(ReleasedModel.model_validate(item) for item in content["models"])

    return Request(method="GET", path="/v1/models", read=read)


def model(name: str) -> Request[ServedModel]:
    """What is served of one model."""
    return Request(method="GET", path=base_path(name), read=ServedModel.model_validate)


def health(name: str | None) -> Request[Health]:
    """Readiness of the platform, or of one model."""
    path = "/healthz" if name is None else f"{base_path(name)}/healthz"
    return Request(method="GET", path=path, read=Health.model_validate, good=(200, 503))


def predict(
    name: str,
    windows: ArrayLike | None,
    clips: ArrayLike | None,
    *,
    rate_hz: float | None = None,
    channels: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
) -> Iterator[Request[Predictions]]:
    """Windows, clips, or both; as many requests as they need.

    Raises:
        InputError: There are none, or not as many of one as of the other.
    """
    windows_BTC = None if windows is None else np.asarray(windows, dtype="<f4")
    clips_B = None if clips is None else np.asarray(clips)
    if clips_B is not None and clips_B.dtype != np.uint8:
        raise InputError(f"clips are uint8, 0 to 255, and these are {clips_B.dtype}")
    given = [item for item in (windows_BTC, clips_B) if item is not None]
    counts = {len(item) if item.ndim else 0 for item in given}
    if len(counts) != 1 or counts == {0}:
        raise InputError(
            "give windows (windows, samples, channels), or clips (clips, frames, height, width,"
            " colours), or as many of both; at least one"
        )
    query = {} if rate_hz is None else {"rate_hz": repr(float(rate_hz))}
    for key, names in (("channels", channels), ("units", units)):
        if names is not None:
            query[key] = ",".join(names)
    (num_rows,) = counts
    row_bytes = max(1, sum(item.nbytes for item in given) // num_rows)
    step = max(1, min(_MAX_ROWS, _MAX_PART_BYTES // row_bytes))
    for first in range(0, num_rows, step):
        content_type, content = _body([item[first : first + step] for item in given])
        yield Request(
            method="POST",
            path=f"{base_path(name)}/predict",
            read=_read_predictions,
            content=content,
            headers={"Content-Type": content_type, "Accept": JSON_TYPE.decode()},
            query=query,
        )


def predict_file(name: str, source: str | Path, *, with_windows: bool = False) -> Request[Timeline]:
    """A whole recording: a file here, or a URI that the server may read.

    Raises:
        NotFoundError: The file is missing.
        ContentTypeError: It is of no kind that is known.
    """
    request = Request(
        method="POST",
        path=f"{base_path(name)}/predict",
        read=Timeline.model_validate,
        headers={"Accept": JSON_TYPE.decode()},
        query={"windows": "true"} if with_windows else {},
    )
    if isinstance(source, str) and "://" in source:
        headers = {**request.headers, "Content-Type": JSON_TYPE.decode()}
        return replace(request, content=orjson.dumps({"uri": source}), headers=headers)
    path = Path(source)
    suffix_of(path.name)
    if not path.is_file():
        raise NotFoundError(f"no file at {path}")
    return replace(request, file=path)


def joined(parts: Sequence[Predictions]) -> Predictions:
    """The answers of several requests as one.

    Raises:
        PlatformError: Another version was released between them, with other outputs.
    """
    first, last = parts[0], parts[-1]
    if any(part.columns != first.columns for part in parts):
        raise PlatformError(
            f"version {last.version} of {last.model!r} was released in between and gives"
            f" {last.columns}, not {first.columns}: ask again"
        )
    return Predictions(
        model=last.model,
        version=last.version,
        digest=last.digest,
        columns=last.columns,
        outputs_BK=np.concatenate([part.outputs_BK for part in parts]),
        labels=tuple(label for part in parts for label in part.labels),
        unit=last.unit,
    )


def base_path(name: str) -> str:
    """The path of a model.

    Raises:
        UserError: It is no name of a model.
    """
    return f"/v1/models/{quote(check_model_name(name))}"


def _body(arrays: list[NDArray[Any]]) -> tuple[str, bytes]:
    if len(arrays) == 1:
        sink = io.BytesIO()
        np.save(sink, np.ascontiguousarray(arrays[0]), allow_pickle=False)
        return NPY_TYPE.decode(), sink.getvalue()
    import pyarrow as pa

    columns = {}
    for key, array in zip(("windows", "clips"), arrays, strict=True):
        flat = pa.array(np.ascontiguousarray(array).ravel())
        columns[key] = pa.FixedSizeListArray.from_arrays(flat, array[0].size)
    batch = pa.record_batch(columns)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, batch.schema) as writer:
        writer.write_batch(batch)
    return ARROW_TYPE.decode(), stream.getvalue().to_pybytes()


def _read_predictions(content: Any) -> Predictions:
    rows = content["predictions"]
    first = rows[0]
    about = {key: content[key] for key in ("model", "version", "digest")}
    if "value" in first:
        outputs_BK = np.array([[row["value"]] for row in rows], dtype=np.float64)
        return Predictions(
            **about, columns=("value",), outputs_BK=outputs_BK, unit=first.get("unit")
        )
    key = "probabilities" if "probabilities" in first else "quantiles"
    outputs_BK = np.array([list(row[key].values()) for row in rows], dtype=np.float64)
    return Predictions(
        **about,
        columns=tuple(first[key]),
        outputs_BK=outputs_BK,
        labels=tuple(row["label"] for row in rows) if key == "probabilities" else (),
        unit=first.get("unit"),
    )
