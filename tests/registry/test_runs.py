from __future__ import annotations

import math
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import NotFoundError, UserError
from motoric.registry.environment import Environment, GitState
from motoric.registry.registry import Registry
from motoric.registry.runs import (
    RunHistory,
    Runs,
    RunSummary,
    best_of,
    curves_png,
    differing,
    direction,
    run_tags,
    unlike,
)

ENVIRONMENT = Environment(
    platform="Linux",
    versions={"python": "3.11", "torch": "2.13"},
    packages=("a==1",),
    code=GitState(root="/code", commit="c0de", dirty=True),
    recipe=None,
)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    folder = tmp_path_factory.mktemp("registry")
    return Registry(f"sqlite:///{folder}/mlflow.db", str(folder / "storage"))


@pytest.fixture(scope="module")
def runs(registry: Registry) -> Runs:
    return Runs(registry)


def start(registry: Registry, name: str, experiment: str = "tests", **parameters: object) -> str:
    tags = run_tags(kind="train", dataset_digest="sha256:d", environment=ENVIRONMENT)
    return registry.start_run(experiment, name, {"model": {"name": "cnn"}, **parameters}, tags)


def summary(metrics: dict[str, float] | None = None, **parameters: str) -> RunSummary:
    return RunSummary(
        run_id="0",
        name="run",
        experiment="tests",
        status="finished",
        started_at_s=0.0,
        duration_s=1.0,
        parameters=parameters,
        metrics=metrics or {},
        steps={},
        tags={},
        files_uri="",
    )


def test_a_run_is_read_back_as_it_was_tracked(registry: Registry, runs: Runs) -> None:
    run_id = start(registry, "whole-1a2b3c4d", train={"epochs": 3})
    for epoch in range(3):
        registry.log_metrics(run_id, {"validation_loss": 1.0 / (epoch + 1)}, step=epoch)
    registry.log_metrics(run_id, {"test_accuracy": 0.75})
    registry.end_run(run_id)
    found = runs.get("whole-1a2b3c4d")
    assert (found.run_id, found.experiment, found.status) == (run_id, "tests", "finished")
    assert (found.kind, found.model, found.dataset_digest) == ("train", "cnn", "sha256:d")
    assert found.commit == "c0de (with changes)"
    assert found.tags["motoric.versions.torch"] == "2.13"
    assert found.parameters == {"model.name": "cnn", "train.epochs": "3"}
    assert found.metrics == {"test_accuracy": 0.75, "validation_loss": 1 / 3}
    assert found.num_epochs == 3
    assert found.error == ""
    assert found.started_at_s == pytest.approx(time.time(), abs=600)
    history = runs.history(found)
    assert history.points["validation_loss"] == ((0, 1.0), (1, 0.5), (2, 1 / 3))
    assert history.best("validation_loss") == (2, 1 / 3)


def test_a_failed_run_keeps_its_error(registry: Registry, runs: Runs) -> None:
    run_id = start(registry, "broken-00000001")
    registry.end_run(run_id, failed=True, error="the loss is not a number " * 1000)
    found = runs.get(run_id)
    assert found.status == "failed"
    assert found.error.startswith("the loss is not a number")


def test_a_run_that_goes_on_has_a_duration_so_far(registry: Registry, runs: Runs) -> None:
    found = runs.get(start(registry, "going-on-0001"))
    assert found.status == "running"
    assert 0 <= found.duration_s < 600
    assert found.num_epochs is None
    registry.end_run(found.run_id)


def test_a_run_is_found_by_the_beginning_of_its_name_or_id(registry: Registry, runs: Runs) -> None:
    ids = [start(registry, name) for name in ("part_one-aaaa", "partXone-bbbb")]
    assert runs.get("partX").run_id == ids[1]
    assert runs.get("part_").run_id == ids[0]  # to SQL, `_` alone stands for any character
    assert runs.get(ids[0]).run_id == ids[0]
    assert runs.get(ids[0][:20]).name == "part_one-aaaa"


def test_a_name_that_begins_others_is_found_by_itself(registry: Registry, runs: Runs) -> None:
    run_id = start(registry, "exact")
    start(registry, "exact-2")
    assert runs.get("exact").run_id == run_id


def test_several_fitting_runs_are_listed(registry: Registry, runs: Runs) -> None:
    start(registry, "many-1")
    start(registry, "many-2")
    with pytest.raises(UserError, match=r"'many' fits several runs; .*many-2, many-1"):
        runs.get("many")
    ids = [start(registry, "twins") for _ in range(2)]
    with pytest.raises(UserError, match=rf"give its id: .*{ids[0]}"):
        runs.get("twins")


@pytest.mark.parametrize("name", ["nowhere", "", "it's", "\"both' quotes", "%", "a; b"])
def test_an_unknown_run_is_not_found(name: str, registry: Registry, runs: Runs) -> None:
    start(registry, "somewhere")
    with pytest.raises(NotFoundError, match="no run"):
        runs.get(name)


def test_near_names_are_named(registry: Registry, runs: Runs) -> None:
    start(registry, "near-gru-1a2b3c4e")
    with pytest.raises(NotFoundError, match=r"near to it: near-gru-1a2b3c4e"):
        runs.get("gru-1a2b3c4e")
    with pytest.raises(NotFoundError, match=r"near to it: near-gru-1a2b3c4e"):
        runs.get("naer-gru-1a2b3c4e")


def test_a_name_with_a_quote_is_found(registry: Registry, runs: Runs) -> None:
    run_id = start(registry, "anna's run")
    assert runs.get("anna's run").run_id == run_id


def test_runs_are_listed_newest_first_up_to_the_limit(registry: Registry, runs: Runs) -> None:
    for number in range(3):
        start(registry, f"listed-{number}", experiment="listing")
    found = runs.list("listing")
    assert {run.name for run in found} == {"listed-0", "listed-1", "listed-2"}
    times = [run.started_at_s for run in found]
    assert times == sorted(times, reverse=True)
    assert len(runs.list("listing", limit=2)) == 2
    assert {run.experiment for run in runs.list()} >= {"listing", "tests"}
    with pytest.raises(NotFoundError, match=r"no experiment 'nope' \(there are: .*listing"):
        runs.list("nope")


def test_files_come_back_and_missing_ones_are_named(registry: Registry, runs: Runs) -> None:
    run_id = start(registry, "files-1")
    registry.log_text(run_id, "recipe.yaml", "a: é\n")
    registry.log_text(run_id, "plots/curve.txt", "x")
    found = runs.get(run_id)
    assert runs.files(found) == ("plots/curve.txt", "recipe.yaml")
    assert runs.download(found, "recipe.yaml").decode() == "a: é\n"
    assert runs.download(found, "plots/curve.txt") == b"x"
    for name in ("nope.json", "../secret", "plots"):
        with pytest.raises(NotFoundError, match=r"keeps no file .*plots/curve\.txt, recipe\.yaml"):
            runs.download(found, name)


def test_more_parameters_and_metrics_fit_than_one_call_takes(
    registry: Registry, runs: Runs
) -> None:
    run_id = start(registry, "large-1", **{f"p{number}": number for number in range(150)})
    registry.log_metrics(run_id, {f"m{number}": float(number) for number in range(1100)})
    registry.set_tags(run_id, {f"t{number}": "x" for number in range(120)})
    found = runs.get(run_id)
    assert len(found.parameters) == 151
    assert found.metrics["m1099"] == 1099.0
    assert {f"t{number}" for number in range(120)} <= set(found.tags)


def test_values_that_are_not_finite_survive_and_are_never_best(
    registry: Registry, runs: Runs
) -> None:
    run_id = start(registry, "nan-1")
    for step, value in enumerate((math.inf, 0.5, math.nan, -math.inf)):
        registry.log_metrics(run_id, {"validation_loss": value}, step=step)
    history = runs.history(runs.get(run_id), ["validation_loss", "absent"])
    values = [value for _, value in history.points["validation_loss"]]
    assert values[:2] == [math.inf, 0.5]
    assert math.isnan(values[2])
    assert values[3] == -math.inf
    assert history.best("validation_loss") == (1, 0.5)
    assert "absent" not in history.points
    assert RunHistory(points={}).best("validation_loss") is None


def test_an_epoch_that_a_resumed_run_repeats_counts_once(registry: Registry, runs: Runs) -> None:
    from mlflow.entities import Metric

    run_id = start(registry, "resumed-1")
    again = [Metric("validation_loss", 0.9, 1000, 0), Metric("validation_loss", 0.7, 2000, 0)]
    registry.client.log_batch(run_id, metrics=again)
    assert runs.history(runs.get(run_id)).points["validation_loss"] == ((0, 0.7),)


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("validation_loss", "lower"),
        ("test_mae", "lower"),
        ("test_calibration_error", "lower"),
        ("test_accuracy_worst_subject", "higher"),
        ("test_macro_f1", "higher"),
        ("fold0/validation_loss", "lower"),
        ("learning_rate", None),
        ("test_persistence_mae", None),
        ("system/gpu_memory_mb", None),
    ],
)
def test_whether_more_is_better_follows_from_the_name(metric: str, expected: str | None) -> None:
    assert direction(metric) == expected


@settings(max_examples=50, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(allow_nan=True)), max_size=6))
def test_nothing_known_beats_what_is_marked_as_best(values: list[float | None]) -> None:
    known = [value for value in values if value is not None and not math.isnan(value)]
    marked = {index: values[index] for index in best_of("test_accuracy", values)}
    assert all(value == max(known) for value in marked.values())
    assert bool(marked) == (len(set(known)) > 1)
    assert best_of("learning_rate", values) == frozenset()


def test_only_differing_parameters_are_named() -> None:
    runs = [summary(a="1", b="2"), summary(a="1", b="3", c="4")]
    assert differing(runs) == {"b": ("2", "3"), "c": (None, "4")}
    assert differing([runs[0], runs[0]]) == {}


def test_runs_tested_on_different_people_or_data_are_called_unlike() -> None:
    same = summary(**{"split.seed": "0", "train.epochs": "3", "dataset_digest": "a"})
    longer = summary(**{"split.seed": "0", "train.epochs": "9", "dataset_digest": "a"})
    others = summary(**{"split.seed": "1", "train.epochs": "3", "dataset_digest": "b"})
    assert unlike([same, longer]) == ()
    found = " ".join(unlike([same, others]))
    assert "different data" in found
    assert "differently drawn people" in found


def test_curves_are_drawn_with_runs_that_have_none_or_bad_values() -> None:
    histories = [
        RunHistory(points={"validation_loss": ((0, 1.0), (1, math.nan), (2, 0.5))}),
        RunHistory(points={}),
        RunHistory(points={"validation_loss": ((0, 1.0),)}),
    ]
    png = curves_png([summary()] * 3, histories, "validation_loss")
    assert png.startswith(b"\x89PNG")
