"""Results expire; what an open operation reads does not."""

from __future__ import annotations

from coordinator.runtime.retention import Retention
from tilefleet import layout
from tilefleet.matrix import MatrixRef, Operand
from tilefleet.records import OperationRecord, OperationStatus, to_json
from tilefleet.store import Store

OLD, READ, NEW, READER = "0" * 12, "1" * 12, "2" * 12, "3" * 12
NOW = 1_000_000.0


async def ended(store: Store, operation: str, finished_at: float) -> None:
    await store.put(layout.record(operation), to_json(OperationRecord(id=operation, kind="random")))
    status = OperationStatus(id=operation, state="done", epoch=1, finished_at=finished_at)
    await store.put(layout.status(operation, 1), to_json(status))
    await store.put(f"{layout.result(operation)}/zarr.json", b"{}")


async def operations_in(store: Store, prefix: str) -> set[str]:
    return {entry.key.split("/")[1] async for entry in store.entries(prefix)}


async def test_what_an_open_operation_reads_stays_until_that_one_has_ended(directory_store: Store) -> None:
    store = directory_store
    for operation, finished_at in ((OLD, NOW - 101), (READ, NOW - 101), (NEW, NOW - 99)):
        await ended(store, operation, finished_at)
    url = store.url_of(layout.result(READ))
    operand = Operand(MatrixRef(url, "zarr", (2, 2), "float64", (2, 2), is_ours=True))
    await store.put(layout.record(READER), to_json(OperationRecord(id=READER, kind="transpose", a=operand)))
    await store.put(layout.open_mark(READER), b"")
    retention = Retention(store, 100)
    assert await retention.sweep(NOW) == [OLD]
    assert await operations_in(store, "matrices") == {READ, NEW}
    assert await operations_in(store, layout.OPERATIONS) == {READ, NEW, READER}
    assert await retention.sweep(NOW) == []
    await store.delete([layout.open_mark(READER)])
    assert await retention.sweep(NOW) == [READ]
    assert await operations_in(store, "matrices") == {NEW}
