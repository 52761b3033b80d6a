"""Which files a request may name by URI: only those under the prefixes of the settings.

In: a URI that nobody has checked. Out: a `Place` under an allowed prefix, or a refusal. What can be
written in two ways is refused rather than normalised: `..`, `%`, `?`, `#`, credentials, ports.
Pure; `fetching` opens what is allowed, and looks again at where local paths really lead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from motoric.core.errors import ForbiddenError

_MAX_CHARACTERS = 2048
_REMOTE = ("s3", "gs")
_LOCAL = "file"
_KINDS = "/absolute/path, file:///absolute/path, s3://bucket/key or gs://bucket/key"
# Queries of s3:// URIs choose the server that is asked; the others have a second spelling.
_REFUSED = {
    "%": "percent-encoding is not read",
    "?": "it may have no query",
    "#": "it may have no fragment",
    "\\": "folders are parted by /",
    "~": "home folders are not known",
    "@": "it may hold no credentials",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a file or a prefix lies.

    Attributes:
        scheme: `file`, `s3` or `gs`.
        segments: Of a remote place its bucket first; none is empty, `.` or `..`.
    """

    scheme: str
    segments: tuple[str, ...]

    @property
    def uri(self) -> str:
        """As `core.storage` opens it."""
        path = "/".join(self.segments)
        return f"/{path}" if self.scheme == _LOCAL else f"{self.scheme}://{path}"

    def is_under(self, prefix: Place) -> bool:
        """Whether it lies in the folder or below the key that `prefix` is, or is it itself."""
        num = len(prefix.segments)
        return self.scheme == prefix.scheme and self.segments[:num] == prefix.segments


def parse_place(uri: str) -> Place:
    """Read a URI or an absolute path; a slash at its end has no meaning.

    Raises:
        ForbiddenError: It is of another kind, or could be read in more than one way.
    """
    why = _fault_of_text(uri)
    if why:
        raise _refusal(uri, why)
    scheme, mark, rest = uri.partition("://")
    if not mark:
        scheme, rest = _LOCAL, uri
    if scheme not in (_LOCAL, *_REMOTE):
        raise _refusal(uri, f"{scheme}:// is never fetched; give {_KINDS}")
    if scheme == _LOCAL:
        if not rest.startswith("/"):
            raise _refusal(uri, f"give {_KINDS}")
        rest = rest[1:]
    segments = tuple(rest.removesuffix("/").split("/")) if rest not in ("", "/") else ()
    if any(segment in ("", ".", "..") for segment in segments):
        raise _refusal(uri, "a part of its path is empty, '.' or '..'")
    if scheme in _REMOTE and not segments:
        raise _refusal(uri, "it names no bucket")
    if scheme in _REMOTE and ":" in segments[0]:
        raise _refusal(uri, "a bucket has no port")
    return Place(scheme=scheme, segments=segments)


def _fault_of_text(uri: str) -> str:
    """What may not stand anywhere in a URI, or an empty text."""
    if len(uri) > _MAX_CHARACTERS:
        return f"it has more than {_MAX_CHARACTERS} characters"
    if not uri.isprintable() or uri != uri.strip():
        return "it holds spaces at its ends, or signs that do not print"
    return next((why for sign, why in _REFUSED.items() if sign in uri), "")


def _refusal(uri: str, why: str) -> ForbiddenError:
    return ForbiddenError(f"the URI {uri[:200]!r} is not allowed: {why}")


def allowed_place(uri: str, prefixes: Sequence[str]) -> tuple[Place, Place]:
    """The place of a file, and the prefix of the settings that allows it.

    Raises:
        ForbiddenError: None does.
    """
    if not prefixes:
        raise ForbiddenError(
            "this model reads no files by URI: upload the file, or have an operator name folders"
            " or prefixes in files.uri_prefixes of its deployment"
        )
    place = parse_place(uri)
    for prefix in map(parse_place, prefixes):
        if place.is_under(prefix):
            return place, prefix
    raise ForbiddenError(
        f"the URI {uri[:200]!r} is not allowed: it lies under none of the prefixes of"
        " files.uri_prefixes"
    )
