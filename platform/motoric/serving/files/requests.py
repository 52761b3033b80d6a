"""What a request for a whole file says beside the file: its query, or a body that names URIs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

import orjson

from motoric.core.errors import MalformedBodyError, QueryError
from motoric.serving.bodies.adaptation import Given, given_by_query
from motoric.serving.media_types import JSON_TYPE, bare_type

_WINDOWS, _OFFSET = "windows", "video_offset_s"
_URI, _VIDEO_URI = "uri", "video_uri"
# A body that names URIs is never longer.
_MAX_BODY_BYTES = 8192
_MAX_QUERY_BYTES = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuery:
    """The query of a request for a file.

    Attributes:
        given: What it says of the columns of a table.
        with_windows: It wants each window too.
        video_offset_s: Time of the recording at which the video's first frame was taken.
    """

    given: Given
    with_windows: bool = False
    video_offset_s: float = 0.0


def file_query(query: bytes) -> FileQuery:
    """Read a query.

    Raises:
        QueryError: A parameter is unknown, is there twice, or has no value that it can have.
    """
    if not query:
        return FileQuery(given=Given())
    if len(query) > _MAX_QUERY_BYTES:
        raise QueryError(f"the query has {len(query)} bytes: at most {_MAX_QUERY_BYTES} are read")
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=16
        )
    except ValueError as error:  # of decoding, too
        raise QueryError(f"the query cannot be read: {error}") from error
    own = [pair for pair in pairs if pair[0] in (_WINDOWS, _OFFSET)]
    said = dict(own)
    if len(said) < len(own):
        raise QueryError(f"the query has {own[0][0]} twice: say it once")
    windows = said.get(_WINDOWS, "false")
    if windows not in ("true", "false"):
        raise QueryError(f"windows is {windows[:40]!r}: say true or false")
    try:
        offset_s = float(said.get(_OFFSET, "0"))
    except ValueError:
        offset_s = math.nan
    if not abs(offset_s) < 86_400:
        raise QueryError(f"video_offset_s is {said[_OFFSET][:40]!r}: give seconds, within a day")
    rest = urlencode([pair for pair in pairs if pair not in own]).encode()
    return FileQuery(
        given=given_by_query(rest) if rest else Given(),
        with_windows=windows == "true",
        video_offset_s=offset_s,
    )


def uris_of(content_type: bytes | None, body: bytes) -> tuple[str, ...] | None:
    """The URIs that a JSON body names, or None where it is another body of predict.

    Raises:
        MalformedBodyError: It names something that is no URI, or something else beside.
    """
    if len(body) > _MAX_BODY_BYTES or b'"uri"' not in body:
        return None
    if content_type is not None and bare_type(content_type) != JSON_TYPE:
        return None
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None  # whoever reads it says what is wrong
    if not isinstance(content, dict) or _URI not in content:
        return None
    if unknown := sorted(set(content) - {_URI, _VIDEO_URI}):
        raise MalformedBodyError(
            f"unknown key {unknown[0]!r:.60} beside 'uri': it may have 'video_uri' beside it, all"
            " else stands in the query"
        )
    uris = tuple(content[key] for key in (_URI, _VIDEO_URI) if key in content)
    if not all(isinstance(uri, str) for uri in uris):
        raise MalformedBodyError("'uri' and 'video_uri' must be strings")
    return uris
