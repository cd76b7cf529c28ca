"""Which open operations read what another one left in the fleet's store: it is not removed under them.

The rule: an operation reads its operands, and a verification also the result that it checks, until its open mark is gone.
"""

from __future__ import annotations

from collections.abc import Mapping

from tilefleet import layout
from tilefleet.bounded import for_each
from tilefleet.errors import BadInput, NotFound
from tilefleet.ids import is_operation_id
from tilefleet.records import OperationRecord, from_json
from tilefleet.store import Store

CONCURRENCY = 16


async def open_reads(store: Store) -> dict[str, list[str]]:
    """URLs that each open operation reads, by its id."""
    found: dict[str, list[str]] = {}

    async def look(operation: str) -> None:
        key = layout.record(operation)
        try:
            record = from_json(bytes(await store.get(key)), OperationRecord, store.url_of(key))
        except (NotFound, BadInput):  # not written yet, or one that the coordinator refuses: it reads nothing
            return
        found[operation] = _urls(record)

    names = [entry.key.rsplit("/", 1)[-1] async for entry in store.entries(layout.OPEN)]
    await for_each(filter(is_operation_id, names), look, concurrency=CONCURRENCY, name="readers")
    return found


def readers(reads: Mapping[str, list[str]], operation: str) -> list[str]:
    """Those of ``reads`` that need the result or the staged operands of this operation."""
    kept = [f"/{place}/" for place in (layout.result(operation), layout.staging(operation))]
    return sorted(
        other for other, urls in reads.items() if other != operation and any(place in f"{url}/" for place in kept for url in urls)
    )


def _urls(record: OperationRecord) -> list[str]:
    operands = [operand.matrix for operand in (record.a, record.b, record.c) if operand is not None]
    return [matrix.url for matrix in (*operands, record.checked) if matrix is not None]
