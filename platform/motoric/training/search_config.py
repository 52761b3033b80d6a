"""The `search:` part of a recipe: which keys vary over which values, how many trials, by what.

In: YAML. Out: a checked `SearchConfig`. Every key and the ends of its range are tried against the
recipe itself, so that what no trial could train with is refused when the recipe is read.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_serializer,
    model_validator,
)

from motoric.core.settings import describe

# A field is called `int`, which hides the type of that name in its class.
Whole = int

# Keys that may not vary, and why.
_FIXED = {
    **dict.fromkeys(
        ("version", "name", "tracking", "registry", "timeline", "resources", "strategy"),
        "it changes nothing of what is learned",
    ),
    **dict.fromkeys(
        ("dataset", "where", "split", "task", "target", "labels", "horizon_s", "quantiles"),
        "trials must be validated on the same people and the same task to be compared",
    ),
    "stopping": "a trial is judged by its best epoch, and stopped by the search",
    "search": "a search holds no search",
}
# These change the loss itself, so that its values cannot be compared.
_OF_THE_LOSS = frozenset({"train.label_smoothing", "train.class_weights", "train.auxiliary_weight"})


class Range(BaseModel):
    """The values of one key: exactly one of the fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    loguniform: tuple[float, float] | None = Field(
        default=None, description="between two values above 0, each order of magnitude alike"
    )
    uniform: tuple[float, float] | None = Field(default=None, description="between two values")
    int: tuple[Whole, Whole] | None = Field(
        default=None, description="whole numbers, both ends among them"
    )
    choice: tuple[Any, ...] | None = Field(default=None, min_length=1, description="one of a list")

    @model_validator(mode="before")
    @classmethod
    def _one_kind(cls, content: Any) -> Any:
        kinds = ", ".join(cls.model_fields)
        if not isinstance(content, dict):
            raise ValueError(f"write a range as one of {kinds}, such as {{uniform: [0, 0.5]}}")
        given = [name for name, value in content.items() if value is not None]
        if len(given) != 1 or given[0] not in cls.model_fields:
            raise ValueError(f"a range is exactly one of {kinds}; this names {given or 'none'}")
        return content

    @model_validator(mode="after")
    def _rises(self) -> Range:
        ends = self.loguniform or self.uniform or self.int
        if ends is None:
            return self
        low, high = ends
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise ValueError(f"the first value, {low:g}, must be below the second, {high:g}")
        if self.loguniform is not None and low <= 0:
            raise ValueError(f"loguniform needs values above 0, not {low:g}")
        return self

    @model_serializer
    def _written(self) -> dict[str, Any]:
        return {self.kind: getattr(self, self.kind)}

    @property
    def kind(self) -> Literal["loguniform", "uniform", "int", "choice"]:
        """Which of the fields is given."""
        kinds: tuple[Literal["loguniform", "uniform", "int", "choice"], ...]
        kinds = ("loguniform", "uniform", "int", "choice")
        return next(kind for kind in kinds if getattr(self, kind) is not None)

    @property
    def probes(self) -> tuple[Any, ...]:
        """The values that tell whether a recipe takes all: the ends, or each of the list."""
        found: tuple[Any, ...] = getattr(self, self.kind)
        return found

    @property
    def num_values(self) -> Whole | None:
        """How many values there are; None where they are without number."""
        if self.choice is not None:
            return len(self.choice)
        return None if self.int is None else self.int[1] - self.int[0] + 1

    def __str__(self) -> str:
        if self.choice is not None:
            return "one of " + ", ".join(str(value) for value in self.choice)
        low, high = self.probes
        words = {"loguniform": "log-uniform", "uniform": "uniform", "int": "whole numbers"}
        return f"{low:g} to {high:g}, {words[self.kind]}"


class SearchConfig(BaseModel):
    """What `motoric tune` searches."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    space: dict[str, Range] = Field(
        min_length=1, description="ranges by keys of the recipe, such as optimiser.learning_rate"
    )
    num_trials: int = Field(default=20, ge=1, le=10_000)
    metric: Literal["validation_loss", "validation_score"] = Field(
        default="validation_loss", description="score: accuracy, or the mean absolute error"
    )
    algorithm: Literal["random", "optuna"] = Field(
        default="random", description="optuna: tree-structured Parzen estimator"
    )
    max_concurrent: int | None = Field(
        default=None, ge=1, description="trials at once; by default what the machines carry"
    )
    grace_epochs: int = Field(default=1, ge=1, description="ASHA stops no trial before these")
    reduction_factor: float = Field(
        default=3, gt=1, le=100, description="at each rung of ASHA the best 1/n go on"
    )
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_keys(self) -> SearchConfig:
        for key in self.space:
            part = key.partition(".")[0]
            if part in _FIXED:
                raise ValueError(f"space.{key} cannot be searched: {_FIXED[part]}")
            if self.metric == "validation_loss" and key in _OF_THE_LOSS:
                raise ValueError(
                    f"space.{key} changes the loss itself, so that losses of trials cannot be"
                    " compared: set search.metric to validation_score"
                )
            for other in self.space:
                if other.startswith(f"{key}."):
                    raise ValueError(f"space.{other} is a part of space.{key}: name one of them")
        return self

    @property
    def num_combinations(self) -> int | None:
        """How many different trials there can be; None where they are without number."""
        counts = [item.num_values for item in self.space.values()]
        return None if None in counts else math.prod(count for count in counts if count is not None)

    def mode(self, task: str) -> Literal["min", "max"]:
        """Whether low or high values of the metric are good."""
        is_accuracy = self.metric == "validation_score" and task == "classify"
        return "max" if is_accuracy else "min"


def check_space(
    search: SearchConfig, content: Mapping[str, Any], validate: Callable[[Any], object]
) -> None:
    """Try the values of each range in the recipe.

    Args:
        search: The search.
        content: The recipe without it.
        validate: Checks the content of a recipe.

    Raises:
        ValueError: The recipe has no such key, or refuses a value; the message names both.
    """
    for key, value in _probes(search):
        try:
            validate(with_values(content, {key: value}))
        except ValidationError as error:
            raise ValueError(f"search.space.{key}, value {value!r}: {describe(error)}") from error


def with_values(content: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a recipe with other values at dotted keys; the search itself is left out.

    Raises:
        ValueError: A key leads through something that has no keys.
    """
    found = {key: copy.deepcopy(value) for key, value in content.items() if key != "search"}
    for key, value in values.items():
        *parents, last = key.split(".")
        place: Any = found
        for parent in parents:
            place = place.get(parent) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise ValueError(f"search.space.{key}: this recipe has no {'.'.join(parents)}")
        place[last] = copy.deepcopy(value)
    return found


def _probes(search: SearchConfig) -> Iterator[tuple[str, Any]]:
    for key, values in search.space.items():
        for value in values.probes:
            yield key, value
