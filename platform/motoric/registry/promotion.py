"""Moving an alias, and the release that follows it.

The alias in the registry is the desired version; the release is what replicas watch. Both move
here.
"""

from __future__ import annotations

from motoric.core.releases import Release, ReleasedVersion, write_release
from motoric.registry.registry import RegisteredVersion, Registry

CHAMPION = "champion"


def promote(registry: Registry, storage_uri: str, model: str, alias: str, version: int) -> None:
    """Give `alias` to a version; moving `champion` releases it.

    Raises:
        NotFoundError: No such model or version.
    """
    registry.set_alias(model, alias, version)
    if alias == CHAMPION:
        release(storage_uri, registry.version(model, version), alias)


def release(storage_uri: str, found: RegisteredVersion, alias: str) -> Release:
    """Write the release of a registered version; replicas pick it up within a second or two."""
    inside = storage_uri.rstrip("/") + "/"
    made = Release(
        model=found.model,
        alias=alias,
        primary=ReleasedVersion(
            version=found.version,
            digest=found.digest,
            # Relative where it can be, so that a storage can move as a whole.
            artefact=found.artefact_uri.removeprefix(inside),
        ),
    )
    write_release(storage_uri, made)
    return made
