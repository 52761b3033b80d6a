from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from filmed import CLIP, FUSED_MODEL
from motoric.core.errors import NotFoundError, RecipeError
from motoric.training.recipe import load_recipe, parse_recipe
from motoric.training.split_config import (
    GroupKFoldSplit,
    LeakingSplit,
    LeaveOneOutSplit,
    SplitConfig,
    SubjectSplit,
)
from recordings import recipe_content

RECIPES = sorted((Path(__file__).parents[2] / "jobs" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_of_the_repository_are_valid(path: Path) -> None:
    recipe = load_recipe(path)
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, "unknown key epochs"),
        ({"train": {"epoch": 3}}, "unknown key train.epoch"),
        ({"train": {"epochs": 0}}, r"train\.epochs.*greater than or equal to 1.*got 0"),
        ({"model": {"name": "gru"}}, "model.name is 'gru'; there are: frame_recurrent, fusion"),
        ({"model": {"name": "recurrent", "hidden": 3}}, "unknown key hidden"),
        ({"model": {"hidden_size": 3}}, "model.name is None"),
        ({"model": FUSED_MODEL}, "'fusion' takes clip: the recipe needs `clip:`"),
        ({"model": {"name": "r2plus1d"}}, "'r2plus1d' takes clip: the recipe needs `clip:`"),
        (
            {"model": {"name": "r2plus1d"}, "window": None},
            "'r2plus1d' takes clip: the recipe needs `clip:`",
        ),
        ({"clip": {"num_frames": 8}}, "'recurrent' takes no clip: leave `clip:` out"),
        (
            {"clip": {"length_s": 2}, "model": FUSED_MODEL},
            r"clip\.length_s: with `window`, clips span the windows",
        ),
        ({"clip": {"frames": 8}, "model": FUSED_MODEL}, r"unknown key clip\.frames"),
        (
            {"clip": {}, "model": {**FUSED_MODEL, "sensors": {"name": "random_kernels"}}},
            "not trained step by step and cannot be a branch",
        ),
        ({"task": "regress"}, "task regress does not fit target 'label'"),
        ({"target": {"channel": "acc_x"}}, "task classify does not fit target"),
        (
            {"task": "forecast", "target": {"channel": "acc_x"}},
            "needs target: {channel: NAME} and horizon_s",
        ),
        (
            {"task": "forecast", "target": {"metadata": "age"}, "horizon_s": 1},
            "needs target: {channel: NAME}",
        ),
        ({"horizon_s": 1}, "horizon_s is for forecasts, the task is classify"),
        (
            {
                "task": "forecast",
                "target": {"channel": "acc_x"},
                "horizon_s": 1,
                "quantiles": [0.1, 0.9],
            },
            "hold 0.5, the median",
        ),
        (
            {
                "task": "forecast",
                "target": {"channel": "acc_x"},
                "horizon_s": 1,
                "quantiles": [0.0, 0.5],
            },
            "between 0 and 1",
        ),
        (
            {
                "task": "regress",
                "target": {"channel": "acc_x"},
                "window": {"span": "annotation"},
            },
            "needs `window:` with span: window",
        ),
        (
            {"split": {"num_validation_subjects": 0}},
            r"num_validation_subjects is 0.*set stopping\.keep to last",
        ),
        (
            {
                "split": {"num_validation_subjects": 0},
                "stopping": {"keep": "last", "patience": 3},
            },
            r"leave stopping\.patience out",
        ),
        (
            {
                "window": {"span": "annotation", "fit": "stretch"},
                "preprocessing": {"steps": [{"step": "low_pass", "cutoff_hz": 5.0}]},
            },
            r"preprocessing\.steps: after window\.fit: stretch",
        ),
        (
            {
                "task": "regress",
                "target": {"channel": "acc_x"},
                "augmentation": {"mirror": 0.5},
            },
            r"augmentation\.mirror would turn acc_x",
        ),
        (
            {"clip": CLIP, "model": FUSED_MODEL, "augmentation": {"mirror": 0.5}},
            "not mirrored beside its clip",
        ),
        ({"window": {"fit": "stretch"}}, r"window: .*fit: stretch is for span: annotation"),
        ({"window": {"span": "annotation", "fit": "squeeze"}}, r"window\.fit.*got 'squeeze'"),
        ({"model": {}}, "model"),
        ({"version": 2}, "version"),
        ({"task": "guess"}, "task"),
        ({"strategy": "magic"}, "strategy"),
        ({"registry": {"model": "Not A Name"}}, "not a model name"),
        ({"name": "../x"}, "name"),
        ({"split": {"num_test": 3}}, "unknown key split.*num_test"),
        ({"split": {"kind": "by_person"}}, "kind is 'by_person'; there are: by_subject, group_k"),
        ({"split": {"kind": "group_k_fold", "fold": 5}}, "fold is 5.* count from 0 to 4"),
        ({"split": {"kind": "leave_one_out"}}, r"split.*test_subject: field required"),
        ({"split": {"kind": "leave_one_out", "fold": 1}}, "unknown key split.*fold"),
        (
            {
                "split": {
                    "kind": "random_windows_leaking_subjects",
                    "test_share": 0.6,
                    "validation_share": 0.4,
                }
            },
            "leave nothing for training",
        ),
    ],
)
def test_a_wrong_key_or_value_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(recipe_content("d", **change), "r.yaml")


@pytest.mark.parametrize("kind", ["random", "random_split", "random_windows"])
def test_a_random_split_is_refused_and_the_leak_is_named(kind: str) -> None:
    with pytest.raises(RecipeError, match=r"one person.*random_windows_leaking_subjects"):
        parse_recipe(recipe_content("d", split={"kind": kind}), "r.yaml")


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ({}, SubjectSplit()),
        ({"num_test_subjects": 2}, SubjectSplit(num_test_subjects=2)),
        ({"kind": "group_k_fold", "fold": 4}, GroupKFoldSplit(fold=4)),
        ({"kind": "leave_one_out", "test_subject": "p1"}, LeaveOneOutSplit(test_subject="p1")),
        ({"kind": "random_windows_leaking_subjects"}, LeakingSplit()),
    ],
)
def test_every_kind_of_split_survives_yaml(split: dict[str, object], expected: SplitConfig) -> None:
    recipe = parse_recipe(recipe_content("d", split=split), "r.yaml")
    assert recipe.split == expected
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe


def test_overrides_reach_nested_keys(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_content("d")))
    recipe = load_recipe(path, ["train.epochs=7", "augmentation.jitter_std=0.5", "name=other"])
    assert (recipe.train.epochs, recipe.augmentation.jitter_std) == (7, 0.5)
    assert recipe.name == "other"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs", "key.path=value"),
        ("train.epoch=3", "unknown key train.epoch"),
        ("name.first=x", "has no keys"),
        ("train.epochs=[", "not valid YAML"),
    ],
)
def test_wrong_overrides_are_named(tmp_path: Path, override: str, message: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(recipe_content("d")))
    with pytest.raises(RecipeError, match=message):
        load_recipe(path, [override])


def test_files_that_are_no_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no recipe at"):
        load_recipe(tmp_path / "nope.yaml")
    (tmp_path / "x.yaml").write_text("a: [")
    with pytest.raises(RecipeError, match="not valid YAML"):
        load_recipe(tmp_path / "x.yaml")
    (tmp_path / "y.yaml").write_text("- a\n- b\n")
    with pytest.raises(RecipeError, match="a recipe is a YAML mapping, this is list"):
        load_recipe(tmp_path / "y.yaml")
    with pytest.raises(RecipeError, match="mapping"):
        load_recipe(tmp_path / "y.yaml", ["a=1"])


def test_a_recipe_without_any_input_takes_windows() -> None:
    content = recipe_content("d")
    del content["window"]
    recipe = parse_recipe(content, "r.yaml")
    assert recipe.window is not None
    assert recipe.window.stream == "imu"
    assert recipe.clip is None


def test_stretching_of_movements_survives_yaml_and_is_off_by_default() -> None:
    content = recipe_content("d", window={"span": "annotation", "fit": "stretch"})
    recipe = parse_recipe(content, "r.yaml")
    assert recipe.window is not None
    assert recipe.window.fit == "stretch"
    assert parse_recipe(yaml.safe_load(recipe.to_yaml()), "again") == recipe
    padded = parse_recipe(recipe_content("d", window={"span": "annotation"}), "r.yaml").window
    assert padded is not None
    assert padded.fit == "pad"


def test_whom_a_recipe_is_tested_on_is_said_in_words() -> None:
    def tested_on(**split: object) -> str:
        return parse_recipe(recipe_content("d", split=split), "r.yaml").tested_on

    assert tested_on() == "people never seen in training"
    assert tested_on(by="recording") == "recordings never seen in training"
    assert "leaks" in tested_on(kind="random_windows_leaking_subjects")
