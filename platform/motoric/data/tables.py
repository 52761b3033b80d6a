"""The Parquet tables of a dataset, and the digest of what they say.

`streams` holds chunks of at most 60 s of one stream, sorted by (recording_id, stream, chunk) in row
groups of bounded size: `values` is row-major (samples x channels), in the order of the row's
`channels`; streams that need double precision (positions in degrees) have `values_f64` instead.
Files are content-named, so writing one twice is harmless. A recording's rows count only in the file
that the table of recordings names as its `part`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from motoric.core import storage
from motoric.data.card import FilePart
from motoric.data.recording import Channel

CHUNK_S = 60.0
_ROW_GROUP_ROWS = 64
_ROW_GROUP_BYTES = 8 * 2**20
_DIGEST_BYTES = 32

_FLAG = pa.struct(
    [
        ("kind", pa.string()),
        ("detail", pa.string()),
        ("stream", pa.string()),
        ("channel", pa.string()),
        ("count", pa.int64()),
        ("is_repair", pa.bool_()),
    ]
)
_STREAM_SUMMARY = pa.struct(
    [
        ("stream", pa.string()),
        ("channels", pa.list_(pa.struct([("name", pa.string()), ("unit", pa.string())]))),
        ("rate_hz", pa.float64()),
        ("num_samples", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("num_gaps", pa.int64()),
        ("gap_s", pa.float64()),
    ]
)
_VIDEO = pa.struct(
    [
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("num_bytes", pa.int64()),
        ("codec", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("rotation_deg", pa.int32()),
        ("num_frames", pa.int64()),
        ("duration_s", pa.float64()),
        ("rate_hz", pa.float64()),
        ("is_variable_rate", pa.bool_()),
        ("offset_s", pa.float64()),
        ("offset_method", pa.string()),
        ("offset_confidence", pa.float64()),
    ]
)
RECORDINGS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("subject", pa.string()),
        ("duration_s", pa.float64()),
        ("start_time_s", pa.float64()),
        ("content_digest", pa.string()),
        ("source_digest", pa.string()),
        ("source", pa.string()),
        ("part", pa.string()),
        ("streams", pa.list_(_STREAM_SUMMARY)),
        ("video", _VIDEO),
        ("flags", pa.list_(_FLAG)),
        ("metadata", pa.map_(pa.string(), pa.string())),
    ]
)
ANNOTATIONS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("label", pa.string()),
    ]
)
QUARANTINE = pa.schema(
    [
        ("recording_id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("reason", pa.string()),
    ]
)
STREAMS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("stream", pa.string()),
        ("chunk", pa.int32()),
        ("rate_hz", pa.float64()),
        ("channels", pa.list_(pa.string())),
        ("time_s", pa.list_(pa.float64())),
        ("values", pa.list_(pa.float32())),
        ("values_f64", pa.list_(pa.float64())),
    ]
)

_NUMBERS = ("time_s", "values", "values_f64")


def dtype_of(channels: Iterable[Channel]) -> type[np.float32 | np.float64]:
    """Precision that a stream is kept in: degrees of latitude need more than float32's metre."""
    return np.float64 if any(channel.unit == "deg" for channel in channels) else np.float32


class PartFile:
    """Writes one content-named file of streams in bounded memory; used in a `with`.

    Args:
        dataset_uri: The dataset that it belongs to.
    """

    def __init__(self, dataset_uri: str) -> None:
        self._dataset_uri = dataset_uri
        self._folder = tempfile.TemporaryDirectory(prefix="motoric-part-")
        self._path = Path(self._folder.name) / "part.parquet"
        # Numbers hardly repeat, so a dictionary of them is work for nothing; their bytes, one place
        # after the other, compress well.
        self._writer = pq.ParquetWriter(
            self._path,
            STREAMS,
            compression="zstd",
            use_dictionary=["recording_id", "stream", "channels.list.element"],
            use_byte_stream_split=[f"{name}.list.element" for name in _NUMBERS],
        )
        self._columns = _empty_columns()
        self._pending_bytes = 0
        self.num_rows = 0

    def __enter__(self) -> PartFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._folder.cleanup()

    def add(
        self,
        *,
        recording_id: str,
        stream: str,
        chunk: int,
        rate_hz: float,
        channels: tuple[Channel, ...],
        time_s: NDArray[np.float64],
        values_TC: NDArray[np.float32] | NDArray[np.float64],
    ) -> None:
        """Add one chunk; chunks come sorted by (recording_id, stream, chunk) within a recording."""
        is_double = values_TC.dtype == np.float64
        row = {
            "recording_id": recording_id,
            "stream": stream,
            "chunk": chunk,
            "rate_hz": rate_hz,
            "channels": [channel.name for channel in channels],
            "time_s": time_s,
            "values": None if is_double else values_TC.reshape(-1),
            "values_f64": values_TC.reshape(-1) if is_double else None,
        }
        for name, value in row.items():
            self._columns[name].append(value)
        self.num_rows += 1
        self._pending_bytes += time_s.nbytes + values_TC.nbytes
        if (
            self._pending_bytes >= _ROW_GROUP_BYTES
            or len(self._columns["chunk"]) >= _ROW_GROUP_ROWS
        ):
            self._flush()

    def _flush(self) -> None:
        if self._columns["chunk"]:
            self._writer.write_table(pa.table(self._columns, schema=STREAMS))
        self._columns = _empty_columns()
        self._pending_bytes = 0

    def close(self) -> FilePart | None:
        """Put the file into the dataset; None where it has no rows."""
        self._flush()
        self._writer.close()
        if not self.num_rows:
            return None
        sha256 = storage.sha256(str(self._path))
        path = f"streams/{sha256[:32]}.parquet"
        storage.copy_from(str(self._path), storage.join(self._dataset_uri, path))
        return FilePart(
            path=path,
            sha256=sha256,
            num_rows=self.num_rows,
            num_bytes=self._path.stat().st_size,
        )


def _empty_columns() -> dict[str, list[Any]]:
    return {name: [] for name in STREAMS.names}


class StreamDigest:
    """Digest of one stream as its chunks pass by."""

    def __init__(self, name: str, rate_hz: float, channels: tuple[Channel, ...]) -> None:
        described = " ".join(f"{channel.name}[{channel.unit}]" for channel in channels)
        # BLAKE2b: several times as fast as SHA-256 where the processor has no instructions for it.
        self._times = hashlib.blake2b(
            f"{name} {rate_hz!r} {described}\n".encode(), digest_size=_DIGEST_BYTES
        )
        self._values = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def update(
        self,
        time_s: NDArray[np.float64],
        values_TC: NDArray[np.float32] | NDArray[np.float64],
    ) -> None:
        """Add the rows of one chunk."""
        self._times.update(np.ascontiguousarray(time_s, dtype="<f8").data)
        kind = "<f4" if values_TC.dtype == np.float32 else "<f8"
        self._values.update(np.ascontiguousarray(values_TC, dtype=kind).data)

    def hexdigest(self) -> str:
        """The digest so far; it does not depend on where chunks end."""
        return f"{self._times.hexdigest()}{self._values.hexdigest()}"


def recording_digest(
    *,
    recording_id: str,
    subject: str,
    annotations: Iterable[tuple[float, float, str]],
    streams: Mapping[str, str],
    video: str | None,
) -> str:
    """Digest of what a recording says, whatever files or chunks it lies in.

    Args:
        recording_id: Its id.
        subject: The person.
        annotations: Start (s), end (s) and label of each.
        streams: Digest of each stream by its name.
        video: The video's digest and its offset, if there is one.
    """
    digest = hashlib.sha256()
    digest.update(f"{recording_id}\n{subject}\n".encode())
    for start_s, end_s, label in annotations:
        digest.update(f"{start_s!r} {end_s!r} {label}\n".encode())
    for name in sorted(streams):
        digest.update(f"{name} {streams[name]}\n".encode())
    if video is not None:
        digest.update(f"video {video}\n".encode())
    return digest.hexdigest()


def dataset_digest(by_recording: Mapping[str, str]) -> str:
    """Digest of a dataset from the digests of its recordings."""
    digest = hashlib.sha256()
    for recording_id in sorted(by_recording):
        digest.update(f"{recording_id} {by_recording[recording_id]}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def write_table(dataset_uri: str, kind: str, table: pa.Table) -> FilePart:
    """Write one small content-named Parquet file under the dataset."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    content = sink.getvalue().to_pybytes()
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{kind}/{sha256[:32]}.parquet"
    storage.write_bytes(storage.join(dataset_uri, path), content)
    return FilePart(path=path, sha256=sha256, num_rows=table.num_rows, num_bytes=len(content))


def read_table(dataset_uri: str, parts: Iterable[FilePart], schema: pa.Schema) -> pa.Table:
    """Read the files of one small table."""
    tables = []
    for part in parts:
        system, path = storage.filesystem(storage.join(dataset_uri, part.path))
        tables.append(pq.read_table(path, filesystem=system, schema=schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()
