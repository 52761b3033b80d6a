"""Whether a cluster can ever hold the workers that a recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import ray

from motoric.core.errors import RecipeError
from motoric.training.recipe import Recipe

_ROUNDING = 1e-9


def check_cluster(recipe: Recipe, num_workers: int, *, can_grow: bool = False) -> None:
    """Refuse a recipe that the cluster can never carry, instead of waiting for ever.

    Args:
        recipe: What one worker needs.
        num_workers: The fewest there must be.
        can_grow: Whether an autoscaler may add nodes; then its limits count, where it tells them.

    Raises:
        RecipeError: There are too few resources in all, or no nodes large enough.
    """
    nodes = _nodes()
    largest = _limits() if can_grow else None
    reads_beside = recipe.train.data == "stream"
    of_worker = recipe.resources.of_worker
    problem = find_problem(of_worker, num_workers, nodes, reads_beside=reads_beside)
    if problem is None:
        return
    if can_grow:
        if largest is None:
            return
        problem = find_problem(of_worker, num_workers, [largest], reads_beside=reads_beside)
        if problem is None:
            return
        problem += " when it is at its largest"
    raise RecipeError(f"resources: {problem}: lower resources.num_workers, or grow the cluster")


def find_problem(
    of_worker: Mapping[str, float],
    num_workers: int,
    nodes: Sequence[Mapping[str, float]],
    *,
    reads_beside: bool = False,
) -> str | None:
    """Why nodes cannot hold so many workers, in words; None: they can.

    Args:
        of_worker: What one worker needs, by Ray's names of resources.
        num_workers: At once.
        nodes: What each node has in all.
        reads_beside: Whether tasks of Ray Data need a CPU beside the workers.
    """
    needed = {name: amount for name, amount in of_worker.items() if amount > 0}
    for name, amount in needed.items():
        there = sum(node.get(name, 0.0) for node in nodes)
        if amount * num_workers > there + _ROUNDING:
            return (
                f"{num_workers} worker(s) need {amount * num_workers:g} {name}, the cluster has"
                f" {there:g}"
            )
    room = sum(
        min(math.floor(node.get(name, 0.0) / amount + _ROUNDING) for name, amount in needed.items())
        for node in nodes
    )
    if room >= num_workers:
        return _lacks_reader(needed.get("CPU", 0.0) * num_workers, nodes) if reads_beside else None
    each = ", ".join(f"{amount:g} {name}" for name, amount in needed.items())
    return (
        f"a worker needs {each} on one node, and the nodes hold {room} of {num_workers} worker(s)"
    )


def _lacks_reader(taken: float, nodes: Sequence[Mapping[str, float]]) -> str | None:
    there = sum(node.get("CPU", 0.0) for node in nodes)
    if there - taken >= 1 - _ROUNDING:
        return None
    return (
        f"train.data is stream, whose reading needs 1 CPU beside the workers: they take {taken:g}"
        f" of {there:g}"
    )


def _nodes() -> list[dict[str, float]]:
    found: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node["Resources"] for node in found if node["Alive"]]


def _limits() -> dict[str, float] | None:
    """What the cluster may grow to, as its autoscaler says; None where it does not."""
    from ray._private.state import state  # there is no public way to ask

    found = state.get_max_resources_from_cluster_config()
    return None if found is None else {name: float(amount) for name, amount in found.items()}
