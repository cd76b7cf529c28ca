"""Results that nobody named a place for are kept for ``fleet.keep_results``; so are the records of ended operations.

The rule: what an open operation reads stays until that one has ended.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from coordinator.runtime.journal import remove_directories
from tilefleet import layout
from tilefleet.errors import BadInput, NotFound, TilefleetError
from tilefleet.readers import open_reads, readers
from tilefleet.records import OperationStatus, from_json
from tilefleet.store import Store

log = structlog.get_logger()

EVERY_S = 600.0


class Retention:
    """Looks through the ended operations now and then and removes those whose time is over."""

    def __init__(self, store: Store, keep_s: float) -> None:
        self._store = store
        self.keep_s = keep_s
        self._finished_at: dict[str, float] = {}

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.sweep(time.time())
            except TilefleetError as error:
                log.warning("retention_failed", error=str(error))
            await asyncio.sleep(EVERY_S)

    async def sweep(self, now: float) -> list[str]:
        """Remove what ended more than ``keep_s`` before ``now`` (seconds since 1970); the operations removed."""
        newest: dict[str, str] = {}
        async for entry in self._store.entries(layout.OPERATIONS):
            parts = entry.key.split("/")
            if len(parts) == 4 and parts[2] == "status":
                newest[parts[1]] = max(newest.get(parts[1], ""), entry.key)
        self._finished_at = {op: at for op, at in self._finished_at.items() if op in newest}
        for operation, key in newest.items():
            if operation not in self._finished_at:
                await self._look(operation, key)
        over = [operation for operation, at in self._finished_at.items() if at + self.keep_s < now]
        if over:
            reads = await open_reads(self._store)
            over = [operation for operation in over if not readers(reads, operation)]
        for operation in over:
            await self._remove(operation)
        return over

    async def _look(self, operation: str, key: str) -> None:
        try:
            status = from_json(bytes(await self._store.get(key)), OperationStatus, self._store.url_of(key))
        except (NotFound, BadInput):
            return
        if status.is_ended:
            self._finished_at[operation] = status.finished_at

    async def _remove(self, operation: str) -> None:
        prefixes = (
            layout.result(operation),
            layout.staging(operation),
            layout.operation(operation),
        )  # the last is how we know it
        n_objects = sum([await self._store.delete_prefix(prefix) for prefix in prefixes])
        await asyncio.to_thread(remove_directories, [self._store.url_of(prefix) for prefix in prefixes])
        self._finished_at.pop(operation, None)
        log.info("result_expired", operation=operation, objects=n_objects)
