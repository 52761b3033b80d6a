"""How a recipe divides its recordings into training, validation and test."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class _GroupSplit(_Part):
    """Groups are divided whole: people, or single recordings where nobody says whose they are."""

    by: Literal["subject", "recording"] = Field(
        default="subject",
        description="recording: for files of unknown people; the figures then say nothing of new"
        " people, only of new files",
    )


class SubjectSplit(_GroupSplit):
    """Whole subjects are held out, drawn with `seed` unless they are named."""

    kind: Literal["by_subject"] = "by_subject"
    num_test_subjects: int = Field(default=3, ge=1)
    num_validation_subjects: int = Field(default=1, ge=0)
    test_subjects: tuple[str, ...] = ()
    validation_subjects: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0)


class GroupKFoldSplit(_GroupSplit):
    """Subjects are divided into folds; a run tests one of them, `num_folds` runs test everybody."""

    kind: Literal["group_k_fold"] = "group_k_fold"
    num_folds: int = Field(default=5, ge=2, le=1000)
    fold: int = Field(default=0, ge=0, description="the fold that is tested, from 0")
    num_validation_subjects: int = Field(default=1, ge=0)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_fold(self) -> GroupKFoldSplit:
        if self.fold >= self.num_folds:
            raise ValueError(
                f"fold is {self.fold}, but the {self.num_folds} folds count from 0 to"
                f" {self.num_folds - 1}"
            )
        return self


class LeaveOneOutSplit(_GroupSplit):
    """One subject is tested; a run for each of them tests everybody."""

    kind: Literal["leave_one_out"] = "leave_one_out"
    test_subject: str = Field(min_length=1)
    num_validation_subjects: int = Field(default=1, ge=0)
    seed: int = Field(default=0, ge=0)


class LeakingSplit(_Part):
    """Windows are drawn whoever they are of: windows of one person land on both sides.

    Overlapping windows of one movement do too. The accuracy says how well the model knows people
    it has seen, and means nothing for new people.
    """

    kind: Literal["random_windows_leaking_subjects"] = "random_windows_leaking_subjects"
    test_share: float = Field(default=0.2, gt=0, lt=1)
    validation_share: float = Field(default=0.1, gt=0, lt=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_shares(self) -> LeakingSplit:
        if self.test_share + self.validation_share >= 1:
            raise ValueError(
                f"test_share {self.test_share} and validation_share {self.validation_share} leave"
                " nothing for training: together they must be below 1"
            )
        return self


_SPLIT_KINDS = ("by_subject", "group_k_fold", "leave_one_out", "random_windows_leaking_subjects")
_RANDOM_KINDS = ("random", "random_split", "random_windows")


def _check_kind(value: object) -> object:
    """The kind may be left out; one that would leak without saying so is refused."""
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", "by_subject")
    if kind in _RANDOM_KINDS:
        raise ValueError(
            f"kind {kind!r} would put windows of one person into training and into test, so the"
            " accuracy would say nothing about new people: use by_subject, group_k_fold or"
            " leave_one_out; if that is what you want, name the kind by what it does:"
            " random_windows_leaking_subjects"
        )
    if kind not in _SPLIT_KINDS:
        raise ValueError(f"kind is {kind!r}; there are: {', '.join(_SPLIT_KINDS)}")
    return {**value, "kind": kind}


SplitConfig = Annotated[
    SubjectSplit | GroupKFoldSplit | LeaveOneOutSplit | LeakingSplit,
    Field(discriminator="kind"),
    BeforeValidator(_check_kind),
]
