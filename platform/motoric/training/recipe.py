"""A recipe: one YAML file that fully describes a training run.

In: YAML and `--set key.path=value` overrides. Out: a checked, frozen `Recipe`. Unknown keys are
errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from motoric.artefact.timeline import TimelineSettings
from motoric.core import storage
from motoric.core.errors import NotFoundError, RecipeError, UserError
from motoric.core.releases import check_model_name
from motoric.core.settings import describe
from motoric.models.catalogue import StrategyName, model_kind, parse_config
from motoric.training.augmentation import SensorAugmentation
from motoric.training.clip_augmentation import ClipAugmentation
from motoric.training.input_config import (
    ChannelTarget,
    ClipConfig,
    PreprocessingConfig,
    Target,
    WindowConfig,
)
from motoric.training.search_config import SearchConfig, check_space
from motoric.training.sensor_frame import is_vector
from motoric.training.split_config import LeakingSplit, SplitConfig, SubjectSplit
from motoric.training.strategies.matrix import check_model
from motoric.training.strategies.server_config import ParameterServerConfig
from motoric.training.train_config import (
    OptimiserConfig,
    Part,
    ResourcesConfig,
    ScheduleConfig,
    StoppingConfig,
    TrainConfig,
)


class TrackingConfig(Part):
    """Where the run is tracked."""

    experiment: str = "motoric"


class RegistryConfig(Part):
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


class Recipe(Part):
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
    strategy: StrategyName = "ddp"
    parameter_server: ParameterServerConfig = ParameterServerConfig()
    resources: ResourcesConfig = ResourcesConfig()
    stopping: StoppingConfig = StoppingConfig()
    timeline: TimelineSettings = TimelineSettings()
    tracking: TrackingConfig = TrackingConfig()
    registry: RegistryConfig | None = None
    search: SearchConfig | None = None

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
            check_model(self.strategy, self.model, self.resources.max_workers)
        except RecipeError as error:
            raise ValueError(error.message) from error
        self._check_task()
        self._check_strategy()
        self._check_augmentation()
        if self.train.data == "stream" and self.streaming_problem:
            raise ValueError(f"train.data is stream, but {self.streaming_problem}")
        if self.window is not None and self.clip is not None and self.clip.length_s is not None:
            raise ValueError("clip.length_s: with `window`, clips span the windows: leave it out")
        if not isinstance(self.split, LeakingSplit) and self.split.num_validation_subjects == 0:
            self._check_no_validation()
        if self.search is not None:
            self._check_search(self.search)
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

    def _check_strategy(self) -> None:
        is_server = self.strategy == "parameter_server"
        if not is_server and self.parameter_server != ParameterServerConfig():
            raise ValueError(
                f"parameter_server is for strategy parameter_server, the strategy is"
                f" {self.strategy}: leave it out, or set strategy to parameter_server"
            )
        if is_server and self.train.checkpoint_every_steps is not None:
            raise ValueError(
                "train.checkpoint_every_steps: with strategy parameter_server workers are at"
                " different steps, and a run goes on from the end of an epoch: leave it out"
            )
        if self.strategy == "tensor" and isinstance(self.resources.num_workers, tuple):
            raise ValueError(
                "resources.num_workers: strategy tensor cuts the network for one number of workers,"
                f" not for {list(self.resources.num_workers)}: write one number"
            )

    def _check_augmentation(self) -> None:
        if self.window is not None and self.window.fit == "stretch" and self.preprocessing.steps:
            raise ValueError(
                "preprocessing.steps: after window.fit: stretch a frequency is another one for each"
                " movement: leave the filters out"
            )
        if self.augmentation.mirror > 0 and self.clip is not None:
            raise ValueError("augmentation.mirror: a window is not mirrored beside its clip: set 0")
        if isinstance(self.target, ChannelTarget) and is_vector(self.target.channel):
            for key in ("rotation_deg", "mirror"):
                if getattr(self.augmentation, key) > 0:
                    raise ValueError(
                        f"augmentation.{key} would turn {self.target.channel}, which is the target,"
                        " in the window alone: set it to 0"
                    )

    def _check_no_validation(self) -> None:
        if self.stopping.keep == "best" or self.stopping.patience is not None:
            raise ValueError(
                "split.num_validation_subjects is 0, so there is nothing to choose an epoch by: set"
                " stopping.keep to last, and leave stopping.patience out"
            )

    def _check_search(self, search: SearchConfig) -> None:
        if not isinstance(self.split, LeakingSplit) and self.split.num_validation_subjects == 0:
            raise ValueError(
                "search: split.num_validation_subjects is 0, so there is nobody to compare trials"
                " on: set it to 1 or more (the test people are for the end)"
            )
        if search.grace_epochs > self.train.epochs:
            raise ValueError(
                f"search.grace_epochs is {search.grace_epochs}, more than train.epochs"
                f" ({self.train.epochs})"
            )
        check_space(search, self.model_dump(mode="json"), Recipe.model_validate)

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

    @property
    def training_content(self) -> dict[str, Any]:
        """What the weights follow from: all but by whom and where the run is trained and kept.

        A run that goes on may have these others changed.
        """
        aside = {"name", "tracking", "registry", "resources", "strategy", "timeline"}
        aside |= {"parameter_server", "search"}
        content = self.model_dump(mode="json", exclude=aside)
        for key in ("checkpoint_every_steps", "compile", "accumulate"):
            content["train"].pop(key)
        for key in ("data", "memory_share", "shuffle_buffer"):
            content["train"].pop(key)
        return content

    @property
    def streaming_problem(self) -> str:
        """Why the training windows cannot stream, and what to change; empty: they can."""
        name = self.model["name"]
        if self.clip is not None:
            return "clips do not stream: leave `clip:` out, or take mapped"
        if model_kind(name).is_solved:
            return f"model {name!r} is solved from all windows at once: choose another model"
        if self.strategy not in ("ddp", "fsdp"):
            return f"strategy {self.strategy} does not take a stream: set strategy to ddp or fsdp"
        if isinstance(self.resources.num_workers, tuple):
            return (
                f"an elastic run ({list(self.resources.num_workers)} workers) grows into the CPUs"
                " that reading needs: write one number in resources.num_workers"
            )
        if isinstance(self.split, LeakingSplit):
            return f"split.kind {self.split.kind} divides recordings: hold whole ones out"
        if self.train.checkpoint_every_steps is not None:
            return (
                "train.checkpoint_every_steps is set, and a stream goes on from the end of an"
                " epoch alone: leave it out"
            )
        return ""

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


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe and apply `key.path=value` overrides (values are YAML).

    Raises:
        NotFoundError: No such file.
        RecipeError: Not YAML, or it does not fit.
    """
    if not path.is_file():
        raise NotFoundError(f"no recipe at {path}")
    return read_recipe(path.read_text(), str(path), overrides)


def read_recipe(text: str, place: str, overrides: Sequence[str] = ()) -> Recipe:
    """As `load_recipe`, of a recipe's text; `place` is named in errors.

    Raises:
        RecipeError: Not YAML, or it does not fit.
    """
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{place} is not valid YAML: {error}") from error
    if isinstance(content, dict):
        for override in overrides:
            _apply(content, override)
    return parse_recipe(content, place)


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
