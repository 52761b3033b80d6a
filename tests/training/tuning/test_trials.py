"""What follows from how trials stand: the best, the order, the time left, ASHA's decisions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from motoric.core.errors import NotFoundError, RecipeError
from motoric.training.progress import EpochReport
from motoric.training.recipe import parse_recipe
from motoric.training.search_config import SearchConfig
from motoric.training.tuning.page import CURVES_FILE, VALUES_FILE, render_search
from motoric.training.tuning.proposals import NUMBER, VALUES, Proposals
from motoric.training.tuning.scheduler import EPOCH, VALUE, SearchScheduler
from motoric.training.tuning.search import capacity, check_fits
from motoric.training.tuning.space import random_values
from motoric.training.tuning.store import SearchDocument, SearchStore, check_same
from motoric.training.tuning.trials import (
    Metric,
    Status,
    Trial,
    expected_epochs,
    progress,
    rungs,
)
from recordings import recipe_content

LOSS = Metric(kind="validation_loss", mode="min")
SCORE = Metric(kind="validation_score", mode="max")
SPACE = {
    "optimiser.learning_rate": {"loguniform": [1e-4, 1e-2]},
    "model.hidden_size": {"choice": [8, 16]},
}


def report(epoch: int, loss: float, score: float = 0.5) -> EpochReport:
    return EpochReport(
        epoch=epoch,
        train_loss=1.0,
        validation_loss=loss,
        validation_score=score,
        score_name="accuracy",
        learning_rate=1e-3,
        windows_per_s=10.0,
        is_best=False,
    )


def trial(number: int, losses: list[float], status: Status = "done", **changes: Any) -> Trial:
    values = {"optimiser.learning_rate": 0.001 * (number + 1), "model.hidden_size": 8}
    epochs = tuple(report(epoch, loss) for epoch, loss in enumerate(losses))
    content = {"values": values, **changes}
    return Trial(number=number, status=status, epochs=epochs, **content)


def search(**changes: Any) -> SearchConfig:
    return SearchConfig.model_validate({"space": SPACE, **changes})


def by_number(*trials: Trial) -> dict[int, Trial]:
    return {item.number: item for item in trials}


def test_the_best_trial_is_that_of_the_best_epoch() -> None:
    trials = by_number(
        trial(0, [0.9, 0.5, 0.7]), trial(1, [0.6], "stopped"), trial(2, [], "failed")
    )
    assert [item.number for item in LOSS.ordered(trials)] == [0, 1]
    best = LOSS.best_epoch(trials[0])
    assert best is not None
    assert best.epoch == 1
    assert SCORE.rank(0.9) < SCORE.rank(0.8)
    assert (LOSS.text(0.5), SCORE.text(0.5)) == ("0.5", "50.0%")


def test_progress_counts_trials_and_estimates_the_time_left_from_those_that_ended() -> None:
    trials = by_number(
        trial(0, [1.0] * 6), trial(1, [1.0, 1.0], "stopped"), trial(2, [1.0], "running")
    )
    found = progress(
        trials, num_trials=5, max_epochs=6, metric=LOSS, num_epochs_before=6, elapsed_s=30.0
    )
    assert (found.num_done, found.num_stopped, found.num_running, found.num_over) == (1, 1, 1, 2)
    assert found.num_epochs == 9
    # 3 epochs in 30 s; the running trial lacks 3 of the 4 that trials take, two others all of them.
    assert found.left_s == pytest.approx(10.0 * (3 + 2 * 4))


def test_expected_epochs_follow_the_rungs() -> None:
    assert rungs(search(), 9) == [1.0, 3.0]
    assert expected_epochs(search(), 9) == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert expected_epochs(search(grace_epochs=9), 9) == 9


def test_asha_lets_new_trials_compete_with_those_of_an_earlier_start() -> None:
    class New:
        trial_id = "new"

    def decision(losses: list[float], loss: float) -> str:
        scheduler = SearchScheduler(search(), LOSS, 9)
        earlier = [trial(number, [item], "stopped") for number, item in enumerate(losses)]
        scheduler.replay(earlier, LOSS)
        scheduler.on_trial_add(None, New())  # type: ignore[arg-type]
        found = scheduler.on_trial_result(None, New(), {EPOCH: 1, VALUE: loss})
        assert scheduler.stopped == ({"new"} if found == "STOP" else set())
        return found

    assert decision([], 0.9) == "CONTINUE"
    assert decision([0.1, 0.2, 0.3], 0.9) == "STOP"
    assert decision([0.1, 0.2, 0.3], 0.05) == "CONTINUE"


def drawn(proposals: Proposals) -> list[dict[str, Any]]:
    found = (proposals.suggest(str(index)) for index in range(proposals.num_waiting))
    return [item for item in found if isinstance(item, dict)]


def test_unfinished_trials_come_first_and_finished_ones_never_again() -> None:
    trials = by_number(
        trial(0, [1.0]), trial(1, [1.0], "running", values={"kept": 1}), trial(3, [], "failed")
    )
    found = drawn(Proposals(search(num_trials=6), LOSS, trials))
    assert [item[NUMBER] for item in found] == [1, 2, 4, 5]
    assert found[0][VALUES] == {"kept": 1}
    assert found[1][VALUES] == random_values(search(), 2)


def test_optuna_learns_from_trials_and_draws_others_when_a_search_goes_on() -> None:
    pytest.importorskip("optuna", reason="optuna is missing: it comes with the extra train")
    config = search(algorithm="optuna", num_trials=40)

    def run(proposals: Proposals, num: int) -> list[Trial]:
        """Draw values and tell how far each rate is from 0.002, in orders of magnitude."""
        found = []
        for index in range(num):
            proposed = proposals.suggest(str(index))
            assert proposed is not None
            values = proposed[VALUES]
            assert 1e-4 <= values["optimiser.learning_rate"] <= 1e-2
            assert values["model.hidden_size"] in (8, 16)
            loss = abs(math.log10(values["optimiser.learning_rate"] / 0.002))
            proposals.on_trial_complete(str(index), {VALUE: loss})
            found.append(trial(proposed[NUMBER], [loss], values=values))
        return found

    first = run(Proposals(config, LOSS, {}), 20)
    resumed = run(Proposals(config, LOSS, by_number(*first)), 20)
    assert [item.number for item in (*first, *resumed)] == list(range(40))
    losses = [LOSS.best_value(item) for item in (*first, *resumed)]
    # Of the first ten nothing was known.
    assert sum(losses[20:]) / 20 < sum(losses[:10]) / 10
    seen = [item.values["optimiser.learning_rate"] for item in (*first, *resumed)]
    assert len(set(seen)) > 30


def test_a_search_is_read_back_and_a_changed_recipe_is_refused(tmp_path: Path) -> None:
    def recipe(**changes: Any) -> Any:
        return parse_recipe(recipe_content("x", **{"search": {"space": SPACE}, **changes}), "r")

    store = SearchStore(str(tmp_path), "night")
    with pytest.raises(NotFoundError, match=r"no search 'night'.*none yet"):
        store.read()
    document = SearchDocument(
        name="night",
        recipe=recipe().model_dump(mode="json"),
        dataset_uri="/x",
        dataset_digest="d",
        tracking_run_id="t",
    )
    store.write(document)
    store.write_trial(trial(7, [0.5, 0.25], "stopped", tracking_run_id="r"))
    (tmp_path / "searches" / "night" / "trials" / "00008.json").write_text('{"number": 8,')
    assert store.read() == document
    assert store.read_trials() == {7: trial(7, [0.5, 0.25], "stopped", tracking_run_id="r")}
    with pytest.raises(NotFoundError, match="there are: night"):
        SearchStore(str(tmp_path), "nigth").read()
    check_same(document, recipe(search={"space": SPACE, "num_trials": 50}), "d")
    with pytest.raises(RecipeError, match=r"another recipe: search\.seed, train differ"):
        check_same(document, recipe(search={"space": SPACE, "seed": 1}, train={"epochs": 9}), "d")
    with pytest.raises(RecipeError, match="dataset at /x has changed"):
        check_same(document, recipe(), "other")


def test_a_trial_that_fits_no_node_is_refused_with_what_there_is() -> None:
    nodes = [
        {"Alive": True, "Resources": {"CPU": 4.0, "memory": 1e9}},
        {"Alive": True, "Resources": {"CPU": 2.0, "memory": 1e9}},
        {"Alive": False, "Resources": {"CPU": 64.0}},
    ]

    def recipe(**resources: Any) -> Any:
        return parse_recipe(recipe_content("x", resources=resources), "r")

    assert capacity(recipe(), nodes) == 6
    assert capacity(recipe(num_workers=2, cpus_per_worker=2), nodes) == 1
    check_fits(recipe(num_workers=3, cpus_per_worker=2), nodes)
    with pytest.raises(RecipeError, match=r"each with 5 CPU; .* room for 0 .*one node: 4 CPU"):
        check_fits(recipe(cpus_per_worker=5), nodes)
    with pytest.raises(RecipeError, match=r"1 GPU.*0 GPU"):
        check_fits(recipe(gpus_per_worker=1), nodes)


def test_the_report_shows_every_trial_and_the_name_of_a_key_as_it_is() -> None:
    recipe = parse_recipe(recipe_content("x", search={"space": SPACE}), "r")
    trials = by_number(
        trial(0, [0.9, 0.5]),
        trial(1, [0.8], "stopped"),
        trial(2, [1e30], "stopped"),
        trial(3, [], "failed", error="the loss is <nan>"),
    )
    html, plots = render_search(
        name="night",
        recipe=recipe,
        trials=trials,
        metric=LOSS,
        rungs=[1.0],
        facts={"best": "trial 0"},
        best_yaml="name: a\n",
    )
    assert set(plots) == {CURVES_FILE, VALUES_FILE}
    assert all(content.startswith(b"\x89PNG") for content in plots.values())
    assert "failed: the loss is &lt;nan&gt;" in html
    assert html.index("<td>0</td><td>0.5</td>") < html.index("<td>1</td><td>0.8</td>")
