"""The machines that a run could use: those of a running Ray, or this one."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

_GIB = 2**30
_TPU = "TPU"
_ACCELERATOR = "accelerator_type:"
_LABEL = "ray.io/accelerator-type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What there is to train on, all nodes together.

    Attributes:
        num_cpus: As Ray counts them, or cores.
        num_gpus: Whole ones.
        gpu_names: Kinds of GPU, sorted.
        has_tpu: A node offers TPUs, by a resource or a label.
        memory_gib: For tasks and actors.
        num_nodes: Machines.
        place: What was looked at, for people.
    """

    num_cpus: int
    num_gpus: int = 0
    gpu_names: tuple[str, ...] = ()
    has_tpu: bool = False
    memory_gib: float
    num_nodes: int = 1
    place: str = "this machine"

    @property
    def cpus_per_node(self) -> int:
        """Of a typical node, at least 1."""
        return max(1, self.num_cpus // self.num_nodes)

    @property
    def memory_gib_per_node(self) -> float:
        """Of a typical node."""
        return self.memory_gib / self.num_nodes


def machines_of_nodes(nodes: Sequence[Mapping[str, Any]], place: str) -> Machines:
    """Add up the nodes that `ray.nodes()` lists; dead ones do not count."""
    alive = [node for node in nodes if node["Alive"]]
    gpu_names: set[str] = set()
    total = {"CPU": 0.0, "GPU": 0.0, "memory": 0.0}
    has_tpu = False
    for node in alive:
        resources: Mapping[str, float] = node["Resources"]
        for name in total:
            total[name] += resources.get(name, 0.0)
        kinds = {
            key.removeprefix(_ACCELERATOR) for key in resources if key.startswith(_ACCELERATOR)
        }
        label = (node.get("Labels") or {}).get(_LABEL)
        kinds |= {label} if label else set()
        has_tpu |= resources.get(_TPU, 0.0) > 0 or any(kind.startswith(_TPU) for kind in kinds)
        if resources.get("GPU", 0.0) > 0:
            gpu_names |= {kind for kind in kinds if not kind.startswith(_TPU)}
    return Machines(
        num_cpus=int(total["CPU"]),
        num_gpus=int(total["GPU"]),
        gpu_names=tuple(sorted(gpu_names)),
        has_tpu=has_tpu,
        memory_gib=total["memory"] / _GIB,
        num_nodes=max(1, len(alive)),
        place=place,
    )


def machines_of_cluster() -> Machines:
    """The nodes of the Ray that this process is connected to."""
    import ray

    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return machines_of_nodes(nodes, "the running cluster")


def this_machine() -> Machines:
    """Cores, memory and CUDA devices of this machine."""
    gpu_names: list[str] = []
    if importlib.util.find_spec("torch") is not None:
        import torch

        if torch.cuda.is_available():
            count = torch.cuda.device_count()
            gpu_names = [torch.cuda.get_device_name(index) for index in range(count)]
    return Machines(
        num_cpus=len(os.sched_getaffinity(0)),
        num_gpus=len(gpu_names),
        gpu_names=tuple(sorted(set(gpu_names))),
        memory_gib=psutil.virtual_memory().total / _GIB,
    )
