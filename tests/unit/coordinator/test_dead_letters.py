"""Dead letters: what they are, and that each is kept once, in bounded room."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from coordinator.runtime import dead_letters
from coordinator.runtime.dead_letters import DeadLetters, examined
from tests.unit.golden.examples import GEMM, OP, job
from tilefleet import layout
from tilefleet.config import StoreSection
from tilefleet.memory_queue import MemoryQueues
from tilefleet.messages import Cancel, encode
from tilefleet.queues import reject
from tilefleet.records import DeadLetter, from_json
from tilefleet.store import Store, Stores, file_url

JOB = job(GEMM)
QUEUE = "demo-jobs-dead"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Stores(StoreSection()).open(file_url(tmp_path))


async def kept(store: Store) -> list[DeadLetter]:
    keys = [entry.key async for entry in store.entries(layout.DEAD)]
    return [from_json(bytes(await store.get(key)), DeadLetter, key) for key in sorted(keys)]


def test_a_job_of_this_fleet_died() -> None:
    letter, died = examined(encode(JOB), "demo", QUEUE, 7.0)
    assert died == JOB
    assert (letter.at, letter.queue, letter.operation, letter.body) == (7.0, QUEUE, OP, encode(JOB))
    assert letter.reason == "job multiply/12 was delivered as often as the queue allows, and no worker ended it"


def test_a_job_of_another_fleet_is_no_death_here() -> None:
    letter, died = examined(encode(JOB), "other", QUEUE, 7.0)
    assert died is None
    assert letter.reason == "a job of the fleet 'demo' came to the fleet 'other'"


async def test_what_a_worker_rejected_keeps_its_reason() -> None:
    queues = MemoryQueues()
    await queues.jobs.send(['"\\ud800" nonsense'])
    [message] = await queues.jobs.receive(1, 0)
    await reject(queues, queues.jobs, message, "not a message of ours: it is nonsense")
    [rejected] = await queues.dead(queues.jobs).receive(1, 0)
    letter, died = examined(rejected.body, "demo", QUEUE, 7.0)
    assert died is None
    assert (letter.reason, letter.body) == ("not a message of ours: it is nonsense", '"\\ud800" nonsense')


@pytest.mark.parametrize(
    "body",
    ["", "null", "{}", '{"reason": 1, "body": 2}', "[" * 100_000, encode(msgspec.structs.replace(JOB, operation="../../../etc"))],
)
async def test_anything_else_is_kept_under_a_harmless_name(store: Store, body: str) -> None:
    assert await DeadLetters(store, "demo").take(body, QUEUE) is None
    [letter] = await kept(store)
    assert letter.body == body
    assert letter.reason.startswith("not a message of ours: ")
    assert [entry.key.startswith("dead/message-") async for entry in store.entries()] == [True]


async def test_a_letter_that_comes_again_is_kept_once_and_its_job_is_told_again(store: Store) -> None:
    letters = DeadLetters(store, "demo")
    assert [await letters.take(encode(JOB), QUEUE) for _ in range(3)] == [JOB] * 3
    [letter] = await kept(store)
    assert letter.operation == OP
    [key] = [entry.key async for entry in store.entries()]
    assert key.startswith(f"dead/{OP}-")


async def test_the_newest_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letters, "KEPT", 3)
    letters = DeadLetters(store, "demo")
    for number in range(6):
        await letters.take(json.dumps(number), QUEUE)
    assert {letter.body for letter in await kept(store)} == {"3", "4", "5"}


async def test_a_job_that_was_given_up_lies_there_with_its_message(store: Store) -> None:
    await DeadLetters(store, "demo").bury(JOB, "job multiply[12] was given up after 4 attempts: the worker was lost")
    [letter] = await kept(store)
    assert (letter.queue, letter.operation, letter.body) == (QUEUE, OP, encode(JOB))
    assert letter.reason.endswith("the worker was lost")


async def test_what_clients_and_workers_said_in_vain_is_kept_too(store: Store) -> None:
    body = encode(Cancel("demo", OP))
    assert await DeadLetters(store, "demo").take(body, "demo-operations-dead", is_job=False) is None
    [letter] = await kept(store)
    assert (letter.operation, letter.body) == (OP, body)
    assert letter.reason == "it was delivered as often as the queue allows, and nobody took it up"
