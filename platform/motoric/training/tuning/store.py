"""A search on the storage: what it searches, and each trial as it stands, as small JSON documents.

    searches/<name>/search.json        the recipe, the dataset's digest, the tracked run
    searches/<name>/trials/00007.json  values, epochs and end of one trial, written after each epoch
    searches/<name>/best.yaml          the recipe of the best trial, and beside it report.html

A search that was killed is read back from these alone: ray.tune's own state is pickled, and a
pickle is not read from a storage.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from motoric.core import storage
from motoric.core.errors import NotFoundError, RecipeError, UserError
from motoric.core.settings import describe
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.tuning.trials import Trial

_MAX_NAMED = 10
# What may differ between the starts of one search.
_OF_ONE_START = frozenset({"resources", "tracking"})
_OF_ONE_START_IN_SEARCH = frozenset({"num_trials", "max_concurrent"})


class SearchDocument(BaseModel):
    """What a search is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    name: str
    recipe: dict[str, Any]
    dataset_uri: str
    dataset_digest: str
    tracking_run_id: str


class SearchStore:
    """One search on the storage.

    Args:
        storage_uri: The platform's storage.
        name: Of the search.
    """

    def __init__(self, storage_uri: str, name: str) -> None:
        self.name = name
        self._all_uri = storage.join(storage_uri, "searches")
        self.uri = storage.join(self._all_uri, name)

    def exists(self) -> bool:
        """Whether a search of this name was started."""
        return storage.exists(self._document_uri)

    def read(self) -> SearchDocument:
        """The search of this name.

        Raises:
            NotFoundError: There is none; the message names those there are.
            UserError: Its document is not one.
        """
        try:
            content = storage.read_bytes(self._document_uri)
        except NotFoundError as error:
            known = storage.list_names(self._all_uri)
            more = ", ..." if len(known) > _MAX_NAMED else ""
            named = ", ".join(known[-_MAX_NAMED:]) + more if known else "none yet"
            raise NotFoundError(
                f"no search {self.name!r} in {self._all_uri} (there are: {named})"
            ) from error
        try:
            return SearchDocument.model_validate_json(content)
        except ValidationError as error:
            raise UserError(f"{self._document_uri} is broken: {describe(error)}") from error

    def write(self, document: SearchDocument) -> None:
        """Begin a search."""
        storage.write_bytes(self._document_uri, document.model_dump_json(indent=1).encode())

    def read_trials(self) -> dict[int, Trial]:
        """All trials that were begun, by number; one whose document is broken is begun anew."""
        folder = storage.join(self.uri, "trials")
        found = {}
        for name in storage.list_names(folder):
            try:
                trial = Trial.model_validate_json(storage.read_bytes(storage.join(folder, name)))
            except ValidationError:
                continue
            found[trial.number] = trial
        return found

    def write_trial(self, trial: Trial) -> None:
        """Keep a trial as it stands."""
        uri = storage.join(self.uri, "trials", f"{trial.number:05d}.json")
        storage.write_bytes(uri, trial.model_dump_json().encode())

    @property
    def _document_uri(self) -> str:
        return storage.join(self.uri, "search.json")


def check_same(document: SearchDocument, recipe: Recipe, dataset_digest: str) -> None:
    """Refuse to go on with a search whose recipe or data have changed.

    Raises:
        RecipeError: They have; the message names the keys.
    """
    before = _compared(parse_recipe(document.recipe, f"search {document.name}"))
    now = _compared(recipe)
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        raise RecipeError(
            f"search {document.name!r} was started with another recipe: {', '.join(changed)}"
            " differ(s); leave the recipe out to go on with the one it has, or leave --resume out"
            " to start a new search"
        )
    if document.dataset_digest != dataset_digest:
        raise RecipeError(
            f"the dataset at {document.dataset_uri} has changed since search {document.name!r} was"
            " started, so that its trials cannot be compared with new ones: start a new search"
        )


def _compared(recipe: Recipe) -> dict[str, Any]:
    content = recipe.model_dump(mode="json", exclude=set(_OF_ONE_START))
    search = content.pop("search") or {}
    kept = {key: value for key, value in search.items() if key not in _OF_ONE_START_IN_SEARCH}
    return {**content, **{f"search.{key}": value for key, value in kept.items()}}
