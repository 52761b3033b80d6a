"""The parts of a recipe that say how its network is trained, and by how many workers."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Part(BaseModel):
    """A part of a recipe: frozen, and without keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OptimiserConfig(Part):
    """Settings of torch's optimiser."""

    name: Literal["adamw"] = "adamw"
    learning_rate: float = Field(default=3e-3, gt=0)
    weight_decay: float = Field(default=0.01, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)


class ScheduleConfig(Part):
    """How the learning rate moves over the run."""

    name: Literal["constant", "one_cycle", "cosine"] = "one_cycle"
    warmup_share: float = Field(
        default=0.05, ge=0, lt=1, description="of all steps, over which a cosine's rate first rises"
    )
    final_share: float = Field(
        default=0.0, ge=0, le=1, description="of the learning rate, where a cosine ends"
    )

    @model_validator(mode="after")
    def _of_cosine(self) -> ScheduleConfig:
        given = sorted({"warmup_share", "final_share"} & self.model_fields_set)
        changed = [
            key for key in given if getattr(self, key) != type(self).model_fields[key].default
        ]
        if self.name != "cosine" and changed:
            raise ValueError(
                f"{' and '.join(changed)} are of schedule cosine, this is {self.name}: leave out"
            )
        return self


class TrainConfig(Part):
    """Length and batches of the run."""

    epochs: int = Field(default=15, ge=1, le=100_000)
    batch_size: int = Field(default=64, ge=1, description="examples a step, over all workers")
    accumulate: int = Field(
        default=1, ge=1, description="parts that a worker's batch is taken in, for less memory"
    )
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
    precision: Literal["float32", "bf16"] = Field(
        default="float32", description="of a training step; weights and validation stay float32"
    )
    compile: bool = Field(default=False, description="by torch.compile, which takes a minute once")
    checkpoint_every_steps: int | None = Field(
        default=None, ge=1, description="a checkpoint within an epoch too, not only after each"
    )
    data: Literal["auto", "memory", "mapped", "stream"] = Field(
        default="auto",
        description="where examples lie: in each worker's memory, in files of each node's scratch"
        " folder, or nowhere, and training windows stream from the dataset; auto chooses by their"
        " estimated size",
    )
    shuffle_buffer: int = Field(
        default=8192, ge=1, description="windows of a stream that a worker mixes at a time"
    )
    memory_share: float = Field(
        default=0.4,
        gt=0,
        le=1,
        description="of a worker's memory, up to which auto keeps examples in it",
    )


_Count = Annotated[int, Field(ge=1, le=4096)]


class ResourcesConfig(Part):
    """What each worker gets, and what happens when one is lost."""

    num_workers: _Count | tuple[_Count, _Count] = Field(
        default=1, description="or [fewest, most]: as many as the cluster has room for"
    )
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
    max_restarts: int = Field(
        default=3, ge=0, description="so often lost workers are replaced, from the last checkpoint"
    )
    resize_interval_s: float = Field(
        default=60, gt=0, description="how often an elastic run looks for room, or the lack of it"
    )

    @field_validator("num_workers")
    @classmethod
    def _rises(cls, num: int | tuple[int, int]) -> int | tuple[int, int]:
        if isinstance(num, tuple) and num[0] >= num[1]:
            raise ValueError(f"[{num[0]}, {num[1]}] must rise: [fewest, most], or one number")
        return num

    @field_validator("gpus_per_worker")
    @classmethod
    def _whole_or_part_of_one(cls, num: float) -> float:
        if num > 1 and not num.is_integer():
            raise ValueError(f"{num:g}: a share of one GPU (0.5), or whole ones (1, 2)")
        return num

    @property
    def min_workers(self) -> int:
        """As many workers as there must be."""
        return self.num_workers[0] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def max_workers(self) -> int:
        """As many workers as there may be."""
        return self.num_workers[1] if isinstance(self.num_workers, tuple) else self.num_workers

    @property
    def of_worker(self) -> dict[str, float]:
        """What a worker asks of Ray, by the names of Ray's resources; memory in bytes."""
        found = {"CPU": self.cpus_per_worker, **self.labels}
        if self.gpus_per_worker > 0:
            found["GPU"] = self.gpus_per_worker
        if self.memory_gib_per_worker is not None:
            found["memory"] = self.memory_gib_per_worker * 2**30
        return found


class StoppingConfig(Part):
    """When to stop, by the loss on the validation subjects, and which epoch's weights to keep."""

    patience: int | None = Field(
        default=None, ge=1, description="stop after so many epochs without a lower loss"
    )
    keep: Literal["best", "last"] = "best"
