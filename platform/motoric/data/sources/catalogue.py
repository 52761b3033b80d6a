"""Sources by their names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from motoric.core.errors import NotFoundError, UserError
from motoric.data.ingest.source import Source
from motoric.data.sources.basic_motions import BasicMotions
from motoric.data.sources.synthetic_motion import SyntheticMotion
from motoric.data.sources.utd_mhad import UtdMhad
from motoric.data.sources.watch_exercises import WatchExercises

# Each is made of the folder that `--from` names, or of None.
SOURCES: dict[str, Callable[[Path | None], Source]] = {
    WatchExercises.name: WatchExercises,
    BasicMotions.name: BasicMotions,
    UtdMhad.name: UtdMhad,
    SyntheticMotion.name: SyntheticMotion,
}


def make_source(name: str, folder: Path | None = None) -> Source:
    """A source by its name.

    Args:
        name: One of `SOURCES`.
        folder: Where its files lie, for sources that no package carries.

    Raises:
        NotFoundError: Unknown, the message names the known ones; or its files are not there.
    """
    if name not in SOURCES:
        raise NotFoundError(f"no dataset source {name!r} (there are: {', '.join(sorted(SOURCES))})")
    if folder is not None and not folder.exists():
        raise UserError(f"--from {folder}: nothing lies there")
    return SOURCES[name](folder)
