"""A hundred thousand jobs accepted at once: they stand waiting in their plans, not in queues and not in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from tests.acceptance.deployment import QUICK, Place, place, until
from tests.faults.queues import messages
from tilefleet.client import Client

N_OPERATIONS, N_JOBS = 4, 25_000  # a job for each tile of one element
N_WORKERS = 2
MOST_MESSAGES = 40  # three jobs for each worker are out; the rest is what they just said of those they did
MORE_BYTES = 48 * 2**20
LOOKS = 20

log = logging.getLogger(__name__)


@pytest.fixture
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    config = f'{QUICK}[local]\nworkers = {N_WORKERS}\nmemory = "500 MiB"\n'
    with place(tmp_path_factory.mktemp("many"), config) as made:
        made.output("local", "up")
        np.save(made.directory / "a.npy", np.arange(90_000).reshape(300, 300))
        made.output("multiply", "a.npy", "a.npy", "-o", "warm.npy")
        yield made


@pytest.mark.thorough
@pytest.mark.timeout(900)
def test_a_hundred_thousand_jobs_wait_in_their_plans(here: Place) -> None:
    before = memory(here)
    operations = asyncio.run(submitted(here))
    until(lambda: all(n_done(here, one) >= 100 for one in operations), "all are under way", 300)
    assert_queues_are_short(here)
    assert_a_small_one_has_its_turn(here)
    assert sum(n_waiting(here, one) for one in operations) > 0.9 * N_OPERATIONS * N_JOBS
    assert_none_has_grown(here, before)
    assert_resumed(here, operations)
    assert_queues_are_short(here)
    assert_none_has_grown(here, before)
    cancelled(here, operations)


async def submitted(here: Place) -> list[str]:
    async with Client(here.config) as client:
        return [(await client.random((N_JOBS, 1), tile=(1, 1), seed=seed)).id for seed in range(N_OPERATIONS)]


def n_done(here: Place, operation: str) -> int:
    status = here.status(operation)
    return 0 if status is None else sum(stage.n_done for stage in status.stages)


def n_waiting(here: Place, operation: str) -> int:
    """Accepted, planned, and not given to anybody yet."""
    status = here.status(operation)
    return 0 if status is None else sum(stage.n_jobs - stage.n_done - stage.n_running for stage in status.stages)


def assert_queues_are_short(here: Place) -> None:
    for _ in range(LOOKS):
        found = messages(here)
        assert sum(found.values()) <= MOST_MESSAGES, found


def assert_a_small_one_has_its_turn(here: Place) -> None:
    a = np.load(here.directory / "a.npy")
    here.output("multiply", "a.npy", "a.npy", "-o", "small.npy")
    np.testing.assert_array_equal(np.load(here.directory / "small.npy"), a @ a)


def memory(here: Place) -> dict[str, int]:
    """By daemon, bytes; the queues' stand-in is none of ours."""
    children = here.deployment.children.items()
    return {name: psutil.Process(pid).memory_info().rss for name, pid in children if name != "queues"}


def assert_none_has_grown(here: Place, before: dict[str, int]) -> None:
    after = memory(here)
    log.info("MB before and after: %s", {name: (before[name] >> 20, after[name] >> 20) for name in before})
    assert {name for name in before if after[name] > before[name] + MORE_BYTES} == set()


def assert_resumed(here: Place, operations: list[str]) -> None:
    """Another coordinator goes on with all of them, and does not do again what was done."""
    counts = {operation: n_done(here, operation) for operation in operations}
    pid, began = here.kill("coordinator"), time.monotonic()
    until(lambda: here.deployment.children.get("coordinator", pid) != pid, "there is another")
    until(lambda: all(n_done(here, one) > counts[one] + 20 for one in operations), "all go on", 300)
    log.info("goes on after %.1f s with %s done", time.monotonic() - began, sum(counts.values()))
    for operation in operations:
        status = here.status(operation)
        assert status is not None
        assert status.totals.jobs < n_done(here, operation), "what was done before is found, not done"


def cancelled(here: Place, operations: list[str]) -> None:
    """They leave nothing."""
    for operation in operations:
        here.output("cancel", operation)
    for operation in operations:
        assert here.until_ended(operation).state == "cancelled"
        here.assert_clean(operation)
        assert not (here.files.store / "matrices" / operation).exists()
    until(lambda: not messages(here), lambda: f"the queues are empty, but {messages(here)}")
