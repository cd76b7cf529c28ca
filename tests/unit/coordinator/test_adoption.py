"""An operation is taken up once, however many messages and looks into the store tell of it at the same time."""

from __future__ import annotations

import asyncio

from coordinator.core.events import Adopted, Event
from coordinator.runtime.dead_letters import DeadLetters
from coordinator.runtime.journal import Journal
from coordinator.runtime.listeners import Listeners
from tests.unit.coordinator.driven import random_record
from tilefleet import layout
from tilefleet.memory_queue import MemoryQueues
from tilefleet.records import OperationStatus, from_json, to_json
from tilefleet.store import Store, Stores

MADE = random_record()


class SlowJournal(Journal):
    """A store whose last answer takes until ``answers`` is set."""

    answers: asyncio.Event

    async def load(self, operation: str) -> Adopted | None:
        adopted = await super().load(operation)
        await self.answers.wait()
        return adopted


def ears(store: Store, journal: Journal, told: list[Event]) -> Listeners:
    async def restore() -> None:
        raise AssertionError("no queue was lost")

    queues = MemoryQueues("test")
    dead = DeadLetters(store, "test")
    return Listeners(queues, journal, "test", told.append, restore, asyncio.Event(), set(), dead)  # type: ignore[arg-type]


async def test_a_slow_reader_does_not_tell_of_an_operation_that_has_ended_since(directory_store: Store, stores: Stores) -> None:
    await directory_store.put(layout.record(MADE.id), to_json(MADE))
    journal, told = SlowJournal(directory_store, stores, 1), list[Event]()
    journal.answers = asyncio.Event()
    here = ears(directory_store, journal, told)
    both = [asyncio.create_task(here.adopt(MADE.id)) for _ in range(2)]
    await both[1]
    journal.answers.set()
    await both[0]
    assert [type(event) for event in told] == [Adopted]


async def test_what_could_not_be_taken_up_is_taken_up_later(directory_store: Store, stores: Stores) -> None:
    journal, told = Journal(directory_store, stores, 1), list[Event]()
    here = ears(directory_store, journal, told)
    await here.adopt(MADE.id)
    assert (told, here.adopting) == ([], set()), "it has no record yet"
    await directory_store.put(layout.record(MADE.id), b"{")
    await here.adopt(MADE.id)
    key = layout.status(MADE.id, 1)
    assert from_json(bytes(await directory_store.get(key)), OperationStatus, key).state == "failed"
    await directory_store.put(layout.record(MADE.id), to_json(MADE))
    await here.adopt(MADE.id)
    assert len(told) == 1
    assert here.adopting == {MADE.id}
