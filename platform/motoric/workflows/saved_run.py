"""What a run leaves in the storage at its start, so that it can go on after its driver is gone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from motoric.core import storage
from motoric.core.errors import NotFoundError, UserError
from motoric.training.recipe import Recipe, read_recipe

_RECIPE, _RUN = "recipe.yaml", "run.json"
_MAX_NAMED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedRun:
    """A run that can go on.

    Attributes:
        run_id: Its name.
        tracking_run_id: Of the tracked run.
        recipe: What it trains.
    """

    run_id: str
    tracking_run_id: str
    recipe: Recipe


def save_run(run: SavedRun, storage_uri: str) -> None:
    """Write what `find_run` reads."""
    folder = _folder(storage_uri, run.run_id)
    storage.write_bytes(storage.join(folder, _RECIPE), run.recipe.to_yaml().encode())
    content = {"run_id": run.run_id, "tracking_run_id": run.tracking_run_id}
    storage.write_bytes(storage.join(folder, _RUN), json.dumps(content).encode())


def find_run(name: str, storage_uri: str, overrides: Sequence[str] = ()) -> SavedRun:
    """The run of a name, or of the beginning of one that fits one run only.

    Args:
        name: Of the run.
        storage_uri: The platform's storage.
        overrides: `key.path=value` of its recipe; training refuses what would change its weights.

    Raises:
        NotFoundError: There is none.
        UserError: Several fit.
        RecipeError: The recipe does not fit with the overrides.
    """
    names = storage.list_names(storage.join(storage_uri, "runs"))
    found = [item for item in names if item == name] or [
        item for item in names if name and item.startswith(name)
    ]
    if len(found) > 1:
        listed = ", ".join(found[:_MAX_NAMED]) + (" …" if len(found) > _MAX_NAMED else "")
        raise UserError(f"several runs begin with {name!r}: {listed}")
    folder = _folder(storage_uri, found[0]) if found else ""
    if not found or not storage.exists(storage.join(folder, _RUN)):
        known = [item for item in names if storage.exists(_folder(storage_uri, item, _RUN))]
        listed = ", ".join(known[-_MAX_NAMED:]) or "none"
        raise NotFoundError(f"no training run {name!r} lies in {storage_uri} (there are: {listed})")
    content = json.loads(storage.read_bytes(storage.join(folder, _RUN)))
    place = storage.join(folder, _RECIPE)
    return SavedRun(
        run_id=content["run_id"],
        tracking_run_id=content["tracking_run_id"],
        recipe=read_recipe(storage.read_bytes(place).decode(), place, overrides),
    )


def _folder(storage_uri: str, *parts: str) -> str:
    return storage.join(storage_uri, "runs", *parts)
