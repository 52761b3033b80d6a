"""The Parquet tables of a dataset, and the digest of what they say.

`streams` holds chunks of at most 60 s of one stream, sorted by (recording_id, stream, chunk):
`values` is row-major (samples x channels), channels as in the card. Files are content-named, so
writing one twice is harmless.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from motoric.core import storage
from motoric.data.card import FilePart
from motoric.data.recording import Recording, Stream

CHUNK_S = 60.0
_ROW_GROUP_ROWS = 64

RECORDINGS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("subject", pa.string()),
        ("duration_s", pa.float64()),
        ("content_digest", pa.string()),
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
QUARANTINE = pa.schema([("recording_id", pa.string()), ("reason", pa.string())])
STREAMS = pa.schema(
    [
        ("recording_id", pa.string()),
        ("stream", pa.string()),
        ("chunk", pa.int32()),
        ("rate_hz", pa.float64()),
        ("time_s", pa.list_(pa.float64())),
        ("values", pa.list_(pa.float32())),
    ]
)


def _chunks(stream: Stream) -> Iterator[tuple[int, slice]]:
    """Slices of at most `CHUNK_S` seconds, by the samples' times."""
    number = np.floor((stream.time_s - stream.time_s[0]) / CHUNK_S).astype(np.int64)
    starts = np.flatnonzero(np.diff(number, prepend=-1))
    ends = np.append(starts[1:], len(number))
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        yield int(number[start]), slice(start, end)


def stream_rows(recordings: Iterable[Recording]) -> pa.Table:
    """The rows of the `streams` table for some recordings, sorted."""
    columns: dict[str, list[object]] = {name: [] for name in STREAMS.names}
    for recording in sorted(recordings, key=lambda item: item.recording_id):
        for stream in sorted(recording.streams, key=lambda item: item.name):
            for number, part in _chunks(stream):
                columns["recording_id"].append(recording.recording_id)
                columns["stream"].append(stream.name)
                columns["chunk"].append(number)
                columns["rate_hz"].append(stream.rate_hz)
                columns["time_s"].append(stream.time_s[part])
                columns["values"].append(stream.values_TC[part].reshape(-1))
    return pa.table(columns, schema=STREAMS)


def recording_digest(recording: Recording) -> str:
    """Digest of what a recording says, whatever files or chunks it lies in."""
    digest = hashlib.sha256()
    digest.update(f"{recording.recording_id}\n{recording.subject}\n".encode())
    for annotation in recording.annotations:
        line = f"{annotation.start_s!r} {annotation.end_s!r} {annotation.label}\n"
        digest.update(line.encode())
    for stream in sorted(recording.streams, key=lambda item: item.name):
        digest.update(f"{stream.name} {stream.rate_hz!r} {stream.values_TC.shape[1]}\n".encode())
        digest.update(np.ascontiguousarray(stream.time_s, dtype="<f8").tobytes())
        digest.update(np.ascontiguousarray(stream.values_TC, dtype="<f4").tobytes())
    return digest.hexdigest()


def dataset_digest(by_recording: dict[str, str]) -> str:
    """Digest of a dataset from the digests of its recordings."""
    digest = hashlib.sha256()
    for recording_id in sorted(by_recording):
        digest.update(f"{recording_id} {by_recording[recording_id]}\n".encode())
    return f"sha256:{digest.hexdigest()}"


def write_table(dataset_uri: str, kind: str, table: pa.Table) -> FilePart:
    """Write one content-named Parquet file under the dataset."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd", row_group_size=_ROW_GROUP_ROWS)
    content = sink.getvalue().to_pybytes()
    sha256 = hashlib.sha256(content).hexdigest()
    path = f"{kind}/{sha256[:32]}.parquet"
    storage.write_bytes(storage.join(dataset_uri, path), content)
    return FilePart(path=path, sha256=sha256, num_rows=table.num_rows, num_bytes=len(content))


def read_table(dataset_uri: str, parts: Iterable[FilePart], schema: pa.Schema) -> pa.Table:
    """Read the files of one table."""
    tables = []
    for part in parts:
        system, path = storage.filesystem(storage.join(dataset_uri, part.path))
        tables.append(pq.read_table(path, filesystem=system, schema=schema))
    return pa.concat_tables(tables) if tables else schema.empty_table()
