"""Build a dataset from a source, with Ray Data reading and writing the recordings in parallel.

In: a source and a URI. Out: a committed dataset. Recordings that were read before and did not
change are kept; a run that was killed goes on where it stopped. The same source gives the same
content digest whatever the number of workers.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from motoric.core import storage
from motoric.core.errors import DatasetError, NotFoundError, PlatformError
from motoric.data.card import DatasetCard, read_card
from motoric.data.ingest.commit import Outcome, commit, known_recordings
from motoric.data.ingest.part_writer import UNFINISHED, PartWriter
from motoric.data.ingest.source import Source

# A task reads about this share of all there is, within limits, unless one recording is larger: so
# there are tasks enough for many workers, and not too many files of streams.
_GROUP_SHARE = 1 / 16
_MIN_GROUP_BYTES, _MAX_GROUP_BYTES = 4 * 2**20, 64 * 2**20
GROUP_RECORDINGS = 16
_SHOWN = 10

_TOLD = re.compile(r"motoric\.core\.errors\.PlatformError: (.+)")

OnProgress = Callable[[int, int], None]


def _silent(_done: int, _total: int) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildResult:
    """What `build_dataset` did.

    Attributes:
        card: The dataset's card.
        reused: Nothing had changed, nothing was written.
        num_added: Recordings that were not in the dataset before.
        num_changed: Recordings that were read again because their files or settings changed.
        num_removed: Recordings that the source does not have any more.
        num_resumed: Of those added or changed, how many a run that was cut short had read already.
    """

    card: DatasetCard
    reused: bool
    num_added: int = 0
    num_changed: int = 0
    num_removed: int = 0
    num_resumed: int = 0


def unchanged(source: Source, uri: str) -> DatasetCard | None:
    """The card of the dataset at `uri`, if it was built from the same files in the same way.

    A cheap look, for sources that tell all by a few digests; None where it takes a closer one.
    """
    digests = source.digests()
    try:
        card = read_card(uri)
    except DatasetError:
        return None
    same = (
        bool(digests)
        and card.name == source.name
        and card.sources == digests
        and card.settings == source.settings()
    )
    return card if same else None


def build_dataset(
    source: Source,
    uri: str,
    *,
    strict: bool = False,
    on_progress: OnProgress = _silent,
) -> BuildResult:
    """Bring the dataset at `uri` up to date with its source. Needs a running Ray.

    Args:
        source: Where recordings come from.
        uri: Folder or prefix of the dataset, on storage that all nodes share.
        strict: Commit nothing if any input is rejected or had to be repaired.
        on_progress: Called with recordings done and in all.

    Raises:
        DatasetError: Not one recording could be read, or `strict` and something is wrong.
    """
    writer = PartWriter(source=source, dataset_uri=uri)
    known = known_at(uri)
    outcome = _run(writer, plan(source, known), on_progress)
    return conclude(source, uri, known, outcome, strict=strict)


def conclude(
    source: Source, uri: str, known: Mapping[str, dict[str, Any]], outcome: Outcome, *, strict: bool
) -> BuildResult:
    """Commit what a run brought, unless it brought nothing new.

    Raises:
        DatasetError: As `build_dataset`.
    """
    outcome = replace(outcome, recordings=(*outcome.recordings, *(known[i] for i in outcome.kept)))
    if strict:
        _check_strict(source, outcome)
    before = _card_or_none(uri)
    earlier = {} if before is None else known_recordings(uri, before)
    card = commit(source, uri, outcome, before)
    storage.remove_folder(storage.join(uri, UNFINISHED))
    now = {row["recording_id"]: row["source_digest"] for row in outcome.recordings}
    return BuildResult(
        card=card,
        reused=before is not None and card == before,
        num_added=len(set(now) - set(earlier)),
        num_changed=sum(
            earlier[name]["source_digest"] != digest
            for name, digest in now.items()
            if name in earlier
        ),
        num_removed=len(set(earlier) - set(now)),
        num_resumed=sum(
            name not in earlier or earlier[name]["source_digest"] != now[name]
            for name in outcome.kept
        ),
    )


def _card_or_none(uri: str) -> DatasetCard | None:
    try:
        return read_card(uri)
    except DatasetError:
        return None


def _check_strict(source: Source, outcome: Outcome) -> None:
    wrong = [
        f"{item.source}: {item.reason}" for item in source.rejected() if item.kind == "rejected"
    ]
    wrong += [
        f"{row['source']}: {row['reason']}"
        for row in outcome.quarantined
        if row["kind"] == "rejected"
    ]
    for row in outcome.recordings:
        repairs = [flag["detail"] for flag in row["flags"] if flag["is_repair"]]
        if repairs:
            wrong.append(f"{row['source']}: {'; '.join(repairs)}")
    if wrong:
        more = f"; and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise DatasetError(
            f"--strict: {len(wrong)} inputs are broken or needed repair, so nothing was committed: "
            + "; ".join(sorted(wrong)[:_SHOWN])
            + more
        )


def plan(source: Source, known: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Which recordings are read together: fixed by the source alone, never by the workers.

    Args:
        source: Where recordings come from.
        known: Recordings that were read before, by id.
    """
    groups: list[list[dict[str, Any]]] = [[]]
    num_bytes = 0
    items = source.items()
    share = round(_GROUP_SHARE * sum(item.num_bytes for item in items))
    limit = min(max(share, _MIN_GROUP_BYTES), _MAX_GROUP_BYTES)
    for index, item in enumerate(items):
        if groups[-1] and (
            num_bytes + item.num_bytes > limit or len(groups[-1]) >= GROUP_RECORDINGS
        ):
            groups.append([])
            num_bytes = 0
        num_bytes += item.num_bytes
        before = known.get(item.recording_id)
        groups[-1].append(
            {
                "index": index,
                "recording_id": item.recording_id,
                "place": item.place,
                "known_digest": None if before is None else before["source_digest"],
            }
        )
    return [{"group": number, "items": group} for number, group in enumerate(groups) if group]


def known_at(uri: str) -> dict[str, dict[str, Any]]:
    """Recordings that lie at a URI already, committed or left by a run that was killed, by id."""
    return {**known_recordings(uri), **_unfinished(uri)}


def _unfinished(uri: str) -> dict[str, dict[str, Any]]:
    """What tasks of a run that was killed had finished, by recording."""
    folder = storage.join(uri, UNFINISHED)
    found: dict[str, dict[str, Any]] = {}
    for name in storage.list_names(folder):
        try:
            result = json.loads(storage.read_bytes(storage.join(folder, name)))
        except NotFoundError:  # another run has just committed
            continue
        for row in result["recordings"]:
            found[row["recording_id"]] = {**row, "_part": result["part"]}
    return found


def _run(writer: PartWriter, tasks: list[dict[str, Any]], on_progress: OnProgress) -> Outcome:
    import ray.data
    import ray.exceptions

    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    total = sum(len(task["items"]) for task in tasks)
    on_progress(0, total)
    results: list[dict[str, Any]] = []
    if tasks:
        rows = [{"task": json.dumps(task)} for task in tasks]
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map(writer)
        # Ray Data sets its own log levels when a dataset is made, so this comes after.
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        done = 0
        try:
            for row in dataset.iter_rows():
                result = json.loads(row["result"])
                results.append(result)
                done += sum(len(result[name]) for name in ("recordings", "quarantined", "kept"))
                on_progress(done, total)
        except ray.exceptions.RayError as error:
            raise stopped(error) from error
    return gather(results)


def stopped(error: Exception) -> PlatformError:
    """What stopped a run, in the words of the task that failed."""
    # Ray hands on what a task raised as the cause, as an attribute, or as the text of a traceback
    # alone, by the thread in which it finds out.
    chain: list[BaseException] = [error]
    while (following := chain[-1].__cause__ or getattr(chain[-1], "cause", None)) is not None:
        if not isinstance(following, BaseException) or following in chain:
            break
        chain.append(following)
    own = [item.message for item in chain if isinstance(item, PlatformError)]
    told = [line for item in chain for line in _TOLD.findall(str(item))]
    last = str(chain[-1]).strip().splitlines() or [type(error).__name__]
    last_line = (own or told or last)[-1].strip().splitlines()[-1]
    return PlatformError(
        f"the ingest stopped: {last_line}. Nothing was committed; what was read is kept, so the"
        " same command goes on from there"
    )


def gather(results: list[dict[str, Any]]) -> Outcome:
    """What all tasks brought, in the order of the groups."""
    ordered = sorted(results, key=lambda result: int(result["group"]))
    recordings = tuple(
        {**row, "_part": result["part"]} for result in ordered for row in result["recordings"]
    )
    return Outcome(
        recordings=recordings,
        quarantined=tuple(row for result in ordered for row in result["quarantined"]),
        kept=tuple(name for result in ordered for name in result["kept"]),
    )


def default_uri(storage_uri: str, name: str) -> str:
    """Where a dataset lies unless its user says otherwise."""
    return storage.join(storage_uri, "datasets", name)
