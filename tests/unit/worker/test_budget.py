"""The byte budget: never exceeded, first come first served, never stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tilefleet.errors import DoesNotFit
from workerd.budget import Budget

MIB = 2**20


async def _use(budget: Budget, n_bytes: int, turns: int, began: list[int], held: list[int]) -> None:
    async with budget.hold(n_bytes):
        began.append(n_bytes)
        held.append(n_bytes)
        try:
            assert sum(held) <= budget.limit_bytes
            for _ in range(turns):
                await asyncio.sleep(0)
        finally:
            held.remove(n_bytes)


async def _all(jobs: Sequence[tuple[int, int, int | None]]) -> None:
    budget, began, held = Budget(100), list[int](), list[int]()
    tasks = [asyncio.create_task(_use(budget, n_bytes, turns, began, held)) for n_bytes, turns, _ in jobs]
    for turn in range(10):
        for task, (_, _, cancelled_at) in zip(tasks, jobs, strict=True):
            if cancelled_at == turn:
                task.cancel()
        await asyncio.sleep(0)
    async with asyncio.timeout(5):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(result is None or isinstance(result, asyncio.CancelledError) for result in results)
    assert budget.free_bytes == budget.limit_bytes
    async with asyncio.timeout(5), budget.hold(budget.limit_bytes):
        pass


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 5), st.none() | st.integers(0, 9)), max_size=20))
def test_never_exceeded_and_never_stuck(jobs: list[tuple[int, int, int | None]]) -> None:
    asyncio.run(_all(jobs))


async def test_all_is_free_again_after_waiters_were_cancelled() -> None:
    budget = Budget(100)
    async with budget.hold(80):
        waiter = asyncio.create_task(_use(budget, 90, 0, [], []))
        small = asyncio.create_task(_use(budget, 10, 0, [], []))
        await asyncio.sleep(0)
        waiter.cancel()
        await asyncio.wait_for(small, 5)  # it waited only behind the large one
    assert budget.free_bytes == 100


async def test_a_large_job_is_not_overtaken() -> None:
    budget, began, held = Budget(100), list[int](), list[int]()
    tasks = [asyncio.create_task(_use(budget, n_bytes, 3, began, held)) for n_bytes in (60, 100, 10, 20)]
    await asyncio.gather(*tasks)
    assert began == [60, 100, 10, 20]


async def test_a_job_that_never_fits_is_refused_with_the_memory_that_would_do() -> None:
    budget = Budget(100 * MIB, overhead_bytes=50 * MIB)
    with pytest.raises(DoesNotFit, match=r"needs 200\.0 MiB.*worker\.memory to 250\.0 MiB"):
        async with budget.hold(200 * MIB):
            pass
    assert budget.free_bytes == 100 * MIB
