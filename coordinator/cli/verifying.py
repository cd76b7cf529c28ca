"""``tilefleet verify``: one operation, or all that can be, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import typer

from coordinator.cli import documents, render
from coordinator.cli.session import Session, run
from coordinator.cli.waiting import Manner, submit_and_follow, wait_for
from tilefleet.errors import ErrorInfo, OperationFailed, TilefleetError, WrongResult

if TYPE_CHECKING:
    from tilefleet.client import Client
    from tilefleet.operation import Operation


class Outcome(NamedTuple):
    """What came of checking one operation's result."""

    operation: str
    what: str
    verified_by: str | None
    verdict: str
    error: ErrorInfo | None = None


def verify_one(session: Session, op: str, manner: Manner) -> None:
    """Check one result; prints the verdict. Raises WrongResult, and what keeps it from being checked."""

    async def submit(client: Client) -> Operation:
        return await client.verify(op, command=session.command_line)

    wait_for(session, submit, manner)


def verify_all(session: Session, kind: str | None, manner: Manner) -> None:
    """Check every result of that kind; prints a table. Exits with 9 when one is wrong, 8 when one could not be checked."""
    outcomes = run(_verify_all(session, kind, manner))
    session.show(outcomes_text(outcomes), {"verified": [_document(outcome) for outcome in outcomes]})
    codes = {outcome.error.code for outcome in outcomes if outcome.error is not None}
    if codes:
        raise typer.Exit(WrongResult.exit_code if WrongResult.code in codes else OperationFailed.exit_code)


def outcomes_text(outcomes: list[Outcome]) -> str:
    """The table of ``verify --all``."""
    if not outcomes:
        return "no operation has a result to verify"
    return render.table([("OPERATION", "WHAT", "VERDICT"), *(one_row(outcome) for outcome in outcomes)])


def one_row(outcome: Outcome) -> tuple[str, str, str]:
    """One line of it; errors by their code first, so that they stand out."""
    verdict = f"{outcome.error.code}: {outcome.error.sentence}" if outcome.error else outcome.verdict
    return outcome.operation, outcome.what, verdict


async def _verify_all(session: Session, kind: str | None, manner: Manner) -> list[Outcome]:
    async with session.client() as client:
        candidates = [
            record
            for record, status in await client.operations()
            if status is not None and status.state == "done" and status.result is not None
            if record.kind != "verify" and kind in (None, record.kind)
        ]
        return [await _outcome(session, client, record.id, render.expression(record), manner) for record in candidates]


async def _outcome(session: Session, client: Client, name: str, what: str, manner: Manner) -> Outcome:
    async def submit(client: Client) -> Operation:
        return await client.verify(name, command=session.command_line)

    try:
        operation, status = await submit_and_follow(client, submit, manner)
    except TilefleetError as error:
        return Outcome(name, what, None, "", ErrorInfo.of(error))
    return Outcome(name, what, operation.id, (status.verdict or "correct") if status else f"submitted as {operation.id}")


def _document(outcome: Outcome) -> dict[str, object]:
    error = documents.error(outcome.error) if outcome.error else None
    return {"id": outcome.operation, "verified_by": outcome.verified_by, "verdict": outcome.verdict or None, "error": error}
