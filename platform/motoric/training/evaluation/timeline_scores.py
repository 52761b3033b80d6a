"""How good timelines are: figures over time, over segments and at their ends.

In: the segments found in a series and its annotations. Out: a `TimelineScore`, which holds counts,
so that those of many series add up (`pool`). Only annotated time counts: a recording says nothing
of the truth elsewhere, and a segment found there is neither right nor wrong. Annotations that touch
and have the same label are one segment: nobody could tell them apart.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from motoric.artefact.timeline import Segment
from motoric.core.errors import DatasetError, InputError
from motoric.data.recording import Annotation

# Shares of overlap (IoU) in percent at which F1 is given (Lea et al. 2017).
OVERLAPS_PERCENT = (10, 25, 50)
_TOLERANCE_S = 1e-6
_HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineScore:
    """Counts over one series, or over several.

    Attributes:
        annotated_s: Time that has an annotation.
        right_s: Part of it whose segment has the annotation's label.
        num_true: Segments of the truth.
        num_found: Segments found that have a label and lie, at least partly, in annotated time.
        num_matched: Found segments that match a true one, by each of `OVERLAPS_PERCENT`.
        edit_distance: Labels to insert, delete or replace between the two sequences of labels.
        edit_length: Length of the longer of both.
        start_errors_s: Found minus true start of each match at 50 %; late is positive.
        end_errors_s: Likewise of the ends.
    """

    annotated_s: float
    right_s: float
    num_true: int
    num_found: int
    num_matched: tuple[int, ...]
    edit_distance: int
    edit_length: int
    start_errors_s: tuple[float, ...]
    end_errors_s: tuple[float, ...]

    @property
    def accuracy(self) -> float:
        """Share of the annotated time that has the right label, 0 to 1."""
        return self.right_s / self.annotated_s

    def f1(self, overlap_percent: int) -> float:
        """Segmental F1 at an overlap (Lea et al. 2017, arXiv 1611.05267), 0 to 1.

        A found segment is right if its intersection over union with a true one of its label, that
        no other has matched, reaches the overlap. Small shifts cost nothing, splitting does.

        Args:
            overlap_percent: One of `OVERLAPS_PERCENT`.
        """
        matched = self.num_matched[OVERLAPS_PERCENT.index(overlap_percent)]
        return 2 * matched / (self.num_true + self.num_found)

    @property
    def edit_score(self) -> float:
        """1 minus the normalised edit distance of the labels' order (Lea et al. 2017), 0 to 1."""
        return 1 - self.edit_distance / self.edit_length

    @property
    def segments_per_true(self) -> float:
        """Found segments for each true one: above 1 the timeline is cut up too much."""
        return self.num_found / self.num_true

    @property
    def missed_per_hour(self) -> float:
        """True segments that none matches at 50 % overlap, by hour of annotated time."""
        return (self.num_true - self.num_matched[-1]) / self.annotated_s * _HOUR_S

    @property
    def false_per_hour(self) -> float:
        """Found segments that match none at 50 % overlap, by hour of annotated time."""
        return (self.num_found - self.num_matched[-1]) / self.annotated_s * _HOUR_S

    @property
    def start_error_s(self) -> float | None:
        """Median distance of a matched segment's start from the truth; None without a match."""
        return _median_distance(self.start_errors_s)

    @property
    def end_error_s(self) -> float | None:
        """Likewise of the ends."""
        return _median_distance(self.end_errors_s)

    def figures(self) -> dict[str, float | None]:
        """All figures by name, for `metrics.json` and tables."""
        return {
            "accuracy": self.accuracy,
            **{f"f1_{percent}": self.f1(percent) for percent in OVERLAPS_PERCENT},
            "edit_score": self.edit_score,
            "start_error_s": self.start_error_s,
            "end_error_s": self.end_error_s,
            "segments_per_true": self.segments_per_true,
            "missed_per_hour": self.missed_per_hour,
            "false_per_hour": self.false_per_hour,
        }


def score_timeline(found: Sequence[Segment], true: Sequence[Annotation]) -> TimelineScore:
    """Score the timeline of one series.

    Args:
        found: Its segments; those without label stand for nothing.
        true: Its annotations, in any order, without overlap. A background that the model knows as a
            class and the timeline leaves unlabelled is to be left out here too.

    Raises:
        DatasetError: There are no annotations, or some overlap or last no time.
        InputError: Segments overlap or are not in order of time.
    """
    truths = _truths(true)
    _check_order(found)
    overlaps_FT = np.array(
        [[_overlap_s(segment, truth) for truth in truths] for segment in found]
    ).reshape(len(found), len(truths))
    is_counted_F = np.array([segment.label is not None for segment in found], dtype=bool)
    is_counted_F &= overlaps_FT.sum(axis=1) > _TOLERANCE_S
    kept = [segment for segment, counts in zip(found, is_counted_F, strict=True) if counts]
    overlaps_FT = overlaps_FT[is_counted_F]
    same_FT = np.array(
        [[segment.label == truth.label for truth in truths] for segment in kept], dtype=bool
    ).reshape(overlaps_FT.shape)
    lengths_T = np.array([truth.end_s - truth.start_s for truth in truths])
    unions_FT = overlaps_FT.sum(axis=1)[:, None] + lengths_T - overlaps_FT
    ious_FT = np.where(same_FT, overlaps_FT / unions_FT, 0.0)
    matches = [_matches(ious_FT, percent / 100) for percent in OVERLAPS_PERCENT]
    labels = [str(segment.label) for segment in kept]
    return TimelineScore(
        annotated_s=float(lengths_T.sum()),
        right_s=float((overlaps_FT * same_FT).sum()),
        num_true=len(truths),
        num_found=len(kept),
        num_matched=tuple(len(pairs) for pairs in matches),
        edit_distance=_edit_distance(labels, [truth.label for truth in truths]),
        edit_length=max(len(kept), len(truths)),
        start_errors_s=tuple(kept[f].start_s - truths[t].start_s for f, t in matches[-1]),
        end_errors_s=tuple(kept[f].end_s - truths[t].end_s for f, t in matches[-1]),
    )


def pool(scores: Iterable[TimelineScore]) -> TimelineScore:
    """One score over several series: their counts together, so long series weigh more.

    Raises:
        InputError: There are no scores.
    """
    items = list(scores)
    if not items:
        raise InputError("there are no timelines to pool: score one or more")
    matched = np.array([item.num_matched for item in items]).sum(axis=0)
    return TimelineScore(
        annotated_s=math.fsum(item.annotated_s for item in items),
        right_s=math.fsum(item.right_s for item in items),
        num_true=sum(item.num_true for item in items),
        num_found=sum(item.num_found for item in items),
        num_matched=tuple(matched.tolist()),
        edit_distance=sum(item.edit_distance for item in items),
        edit_length=sum(item.edit_length for item in items),
        start_errors_s=tuple(error for item in items for error in item.start_errors_s),
        end_errors_s=tuple(error for item in items for error in item.end_errors_s),
    )


def _truths(annotations: Sequence[Annotation]) -> list[Annotation]:
    """The annotations in order; those that touch and agree are joined."""
    if not annotations:
        raise DatasetError("a timeline is scored against annotations, and there are none")
    joined: list[Annotation] = []
    for item in sorted(annotations, key=lambda item: item.start_s):
        if not item.end_s - item.start_s > _TOLERANCE_S:
            raise DatasetError(
                f"annotation {item.label!r} from {item.start_s:g} to {item.end_s:g} s lasts no time"
            )
        last = joined[-1] if joined else None
        if last is None or item.start_s > last.end_s + _TOLERANCE_S:
            joined.append(item)
        elif item.start_s < last.end_s - _TOLERANCE_S:
            raise DatasetError(
                f"annotations {last.label!r} and {item.label!r} overlap from {item.start_s:g} to"
                f" {min(item.end_s, last.end_s):g} s: a timeline has one label at a time"
            )
        elif item.label == last.label:
            joined[-1] = Annotation(start_s=last.start_s, end_s=item.end_s, label=item.label)
        else:
            joined.append(item)
    return joined


def _check_order(found: Sequence[Segment]) -> None:
    for one, other in itertools.pairwise(found):
        if other.start_s < one.end_s - _TOLERANCE_S:
            raise InputError(
                f"the segment at {other.start_s:g} s starts before {one.end_s:g} s, where the one"
                " before it ends: a timeline is in order of time and has no overlaps"
            )


def _overlap_s(segment: Segment, truth: Annotation) -> float:
    return max(0.0, min(segment.end_s, truth.end_s) - max(segment.start_s, truth.start_s))


def _matches(ious_FT: NDArray[np.float64], share: float) -> list[tuple[int, int]]:
    """Pairs of a found and a true segment, each in one pair at most.

    As the authors' code: each found one, in order of time, takes the true one that it overlaps
    most, if that is free.
    """
    is_free = [True] * ious_FT.shape[1]
    pairs = []
    for found, iou_T in enumerate(ious_FT):
        true = int(np.argmax(iou_T))
        # Times are sums of floats: an overlap that is exactly the share must not depend on that.
        if iou_T[true] >= share - 1e-9 and is_free[true]:
            is_free[true] = False
            pairs.append((found, true))
    return pairs


def _edit_distance(one: Sequence[str], other: Sequence[str]) -> int:
    """Levenshtein 1966, by rows: O(len(one) * len(other)) time."""
    row = list(range(len(other) + 1))
    for number, label in enumerate(one, start=1):
        before, row = row, [number]
        for column, other_label in enumerate(other):
            replaced = before[column] + (label != other_label)
            row.append(min(replaced, before[column + 1] + 1, row[column] + 1))
    return row[-1]


def _median_distance(errors_s: Sequence[float]) -> float | None:
    return float(np.median(np.abs(errors_s))) if errors_s else None
