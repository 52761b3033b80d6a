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
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from motoric.artefact.signature import Step
from motoric.artefact.timeline import TimelineSettings
from motoric.core import storage
from motoric.core.errors import NotFoundError, RecipeError, UserError
from motoric.core.releases import check_model_name
from motoric.core.settings import describe
from motoric.models.catalogue import model_kind, parse_config
from motoric.training.augmentation import SensorAugmentation
from motoric.training.clip_augmentation import ClipAugmentation
from motoric.training.split_config import LeakingSplit, SplitConfig, SubjectSplit


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChannelTarget(_Part):
    """A channel of the windows' stream: its mean over the window, or its value later (forecast)."""

    channel: str
    relative: bool = Field(
        default=True,
        description="of a forecast: the network sees the channel relative to its last sample, so"
        " that it learns how it moves and not whose it is",
    )


class MetadataTarget(_Part):
    """A column of the recordings' metadata that holds a number."""

    metadata: str
    unit: str = ""


Target = Literal["label"] | ChannelTarget | MetadataTarget


class WindowConfig(_Part):
    """Windows of one stream of the dataset."""

    stream: str = "imu"
    length_s: float = Field(default=4.0, gt=0, le=3600)
    hop_s: float = Field(default=1.0, gt=0, le=3600)
    channels: tuple[str, ...] = Field(default=(), description="in this order; by default all")
    span: Literal["window", "annotation"] = Field(
        default="window",
        description="annotation: one window for each annotated interval, from its middle; where the"
        " interval is shorter than length_s, its first and last samples are repeated",
    )


class ClipConfig(_Part):
    """Clips of the recordings' video; see `motoric.data.video.clips.ClipSpec`."""

    num_frames: int = Field(default=16, ge=1, le=1024)
    height: int = Field(default=112, ge=8, le=4096, description="pixels")
    width: int = Field(default=112, ge=8, le=4096, description="pixels")
    resize: Literal["crop", "stretch"] = "crop"
    region: tuple[float, float, float, float] = Field(
        default=(0.0, 0.0, 1.0, 1.0),
        description="part of the picture: top, left, bottom, right, in shares of height and width;"
        " for a camera that stands still",
    )
    colour: Literal["rgb", "grey"] = "rgb"
    rate_hz: float | None = Field(
        default=None, gt=0, description="frames a second; by default spread over the whole span"
    )
    length_s: float | None = Field(
        default=None,
        gt=0,
        le=600,
        description="length of a span; by default one clip an annotation. With `window` it follows"
        " the windows and must be left out",
    )
    hop_s: float | None = Field(default=None, gt=0, le=600)


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
    batch_size: int = Field(default=64, ge=1, description="examples a step, over all workers")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    mixup_alpha: float = Field(
        default=0.0,
        ge=0,
        le=10,
        description="examples of a batch are mixed in pairs, by shares of Beta(alpha, alpha)"
        " (Zhang et al. 2018, arXiv 1710.09412); 0 mixes none",
    )
    class_weights: Literal["none", "balanced"] | dict[str, float] = Field(
        default="none",
        description="of the loss: balanced weighs each class by the inverse of its share of the"
        " training windows; a mapping names weights of labels, 1 for those it leaves out",
    )
    auxiliary_weight: float = Field(
        default=0.3, ge=0, le=10, description="weight of a network's auxiliary outputs, each"
    )
    seed: int = Field(default=0, ge=0)


class ResourcesConfig(_Part):
    """What each worker gets."""

    num_workers: int = Field(default=1, ge=1, le=4096)
    cpus_per_worker: float = Field(default=1, gt=0)
    gpus_per_worker: float = Field(default=0, ge=0)
    memory_gib_per_worker: float | None = Field(
        default=None,
        gt=0,
        description="asked of Ray, and never exceeded: a run that needs more ends",
    )
    labels: dict[str, float] = Field(
        default_factory=dict, description="custom Ray resources a worker needs, by name"
    )

    @property
    def of_worker(self) -> dict[str, float]:
        """What a worker asks of Ray, by the names of Ray's resources; memory in bytes."""
        found = {"CPU": self.cpus_per_worker, **self.labels}
        if self.gpus_per_worker > 0:
            found["GPU"] = self.gpus_per_worker
        if self.memory_gib_per_worker is not None:
            found["memory"] = self.memory_gib_per_worker * 2**30
        return found


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
    task: Literal["classify", "regress", "forecast"] = "classify"
    target: Target = "label"
    labels: tuple[str, ...] = Field(
        default=(), description="to tell apart; by default all there are"
    )
    horizon_s: float | None = Field(
        default=None, gt=0, le=86_400, description="how far ahead a forecast looks"
    )
    quantiles: tuple[float, ...] = Field(
        default=(0.1, 0.5, 0.9), min_length=1, description="of a forecast; 0.5 among them"
    )
    dataset: str = Field(description="URI; a relative one lies under the platform's storage")
    where: dict[str, str] = Field(
        default_factory=dict, description="only recordings with these values in their metadata"
    )
    split: SplitConfig = SubjectSplit()
    window: WindowConfig | None = None
    clip: ClipConfig | None = None
    preprocessing: PreprocessingConfig = PreprocessingConfig()
    augmentation: SensorAugmentation = SensorAugmentation()
    clip_augmentation: ClipAugmentation = ClipAugmentation()
    model: Annotated[dict[str, Any], Field(min_length=1)]
    initial_weights: str | None = Field(
        default=None,
        description="local path or URI of a .safetensors or .pt state dict to start from",
    )
    optimiser: OptimiserConfig = OptimiserConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    strategy: Literal["ddp"] = "ddp"
    resources: ResourcesConfig = ResourcesConfig()
    stopping: StoppingConfig = StoppingConfig()
    timeline: TimelineSettings = TimelineSettings()
    tracking: TrackingConfig = TrackingConfig()
    registry: RegistryConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _default_window(cls, content: Any) -> Any:
        """Without any input there are windows of the default stream."""
        if isinstance(content, dict) and not content.get("window") and not content.get("clip"):
            return {**content, "window": {}}
        return content

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        try:
            parse_config(self.model)
            self._check_model()
        except RecipeError as error:
            raise ValueError(error.message) from error
        self._check_task()
        if self.window is not None and self.clip is not None and self.train.mixup_alpha > 0:
            raise ValueError("train.mixup_alpha: inputs that may be missing are not mixed")
        if self.window is not None and self.clip is not None and self.clip.length_s is not None:
            raise ValueError("clip.length_s: with `window`, clips span the windows: leave it out")
        if not isinstance(self.split, LeakingSplit) and self.split.num_validation_subjects == 0:
            self._check_no_validation()
        return self

    def _check_model(self) -> None:
        name, takes = self.model["name"], model_kind(self.model["name"]).takes
        parts = (("window", "sensors"), ("clip", "clip"))
        for part, modality in parts:
            if getattr(self, part) is None and modality in takes:
                raise RecipeError(f"model {name!r} takes {modality}: the recipe needs `{part}:`")
        for part, modality in parts:
            if getattr(self, part) is not None and modality not in takes:
                raise RecipeError(
                    f"model {name!r} takes no {modality}: leave `{part}:` out, or choose a model"
                    " that takes it"
                )

    def _check_task(self) -> None:
        if (self.task == "classify") != (self.target == "label"):
            raise ValueError(
                f"task {self.task} does not fit target {self.target!r}: classify takes `label`,"
                " regress and forecast take {channel: NAME} or, regress alone, {metadata: NAME}"
            )
        if self.task == "forecast":
            if not isinstance(self.target, ChannelTarget) or self.horizon_s is None:
                raise ValueError("a forecast needs target: {channel: NAME} and horizon_s")
            if 0.5 not in self.quantiles or list(self.quantiles) != sorted(set(self.quantiles)):
                raise ValueError("quantiles must rise and hold 0.5, the median")
            if not 0 < self.quantiles[0] <= self.quantiles[-1] < 1:
                raise ValueError("quantiles must lie between 0 and 1")
        train = self.train
        of_classes = train.class_weights != "none" or train.label_smoothing or train.mixup_alpha
        if self.task != "classify" and of_classes:
            raise ValueError(
                "train.class_weights, train.label_smoothing and train.mixup_alpha are of classes:"
                f" task {self.task} has none"
            )
        if self.task != "forecast" and self.horizon_s is not None:
            raise ValueError(f"horizon_s is for forecasts, the task is {self.task}")
        if self.task != "classify" and (self.window is None or self.window.span != "window"):
            raise ValueError(f"task {self.task} needs `window:` with span: window")

    def _check_no_validation(self) -> None:
        if self.stopping.keep == "best" or self.stopping.patience is not None:
            raise ValueError(
                "split.num_validation_subjects is 0, so there is nothing to choose an epoch by: set"
                " stopping.keep to last, and leave stopping.patience out"
            )

    @property
    def tested_on(self) -> str:
        """Whom the test windows are of, in words for reports."""
        if isinstance(self.split, LeakingSplit):
            return "people that training saw too (this split leaks)"
        if self.split.by == "recording":
            return "recordings never seen in training"
        return "people never seen in training"

    @field_validator("initial_weights")
    @classmethod
    def _is_absolute(cls, place: str | None) -> str | None:
        if place is not None and not storage.is_absolute(place):
            raise ValueError(f"{place!r}: workers run elsewhere, so write a whole path or a URI")
        return place

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
