"""Splits: whole subjects go to training, validation or test, never one to two of them. Pure.

The one exception divides windows instead, and says in its name that it leaks.

Axes: K candidate divisions, S known subjects in the order of their names, P parts (training,
validation, test), L labels, F subjects who are not named, R pairs of a subject and a label.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.core.errors import DatasetError, RecipeError
from motoric.data.recording import UNKNOWN_SUBJECT
from motoric.training.split_config import (
    GroupKFoldSplit,
    LeakingSplit,
    LeaveOneOutSplit,
    SplitConfig,
    SubjectSplit,
)

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST = range(3)

_NUM_DRAWS = 200
# With so few divisions all are looked at where no draw has every label in every part.
_MAX_DIVISIONS = 20_000
# Steps that the search for a training part with every label takes at most.
_MAX_STEPS = 10_000

Labels = Mapping[str, Mapping[str, int]]
Parts = NDArray[np.int8]
Counts = NDArray[np.float64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Subjects of each part, sorted."""

    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What is asked for: who is named already, and how many are to be drawn."""

    test: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    num_test: int
    num_validation: int
    seed: int
    mend: str


def split_subjects(
    subjects: Sequence[str], config: SplitConfig, labels_by_subject: Labels | None = None
) -> Split:
    """Divide subjects.

    Subjects called `unknown:...` may be the same person, so they all go to training.

    Args:
        subjects: In any order; repeated ones count once.
        config: How to divide them.
        labels_by_subject: How much of each label each subject has, in windows or recordings.
            Of many seeded draws the one is taken that misses the fewest labels in training, then
            in test, then in validation, and whose parts have the most alike shares of labels; the
            earliest of equals. Without it the first draw is taken.

    Raises:
        DatasetError: Too few known subjects.
        RecipeError: A named subject is not in the dataset, or is in two parts; or the kind divides
            windows and not subjects.
    """
    known = sorted({name for name in subjects if not name.startswith(UNKNOWN_SUBJECT)})
    unknown = sorted({name for name in subjects if name.startswith(UNKNOWN_SUBJECT)})
    request = _request(known, config, labels_by_subject)
    _check(known, request)
    parts_S = _divide(known, unknown, request, labels_by_subject)
    train, validation, test = (
        [name for name, found in zip(known, parts_S, strict=True) if found == part]
        for part in (TRAIN, VALIDATION, TEST)
    )
    return Split(train=(*train, *unknown), validation=tuple(validation), test=tuple(test))


def split_windows_leaking(
    num_windows: int, config: LeakingSplit
) -> tuple[Indices, Indices, Indices]:
    """Divide windows whoever they are of; it warns that the accuracy means nothing for new people.

    Args:
        num_windows: Of all subjects together.
        config: The shares.

    Returns:
        Indices of the windows of training, validation and test, each sorted.

    Raises:
        DatasetError: Too few windows for three parts.
    """
    if num_windows < 3:
        raise DatasetError(
            f"{num_windows} window(s) cannot be divided into training, validation and test: collect"
            " more recordings, or make windows shorter"
        )
    logger.warning(
        "split.kind %s: windows of one person land in training and in test, so the accuracy means"
        " nothing for new people; use by_subject for that",
        config.kind,
    )
    num_test = min(max(round(config.test_share * num_windows), 1), num_windows - 2)
    num_validation = min(
        max(round(config.validation_share * num_windows), 1), num_windows - num_test - 1
    )
    order = np.random.default_rng(config.seed).permutation(num_windows).astype(np.int64)
    test, validation, train = np.split(order, [num_test, num_test + num_validation])
    return np.sort(train), np.sort(validation), np.sort(test)


def _request(known: list[str], config: SplitConfig, labels: Labels | None) -> _Request:
    match config:
        case SubjectSplit():
            return _Request(
                test=config.test_subjects,
                validation=config.validation_subjects,
                num_test=len(config.test_subjects) or config.num_test_subjects,
                num_validation=len(config.validation_subjects) or config.num_validation_subjects,
                seed=config.seed,
                mend="split.num_test_subjects",
            )
        case GroupKFoldSplit():
            test = _fold(known, config, labels)
            mend = "split.num_validation_subjects"
        case LeaveOneOutSplit():
            test = (config.test_subject,)
            mend = "split.num_validation_subjects"
        case LeakingSplit():
            raise RecipeError(
                f"split.kind {config.kind} divides windows and has no subjects of its parts: choose"
                " by_subject, group_k_fold or leave_one_out where subjects are asked for"
            )
    return _Request(
        test=test,
        num_test=len(test),
        num_validation=config.num_validation_subjects,
        seed=config.seed,
        mend=mend,
    )


def _check(known: list[str], request: _Request) -> None:
    missing = sorted({*request.test, *request.validation} - set(known))
    if missing:
        raise RecipeError(
            f"split names {', '.join(missing)}, but the dataset has"
            f" {', '.join(known) or 'no known subject'}"
        )
    twice = sorted(set(request.test) & set(request.validation))
    if twice:
        raise RecipeError(f"split puts {', '.join(twice)} into both validation and test")
    if len(known) < request.num_test + request.num_validation + 1:
        raise DatasetError(
            f"the dataset has {len(known)} known subject(s), but the split needs"
            f" {request.num_test} for test, {request.num_validation} for validation and at least 1"
            f" for training: collect more people, or lower {request.mend}"
        )


def _fold(known: list[str], config: GroupKFoldSplit, labels: Labels | None) -> tuple[str, ...]:
    """Subjects of the tested fold; every known subject is in exactly one fold."""
    from sklearn.model_selection import StratifiedGroupKFold

    if len(known) < config.num_folds:
        raise DatasetError(
            f"the dataset has {len(known)} known subject(s), but split.num_folds is"
            f" {config.num_folds}: collect more people, or lower split.num_folds"
        )
    # Somebody without any label must be in a fold too.
    rows = [
        (index, label, count)
        for index, name in enumerate(known)
        for label, count in sorted(_positive(labels, name).items() or [("", 1)])
    ]
    subject_R, label_R, count_R = (np.array(column) for column in zip(*rows, strict=True))
    label_R = np.unique(label_R, return_inverse=True)[1]
    # It refuses labels with fewer samples than folds; only the shares of the counts matter to it.
    count_R = count_R * -(-config.num_folds // np.bincount(label_R, weights=count_R).min())
    count_R = count_R.astype(np.int64)
    groups = np.repeat(subject_R, count_R)
    folds = StratifiedGroupKFold(
        n_splits=config.num_folds, shuffle=True, random_state=config.seed
    ).split(np.zeros(len(groups)), np.repeat(label_R, count_R), groups)
    _, tested = next(itertools.islice(folds, config.fold, None))
    if not len(tested):
        raise DatasetError(
            f"fold {config.fold} of {config.num_folds} has nobody: lower split.num_folds, or change"
            " split.seed"
        )
    return tuple(known[index] for index in np.unique(groups[tested]))


def _positive(labels: Labels | None, subject: str) -> dict[str, int]:
    found = (labels or {}).get(subject, {})
    return {label: count for label, count in found.items() if count > 0}


def _divide(
    known: list[str], unknown: list[str], request: _Request, labels: Labels | None
) -> Parts:
    """The part of each known subject, shape (S,)."""
    rng = np.random.default_rng(request.seed)
    place = {name: index for index, name in enumerate(known)}
    named = {*request.test, *request.validation}
    orders = []
    for _ in range(_NUM_DRAWS if labels else 1):
        order = rng.permutation(known).tolist()
        orders.append([place[name] for name in order if name not in named])
    fixed_S = np.zeros(len(known), np.int8)
    fixed_S[[place[name] for name in request.test]] = TEST
    fixed_S[[place[name] for name in request.validation]] = VALIDATION
    num_test = 0 if request.test else request.num_test
    num_validation = 0 if request.validation else request.num_validation
    parts_KS = _parts(orders, fixed_S, num_test, num_validation)
    if not labels:
        return np.array(parts_KS[0], dtype=np.int8)
    counts_SL, base_L = _counts(known, unknown, labels)
    best, is_complete = _best(parts_KS, counts_SL, base_L)
    if is_complete:
        return np.array(parts_KS[best], dtype=np.int8)
    num_free = len(orders[0])
    num_divisions = math.comb(num_free, num_test) * math.comb(num_free - num_test, num_validation)
    if num_divisions <= _MAX_DIVISIONS:
        more = list(_all_orders(orders[0], num_test, num_validation))
    else:
        more = _covering_orders(orders, counts_SL, base_L, num_free - num_test - num_validation)
    if more:
        parts_KS = np.concatenate([parts_KS, _parts(more, fixed_S, num_test, num_validation)])
        best, _ = _best(parts_KS, counts_SL, base_L)
    return np.array(parts_KS[best], dtype=np.int8)


def _parts(
    orders: Sequence[Sequence[int]], fixed_S: Parts, num_test: int, num_validation: int
) -> Parts:
    """Of each order the first go to test, the next to validation, the rest to training."""
    orders_KF = np.array(orders, dtype=np.int64).reshape(len(orders), -1)
    parts_KS = np.tile(fixed_S, (len(orders), 1))
    np.put_along_axis(parts_KS, orders_KF[:, :num_test], TEST, axis=1)
    drawn = orders_KF[:, num_test : num_test + num_validation]
    np.put_along_axis(parts_KS, drawn, VALIDATION, axis=1)
    return parts_KS


def _counts(known: list[str], unknown: list[str], labels: Labels) -> tuple[Counts, Counts]:
    """Labels of each known subject, shape (S, L), and of all unknown ones, shape (L,)."""
    rows = [_positive(labels, name) for name in (*known, *unknown)]
    names = sorted({label for row in rows for label in row})
    counts = np.array([[row.get(name, 0) for name in names] for row in rows], dtype=np.float64)
    return counts[: len(known)], counts[len(known) :].sum(axis=0)


def _best(parts_KS: Parts, counts_SL: Counts, base_L: Counts) -> tuple[int, bool]:
    """Index of the best division, and whether each part of it has every label."""
    counts_KPL = np.stack(
        [(parts_KS == part).astype(np.float64) @ counts_SL for part in (TRAIN, VALIDATION, TEST)],
        axis=1,
    )
    counts_KPL[:, TRAIN] += base_L
    missing_KP = (counts_KPL == 0).sum(axis=2)
    shares_KPL = counts_KPL / np.maximum(counts_KPL.sum(axis=2, keepdims=True), 1)
    distance_K = sum(
        np.abs(shares_KPL[:, one] - shares_KPL[:, other]).sum(axis=1)
        for one, other in itertools.combinations((TRAIN, VALIDATION, TEST), 2)
    )
    # Rounded, so that the order of a sum does not decide between equals.
    keys = (
        np.round(distance_K, 9),
        missing_KP[:, VALIDATION],
        missing_KP[:, TEST],
        missing_KP[:, TRAIN],
    )
    best = int(np.lexsort(keys)[0])
    return best, not missing_KP[best].any()


def _all_orders(free: list[int], num_test: int, num_validation: int) -> Iterator[list[int]]:
    for test in itertools.combinations(free, num_test):
        rest = [index for index in free if index not in test]
        for validation in itertools.combinations(rest, num_validation):
            train = [index for index in rest if index not in validation]
            yield [*test, *validation, *train]


def _covering_orders(
    orders: list[list[int]], counts_SL: Counts, base_L: Counts, num_train: int
) -> list[list[int]]:
    """The draws, changed so that training gets every label it can get; empty if none can."""
    found = []
    for order in orders:
        needed = _cover(order, counts_SL > 0, base_L > 0, num_train)
        if needed is None:
            break
        found.append([*(index for index in order if index not in needed), *sorted(needed)])
    return found


def _cover(
    order: list[int], has_SL: NDArray[np.bool_], base_L: NDArray[np.bool_], num_train: int
) -> set[int] | None:
    """At most `num_train` subjects that have every label together.

    A set cover, searched depth first: the label with the fewest holders first, of those the holder
    with the most missing labels. None where there is no such set, or none was found in time.
    """
    rank = {index: position for position, index in enumerate(order)}
    steps = itertools.count()

    def search(missing_L: NDArray[np.bool_], chosen: tuple[int, ...]) -> set[int] | None:
        if not missing_L.any():
            return set(chosen)
        gains = {index: int((has_SL[index] & missing_L).sum()) for index in order}
        room = num_train - len(chosen)
        if room * max(gains.values()) < missing_L.sum() or next(steps) >= _MAX_STEPS:
            return None
        holders_L = has_SL[order].sum(axis=0)
        rarest = int(np.argmin(np.where(missing_L, holders_L, len(order) + 1)))
        holders = [index for index in order if has_SL[index, rarest]]
        for index in sorted(holders, key=lambda index: (-gains[index], rank[index])):
            found = search(missing_L & ~has_SL[index], (*chosen, index))
            if found is not None:
                return found
        return None

    coverable_L = has_SL[order].any(axis=0)
    return search(coverable_L & ~base_L, ())
