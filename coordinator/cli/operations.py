"""The commands about operations: list, show, watch, cancel, verify, get, delete."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli import documents, render
from coordinator.cli.door import command
from coordinator.cli.options import NoWaitOption, OperationId, OverwriteOption, Place, Progress, ProgressOption
from coordinator.cli.session import Session, run
from coordinator.cli.waiting import Manner, follow, show_report
from tilefleet.matrix import place_text

if TYPE_CHECKING:
    from tilefleet.operation import Operation
    from tilefleet.records import OperationRecord, OperationStatus

FAMILY = "Operations"

KindOption = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only operations of this kind: multiply, add, …")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="N", min=1, help="How many to show at most.")]
Operations = Annotated[
    list[str], typer.Argument(metavar="OP...", help='Operation ids, unambiguous beginnings of them, or "last".')
]


@command(
    "list",
    under=FAMILY,
    examples=(
        ("tilefleet list", "the newest operations"),
        ("tilefleet list --kind multiply --json", "products, for a program"),
    ),
)
def list_operations(session: Session, kind: KindOption = None, limit: Limit = 50) -> None:
    """Operations the store knows, newest first. Starts nothing."""
    found = [item for item in run(_all(session)) if kind in (None, item[0].kind)][:limit]
    document = {"operations": [documents.operation(*item) for item in found]}
    session.show(render.listing(found, _now()) if found else "no operations yet", document)


@command(
    "show",
    under=FAMILY,
    examples=(
        ("tilefleet show last", "the newest operation: what, where, stages, times"),
        ("tilefleet show 7k2 --json", "by the beginning of its id, for a program"),
    ),
)
def show(session: Session, op: OperationId) -> None:
    """Everything that is known about an operation. Starts nothing."""
    record, status = run(_look(session, op))
    session.show(render.details(record, status), documents.operation(record, status))


@command(
    "watch",
    under=FAMILY,
    examples=(
        ("tilefleet watch last", "bars for each stage, and the workers"),
        ("tilefleet watch last --progress none", "just wait, and end with its exit code"),
        ("tilefleet watch last --json", "a line of JSON for each change"),
    ),
)
def watch(session: Session, op: OperationId, progress: ProgressOption = Progress.FULL) -> None:
    """Follow an operation to its end; ends as it ends. Ctrl-C stops watching, not the operation. Starts nothing."""
    operation, status = run(_watch(session, op, progress))
    if not session.is_json and progress is not Progress.NONE:
        show_report(session, operation, status)


@command("cancel", under=FAMILY, examples=(("tilefleet cancel last", "its jobs are dropped, what is half-made is removed"),))
def cancel(session: Session, op: OperationId) -> None:
    """Cancel an operation. One that has ended stays as it is."""
    record, status = run(_cancel(session, op))
    is_over = status is not None and status.is_ended
    text = (
        f"operation {record.id} had ended already: {render.state_text(status)}"
        if is_over
        else f"cancelling operation {record.id}"
    )
    session.show(text, documents.operation(record, status))


@command(
    "verify",
    under=FAMILY,
    examples=(
        ("tilefleet verify last", "read result and operands again and compare"),
        ("tilefleet verify --all --kind multiply", "every product whose result is still there"),
    ),
)
def verify(
    session: Session,
    op: Annotated[str | None, typer.Argument(metavar="OP", help='An operation id, a beginning of one, or "last".')] = None,
    every: Annotated[bool, typer.Option("--all", help="Every operation that is done and whose result is still there.")] = False,
    kind: KindOption = None,
    progress: ProgressOption = Progress.SUMMARY,
    no_wait: NoWaitOption = False,
) -> None:
    """Check results against their operands, as they lie in the store now. Exit code 9 when one is wrong."""
    from coordinator.cli.verifying import verify_all, verify_one

    if (op is None) == (not every):
        raise typer.BadParameter("name an operation, or give --all")
    if op is not None and kind is not None:
        raise typer.BadParameter("--kind goes with --all")
    manner = Manner(is_waiting=not no_wait, progress=progress)
    if op is not None:
        verify_one(session, op, manner)
    else:
        verify_all(session, kind, manner)


@command(
    "repair",
    under=FAMILY,
    examples=(("tilefleet repair 7k2", "compute the damaged tiles of its result again, and no others"),),
)
def repair(session: Session, op: OperationId, progress: ProgressOption = Progress.SUMMARY, no_wait: NoWaitOption = False) -> None:
    """Look at every tile of a result that the fleet keeps, and have those that are damaged or missing computed again.

    The operation goes on as after a crash; its operands must still be what they were."""
    operation, found = run(_repair(session, op, progress, is_waiting=not no_wait))
    what = render.count_text(len(found), "damaged tile")
    document = {"id": operation.id, "repaired": [list(index) for index in found]}
    session.show(f"{what} of operation {operation.id}" + (" computed again" if found and not no_wait else ""), document)


@command(
    "get",
    under=FAMILY,
    examples=(
        ("tilefleet get last c.npy", "the newest result, as a NumPy file"),
        ("tilefleet get 7k2 c.csv.gz --overwrite", "as compressed text, replacing the file"),
    ),
)
def get(session: Session, op: OperationId, out: Place, overwrite: OverwriteOption = False) -> None:
    """Fetch the result of an operation to a file or URL, in any format. Starts nothing."""
    record, url = run(_get(session, op, out, overwrite))
    session.show(f"result of {record.id} in {place_text(url)}", {"id": record.id, "url": url})


@command(
    "delete", under=FAMILY, examples=(("tilefleet delete 7k2 9qd", "remove two operations and what the fleet keeps of them"),)
)
def delete(session: Session, op: Operations) -> None:
    """Remove operations and the results that the fleet keeps of them. Files you named with -o stay."""
    ids = run(_delete(session, op))
    session.show("\n".join(f"deleted operation {name}" for name in ids), {"deleted": ids})


def _now() -> float:
    import time

    return time.time()


async def _all(session: Session) -> list[tuple[OperationRecord, OperationStatus | None]]:
    async with session.client() as client:
        return await client.operations()


async def _look(session: Session, op: str) -> tuple[OperationRecord, OperationStatus | None]:
    async with session.client() as client:
        operation = await client.find(op)
        return operation.record, await operation.status()


async def _watch(session: Session, op: str, level: Progress) -> tuple[Operation, OperationStatus]:
    async with session.client() as client:
        operation = await client.find(op)
        if session.is_json:
            return operation, await _print_changes(session, operation)
        return operation, await follow(client, operation, level)


async def _repair(session: Session, op: str, level: Progress, *, is_waiting: bool) -> tuple[Operation, list[tuple[int, int]]]:
    from tilefleet.repair import repair as begin

    async with session.client() as client:
        operation = await client.find(op)
        found = await begin(client.session, operation)
        if found and is_waiting:
            await follow(client, operation, Progress.NONE if session.is_json else level)
        return operation, found


async def _print_changes(session: Session, operation: Operation) -> OperationStatus:
    async for status in operation.progress():
        session.say(json.dumps(documents.operation(operation.record, status), ensure_ascii=False))
    return await operation.wait()


async def _cancel(session: Session, op: str) -> tuple[OperationRecord, OperationStatus | None]:
    async with session.client() as client:
        operation = await client.find(op)
        status = await operation.status()
        if status is None or not status.is_ended:
            await operation.cancel()
        return operation.record, status


async def _get(session: Session, op: str, out: str, overwrite: bool) -> tuple[OperationRecord, str]:
    async with session.client() as client:
        operation = await client.find(op)
        return operation.record, await operation.save(out, overwrite=overwrite)


async def _delete(session: Session, prefixes: list[str]) -> list[str]:
    async with session.client() as client:
        found = [await client.find(prefix) for prefix in prefixes]  # all are looked for before the first is removed
        await asyncio.gather(*(operation.delete() for operation in found))
        return [operation.id for operation in found]
