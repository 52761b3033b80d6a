"""A recipe: one YAML file that fully describes a training run.

In: YAML and `--set key.path=value` overrides. Out: a checked, frozen `Recipe`. Unknown keys are
errors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from motoric.artefact.signature import Step
from motoric.core.errors import NotFoundError, RecipeError, UserError
from motoric.core.releases import check_model_name
from motoric.core.settings import describe
from motoric.models.catalogue import parse_config
from motoric.training.augmentation import AugmentationConfig


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class SubjectSplit(_Part):
    """Whole subjects are held out, drawn with `seed` unless they are named."""

    kind: Literal["by_subject"] = "by_subject"
    num_test_subjects: int = Field(default=3, ge=1)
    num_validation_subjects: int = Field(default=1, ge=1)
    test_subjects: tuple[str, ...] = ()
    validation_subjects: tuple[str, ...] = ()
    seed: int = Field(default=0, ge=0)


class GroupKFoldSplit(_Part):
    """Subjects are divided into folds; a run tests one of them, `num_folds` runs test everybody."""

    kind: Literal["group_k_fold"] = "group_k_fold"
    num_folds: int = Field(default=5, ge=2, le=1000)
    fold: int = Field(default=0, ge=0, description="the fold that is tested, from 0")
    num_validation_subjects: int = Field(default=1, ge=1)
    seed: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _check_fold(self) -> GroupKFoldSplit:
        if self.fold >= self.num_folds:
            raise ValueError(
                f"fold is {self.fold}, but the {self.num_folds} folds count from 0 to"
                f" {self.num_folds - 1}"
            )
        return self


class LeaveOneOutSplit(_Part):
    """One subject is tested; a run for each of them tests everybody."""

    kind: Literal["leave_one_out"] = "leave_one_out"
    test_subject: str = Field(min_length=1)
    num_validation_subjects: int = Field(default=1, ge=1)
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


class WindowConfig(_Part):
    """Windows of one stream of the dataset."""

    stream: str = "imu"
    length_s: float = Field(default=4.0, gt=0, le=600)
    hop_s: float = Field(default=1.0, gt=0, le=600)
    channels: tuple[str, ...] = Field(default=(), description="in this order; by default all")


class PreprocessingConfig(_Part):
    """What changes values; it is copied into the signature."""

    rate_hz: float | None = Field(
        default=None,
        gt=0,
        description="rate of the windows; recordings of other rates are resampled with"
        " anti-aliasing. By default the stream's own, which all must then have",
    )
    max_gap_s: float = Field(
        default=0.0, ge=0, le=600, description="longest gap, or run of missing values, to fill"
    )
    steps: tuple[Step, ...] = Field(
        default=(), description="filters, in this order: hampel, low_pass, gravity_split"
    )
    context_s: float | None = Field(
        default=None,
        ge=0,
        le=600,
        description="time before each window that filters get; by default what they need to settle",
    )
    normalise: bool = Field(default=True, description="by the training subjects alone")


class OptimiserConfig(_Part):
    """Settings of torch's optimiser."""

    name: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)


class ScheduleConfig(_Part):
    """How the learning rate moves over the run."""

    name: Literal["constant", "one_cycle"] = "one_cycle"


class TrainConfig(_Part):
    """Length and batches of the run."""

    epochs: int = Field(default=15, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=1, description="windows a step, over all workers")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    seed: int = Field(default=0, ge=0)


class ResourcesConfig(_Part):
    """What each worker gets."""

    num_workers: int = Field(default=1, ge=1, le=4096)
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    labels: dict[str, float] = Field(
        default_factory=dict, description="custom Ray resources a worker needs, by name"
    )


class StoppingConfig(_Part):
    """When to stop, by the loss on the validation subjects, and which epoch's weights to keep."""

    patience: int | None = Field(
        default=None, ge=1, description="stop after so many epochs without a lower loss"
    )
    keep: Literal["best", "last"] = "best"


class TrackingConfig(_Part):
    """Where the run is tracked."""

    experiment: str = "motoric"


class RegistryConfig(_Part):
    """The registered model that a finished run adds a version to; `alias: null` moves none."""

    model: str
    alias: str | None = "champion"

    @field_validator("model")
    @classmethod
    def _name(cls, name: str) -> str:
        try:
            return check_model_name(name)
        except UserError as error:
            raise ValueError(error.message) from error


class Recipe(_Part):
    """Everything a training run depends on."""

    version: Literal[1]
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    task: Literal["classify"] = "classify"
    target: Literal["label"] = "label"
    dataset: str = Field(description="URI; a relative one lies under the platform's storage")
    split: SplitConfig = SubjectSplit()
    window: WindowConfig = WindowConfig()
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    model: Annotated[dict[str, Any], Field(min_length=1)]
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    strategy: Literal["ddp"] = "ddp"
    resources: ResourcesConfig = ResourcesConfig()
    stopping: StoppingConfig = StoppingConfig()
    tracking: TrackingConfig = TrackingConfig()
    registry: RegistryConfig | None = None

    @model_validator(mode="after")
    def _check_model(self) -> Recipe:
        try:
            parse_config(self.model)
        except RecipeError as error:
            raise ValueError(error.message) from error
        return self

    @property
    def tested_on(self) -> str:
        """Whom the test windows are of, in words for reports."""
        if isinstance(self.split, LeakingSplit):
            return "people that training saw too (this split leaks)"
        return "people never seen in training"

    def to_yaml(self) -> str:
        """The recipe with every default written out."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)


def parse_recipe(content: object, place: str) -> Recipe:
    """Check the content of a recipe; `place` is named in errors.

    Raises:
        RecipeError: It does not fit.
    """
    if not isinstance(content, dict):
        raise RecipeError(f"{place}: a recipe is a YAML mapping, this is {type(content).__name__}")
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{place}: {describe(error)}") from error


def load_recipe(path: Path, overrides: tuple[str, ...] | list[str] = ()) -> Recipe:
    """Read a recipe and apply `key.path=value` overrides (values are YAML).

    Raises:
        NotFoundError: No such file.
        RecipeError: Not YAML, or it does not fit.
    """
    if not path.is_file():
        raise NotFoundError(f"no recipe at {path}")
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise RecipeError(f"{path} is not valid YAML: {error}") from error
    if isinstance(content, dict):
        for override in overrides:
            _apply(content, override)
    return parse_recipe(content, str(path))


def _apply(content: dict[str, Any], override: str) -> None:
    key, separator, value = override.partition("=")
    if not separator or not key:
        raise RecipeError(f"--set {override!r}: write it as key.path=value, such as train.epochs=3")
    *parents, last = key.split(".")
    place: object = content
    for parent in parents:
        if not isinstance(place, dict):
            raise RecipeError(f"--set {override!r}: {parent!r} is not a part that has keys")
        place = place.setdefault(parent, {})
    if not isinstance(place, dict):
        raise RecipeError(f"--set {override!r}: {'.'.join(parents)!r} has no keys of its own")
    try:
        place[last] = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise RecipeError(f"--set {override!r}: the value is not valid YAML") from error
