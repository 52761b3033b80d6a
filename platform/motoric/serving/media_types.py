"""Names of the types that requests and answers come in."""

from __future__ import annotations

JSON_TYPE = b"application/json"
RAW_TYPE = b"application/octet-stream"
NPY_TYPE = b"application/x-npy"
ARROW_TYPE = b"application/vnd.apache.arrow.stream"
PROBLEM_TYPE = b"application/problem+json"


# Whole files by the type of the body, and what their names end in.
FILE_TYPES = {
    b"application/vnd.ant.fit": ".fit",
    b"application/gpx+xml": ".gpx",
    b"application/vnd.garmin.tcx+xml": ".tcx",
    b"text/csv": ".csv",
    b"application/vnd.apache.parquet": ".parquet",
    b"video/mp4": ".mp4",
    b"video/webm": ".webm",
    b"video/quicktime": ".mov",
    b"video/x-msvideo": ".avi",
    b"video/x-matroska": ".mkv",
}
FORM_TYPE = b"multipart/form-data"


def bare_type(content_type: bytes | None) -> bytes:
    """A Content-Type without its parameters, in lower case; empty where there is none."""
    return (content_type or b"").partition(b";")[0].strip().lower()
