"""Leases by a virtual clock: what is renewed when, whatever happens in between."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tilefleet.memory_queue import MemoryQueues
from workerd.leases import LeaseBook, LeaseKeeper


def test_a_lease_is_due_after_a_third_and_again_after_a_twelfth_until_renewed() -> None:
    book = LeaseBook(60.0)
    book.add("a", 100.0)
    assert book.next_due() == 120.0
    assert book.due(119.9) == []
    assert book.due(120.0) == ["a"]
    assert book.due(124.9) == []
    assert book.due(125.0) == ["a"]
    book.renewed(["a"], 125.0)
    assert book.next_due() == 145.0
    assert not book.is_expired("a", 184.9)
    assert book.is_expired("a", 185.0)


def test_what_was_removed_is_never_due_and_counts_as_expired() -> None:
    book = LeaseBook(60.0)
    book.add("a", 0.0)
    book.remove("a")
    book.remove("a")
    assert book.next_due() is None
    assert book.due(1000.0) == []
    assert book.is_expired("a", 0.0)
    assert len(book) == 0


def test_the_most_urgent_comes_first() -> None:
    book = LeaseBook(30.0)
    for handle, at in (("late", 9.0), ("early", 1.0), ("middle", 5.0)):
        book.add(handle, at)
    assert book.due(100.0) == ["early", "middle", "late"]


@given(
    lease_s=st.floats(10, 120),
    received=st.lists(st.floats(0, 50), min_size=1, max_size=15),
    fails=st.lists(st.booleans(), max_size=200),
)
def test_no_lease_ends_while_two_renewals_in_a_row_do_not_both_fail(
    lease_s: float, received: list[float], fails: list[bool]
) -> None:
    """Driven by its own ``next_due``, the book keeps every lease, though any renewal may fail once."""
    book = LeaseBook(lease_s)
    for number, at in enumerate(received):
        book.add(str(number), at)
    failed_last = False
    failures = iter(fails)
    for _ in range(100):
        now = book.next_due()
        assert now is not None
        due = book.due(now)
        assert due
        assert not any(book.is_expired(handle, now) for handle in due)
        failed_last = next(failures, False) and not failed_last
        if not failed_last:
            book.renewed(due, now)


async def test_the_keeper_keeps_a_message_hidden_far_beyond_its_lease() -> None:
    lease_s = 0.3
    queues = MemoryQueues(lease_s=lease_s)
    await queues.jobs.send(["job"])
    (message,) = await queues.jobs.receive(1, 0)
    keeper = LeaseKeeper(queues.jobs, lease_s)
    keeping = asyncio.create_task(keeper.run())
    keeper.add(message.handle, asyncio.get_running_loop().time())
    assert await queues.jobs.receive(1, 4 * lease_s) == []
    keeper.remove(message.handle)
    (again,) = await queues.jobs.receive(1, 5)
    assert again.receives == 2
    keeping.cancel()


async def test_the_keeper_outlives_a_queue_that_is_lost() -> None:
    queues = MemoryQueues(lease_s=0.3)
    keeper = LeaseKeeper(queues.jobs, 0.3)
    keeping = asyncio.create_task(keeper.run())
    queues.jobs.lose()
    keeper.add("handle", asyncio.get_running_loop().time())
    await asyncio.sleep(0.3)
    assert not keeping.done()
    keeping.cancel()
