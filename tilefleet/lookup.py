"""Finding operations in the store, and remembering which one was the last from here.

The rule: the memory of "last" is a convenience in the user's state directory; what exists is what the store says.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TypeVar

from tilefleet import layout, local
from tilefleet.bounded import for_each
from tilefleet.errors import BadInput, NotFound
from tilefleet.ids import is_operation_id, is_prefix
from tilefleet.local_state import write_private
from tilefleet.records import OperationRecord, OperationStatus, from_json
from tilefleet.session import Session
from tilefleet.statuses import newest_status

T = TypeVar("T")

CONCURRENCY = 16
LAST = "last"
CANDIDATES_SHOWN = 8


async def operations(session: Session) -> list[tuple[OperationRecord, OperationStatus | None]]:
    """Every operation with its status, newest first."""
    found: list[tuple[OperationRecord, OperationStatus | None]] = []

    async def look(operation: str) -> None:
        record = await read_record(session, operation)
        if record is not None:
            found.append((record, await newest_status(session.store, operation)))

    await for_each(await _ids(session), look, concurrency=CONCURRENCY, name="list")
    return sorted(found, key=lambda one: one[0].submitted_at, reverse=True)


async def find(session: Session, prefix: str, user: str) -> OperationRecord:
    """The record of the operation that ``prefix`` or "last" means. Raises NotFound, and BadInput when it means several."""
    if prefix == LAST:
        return await _last(session, user)
    prefix = prefix.lower()
    if not is_prefix(prefix):
        raise BadInput(f"{prefix!r} is not an operation id; see 'tilefleet list', or write 'last' for your newest")
    matching = [prefix] if is_operation_id(prefix) else [one for one in await _ids(session) if one.startswith(prefix)]
    if len(matching) > 1:
        shown = ", ".join(sorted(matching)[:CANDIDATES_SHOWN]) + (", …" if len(matching) > CANDIDATES_SHOWN else "")
        raise BadInput(f"{prefix!r} could be any of {len(matching)} operations: {shown}; write more of the id")
    record = await read_record(session, matching[0]) if matching else None
    if record is None:
        raise NotFound(f"there is no operation {prefix}; 'tilefleet list' shows those in {session.store.url}")
    return record


async def read_record(session: Session, operation: str) -> OperationRecord | None:
    """What was asked for; None when there is no such operation (any more)."""
    key = layout.record(operation)
    try:
        data = bytes(await session.store.get(key))
    except NotFound:
        return None
    return from_json(data, OperationRecord, session.store.url_of(key))


def remember(session: Session, operation: str) -> None:
    """Make this operation the last from here. Where that cannot be written, the record's time and user must do."""
    path = _memory(session)
    try:
        for directory in (path.parent.parent, path.parent):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, operation.encode("ascii"))
    except OSError:
        return


async def _ids(session: Session) -> list[str]:
    return [name for name in await session.store.folders(layout.OPERATIONS) if is_operation_id(name)]


async def _last(session: Session, user: str) -> OperationRecord:
    remembered = _remembered(session)
    record = await read_record(session, remembered) if remembered else None
    if record is not None:
        return record
    mine = [record for record, _ in await operations(session) if record.submitted_by == user and record.kind != "verify"]
    if not mine:
        raise NotFound(f"{user} has submitted no operation to {session.store.url} yet, so there is no 'last'")
    return mine[0]


def _remembered(session: Session) -> str | None:
    try:
        text = _memory(session).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return text if is_operation_id(text) else None


def _memory(session: Session) -> Path:
    deployment = hashlib.sha256(session.store.url.encode()).hexdigest()[:16]
    return local.state_dir(session.config) / LAST / deployment
