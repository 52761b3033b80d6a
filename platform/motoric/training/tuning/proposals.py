"""Which values the next trial has: those of a trial that was cut short, else newly drawn ones."""

from __future__ import annotations

import importlib.util
import math
from collections import deque
from collections.abc import Mapping
from typing import Any

import numpy as np
from ray.tune.search import Searcher

from motoric.core.errors import RecipeError
from motoric.training.search_config import Range, SearchConfig
from motoric.training.tuning.scheduler import VALUE
from motoric.training.tuning.space import Values, num_trials, random_values, rounded
from motoric.training.tuning.trials import Metric, Trial

NUMBER, VALUES = "number", "values"


class Proposals(Searcher):
    """Hands ray.tune the trials of a search.

    Args:
        search: Space, algorithm and seed.
        metric: What is compared.
        trials: Those of earlier starts, by number; unfinished ones come first.

    Raises:
        RecipeError: The algorithm is not installed.
    """

    def __init__(self, search: SearchConfig, metric: Metric, trials: Mapping[int, Trial]) -> None:
        super().__init__()
        self._search = search
        self._trials = trials
        numbers = range(num_trials(search))
        begun = [number for number in numbers if number in trials and not trials[number].is_over]
        self._waiting = deque([*begun, *(number for number in numbers if number not in trials)])
        self.num_waiting = len(self._waiting)
        self._drawn: dict[str, Values] = {}
        self._sampler = _Optuna(search, metric, trials) if search.algorithm == "optuna" else None

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        """The configuration of the next trial: its number and its values."""
        if not self._waiting:
            return None
        number = self._waiting.popleft()
        if number in self._trials:
            values = dict(self._trials[number].values)
        elif self._sampler is not None:
            values = self._sampler.suggest(trial_id)
        else:
            values = random_values(self._search, number)
        self._drawn[trial_id] = values
        return {NUMBER: number, VALUES: values}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """A trial is over; the algorithm learns from it."""
        if self._sampler is not None and trial_id in self._drawn:
            value = math.nan if result is None else result.get(VALUE, math.nan)
            self._sampler.tell(trial_id, self._drawn[trial_id], value, failed=error)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a search is read back from its trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: as `save`."""


class _Optuna:
    """Optuna's tree-structured Parzen estimator (Bergstra et al. 2011), by ray.tune's searcher.

    Values of a list are told to it by their place there.
    """

    def __init__(self, search: SearchConfig, metric: Metric, trials: Mapping[int, Trial]) -> None:
        if importlib.util.find_spec("optuna") is None:
            raise RecipeError(
                "search.algorithm is optuna, which is not installed: `pip install optuna`, or set"
                " it to random"
            )
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = search.space
        # A search that goes on must not draw again what it drew at first.
        seeds = np.random.SeedSequence([search.seed, len(trials)])
        self._searcher = OptunaSearch(
            {key: _distribution(values) for key, values in search.space.items()},
            metric=VALUE,
            mode=metric.mode,
            seed=int(seeds.generate_state(1)[0]),
        )
        self._asked: set[str] = set()
        for trial in trials.values():
            value = metric.best_value(trial)
            if trial.is_over and math.isfinite(value):
                self._searcher.add_evaluated_point(self._places(trial.values), value)

    def suggest(self, trial_id: str) -> Values:
        """Values of a new trial."""
        self._asked.add(trial_id)
        drawn = self._searcher.suggest(trial_id)
        assert drawn is not None
        found: Values = {}
        for key, values in self._space.items():
            if values.choice is not None:
                found[key] = values.choice[drawn[key]]
            else:
                found[key] = drawn[key] if values.int else rounded(drawn[key], values)
        return found

    def tell(self, trial_id: str, values: Values, value: float, *, failed: bool) -> None:
        """How a trial ended."""
        if trial_id in self._asked:
            result = {VALUE: value} if math.isfinite(value) else None
            self._searcher.on_trial_complete(trial_id, result, error=failed or result is None)
        elif math.isfinite(value):
            self._searcher.add_evaluated_point(self._places(values), value)

    def _places(self, values: Mapping[str, Any]) -> Values:
        return {
            key: item.choice.index(values[key]) if item.choice is not None else values[key]
            for key, item in self._space.items()
        }


def _distribution(values: Range) -> Any:
    from optuna import distributions

    if values.choice is not None:
        return distributions.CategoricalDistribution(range(len(values.choice)))
    if values.int is not None:
        return distributions.IntDistribution(*values.int)
    if values.uniform is not None:
        return distributions.FloatDistribution(*values.uniform)
    assert values.loguniform is not None
    return distributions.FloatDistribution(*values.loguniform, log=True)
