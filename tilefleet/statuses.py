"""Which status of an operation counts: that of the highest epoch, whoever wrote later."""

from __future__ import annotations

from tilefleet import layout
from tilefleet.errors import NotFound
from tilefleet.records import OperationStatus, from_json
from tilefleet.store import Store


async def newest_status(store: Store, operation: str) -> OperationStatus | None:
    """None when no leader has written one yet, or it was deleted meanwhile. Raises BadInput for one that nobody can read."""
    found = [
        (epoch, entry.key)
        async for entry in store.entries(layout.statuses(operation))
        if (epoch := layout.epoch_of_key(entry.key)) is not None
    ]
    if not found:
        return None
    key = max(found)[1]
    try:
        data = bytes(await store.get(key))
    except NotFound:  # deleted between the two
        return None
    if not data:  # what a power failure may leave of a file
        return None
    return from_json(data, OperationStatus, store.url_of(key))
