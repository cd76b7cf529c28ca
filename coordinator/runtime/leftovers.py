"""What operations left behind that is of no use any more: found in a listing of the store, judged by pure rules, removed.

The rules: only what carries an operation's id, in a place of ours, is looked at. What was never submitted goes as a whole. What
has ended keeps its record, plan and status, and, when it is done, its result and the operands that verifying it needs. What is
open, or younger than asked, stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from coordinator.core.commands import CleanUp
from coordinator.core.operation_run import leftovers, outputs
from coordinator.runtime.journal import Journal
from coordinator.runtime.leadership import newest_epoch
from tilefleet import layout
from tilefleet.bounded import for_each
from tilefleet.errors import BadInput
from tilefleet.ids import is_operation_id
from tilefleet.records import OperationStatus
from tilefleet.statuses import newest_status
from tilefleet.store import Entry, Store, Stores

LOOKS_AT_ONCE = 16
_PLACES = (layout.OPERATIONS, "matrices", "staging", layout.OPEN)
_KEPT = ("record.json", "cancel.json", "plan", "status")


class Leftover(NamedTuple):
    """What one operation left. ``state``: how it ended; empty for one that was never submitted."""

    operation: str
    state: str
    n_objects: int
    size_bytes: int
    newest_at: float
    """When the last of it was written (UTC seconds)."""

    @property
    def why(self) -> str:
        """For people."""
        return f"left by an operation that is {self.state}" if self.state else "brought for an operation that was never submitted"


def by_operation(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Objects by the operation whose id they carry; others are left out."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        place, _, rest = entry.key.partition("/")
        operation = rest.partition("/")[0]
        if place in _PLACES and is_operation_id(operation):
            found.setdefault(operation, []).append(entry)
    return found


def useless(entries: Sequence[Entry], state: str) -> list[Entry]:
    """Those objects of an operation in that state that nobody needs. ``state``: "" for one without a record."""
    if not state:
        return list(entries)
    return [entry for entry in entries if not _is_kept(entry.key.split("/"), is_done=state == "done")]


def _is_kept(parts: list[str], *, is_done: bool) -> bool:
    if parts[0] == layout.OPERATIONS:
        return parts[2] in _KEPT
    return is_done and parts[0] in ("matrices", "staging")


async def survey(store: Store, now: float, older_s: float) -> list[Leftover]:
    """What can go, of which nothing was written for ``older_s``; the oldest first. Changes nothing."""
    found: list[Leftover] = []
    operations = by_operation([entry async for entry in store.entries()])

    async def look(operation: str) -> None:
        entries = operations[operation]
        state = await _state(store, operation, entries)
        if state is None or not (left := useless(entries, state)):
            return
        newest_at = max(entry.modified_at for entry in left)
        if now - newest_at >= older_s:
            found.append(Leftover(operation, state, len(left), sum(entry.size_bytes for entry in left), newest_at))

    await for_each(list(operations), look, concurrency=LOOKS_AT_ONCE, name="leftovers")
    return sorted(found, key=lambda one: (one.newest_at, one.operation))


async def _state(store: Store, operation: str, entries: Sequence[Entry]) -> str | None:
    """How it ended; "" when it has no record; None while it is open, or nobody can tell."""
    if not any(entry.key == layout.record(operation) for entry in entries):
        return ""
    try:
        status = await newest_status(store, operation)
    except BadInput:
        return None
    return status.state if status is not None and status.is_ended else None


async def remove(store: Store, stores: Stores, left: Leftover) -> None:
    """Remove it, and what lies beside an OUT of the operation's. May be repeated; what came meanwhile is looked at again."""
    if left.state:
        status = await newest_status(store, left.operation)
        if status is not None and status.is_ended:
            journal = Journal(store, stores, await newest_epoch(store))
            await journal.clean_up(CleanUp(left.operation, status.state == "done", await _outside(journal, status)))
    elif await store.head(layout.record(left.operation)) is None:
        for prefix in (layout.result(left.operation), layout.staging(left.operation), layout.operation(left.operation)):
            await store.delete_prefix(prefix)
        await store.delete([layout.open_mark(left.operation)])


async def _outside(journal: Journal, status: OperationStatus) -> tuple[str, ...]:
    """Where tiles of it may lie beside its own places, by the plans that were saved."""
    try:
        plans = await journal.plans(status.id)
    except BadInput:  # then nobody can tell, and its own places are all that goes
        return ()
    return leftovers(set().union(*map(outputs, plans.values())), status.id, status.state)
