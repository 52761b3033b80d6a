"""Which network suits how much data and which machines, how to train it and on what.

In: `Sizes` and `Machines`. Out: settings of a recipe, each with its reason. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from motoric.workflows.machines import Machines

_FEW_EXAMPLES = 3000
_FEW_GROUPS = 6
_MANY_EXAMPLES = 100_000
_NUM_FEATURES = 2000
# MiniRocket's kernels have nine weights.
_KERNEL_SAMPLES = 9
_PATCH_SAMPLES = 16
_GIB = 2**30
_AXES = re.compile(r"(acc|gyr|mag)(_\w+)?_[xyz]")
_MAX_WORKERS = 8
_PER_CPU_WORKER = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """What the choice rests on.

    Attributes:
        num_examples: Windows or clips.
        num_groups: People, or recordings where people are unknown.
        num_samples: Of a window; 0 without sensors.
        has_sensors: There are windows.
        has_clips: There are clips.
        is_forecast: Quantiles are predicted.
        channels: Of the windows.
    """

    num_examples: int
    num_groups: int
    num_samples: int = 0
    has_sensors: bool = True
    has_clips: bool = False
    is_forecast: bool = False
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value of a recipe, by its path, and why."""

    path: str
    value: Any
    why: str


def choose_network(sizes: Sizes, machines: Machines) -> list[Setting]:
    """Settings of the clip, the model, its training and its resources, in this order."""
    settings = list(_clip(sizes, machines)) if sizes.has_clips else []
    model, why = _model(sizes, machines)
    settings.append(Setting(path="model", value=model, why=why))
    if model["name"] == "random_kernels":
        settings.append(
            Setting(path="train.epochs", value=1, why="one pass gives all features of the windows")
        )
    else:
        settings += _augmentation(sizes)
        settings += _training(sizes, machines, model["name"])
    settings.append(Setting(path="strategy", value="ddp", why="the network fits each worker whole"))
    return [*settings, *_resources(sizes, machines, model["name"])]


def _is_big(sizes: Sizes, machines: Machines) -> bool:
    return sizes.num_examples >= _FEW_EXAMPLES and machines.num_gpus > 0


def _clip(sizes: Sizes, machines: Machines) -> Iterator[Setting]:
    pixels, why = 64, "small frames, which a CPU gets through"
    if machines.num_gpus > 0:
        pixels, why = 112, "the size that small video networks are usually trained at"
    bytes_each = 16 * 3 * pixels**2
    allowed = 0.25 * machines.memory_gib_per_node * _GIB
    if pixels > 64 and sizes.num_examples * bytes_each > allowed:
        pixels, why = 64, "larger clips would fill the memory: each worker holds all of them"
    yield Setting(
        path="clip.num_frames", value=16, why="spread over the span; motion shows in them"
    )
    yield Setting(path="clip.height", value=pixels, why=why)
    yield Setting(path="clip.width", value=pixels, why="as high as wide")


def _model(sizes: Sizes, machines: Machines) -> tuple[dict[str, Any], str]:
    about = f"{sizes.num_examples:,} examples of {sizes.num_groups}"
    features_bytes = 2 * 4 * _NUM_FEATURES * sizes.num_examples
    fits = features_bytes <= 0.25 * machines.memory_gib_per_node * _GIB
    is_few = sizes.num_examples < _FEW_EXAMPLES or sizes.num_groups < _FEW_GROUPS
    is_for_kernels = is_few and fits and sizes.num_samples >= _KERNEL_SAMPLES
    if sizes.has_clips and sizes.has_sensors and is_for_kernels:
        return (
            {
                "name": "late_fusion",
                "sensors": {"name": "random_kernels", "num_features": _NUM_FEATURES},
                "clip": _video(sizes, machines)[0],
            },
            f"{about} groups are few: sensors and video are learned apart and their answers joined;"
            " it also answers where one of them is missing",
        )
    if sizes.has_clips and sizes.has_sensors:
        return (
            {
                "name": "fusion",
                "sensors": {"name": "inception", "filters": 16},
                "clip": _video(sizes, machines)[0],
            },
            "recordings have sensors and video; it also answers where one of them is missing",
        )
    if sizes.has_clips:
        return _video(sizes, machines)
    if is_for_kernels and not sizes.is_forecast:
        return (
            {"name": "random_kernels", "num_features": _NUM_FEATURES},
            f"{about} groups are few to learn filters from: fixed random ones with a solved head"
            " (MiniRocket, arXiv 2012.08791) need no tuning and take seconds",
        )
    is_long = sizes.num_samples >= 2 * _PATCH_SAMPLES
    if sizes.num_examples > _MANY_EXAMPLES and machines.num_gpus > 0 and is_long:
        return (
            {"name": "patch_transformer", "width": 128, "depth": 4, "num_heads": 8},
            f"{about} groups and a GPU: attention pays off with much data",
        )
    if sizes.is_forecast and sizes.num_examples < _FEW_EXAMPLES:
        return (
            {"name": "recurrent", "hidden_size": 32, "stem_channels": 32},
            f"{about} groups: a small recurrent network, since quantiles need a gradient",
        )
    return (
        {"name": "inception", "depth": 3, "filters": 32},
        f"{about} groups: convolutions of several lengths, the strong default for windows"
        " (InceptionTime, arXiv 1909.04939)",
    )


def _video(sizes: Sizes, machines: Machines) -> tuple[dict[str, Any], str]:
    if _is_big(sizes, machines):
        return (
            {"name": "r2plus1d", "stages": [32, 64, 128, 256], "blocks_per_stage": 2},
            f"{sizes.num_examples:,} clips and a GPU: wide stages (R(2+1)D, arXiv 1711.11248)",
        )
    return (
        {"name": "r2plus1d", "stages": [16, 32, 64, 128]},
        f"{sizes.num_examples:,} clips: narrow stages learn faster and overfit less"
        " (R(2+1)D, arXiv 1711.11248)",
    )


def _augmentation(sizes: Sizes) -> Iterator[Setting]:
    if sizes.has_sensors and not sizes.is_forecast and _is_inertial(sizes.channels):
        yield Setting(
            path="augmentation",
            value={"rotation_deg": 5.0, "scale_std": 0.1, "jitter_std": 0.05},
            why="a device never sits quite the same, on nobody",
        )
    if sizes.has_clips:
        yield Setting(
            path="clip_augmentation",
            value={"shift": 0.1, "zoom_std": 0.05, "brightness_std": 0.05, "contrast_std": 0.1},
            why="cameras stand and expose differently; no flip, since left and right may matter",
        )


def _is_inertial(channels: Sequence[str]) -> bool:
    """Whole (x, y, z) triples of accelerations and the like, as a rotation needs them."""
    found = [name for name in channels if _AXES.fullmatch(name)]
    bases = {name[:-1] for name in found}
    return bool(found) and len(found) == 3 * len(bases)


def _training(sizes: Sizes, machines: Machines, model: str) -> Iterator[Setting]:
    has_gpu = machines.num_gpus > 0
    if model == "patch_transformer":
        rate, decay, why = 1e-3, 0.05, "attention diverges at the higher rates of convolutions"
    elif sizes.has_clips:
        rate, decay, why = 2e-3, 0.05, "small batches of clips, and more decay where data are few"
    else:
        rate, decay, why = 3e-3, 0.01, "what small networks on windows take with one cycle"
    yield Setting(
        path="optimiser",
        value={"name": "adamw", "learning_rate": rate, "weight_decay": decay},
        why=why,
    )
    yield Setting(
        path="schedule", value={"name": "one_cycle"}, why="warms up and anneals, nothing to tune"
    )
    batch = 64 if sizes.num_examples <= _MANY_EXAMPLES else 256
    steps = 4000 if has_gpu else 2000
    if sizes.has_clips:
        batch, steps = (32, 4000) if has_gpu else (16, 800)
    batch = min(batch, max(4, sizes.num_examples // 8))
    epochs = max(3, min(40, round(steps * batch / sizes.num_examples)))
    yield Setting(path="train.epochs", value=epochs, why=f"up to about {steps} steps")
    why = "clips are large" if sizes.has_clips else f"of {sizes.num_examples:,} windows"
    yield Setting(path="train.batch_size", value=batch, why=why)


def _resources(sizes: Sizes, machines: Machines, model: str) -> Iterator[Setting]:
    at_once = min(4, machines.cpus_per_node)
    num_workers, gpus, why = _workers(sizes, machines, model)
    at_once = max(1, min(at_once, machines.num_cpus // num_workers))
    yield Setting(path="resources.num_workers", value=num_workers, why=why)
    yield Setting(
        path="resources.cpus_per_worker",
        value=at_once,
        why=f"of {machines.num_cpus} CPUs on {machines.num_nodes} node(s), {machines.place}",
    )
    names = f" ({', '.join(machines.gpu_names)})" if machines.gpu_names else ""
    if gpus:
        share = (
            "a whole one each" if gpus == 1 else "a small network leaves most of it to other work"
        )
        yield Setting(
            path="resources.gpus_per_worker",
            value=gpus,
            why=f"of {machines.num_gpus} GPU(s){names}: {share}",
        )
    elif machines.num_gpus:
        yield Setting(
            path="resources.gpus_per_worker",
            value=0,
            why=f"there are {machines.num_gpus} GPU(s){names}, but so small a fit gains nothing",
        )


def _workers(sizes: Sizes, machines: Machines, model: str) -> tuple[int, float, str]:
    """Workers, GPUs of each, and why."""
    if model == "random_kernels":
        return 1, 0, "the head is solved by one worker"
    is_heavy = sizes.has_clips or model == "patch_transformer"
    if machines.num_gpus > 0 and is_heavy:
        num = min(machines.num_gpus, _MAX_WORKERS)
        if sizes.num_examples < _FEW_EXAMPLES:
            num = 1
        return num, 1, f"one for each of {num} GPU(s)"
    if machines.num_gpus > 0 and sizes.num_examples >= _FEW_EXAMPLES:
        # NCCL refuses two workers on one GPU, so a fraction means one worker.
        return 1, 0.25, "one, since workers cannot share a GPU"
    wanted = max(1, sizes.num_examples // _PER_CPU_WORKER)
    num = min(wanted, _MAX_WORKERS, max(1, machines.num_cpus // 2))
    return num, 0, f"one for about every {_PER_CPU_WORKER:,} examples, as CPUs allow"
