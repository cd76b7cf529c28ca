"""What the journal forgets, and what it does not."""

from __future__ import annotations

import time

from coordinator.core.commands import WriteStatus
from coordinator.runtime.journal import UNWRITTEN_S, Journal
from tilefleet import layout
from tilefleet.records import OperationStatus
from tilefleet.store import Store, Stores

OP = "0123456789ab"


async def test_a_mark_without_a_record_is_forgotten_after_ten_minutes(directory_store: Store, stores: Stores) -> None:
    journal = Journal(directory_store, stores, 1)
    await directory_store.put(layout.open_mark(OP), b"")
    assert await journal.load(OP) is None
    await journal.forget_unwritten(OP, time.time() + UNWRITTEN_S - 60)
    assert await journal.open_operations() == [OP]
    await journal.forget_unwritten(OP, time.time() + UNWRITTEN_S + 60)
    assert await journal.open_operations() == []


async def test_who_no_longer_leads_tells_of_no_end(directory_store: Store, stores: Stores) -> None:
    journal = Journal(directory_store, stores, 1)
    await directory_store.put(layout.leader(2), b"")
    await journal.write_status(WriteStatus(OperationStatus(OP, "done", 1)))
    assert await directory_store.head(layout.status(OP, 1)) is None
    await journal.write_status(WriteStatus(OperationStatus(OP, "running", 1)))
    assert await directory_store.head(layout.status(OP, 1)) is not None
    await Journal(directory_store, stores, 2).write_status(WriteStatus(OperationStatus(OP, "done", 2)))
    assert await directory_store.head(layout.status(OP, 2)) is not None
