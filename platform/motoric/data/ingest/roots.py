"""Where the files of a manifest may lie: a manifest from somebody else must not open any file."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from motoric.core import storage
from motoric.core.errors import UnreadableError


class Roots:
    """Where files may lie: below the manifest's folder, or below what the settings allow.

    Args:
        base_uri: The manifest's folder.
        allowed: Other folders or prefixes.
    """

    def __init__(self, base_uri: str, allowed: Sequence[str]) -> None:
        self._base = normal(base_uri)
        self._allowed = (self._base, *(normal(root) for root in allowed))

    def resolve(self, path: str) -> str:
        """The URI of a file that a manifest names.

        Raises:
            UnreadableError: It lies elsewhere, also by `..` or a link.
        """
        place = normal(path if storage.is_absolute(path) else storage.join(self._base, path))
        if not any(place == root or place.startswith(f"{root}/") for root in self._allowed):
            raise UnreadableError(
                f"{path!r} lies outside the manifest's folder: put the file below it, or name its"
                " folder under allowed_roots in the ingest settings"
            )
        return place


def normal(uri: str) -> str:
    """A URI without `.`, `..` and, on a disk, without links: what is really opened."""
    if "://" in uri:
        scheme, _, rest = uri.partition("://")
        if scheme != "file":
            return f"{scheme}://{posixpath.normpath(rest)}"
        uri = rest
    return str(Path(uri).expanduser().resolve())
