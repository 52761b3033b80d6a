"""A recipe proposed for a dataset and the machines at hand, with a reason for each setting.

In: `DatasetFacts` (no sample is read) and `Machines`. Out: a checked `Recommendation`. `recommend`
is a pure function of the two. The thresholds are rules of thumb; each reason names the figure it
rests on, and `motoric evaluate` has the last word.
"""

from __future__ import annotations

import math
import re
import statistics
from typing import Literal

from motoric.core.errors import DatasetError, RecipeError
from motoric.training.recipe import parse_recipe
from motoric.workflows.dataset_facts import DatasetFacts, StreamFacts
from motoric.workflows.machines import Machines
from motoric.workflows.recommend_network import Sizes, choose_network
from motoric.workflows.recommendation import Plan, Protocol, Recommendation

Task = Literal["classify", "regress", "forecast"]

TARGET = "heart_rate"
_WORKOUT_CHANNELS = ("speed", "power", "cadence")
_FEW_WINDOWS = 3000
_FEW_PEOPLE = 12
_SHORT_S = 8.0
_SLOW_HZ = 2.0
_IMBALANCE = 3.0
_SHARE_PAIRED = 0.2


def recommend(
    facts: DatasetFacts, machines: Machines, *, dataset: str, task: Task | None = None
) -> Recommendation:
    """Propose a recipe.

    Args:
        facts: Of the dataset.
        machines: To train on.
        dataset: How the recipe names the dataset.
        task: By default `classify` where there are two labels, else `forecast` of heart rate.

    Raises:
        DatasetError: Nothing can be learned from it: too few recordings, neither sensors nor video,
            neither labels nor a heart rate.
        RecipeError: The dataset does not have what `task` needs.
    """
    if facts.num_recordings < 3:
        raise DatasetError(
            f"{dataset} has {facts.num_recordings} recording(s): training, and a test on others,"
            " take three or more"
        )
    plan = Plan(content={"version": 1, "name": ""})
    chosen = _task(plan, facts, task)
    plan.content["dataset"] = dataset
    stream, has_video = _inputs(facts, chosen)
    by_subject = _split(plan, facts)
    if chosen == "classify":
        _labels(plan, facts, by_subject=by_subject)
    num_examples, num_samples = _spans(plan, facts, chosen, stream, has_video=has_video)
    sizes = Sizes(
        num_examples=num_examples,
        num_groups=facts.num_subjects if by_subject else facts.num_recordings,
        num_samples=num_samples,
        has_sensors=stream is not None,
        has_clips=has_video,
        is_forecast=chosen == "forecast",
        channels=() if stream is None else stream.channels,
    )
    for setting in choose_network(sizes, machines):
        plan.set(setting.path, setting.value, setting.why)
    model = plan.content["model"]["name"]
    if chosen == "classify" and model != "random_kernels":
        _class_weights(plan, facts)
    _keep(plan)
    if machines.has_tpu:
        plan.cautions.append(
            "there are TPUs, and they are not used: training here is torch on CPUs and NVIDIA GPUs"
        )
    return _concluded(plan, facts, model, by_subject=by_subject, num_examples=num_examples)


def _concluded(
    plan: Plan, facts: DatasetFacts, model: str, *, by_subject: bool, num_examples: int
) -> Recommendation:
    """Name the recipe, choose how to evaluate it, and check it."""
    slug = re.sub(r"[^a-z0-9]+", "-", facts.name.lower()).strip("-")[:40].strip("-") or "dataset"
    name = f"{slug}-{model.replace('_', '-')}"
    plan.content["name"] = name
    plan.set("tracking.experiment", name, "its runs stand side by side under this name")
    plan.set(
        "registry",
        {"model": name, "alias": "candidate"},
        "a finished run is registered; `motoric models alias` makes it the champion",
    )
    num_groups = facts.num_subjects if by_subject else facts.num_recordings
    protocol: Protocol = "leave_one_out" if num_groups < _FEW_PEOPLE else "group_k_fold"
    whom = "people" if by_subject else "recordings"
    plan.cautions.append(
        f"the split tests few of {num_groups} {whom}: `motoric evaluate FILE --protocol {protocol}`"
        " tests each of them once, and its figure is the one to trust"
    )
    recipe = parse_recipe(plan.content, "the recommended recipe")
    order = {key: number for number, key in enumerate(plan.content)}
    plan.reasons.sort(key=lambda reason: order[reason.setting.partition(".")[0]])
    return Recommendation(
        recipe=recipe,
        content=plan.content,
        reasons=tuple(plan.reasons),
        cautions=tuple(plan.cautions),
        protocol=protocol,
        num_examples=num_examples,
    )


def _task(plan: Plan, facts: DatasetFacts, task: Task | None) -> Task:
    has_target = any(TARGET in stream.channels for stream in facts.streams)
    labels = [label.name for label in facts.labels]
    if task is None and len(labels) < 2 and not has_target:
        raise DatasetError(
            f"dataset {facts.name!r} has {len(labels)} label(s) and no {TARGET}: annotate its"
            " recordings with two labels or more, and ingest it again"
        )
    chosen: Task = task or ("classify" if len(labels) >= 2 else "forecast")
    if chosen == "classify":
        if len(labels) < 2:
            raise RecipeError(
                f"task classify needs two labels or more, the dataset has {len(labels)}: annotate"
                f" its recordings{', or take --task forecast' if has_target else ''}"
            )
        plan.set("task", "classify", f"the recordings have {len(labels)} labels")
        plan.set("target", "label", "what the annotations say")
        return chosen
    if not has_target:
        raise RecipeError(
            f"task {chosen} is recommended for {TARGET} alone, which no stream has in nearly"
            " all its recordings: write the recipe yourself, with target: {channel: NAME}"
        )
    why = "asked for" if task else f"there are no labels to tell apart, but a {TARGET}"
    plan.set("task", chosen, why)
    plan.set("target", {"channel": TARGET}, "the channel that says most of effort")
    if chosen == "forecast":
        plan.set("horizon_s", 60.0, "heart rate answers to effort within about a minute")
    return chosen


def _inputs(facts: DatasetFacts, task: Task) -> tuple[StreamFacts | None, bool]:
    """The stream to take windows of, if any, and whether clips are taken too."""
    usable = [stream for stream in facts.streams if stream.channels]
    if task != "classify":
        return next(stream for stream in usable if TARGET in stream.channels), False
    if not usable and not facts.num_videos:
        raise DatasetError(f"dataset {facts.name!r} has neither sensors nor video")
    if not usable:
        return None, True
    # Of streams that as many recordings have, the fastest shows movement best.
    most = max(stream.num_recordings for stream in usable)
    common = [stream for stream in usable if stream.num_recordings >= 0.8 * most]
    stream = max(common, key=lambda item: item.rate_hz)
    if stream.num_with_video >= max(3.0, _SHARE_PAIRED * facts.num_recordings):
        return stream, True
    if facts.num_videos > stream.num_recordings:
        return None, True
    return stream, False


def _split(plan: Plan, facts: DatasetFacts) -> bool:
    """Whom to test on; gives whether whole people are held out."""
    num = facts.num_subjects
    if num < 2:
        held_out = max(1, round(0.2 * facts.num_recordings))
        plan.set(
            "split",
            {"by": "recording", "num_test_subjects": held_out, "num_validation_subjects": 0},
            f"{num} known subject(s) are too few to hold people out, so recordings are",
        )
        plan.cautions.append(
            "nobody says whose the recordings are (or all are of one person), so the figures say"
            " nothing of new people: name the subject in the manifest"
        )
        return False
    num_test = max(3 if num >= _FEW_PEOPLE else 1, round(0.2 * num))
    num_validation = 0 if num < _FEW_PEOPLE else max(1, round(0.1 * num))
    plan.set(
        "split",
        {"num_test_subjects": num_test, "num_validation_subjects": num_validation},
        f"of {num} people, whole ones are held out: about a fifth for the test"
        + ("; all others train, since they are few" if num_validation == 0 else ""),
    )
    return True


def _labels(plan: Plan, facts: DatasetFacts, *, by_subject: bool) -> None:
    """Leave out labels of one person: they cannot be in training and in test."""
    if not by_subject or facts.num_unknown:
        return
    kept = [label.name for label in facts.labels if label.num_subjects >= 2]
    dropped = [label.name for label in facts.labels if label.num_subjects < 2]
    if dropped and len(kept) >= 2:
        why = f"{', '.join(dropped)} {'is' if len(dropped) == 1 else 'are'} of one person each,"
        plan.set("labels", kept, f"{why} and cannot be tested on another")


def _spans(
    plan: Plan, facts: DatasetFacts, task: Task, stream: StreamFacts | None, *, has_video: bool
) -> tuple[int, int]:
    """Windows and the rate of their samples; gives the number of examples and of samples."""
    is_short = (
        task == "classify"
        and 0 < facts.annotation_s <= _SHORT_S
        and facts.annotations_per_recording <= 1.5
    )
    if stream is None:
        return _clip_spans(plan, facts, is_short=is_short), 0
    rate_hz = _rate(plan, stream, task)
    plan.set("window.stream", stream.name, f"{stream.num_recordings} recordings have it")
    channels = list(stream.channels)
    if task != "classify":
        channels = [TARGET] if task == "forecast" else []
        channels += [name for name in _WORKOUT_CHANNELS if name in stream.channels]
        if not channels:
            raise RecipeError(
                f"task regress of {TARGET} needs speed, power or cadence beside it, stream"
                f" {stream.name!r} has {', '.join(stream.channels)}: take --task forecast"
            )
        plan.set("window.channels", channels, "what effort shows in; places would give people away")
    elif stream.left_out:
        missing = ", ".join(stream.left_out)
        plan.set("window.channels", channels, f"recordings lack {missing}, or have other units")
    if is_short:
        length_s = math.ceil(2 * statistics.quantiles(facts.annotations_s, n=10)[-1]) / 2
        length_s = max(length_s, 10 / rate_hz)
        plan.set(
            "window.span",
            "annotation",
            f"each recording is one movement of about {facts.annotation_s:.1f} s, seen whole",
        )
        plan.set("window.length_s", length_s, "as long as nine of ten movements")
        plan.set(
            "window.fit", "stretch", "each is resampled to that: slow and quick ones look alike"
        )
        return len(facts.annotations_s), round(length_s * rate_hz)
    spans_s = facts.annotations_s if task == "classify" else stream.durations_s
    length_s, why = _length(statistics.median(spans_s), rate_hz, task)
    ahead_s = 60.0 if task == "forecast" else 0.0
    hop_s = length_s / 2
    share = "half a window: neighbours overlap, and most movements stand whole in one"
    if _count(spans_s, length_s + ahead_s, hop_s) < _FEW_WINDOWS:
        hop_s, share = length_s / 4, "a quarter of a window, since the data are few"
    plan.set("window.length_s", length_s, why)
    plan.set("window.hop_s", hop_s, share)
    num = _count(spans_s, length_s + ahead_s, hop_s)
    if num < 3:
        raise DatasetError(
            f"dataset {facts.name!r} gives {num} window(s) of {length_s:g} s: collect longer"
            " recordings or annotations"
        )
    if has_video:
        plan.set("clip", {}, "clips follow the windows")
    return num, round(length_s * rate_hz)


def _clip_spans(plan: Plan, facts: DatasetFacts, *, is_short: bool) -> int:
    if is_short or facts.annotation_s <= _SHORT_S:
        plan.set("clip", {}, f"one clip an annotation, of about {facts.annotation_s:.1f} s each")
        return len(facts.annotations_s)
    spans = {"length_s": 4.0, "hop_s": 2.0}
    plan.set("clip", spans, f"annotations of {facts.annotation_s:.0f} s hold many such clips")
    return _count(facts.annotations_s, 4.0, 2.0)


def _rate(plan: Plan, stream: StreamFacts, task: Task) -> float:
    rate_hz = stream.rate_hz
    if not stream.has_one_rate:
        spread = f"recordings run at {stream.min_rate_hz:g} to {stream.max_rate_hz:g} Hz"
        why = f"{spread}, most of their time at {rate_hz:g}"
        if task != "classify":
            rate_hz, why = stream.min_rate_hz, f"{spread}; slow ones hold no more than the lowest"
        plan.set("preprocessing.rate_hz", rate_hz, why)
    if rate_hz <= _SLOW_HZ:
        plan.set("preprocessing.max_gap_s", 30.0, "short dropouts of slow sensors are filled")
    return rate_hz


def _length(span_s: float, rate_hz: float, task: Task) -> tuple[float, str]:
    """Length of a window, in whole samples, and why."""
    if task == "forecast":
        wanted_s, why = 300.0, "five minutes show how effort and heart rate went together"
    elif rate_hz <= _SLOW_HZ:
        wanted_s, why = 60.0, f"at {rate_hz:g} Hz a minute holds {60 * rate_hz:g} samples"
    elif span_s >= 16.0:
        wanted_s, why = 4.0, "several repetitions of most movements; WISDM benchmarks use it too"
    else:
        wanted_s, why = 2.56, "about one movement; UCI HAR uses it too"
    if wanted_s > span_s / 2:
        wanted_s, why = span_s / 2, f"half of the typical span of {span_s:.3g} s"
    num_samples = max(10, round(wanted_s * rate_hz))
    return round(num_samples / rate_hz, 6), why


def _count(spans_s: tuple[float, ...], length_s: float, hop_s: float) -> int:
    return sum(
        int((span_s - length_s) / hop_s + 1e-6) + 1 for span_s in spans_s if span_s >= length_s
    )


def _class_weights(plan: Plan, facts: DatasetFacts) -> None:
    named = plan.content.get("labels") or [label.name for label in facts.labels]
    is_each = plan.content.get("window", {}).get("span") == "annotation" or "window" not in (
        plan.content
    )
    amounts = {
        label.name: float(label.num_annotations) if is_each else label.duration_s
        for label in facts.labels
        if label.name in named
    }
    most, least = max(amounts, key=amounts.__getitem__), min(amounts, key=amounts.__getitem__)
    ratio = amounts[most] / max(amounts[least], 1e-9)
    if ratio > _IMBALANCE:
        plan.set(
            "train.class_weights",
            "balanced",
            f"there is {ratio:.0f} times as much {most} as {least}, which would be drowned out",
        )


def _keep(plan: Plan) -> None:
    num = plan.content["split"]["num_validation_subjects"]
    if num < 3:
        plan.set(
            "stopping.keep", "last", f"{num} validation people are too few to pick an epoch by"
        )
    else:
        plan.set("stopping.keep", "best", f"{num} validation people can pick the epoch")
        plan.set("stopping.patience", 8, "ends a run that no longer gets better")
