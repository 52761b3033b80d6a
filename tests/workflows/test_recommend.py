from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import DatasetError, RecipeError
from motoric.data.dataset import open_dataset
from motoric.models.catalogue import build_model, parse_config
from motoric.models.shapes import ClipShape, InputShapes, SensorShape
from motoric.training.augmentation import check_augmentation
from motoric.training.folds import plan_folds, run_fold
from motoric.training.inputs import model_inputs
from motoric.training.loading import load_examples
from motoric.training.recipe import Recipe, parse_recipe
from motoric.training.split_config import SubjectSplit
from motoric.workflows.dataset_facts import DatasetFacts, LabelFacts, StreamFacts, look_at
from motoric.workflows.machines import Machines, machines_of_nodes, this_machine
from motoric.workflows.recommend import recommend
from motoric.workflows.recommendation import Recommendation
from recordings import SineSource, write_dataset

LAPTOP = Machines(num_cpus=8, memory_gib=16)
GPUS = Machines(num_cpus=64, num_gpus=4, gpu_names=("A10G",), memory_gib=256, num_nodes=4)
IMU = tuple(f"{kind}_{axis}" for kind in ("acc", "gyr") for axis in "xyz")


def stream(num: int, **changes: Any) -> StreamFacts:
    content: dict[str, Any] = {
        "name": "imu",
        "rate_hz": 50.0,
        "min_rate_hz": 50.0,
        "max_rate_hz": 50.0,
        "channels": IMU,
        "num_recordings": num,
        "durations_s": (60.0,) * num,
    }
    return StreamFacts(**(content | changes))


def facts(
    num: int = 60, each_s: float = 60.0, *, subjects: int = 20, **changes: Any
) -> DatasetFacts:
    labels = tuple(
        LabelFacts(name=name, num_annotations=num // 2, duration_s=num * each_s / 2, num_subjects=9)
        for name in ("walk", "run")
    )
    content: dict[str, Any] = {
        "name": "Some data",
        "num_recordings": num,
        "num_subjects": subjects,
        "streams": (stream(num),),
        "labels": labels,
        "annotations_s": (each_s,) * num,
    }
    return DatasetFacts(**(content | changes))


def video(num: int, **changes: Any) -> DatasetFacts:
    return facts(num, 4.0, num_videos=num, streams=(), **changes)


def workouts(**changes: Any) -> DatasetFacts:
    channels = ("heart_rate", "speed", "temperature")
    one = stream(
        30, name="workout", rate_hz=1.0, min_rate_hz=0.2, max_rate_hz=1.0, channels=channels,
        durations_s=(3600.0,) * 30,
    )  # fmt: skip
    content = {"labels": (), "annotations_s": (), "streams": (one,), "subjects": 0}
    return facts(30, **(content | {"num_unknown": 30} | changes))


def proposed(found: DatasetFacts, machines: Machines = LAPTOP, **changes: Any) -> Recommendation:
    return recommend(found, machines, dataset="datasets/some", **changes)


def why(found: Recommendation, setting: str) -> str:
    (reason,) = [item for item in found.reasons if item.setting == setting]
    return reason.why


@pytest.mark.parametrize(
    ("found", "machines", "model"),
    [
        (facts(20), LAPTOP, "random_kernels"),
        (facts(400, subjects=5), LAPTOP, "random_kernels"),
        (facts(400), LAPTOP, "inception"),
        (facts(400), GPUS, "inception"),
        (facts(9000), LAPTOP, "inception"),
        (facts(9000), GPUS, "patch_transformer"),
        (video(200), LAPTOP, "r2plus1d"),
        (workouts(), LAPTOP, "recurrent"),
        (facts(400, num_videos=400, streams=(stream(400, num_with_video=400),)), GPUS, "fusion"),
        (facts(20, num_videos=20, streams=(stream(20, num_with_video=20),)), LAPTOP, "late_fusion"),
    ],
)
def test_size_modality_and_machines_choose_the_network(
    found: DatasetFacts, machines: Machines, model: str
) -> None:
    assert proposed(found, machines).recipe.model["name"] == model


def test_few_people_with_more_windows_than_memory_get_no_features_of_all_of_them() -> None:
    small = replace(LAPTOP, memory_gib=1.0)
    assert proposed(facts(4000, subjects=5), small).recipe.model["name"] == "inception"


def test_many_clips_and_a_gpu_get_wider_stages_and_larger_frames() -> None:
    few, many = proposed(video(200)).recipe, proposed(video(6000), GPUS).recipe
    assert few.clip is not None
    assert many.clip is not None
    assert max(few.model["stages"]) < max(many.model["stages"])
    assert (few.clip.height, many.clip.height) == (64, 112)
    crowded = proposed(video(6000), replace(GPUS, memory_gib=8)).recipe
    assert crowded.clip is not None
    assert crowded.clip.height == 64


def test_a_small_network_takes_part_of_one_gpu_and_a_large_one_all_of_them() -> None:
    small, large = proposed(facts(400), GPUS).recipe, proposed(facts(9000), GPUS).recipe
    assert (small.resources.num_workers, small.resources.gpus_per_worker) == (1, 0.25)
    assert (large.resources.num_workers, large.resources.gpus_per_worker) == (4, 1)
    assert proposed(facts(20), GPUS).recipe.resources.gpus_per_worker == 0


def test_a_solved_head_gets_one_worker_and_much_data_several() -> None:
    assert proposed(facts(20), GPUS).recipe.resources.num_workers == 1
    assert proposed(facts(9000)).recipe.resources.num_workers > 1


def test_short_movements_one_a_recording_are_windows_of_their_own() -> None:
    window = proposed(facts(100, 3.3)).recipe.window
    assert window is not None
    assert (window.span, window.fit) == ("annotation", "stretch")
    assert window.length_s == 3.5
    longer = proposed(facts(100, 60.0)).recipe.window
    assert longer is not None
    assert (longer.span, longer.length_s, longer.hop_s) == ("window", 4.0, 1.0)


def test_much_data_overlap_by_half_a_window() -> None:
    window = proposed(facts(900)).recipe.window
    assert window is not None
    assert window.hop_s == window.length_s / 2


def test_rates_that_differ_are_resampled_and_one_rate_is_left_alone() -> None:
    mixed = stream(60, min_rate_hz=25.0)
    assert proposed(facts(streams=(mixed,))).recipe.preprocessing.rate_hz == 50
    assert proposed(facts()).recipe.preprocessing.rate_hz is None


def test_of_streams_that_as_many_have_the_fastest_is_taken() -> None:
    slow = stream(60, name="workout", rate_hz=1.0, min_rate_hz=1.0, max_rate_hz=1.0)
    window = proposed(facts(streams=(slow, stream(60)))).recipe.window
    assert window is not None
    assert window.stream == "imu"


def test_slow_sensors_get_windows_of_a_minute_with_gaps_filled() -> None:
    slow = stream(60, rate_hz=1.0, min_rate_hz=1.0, max_rate_hz=1.0)
    found = proposed(facts(60, 600.0, streams=(slow,))).recipe
    assert found.window is not None
    assert found.window.length_s == 60
    assert found.preprocessing.max_gap_s == 30


def test_channels_that_recordings_lack_are_left_out() -> None:
    found = proposed(facts(streams=(stream(60, left_out=("mag_x",)),)))
    assert found.recipe.window is not None
    assert found.recipe.window.channels == IMU
    assert "mag_x" in why(found, "window.channels")


def test_heart_rate_without_labels_is_forecast_on_recordings_of_unknown_people() -> None:
    found = proposed(workouts())
    assert (found.recipe.task, found.recipe.horizon_s) == ("forecast", 60)
    assert found.recipe.window is not None
    assert found.recipe.window.channels == ("heart_rate", "speed")
    assert found.recipe.preprocessing.rate_hz == 0.2
    assert isinstance(found.recipe.split, SubjectSplit)
    assert found.recipe.split.by == "recording"
    assert any("nothing of new people" in caution for caution in found.cautions)


def test_a_regression_never_gets_its_target_as_input() -> None:
    found = proposed(workouts(), task="regress").recipe
    assert found.window is not None
    assert found.window.channels == ("speed",)


def test_few_people_are_evaluated_one_by_one_and_many_in_folds() -> None:
    assert proposed(facts(subjects=8)).protocol == "leave_one_out"
    assert proposed(facts(subjects=40)).protocol == "group_k_fold"


@settings(max_examples=60, deadline=None)
@given(num=st.integers(2, 500))
def test_the_split_leaves_most_people_for_training(num: int) -> None:
    split = proposed(facts(600, subjects=num)).recipe.split
    assert isinstance(split, SubjectSplit)
    held_out = split.num_test_subjects + split.num_validation_subjects
    assert 1 <= held_out <= num / 2


def test_rare_labels_get_more_weight_unless_the_head_is_solved() -> None:
    labels = (
        LabelFacts(name="run", num_annotations=5, duration_s=300.0, num_subjects=5),
        LabelFacts(name="walk", num_annotations=395, duration_s=23_700.0, num_subjects=20),
    )
    assert proposed(facts(400, labels=labels)).recipe.train.class_weights == "balanced"
    assert proposed(facts(400)).recipe.train.class_weights == "none"
    assert proposed(facts(20, labels=labels)).recipe.train.class_weights == "none"


def test_a_label_of_one_person_is_left_out() -> None:
    one = LabelFacts(name="juggle", num_annotations=3, duration_s=180.0, num_subjects=1)
    found = proposed(facts(labels=(*facts().labels, one)))
    assert found.recipe.labels == ("walk", "run")
    assert "juggle is of one person" in why(found, "labels")


def test_tpus_are_said_not_to_be_used() -> None:
    found = proposed(facts(), replace(LAPTOP, has_tpu=True))
    assert any("TPU" in caution and "not used" in caution for caution in found.cautions)
    assert not any("TPU" in caution for caution in proposed(facts()).cautions)


@pytest.mark.parametrize(
    ("found", "task", "error", "message"),
    [
        (facts(2), None, DatasetError, "2 recording"),
        (facts(labels=(), annotations_s=()), None, DatasetError, "annotate its recordings"),
        (workouts(), "classify", RecipeError, "take --task forecast"),
        (facts(), "forecast", RecipeError, "heart_rate alone"),
        (facts(streams=()), None, DatasetError, "neither sensors nor video"),
    ],
)
def test_what_cannot_be_learned_is_said(
    found: DatasetFacts, task: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        proposed(found, task=task)


CASES = [
    facts(20),
    facts(400),
    facts(9000),
    facts(100, 3.3),
    video(200),
    video(6000),
    workouts(),
    facts(100, 4.0, num_videos=100, streams=(stream(100, num_with_video=100),)),
    facts(400, num_videos=400, streams=(stream(400, num_with_video=400),)),
]


@pytest.mark.parametrize("machines", [LAPTOP, GPUS], ids=["laptop", "gpus"])
@pytest.mark.parametrize("found", CASES)
def test_what_is_proposed_validates_builds_and_gives_a_reason_for_each_part(
    found: DatasetFacts, machines: Machines
) -> None:
    result = proposed(found, machines)
    recipe = result.recipe
    again = parse_recipe(yaml.safe_load(result.to_yaml()), "what was written")
    assert again == recipe
    explained = {reason.setting.partition(".")[0] for reason in result.reasons}
    assert explained == set(result.content) - {"version", "name", "dataset"}
    assert all(f": {reason.why[:20]}" in result.to_yaml() for reason in result.reasons)
    build_model(parse_config(recipe.model), shapes(recipe, found), num_outputs=3)


def shapes(recipe: Recipe, found: DatasetFacts) -> InputShapes:
    sensors = clip = None
    if recipe.window is not None:
        one = next(item for item in found.streams if item.name == recipe.window.stream)
        rate_hz = recipe.preprocessing.rate_hz or one.rate_hz
        channels = recipe.window.channels or one.channels
        num_samples = round(recipe.window.length_s * rate_hz)
        check_augmentation(recipe.augmentation, channels, rate_hz=rate_hz, num_samples=num_samples)
        sensors = SensorShape(num_samples=num_samples, num_channels=len(channels), rate_hz=rate_hz)
    if recipe.clip is not None:
        clip = ClipShape(
            num_frames=recipe.clip.num_frames,
            height=recipe.clip.height,
            width=recipe.clip.width,
            num_channels=3,
        )
    return InputShapes(sensors=sensors, clip=clip)


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("data") / "sines")
    write_dataset(found, SineSource(num_subjects=4, duration_s=16))
    return found


@pytest.mark.parametrize("model", ["random_kernels", "inception"])
def test_what_is_proposed_trains_and_tests(uri: str, model: str) -> None:
    dataset = open_dataset(uri)
    found = look_at(dataset)
    if model == "inception":
        # As if there were many more of the same recordings and people.
        many = found.annotations_s * 60
        found = replace(found, num_subjects=12, annotations_s=many, num_recordings=len(many))
    result = recommend(found, Machines(num_cpus=1, memory_gib=8), dataset=uri)
    assert result.recipe.model["name"] == model
    content = dict(result.content) | {
        "train": {"epochs": 1, "batch_size": 32},
        "split": {"num_test_subjects": 1, "num_validation_subjects": 0},
    }
    recipe = parse_recipe(content, "proposed")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        inputs = model_inputs(recipe, dataset)
        examples = load_examples(recipe, dataset, inputs)
        (fold,) = plan_folds(recipe, inputs, "hold_out")
        predictions = run_fold(recipe, inputs, examples, fold, seed=0).predictions
    finally:
        torch.set_num_threads(threads)
    assert predictions.outputs_BK.shape == (len(predictions.subjects), 3)
    assert np.isfinite(predictions.outputs_BK).all()
    if model == "random_kernels":
        assert (predictions.outputs_BK.argmax(axis=1) == predictions.targets_B).mean() > 0.9


def test_the_facts_of_a_dataset_are_those_of_its_recordings(uri: str) -> None:
    found = look_at(open_dataset(uri))
    assert (found.num_recordings, found.num_subjects, found.num_unknown) == (12, 4, 0)
    (one,) = found.streams
    assert (one.name, one.rate_hz, one.channels) == ("imu", 20.0, ("acc_x", "acc_y", "acc_z"))
    assert one.has_one_rate
    assert one.durations_s == pytest.approx((16.0,) * 12, abs=0.1)
    jump = found.labels[0]
    assert (jump.name, jump.num_annotations, jump.num_subjects) == ("jump", 4, 4)
    assert jump.duration_s == pytest.approx(64.0)
    assert found.annotation_s == 16


def test_the_estimate_of_windows_is_what_is_cut(uri: str) -> None:
    dataset = open_dataset(uri)
    result = recommend(look_at(dataset), LAPTOP, dataset=uri)
    inputs = model_inputs(result.recipe, dataset)
    assert len(load_examples(result.recipe, dataset, inputs)) == result.num_examples


def test_nodes_of_ray_add_up_without_the_dead_ones() -> None:
    node = {"CPU": 8.0, "memory": 32 * 2.0**30, "object_store_memory": 1.0}
    nodes = [
        {"Alive": True, "Resources": node, "Labels": {}},
        {
            "Alive": True,
            "Resources": node | {"GPU": 2.0, "accelerator_type:A10G": 1.0},
            "Labels": {"ray.io/accelerator-type": "A10G"},
        },
        {"Alive": True, "Resources": node | {"TPU": 4.0, "accelerator_type:TPU-V5P": 1.0}},
        {"Alive": False, "Resources": node | {"GPU": 8.0}, "Labels": None},
    ]
    found = machines_of_nodes(nodes, "three nodes")
    assert (found.num_cpus, found.num_gpus, found.num_nodes) == (24, 2, 3)
    assert found.gpu_names == ("A10G",)
    assert found.has_tpu
    assert found.memory_gib == pytest.approx(96)
    assert found.cpus_per_node == 8
    assert not machines_of_nodes(nodes[:2], "two").has_tpu


def test_this_machine_has_a_cpu_and_memory() -> None:
    found = this_machine()
    assert found.num_cpus >= 1
    assert found.memory_gib > 0.1
    assert found.num_nodes == 1
