"""What the store holds of operations: reading it to take one up, writing what the scheduler decided, removing leftovers."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections import Counter

from coordinator.core.commands import CleanUp, SavePlan, WriteStatus
from coordinator.core.events import Adopted
from coordinator.core.plans import PARTS, Part, Plan, read_plan
from coordinator.core.stages import CheckStage, GunzipStage, PublishStage, ScanStage, Stage
from coordinator.runtime.leadership import newest_epoch
from tilefleet import layout, ownership
from tilefleet.errors import BadInput, ErrorInfo, NotFound
from tilefleet.facts import Facts, decode_facts
from tilefleet.records import OperationRecord, OperationStatus, from_json, to_json
from tilefleet.statuses import newest_status
from tilefleet.store import Store, Stores, path_of
from tilefleet.writing import restore_replaced

WITH_FACTS = (ScanStage, GunzipStage, PublishStage, CheckStage)
READS_AT_ONCE = 32
UNWRITTEN_S = 600.0  # a client that stages gigabytes writes its record after that; it marks the operation again then


class Journal:
    """The records, plans and statuses of one deployment's store, as the leader of ``epoch`` sees and writes them."""

    def __init__(self, store: Store, stores: Stores, epoch: int) -> None:
        self._store = store
        self._stores = stores
        self._epoch = epoch
        self._reads = asyncio.Semaphore(READS_AT_ONCE)

    async def open_operations(self) -> list[str]:
        """Ids of the operations that have not ended, or not been cleaned up after."""
        return sorted([entry.key.rsplit("/", 1)[-1] async for entry in self._store.entries(layout.OPEN)])

    async def forget_unwritten(self, operation: str, now: float) -> None:
        """Remove an old open mark that has no record: its client died between the two."""
        mark = await self._store.head(layout.open_mark(operation))
        if mark is not None and now - mark.modified_at > UNWRITTEN_S:
            await self._store.delete([layout.open_mark(operation)])

    async def load(self, operation: str) -> Adopted | None:
        """Everything that is known of an operation; None when it has no record (yet). Raises BadInput for a broken record."""
        try:
            data = await self._store.get(layout.record(operation))
        except NotFound:
            return None
        record = from_json(bytes(data), OperationRecord, self._store.url_of(layout.record(operation)))
        if record.id != operation:
            raise BadInput(f"the record of operation {operation} says that it is {record.id}; it is not taken up")
        plans = await self.plans(operation)
        latest = plans[next(part for part in reversed(PARTS) if part in plans)] if plans else None
        stages = latest.stages if latest is not None else ()
        done = {stage.name: await self._done(stage) for stage in stages}
        facts = {stage.name: await self._facts(stage, done[stage.name]) for stage in stages if isinstance(stage, WITH_FACTS)}
        status = await newest_status(self._store, operation)
        is_cancelled = await self._store.head(layout.cancel(operation)) is not None
        return Adopted(record, plans, done, facts, status, is_cancelled)

    async def refuse(self, operation: str, why: BadInput) -> None:
        """End an operation that cannot be taken up, so that whoever waits for it learns why."""
        status = OperationStatus(operation, "failed", self._epoch, finished_at=time.time(), error=ErrorInfo.of(why))
        await self._store.put(layout.status(operation, self._epoch), to_json(status))
        await self._store.delete([layout.open_mark(operation)])

    async def is_cancelled(self, operation: str) -> bool:
        """Whether somebody asked for the operation to end."""
        return await self._store.head(layout.cancel(operation)) is not None

    async def save_plan(self, command: SavePlan) -> Plan:
        """Write the plan unless there is one; the one that is there."""
        key = layout.plan(command.operation, command.plan.part)
        if await self._store.put_new(key, to_json(command.plan)):
            return command.plan
        return read_plan(bytes(await self._store.get(key)), self._store.url_of(key))

    async def write_status(self, command: WriteStatus) -> None:
        """Replace this epoch's status of the operation.

        A coordinator that no longer leads tells of no end: its successor may have read that there is none, and be believed.
        """
        if command.status.is_ended and await newest_epoch(self._store) > self._epoch:
            return
        await self._store.put(layout.status(command.status.id, self._epoch), to_json(command.status))

    async def clean_up(self, command: CleanUp) -> None:
        """Remove what was temporary, then the open mark; what is not there is no error, so it may be repeated.

        A coordinator that no longer leads removes nothing: its successor may be working on the same operation.
        """
        if await newest_epoch(self._store) > self._epoch:
            return
        operation = command.operation
        prefixes = [layout.parts(operation), layout.partial(operation)]
        prefixes += [f"{layout.operation(operation)}/{name}" for name in ("facts", "input", "result")]
        if not command.keeps_result:  # staged operands of a finished one stay: verifying it later needs them
            prefixes += [layout.staging(operation), layout.result(operation)]
        for prefix in prefixes:
            await self._store.delete_prefix(prefix)
        for url in command.urls:
            if url.startswith("file:"):  # a directory whose name has the operation's id
                await self._stores.open(url).delete_prefix("")
            else:  # one of the prefixes above, or an OUT that may have another owner by now
                await ownership.give_up(self._stores.open(url), operation)
        await asyncio.to_thread(remove_directories, [*map(self._store.url_of, prefixes), *command.urls])
        await asyncio.to_thread(_restore_replaced, command.urls)
        await self._store.delete([layout.open_mark(operation)])

    async def plans(self, operation: str) -> dict[Part, Plan]:
        """Those of its parts that were saved. Raises BadInput for one that nobody can read."""
        plans: dict[Part, Plan] = {}
        for part in PARTS:
            key = layout.plan(operation, part)
            try:
                plans[part] = read_plan(bytes(await self._store.get(key)), self._store.url_of(key))
            except NotFound:
                continue
        return plans

    async def _done(self, stage: Stage) -> tuple[int, ...]:
        """Jobs of a stage whose output objects all exist."""
        present: Counter[int] = Counter()
        async for entry in self._stores.open(stage.output_url).entries():
            index = stage.job_of_key(entry.key)
            if index is not None:
                present[index] += 1
        return tuple(index for index, n_keys in present.items() if index < stage.n_jobs and n_keys >= stage.n_keys(index))

    async def _facts(self, stage: Stage, done: tuple[int, ...]) -> dict[int, Facts]:
        store = self._stores.open(stage.output_url)

        async def read(index: int) -> tuple[int, Facts]:
            async with self._reads:
                return index, decode_facts(bytes(await store.get(layout.indexed("", index).lstrip("/"))))

        return dict(await asyncio.gather(*(read(index) for index in done)))


def _restore_replaced(urls: tuple[str, ...]) -> None:
    for url in urls:
        if url.startswith("file:"):
            restore_replaced(path_of(url))


def remove_directories(urls: list[str]) -> None:
    """A directory as a store keeps its empty folders; an object store has none."""
    for url in urls:
        if url.startswith("file:"):
            shutil.rmtree(path_of(url), ignore_errors=True)
