"""Too much at once: hundreds of operations and dozens of watchers. All end right, newcomers get their turn, memory stays flat."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tilefleet.client import Client
from tilefleet.operation import Operation

SHAPE = (64, 64)
MORE_BYTES = 64 * 2**20  # of the coordinator and the workers, over all of it


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with place(tmp_path_factory.mktemp("overload"), f'{QUICK}[local]\nworkers = 2\nmemory = "500 MiB"\n') as made:
        made.output("local", "up")
        made.output("random", "64x64", "warm.npy")
        yield made


@pytest.mark.parametrize(("n_operations", "n_watchers"), [(60, 20), pytest.param(500, 50, marks=pytest.mark.thorough)])
@pytest.mark.timeout(900)
def test_many_at_once(here: Place, n_operations: int, n_watchers: int) -> None:
    daemons = {name: psutil.Process(pid) for name, pid in here.deployment.children.items() if name != "queues"}
    before = {name: process.memory_info().rss for name, process in daemons.items()}
    seeds = asyncio.run(_all_done(here, n_operations, n_watchers))
    assert sorted(seeds) == list(range(n_operations))
    after = {name: process.memory_info().rss for name, process in daemons.items()}
    assert {name: after[name] - before[name] for name in before if after[name] > before[name] + MORE_BYTES} == {}
    until(lambda: not list((here.files.store / "open").glob("*")), "nothing is open")


async def _all_done(here: Place, n_operations: int, n_watchers: int) -> list[int]:
    """Submit all, half of them at once, some of them watched by clients of their own; which are right. One that comes between the
    halves is not last."""
    half = n_operations // 2
    async with Client(here.config) as client:
        submitted = await asyncio.gather(*(client.random(SHAPE, dtype="int64", seed=seed) for seed in range(half)))
        watchers = [asyncio.create_task(_watched(here, operation.id)) for operation in submitted[:n_watchers]]
        late = await client.multiply(np.eye(64), np.eye(64))
        submitted += await asyncio.gather(*(client.random(SHAPE, dtype="int64", seed=seed) for seed in range(half, n_operations)))
        late_status = await late.wait()
        ends = [(await operation.wait()).finished_at for operation in submitted]
        assert late_status.finished_at < max(ends), "who comes late gets a turn before all others are done"
        assert await asyncio.gather(*watchers) == ["done"] * len(watchers)
        return [seed for seed, operation in enumerate(submitted) if await _is_right(operation, seed)]


async def _watched(here: Place, operation: str) -> str:
    async with Client(here.config) as client:
        return (await (await client.find(operation)).wait()).state


async def _is_right(operation: Operation, seed: int) -> bool:
    from tilefleet.matrix import Rect
    from workerd.kernels.randomness import random_block

    expected = random_block(Rect(0, 64, 0, 64), SHAPE, np.dtype("int64"), "0", "10", seed)
    return bool(np.array_equal(await (await operation.result()).read(), expected))
