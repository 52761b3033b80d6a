"""Splits: whole subjects go to training, validation or test, never one to two of them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from motoric.core.errors import DatasetError, RecipeError
from motoric.training.recipe import SubjectSplit

UNKNOWN_SUBJECT = "unknown:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Subjects of each part, sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


def split_subjects(subjects: Sequence[str], config: SubjectSplit) -> Split:
    """Divide subjects.

    Subjects called `unknown:...` may be the same person, so they all go to training.

    Raises:
        DatasetError: Too few known subjects.
        RecipeError: A named subject is not in the dataset, or is in two parts.
    """
    known = sorted({name for name in subjects if not name.startswith(UNKNOWN_SUBJECT)})
    unknown = sorted({name for name in subjects if name.startswith(UNKNOWN_SUBJECT)})
    missing = sorted({*config.test_subjects, *config.validation_subjects} - set(known))
    if missing:
        raise RecipeError(
            f"split names {', '.join(missing)}, but the dataset has {', '.join(known)}"
        )
    twice = sorted(set(config.test_subjects) & set(config.validation_subjects))
    if twice:
        raise RecipeError(f"split puts {', '.join(twice)} into both validation and test")
    num_test = len(config.test_subjects) or config.num_test_subjects
    num_validation = len(config.validation_subjects) or config.num_validation_subjects
    if len(known) < num_test + num_validation + 1:
        raise DatasetError(
            f"the dataset has {len(known)} known subject(s), but the split needs {num_test} for"
            f" test, {num_validation} for validation and at least 1 for training: collect more"
            " people, or lower split.num_test_subjects"
        )
    named = {*config.test_subjects, *config.validation_subjects}
    order = np.random.default_rng(config.seed).permutation(known).tolist()
    free = [name for name in order if name not in named]
    test = list(config.test_subjects) or [free.pop(0) for _ in range(num_test)]
    validation = list(config.validation_subjects) or [free.pop(0) for _ in range(num_validation)]
    return Split(
        train=tuple(sorted(free) + unknown),
        validation=tuple(sorted(validation)),
        test=tuple(sorted(test)),
    )
