"""The real coordinator empties the dead-letter queue of jobs into the store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import Server
from tests.integration.coordinator_process import Scene, scene
from tilefleet import layout
from tilefleet.messages import encode
from tilefleet.queues import Received, reject
from tilefleet.records import DeadLetter, from_json


@pytest.fixture
async def here(tmp_path: Path, fleet: str, moto_server: Server) -> AsyncIterator[Scene]:
    async with scene(tmp_path, fleet, moto_server.endpoint_url) as made:
        yield made


async def kept(here: Scene, count: int) -> list[DeadLetter]:
    async def enough() -> list[DeadLetter]:
        keys = [entry.key async for entry in here.store.entries(layout.DEAD)]
        found = [from_json(bytes(await here.store.get(key)), DeadLetter, key) for key in keys]
        return found if len(found) >= count else []

    letters: list[DeadLetter] = await here.until(enough)
    return letters


async def test_dead_letters_lie_in_the_store_and_a_dead_job_fails_its_operation(here: Scene) -> None:
    here.start()
    await here.leads(1)
    await here.hello()
    record = await here.submit(shape=(256, 256))
    (job,) = await here.take(1)
    dead = here.queues.dead(here.queues.jobs)
    await dead.send([encode(job), "nonsense"])
    await reject(here.queues, here.queues.jobs, Received("a body", "no-such-handle", 1), "a reason")
    letters = await kept(here, 3)
    assert {letter.operation for letter in letters} == {record.id, ""}
    assert {letter.body for letter in letters} == {encode(job), "nonsense", "a body"}
    for _ in range(3):  # each is a lost attempt
        (job,) = await here.take(1)
        await here.tell(dead, job)
    status = await here.state(record.id, "failed")
    assert status.error is not None

    async def is_empty() -> bool:
        return await dead.count() == (0, 0)

    await here.until(is_empty)
    said = here.said("dead_letter")
    assert len(said) == 7, "each is said once, and last the job that was given up"
    assert {line["queue"] for line in said} == {dead.name}
