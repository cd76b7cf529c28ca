"""Tiles of a kept result that are damaged or gone: found, and computed again as the operation computed them.

The rule: repairing is resuming. What is damaged is removed, what says that the operation has ended is taken back, and a
coordinator goes on as after a crash: it lists which tiles are there and does the jobs of those that are not.
"""

from __future__ import annotations

from tilefleet import layout
from tilefleet.bounded import for_each
from tilefleet.errors import BadInput, NotFound
from tilefleet.matrix import MatrixRef, tile_key
from tilefleet.messages import Submit
from tilefleet.operation import Operation
from tilefleet.reading import Reader
from tilefleet.session import Session
from tilefleet.statuses import newest_status

TILES_AT_ONCE = 8


async def damaged(session: Session, ref: MatrixRef) -> list[tuple[int, int]]:
    """The tiles of a result of ours that do not have the bytes that were written, or are not there; in order."""
    found: list[tuple[int, int]] = []
    reader = Reader(session.stores)

    async def look(index: tuple[int, int]) -> None:
        try:
            await reader.read(ref, ref.grid.rect(*index))
        except (BadInput, NotFound):
            found.append(index)

    tiles = ((i, j) for i in range(ref.grid.n_rows) for j in range(ref.grid.n_cols))
    await for_each(tiles, look, concurrency=TILES_AT_ONCE, name="look")
    return sorted(found)


async def repair(session: Session, operation: Operation) -> list[tuple[int, int]]:
    """Have the damaged tiles of a kept result computed again; which they are. None: nothing was changed.

    The operation is open again afterwards, when there are any: wait for it as for a new one. Raises BadInput for one whose result
    is not kept by the fleet, or that has not ended well.
    """
    ref = await _kept_result(session, operation)
    found = await damaged(session, ref)
    if not found:
        return []
    store = session.store
    await session.stores.open(ref.url).delete([tile_key(*index) for index in found])
    statuses = [entry.key async for entry in store.entries(layout.statuses(operation.id))]
    await store.put(layout.open_mark(operation.id), b"")  # before its end is taken back: then somebody goes on in any case
    await store.delete(statuses)
    await session.tell(Submit(session.config.fleet.name, operation.id))
    return found


async def _kept_result(session: Session, operation: Operation) -> MatrixRef:
    status = await newest_status(session.store, operation.id)
    if status is None or status.state != "done" or status.result is None:
        raise BadInput(f"operation {operation.id} has no result that could be repaired; see 'tilefleet show {operation.id}'")
    kept = session.store.url_of(layout.result(operation.id))
    if status.result.url.rstrip("/") != kept.rstrip("/"):
        raise BadInput(
            f"the result of operation {operation.id} is at {status.result.url}, which is yours; compute it again with --overwrite"
        )
    return status.result
