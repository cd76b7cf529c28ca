"""What the journal forgets, and what it does not."""

from __future__ import annotations

import time

from coordinator.runtime.journal import UNWRITTEN_S, Journal
from tilefleet import layout
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
