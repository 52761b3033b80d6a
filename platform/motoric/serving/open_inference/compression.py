"""Compressed bodies of requests, unpacked up to a limit."""

from __future__ import annotations

import zlib

from motoric.core.errors import ContentTypeError, MalformedBodyError, TooLargeError

# A zlib or a gzip header decides; clients send either as "deflate".
_ANY_HEADER = 32 + zlib.MAX_WBITS
_ENCODINGS = ("gzip", "deflate")


def is_compressed(encoding: bytes | None) -> bool:
    """Whether a Content-Encoding is one that `decompress` takes.

    Raises:
        ContentTypeError: It is another than identity, gzip or deflate.
    """
    name = (encoding or b"identity").decode("latin-1").strip().lower()
    if name in _ENCODINGS:
        return True
    if name != "identity":
        raise ContentTypeError(
            f"bodies in the Content-Encoding {name[:40]!r} are not read: send gzip, deflate, or the"
            " body as it is"
        )
    return False


def decompress(body: bytes, max_bytes: int) -> bytes:
    """Unpack a body of gzip or zlib, without ever holding more than the limit.

    Args:
        body: One compressed stream.
        max_bytes: Most bytes that it may unpack to.

    Raises:
        MalformedBodyError: It is damaged, cut off, or more follows it.
        TooLargeError: It unpacks to more than `max_bytes`.
    """
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        content = unpacker.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise MalformedBodyError(
            f"the body cannot be unpacked as its Content-Encoding says: {error}"
        ) from error
    if len(content) > max_bytes:
        raise TooLargeError(
            f"the body unpacks to more than the limit of {max_bytes / 2**20:g} MiB: send fewer"
            " windows a request"
        )
    if not unpacker.eof or unpacker.unused_data:
        what = "goes on behind its end" if unpacker.eof else "is cut off"
        raise MalformedBodyError(f"the compressed body {what}: send one whole stream of it")
    return content
