"""Cadence on foot: workout files count one leg, Motoric counts steps.

FIT, and with it TCX and GPX exports, has cadence in revolutions a minute: on a bicycle turns of the
crank, on foot turns of one leg, which is half the steps (FIT SDK, profile of `record`: cadence).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from motoric.data.ingest.samples import Notes, Samples

_ON_FOOT = ("running", "run", "walking", "walk", "hiking", "hike")
_CADENCE = "cadence"


def count_steps(
    batches: Iterable[Samples], sports: Sequence[str], notes: Notes
) -> Iterator[Samples]:
    """Double the cadence of a file whose sports are all on foot; the metadata says so.

    Args:
        batches: Of the file.
        sports: Its sports, as the file names them.
        notes: What was done goes here.
    """
    on_foot = [_is_on_foot(sport) for sport in sports]
    for batch in batches:
        names = [channel.name for channel in batch.channels]
        if _CADENCE not in names or not any(on_foot):
            yield batch
        elif all(on_foot):
            notes.metadata["cadence"] = "doubled to steps a minute: the file counts one leg"
            values_TC = batch.values_TC.copy()
            values_TC[:, names.index(_CADENCE)] *= 2
            yield replace(batch, values_TC=values_TC)
        else:
            notes.metadata["cadence"] = "of one leg while on foot: the file has several sports"
            yield batch


def _is_on_foot(sport: str) -> bool:
    words = sport.lower().replace("_", " ").split()
    return any(word in _ON_FOOT for word in words)
