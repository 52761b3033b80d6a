from __future__ import annotations

from motoric.training.room import find_problem


def test_what_fits_is_no_problem() -> None:
    assert find_problem({"CPU": 1}, 4, [{"CPU": 2}, {"CPU": 2.0}]) is None
    assert find_problem({"CPU": 1, "GPU": 0.1}, 10, [{"CPU": 16, "GPU": 1}]) is None
    assert find_problem({"CPU": 1, "GPU": 0}, 1, [{"CPU": 1}]) is None


def test_too_little_in_all_says_how_much() -> None:
    said = find_problem({"CPU": 2, "GPU": 1}, 3, [{"CPU": 64, "GPU": 1}, {"CPU": 64, "GPU": 1}])
    assert said == "3 worker(s) need 3 GPU, the cluster has 2"


def test_enough_in_all_but_no_node_large_enough() -> None:
    said = find_problem({"CPU": 3}, 2, [{"CPU": 4}, {"CPU": 2}, {"CPU": 2}])
    assert said == "a worker needs 3 CPU on one node, and the nodes hold 1 of 2 worker(s)"


def test_a_stream_needs_a_cpu_beside_the_workers() -> None:
    assert find_problem({"CPU": 1}, 2, [{"CPU": 3}], reads_beside=True) is None
    assert (
        find_problem({"CPU": 0.5, "GPU": 0.5}, 2, [{"CPU": 2, "GPU": 1}], reads_beside=True) is None
    )
    said = find_problem({"CPU": 1}, 2, [{"CPU": 1}, {"CPU": 1}], reads_beside=True)
    assert said is not None
    assert "needs 1 CPU beside the workers: they take 2 of 2" in said
