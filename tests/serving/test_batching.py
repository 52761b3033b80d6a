from __future__ import annotations

import asyncio
import gc
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from motoric.core.errors import DeadlineError
from motoric.serving.batching import Batcher, plan_batch

sizes_of = st.lists(st.integers(min_value=1, max_value=40), max_size=30)
max_of = st.integers(min_value=1, max_value=16)


@given(sizes_of, max_of)
def test_a_batch_is_a_prefix_of_whole_requests_within_the_maximum(sizes, max_windows):
    pieces = plan_batch(sizes, max_windows)
    assert [piece.request for piece in pieces] == list(range(len(pieces)))
    assert sum(piece.stop - piece.start for piece in pieces) <= max_windows
    assert bool(pieces) == bool(sizes)
    for piece in pieces:
        is_cut = (piece.start, piece.stop) != (0, sizes[piece.request])
        assert not is_cut or (len(pieces) == 1 and sizes[piece.request] > max_windows)


@given(sizes_of, max_of)
def test_a_batch_leaves_no_request_out_that_would_fit(sizes, max_windows):
    pieces = plan_batch(sizes, max_windows)
    if 0 < len(pieces) < len(sizes):
        taken = sum(piece.stop - piece.start for piece in pieces)
        assert taken + sizes[len(pieces)] > max_windows


class Recorder:
    """A model that gives each window back as its row, and keeps the sizes of its batches."""

    def __init__(self, fail_at: int | None = None) -> None:
        self.sizes: list[int] = []
        self.threads: set[int] = set()
        self.fail_at = fail_at

    def __call__(self, rows):
        (windows_BTC,) = rows
        self.sizes.append(len(windows_BTC))
        self.threads.add(threading.get_ident())
        if self.fail_at is not None and (windows_BTC == self.fail_at).any():
            raise RuntimeError("this batch fails")
        return windows_BTC.reshape(len(windows_BTC), -1)


def windows_from(start: int, size: int):
    return np.arange(start, start + size, dtype=np.float32).reshape(size, 1, 1)


async def submit_all(batcher, sizes, moments=None):
    tasks, start = [], 0

    async def one(start, size, moment):
        for _ in range(moment):
            await asyncio.sleep(0)
        return await batcher.submit((windows_from(start, size),))

    for index, size in enumerate(sizes):
        tasks.append(asyncio.create_task(one(start, size, moments[index] if moments else 0)))
        start += size
    return await asyncio.gather(*tasks)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(min_value=1, max_value=40), st.integers(min_value=0, max_value=4)),
        min_size=1,
        max_size=30,
    ),
    max_of,
    st.sampled_from([0.0, 1.0]),
    st.booleans(),
)
def test_every_request_gets_its_own_rows_in_order(requests, max_windows, max_wait_ms, inline):
    model = Recorder()

    async def scenario():
        batcher = Batcher(model, max_windows=max_windows, max_wait_ms=max_wait_ms, inline=inline)
        return await submit_all(batcher, *zip(*requests, strict=True))

    answers = asyncio.run(scenario())
    start = 0
    for (size, _), answer in zip(requests, answers, strict=True):
        assert answer.ravel().tolist() == list(range(start, start + size))
        start += size
    assert max(model.sizes) <= max_windows
    assert sum(model.sizes) == start


def test_requests_of_one_moment_are_one_batch():
    model = Recorder()

    async def scenario():
        await submit_all(Batcher(model, max_windows=32), [1] * 20)

    asyncio.run(scenario())
    assert model.sizes == [20]
    assert model.threads == {threading.get_ident()}


def test_requests_that_arrive_while_a_batch_runs_are_the_next_batch():
    started, go_on = threading.Event(), threading.Event()
    sizes = []

    def model(rows):
        (windows_BTC,) = rows
        sizes.append(len(windows_BTC))
        started.set()
        assert go_on.wait(10)
        return windows_BTC.reshape(len(windows_BTC), -1)

    async def scenario():
        batcher = Batcher(model, max_windows=32, inline=False)
        first = batcher.submit((windows_from(0, 1),))
        await asyncio.to_thread(started.wait, 10)  # the loop is free while the batch runs
        others = [batcher.submit((windows_from(i, 1),)) for i in range(1, 6)]
        go_on.set()
        await asyncio.gather(first, *others)

    asyncio.run(scenario())
    assert sizes == [1, 5]


def test_a_request_waits_for_company_only_as_long_as_it_was_told():
    model = Recorder()

    async def scenario():
        batcher = Batcher(model, max_windows=4, max_wait_ms=20_000)
        waiting = batcher.submit((windows_from(0, 1),))
        await asyncio.sleep(0)
        assert not waiting.done()
        full = batcher.submit((windows_from(1, 3),))  # the batch is full: nobody waits longer
        await asyncio.wait_for(asyncio.gather(waiting, full), 5)

    asyncio.run(scenario())
    assert model.sizes == [4]


@pytest.mark.parametrize("inline", [True, False])
def test_a_batch_that_fails_fails_its_requests_and_no_others(inline):
    model = Recorder(fail_at=0)

    async def scenario():
        batcher = Batcher(model, max_windows=2, inline=inline)
        answers = [batcher.submit((windows_from(i, 1),)) for i in range(4)]
        return await asyncio.gather(*answers, return_exceptions=True)

    first, second, third, fourth = asyncio.run(scenario())
    assert isinstance(first, RuntimeError)
    assert isinstance(second, RuntimeError)
    assert (third.item(), fourth.item()) == (2, 3)


def test_a_request_whose_client_left_is_not_run():
    model = Recorder()

    async def scenario():
        batcher = Batcher(model, max_windows=2)
        left = batcher.submit((windows_from(0, 2),))
        left.cancel()
        return await batcher.submit((windows_from(2, 1),))

    assert asyncio.run(scenario()).item() == 2
    assert model.sizes == [1]


def test_no_batch_can_be_empty():
    with pytest.raises(ValueError, match="max_windows"):
        Batcher(Recorder(), max_windows=0)


def test_what_is_past_its_deadline_is_never_run():
    model = Recorder()

    async def scenario():
        batcher = Batcher(model, max_windows=4)
        now_s = asyncio.get_running_loop().time()
        late = batcher.submit((windows_from(100, 3),), deadline_s=now_s - 0.01)
        others = [batcher.submit((windows_from(i, 1),), deadline_s=now_s + 60) for i in range(3)]
        rows = await asyncio.gather(*others)
        with pytest.raises(DeadlineError, match="deadline passed"):
            await late
        return [row.item() for row in rows]

    assert asyncio.run(scenario()) == [0, 1, 2]
    assert model.sizes == [3]


def test_the_rest_of_a_long_request_is_not_run_after_its_deadline():
    clock = [0.0]
    sizes = []

    def model(rows):
        sizes.append(len(rows[0]))
        clock[0] += 1.0
        return rows[0].reshape(len(rows[0]), -1)

    async def scenario():
        loop = asyncio.get_running_loop()
        real = loop.time
        loop.time = lambda: real() + clock[0]
        answer = Batcher(model, max_windows=2).submit(
            (windows_from(0, 10),), deadline_s=loop.time() + 1.5
        )
        with pytest.raises(DeadlineError):
            await answer

    asyncio.run(scenario())
    assert sizes == [2, 2]


def test_all_inputs_of_a_model_go_through_a_batch_together():
    async def scenario():
        batcher = Batcher(lambda rows: rows[0][:, 0] + rows[1], max_windows=3)
        requests = [(windows_from(i, 2), np.full((2, 1), 10.0 * i)) for i in range(4)]
        return await asyncio.gather(*(batcher.submit(rows) for rows in requests))

    answers = asyncio.run(scenario())
    assert [answer.ravel().tolist() for answer in answers] == [
        [11.0 * i, 11.0 * i + 1] for i in range(4)
    ]


def test_the_thread_of_a_batcher_ends_with_it():
    def alive() -> list[threading.Thread]:
        return [item for item in threading.enumerate() if item.name == "batch"]

    before = set(alive())
    model = Recorder()

    async def scenario():
        batcher = Batcher(model, max_windows=4, inline=False)
        await submit_all(batcher, [1, 9])
        return [item for item in alive() if item not in before]

    (thread,) = asyncio.run(scenario())
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
