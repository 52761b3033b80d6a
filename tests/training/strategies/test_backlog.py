from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from motoric.training.strategies.backlog import Backlog


@given(
    num_batches=st.integers(0, 40),
    max_staleness=st.integers(0, 8),
    num_workers=st.integers(1, 5),
    data=st.data(),
)
def test_every_batch_is_worked_and_none_begins_too_far_ahead(
    num_batches: int, max_staleness: int, num_workers: int, data: st.DataObject
) -> None:
    backlog: Backlog[int] = Backlog(num_batches, max_staleness)
    held: dict[int, int] = {}
    done: list[int] = []
    for _ in range(10 * num_batches + 10):
        for worker in data.draw(st.permutations(range(num_workers))):
            batch = None if worker in held else backlog.take(worker)
            if batch is not None:
                held[worker] = batch
                oldest = min(set(range(num_batches)) - set(done))
                assert batch - oldest <= max_staleness
        if not held:
            break
        worker = data.draw(st.sampled_from(sorted(held)))
        if len(done) < 5 * num_batches and data.draw(st.integers(0, 4)) == 0:
            backlog.lost(worker)
            del held[worker]
        else:
            assert backlog.done(worker) == held[worker]
            done.append(held.pop(worker))
    if backlog.is_done:
        assert sorted(done) == list(range(num_batches))
    else:  # workers died too often for so few turns
        assert held or len(done) < num_batches


def test_without_staleness_batches_are_worked_one_after_the_other() -> None:
    backlog: Backlog[str] = Backlog(3, 0)
    assert backlog.take("a") == 0
    assert backlog.take("b") is None
    backlog.done("a")
    assert backlog.take("b") == 1


def test_a_fast_worker_waits_for_the_slowest() -> None:
    backlog: Backlog[str] = Backlog(100, 4)
    assert backlog.take("slow") == 0
    begun = []
    while (batch := backlog.take("fast")) is not None:
        begun.append(batch)
        backlog.done("fast")
    assert begun == [1, 2, 3, 4]
    backlog.done("slow")
    assert backlog.take("fast") == 5


def test_what_a_dead_worker_held_goes_to_the_next_that_asks() -> None:
    backlog: Backlog[str] = Backlog(3, 1)
    backlog.take("first")
    backlog.take("second")
    backlog.lost("first")
    backlog.lost("first")  # again, of a worker that holds nothing
    backlog.done("second")
    assert backlog.take("second") == 0
    assert not backlog.is_done
