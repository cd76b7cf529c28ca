"""Submit an operation, show how it goes, and say how it ended.

Ctrl-C while waiting cancels the operation; a second one leaves at once. Watching somebody's operation is not owning it:
there Ctrl-C only stops watching.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from coordinator.cli import documents, render
from coordinator.cli.options import Comparison, Progress
from coordinator.cli.session import Session, run
from tilefleet.errors import TilefleetError
from tilefleet.matrix import place_text

if TYPE_CHECKING:
    from tilefleet.client import Client
    from tilefleet.operation import Operation
    from tilefleet.records import OperationStatus
    from tilefleet.submission import Request

    Submit = Callable[[Client], Awaitable[Operation]]

INTERRUPTED = 130
CANCEL_DEADLINE_S = 10.0
WORKERS_EVERY_S = 2.0


@dataclass(frozen=True)
class Manner:
    """How a user wants to wait."""

    is_waiting: bool = True
    progress: Progress = Progress.SUMMARY
    phases: Sequence[str] = render.PHASES
    compare: Comparison | None = None
    is_quiet: bool = False

    @classmethod
    def of(cls, no_wait: bool, progress: Progress, time: str, compare: Comparison | None, quiet: bool) -> Manner:
        """From the options. Raises BadInput for a phase that does not exist."""
        if no_wait and compare:
            raise typer.BadParameter("--compare needs the operation's end; leave out --no-wait")
        return cls(not no_wait, Progress.NONE if quiet else progress, render.chosen_phases(time), compare, quiet)


def carry_out(session: Session, request: Request, manner: Manner) -> None:
    """Submit a request, wait, report. Raises the operation's own error; exits with 130 when interrupted."""
    wait_for(session, lambda client: client.submit(request), manner)


def wait_for(session: Session, submit: Submit, manner: Manner) -> None:
    """As ``carry_out``, for anything that submits."""

    async def work() -> tuple[Operation, OperationStatus | None]:
        async with session.client() as client:
            return await submit_and_follow(client, submit, manner)

    operation, status = run(work())
    if status is None:
        session.show(operation.id, {"id": operation.id})
        if operation.save_to:
            place = place_text(operation.save_to)
            session.remark(f"the workers cannot write {place}: fetch it later with: tilefleet get {operation.id} {place}")
        return
    numpy_s = _numpy_times(session, operation, status) if manner.compare is Comparison.NUMPY else None
    if not manner.is_quiet:
        show_report(session, operation, status, manner.phases, numpy_s)


async def submit_and_follow(client: Client, submit: Submit, manner: Manner) -> tuple[Operation, OperationStatus | None]:
    """Submit and wait; no status when waiting is not wanted. When interrupted, cancels the operation and exits with 130."""
    from coordinator.cli.live import busy

    with busy("looking at the inputs, finding the workers …", manner.progress):
        operation = await submit(client)
    if not manner.is_waiting:
        return operation, None
    try:
        return operation, await follow(client, operation, manner.progress)
    except asyncio.CancelledError:
        await _give_up(operation)
        raise typer.Exit(INTERRUPTED) from None


async def follow(client: Client, operation: Operation, level: Progress) -> OperationStatus:
    """Show the operation's progress to its end. Raises its error."""
    from coordinator.cli.live import busy, display

    with display(operation.record, level) as shown:
        looking = asyncio.create_task(_look_at_workers(client, shown), name="workers") if level is Progress.FULL else None
        try:
            async for status in operation.progress():
                shown.update(status)
        finally:
            if looking is not None:
                looking.cancel()
    with busy("fetching the result …", level if operation.save_to else Progress.NONE):
        return await operation.wait()


async def _look_at_workers(client: Client, shown: object) -> None:
    from coordinator.cli.live import Display

    assert isinstance(shown, Display)  # noqa: S101  for the type checker: live is imported late
    while True:
        try:
            shown.control = await client.control()
        except TilefleetError:
            shown.control = None  # the workers' lines are a courtesy
        await asyncio.sleep(WORKERS_EVERY_S)


async def _give_up(operation: Operation) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, os._exit, INTERRUPTED)
    typer.echo(f"tilefleet: interrupted; cancelling operation {operation.id} (Ctrl-C again leaves at once)", err=True)
    await operation.cancel()
    try:
        async with asyncio.timeout(CANCEL_DEADLINE_S):
            await operation.wait()
    except (TilefleetError, TimeoutError):
        return  # cancelled, or about to be: the request lies in the store


def _numpy_times(session: Session, operation: Operation, status: OperationStatus) -> Mapping[str, float] | None:
    from coordinator.cli.compare import time_numpy

    session.remark("timing the same with NumPy on this machine …")
    try:
        return time_numpy(operation.record, status)
    except TilefleetError as error:  # the operation itself went well
        session.remark(f"tilefleet: {error}")
        return None


def show_report(
    session: Session,
    operation: Operation,
    status: OperationStatus,
    phases: Sequence[str] = render.PHASES,
    numpy_s: Mapping[str, float] | None = None,
) -> None:
    """How a finished operation went: where its result is, how it was checked, its times."""
    record = operation.record
    place = place_text(operation.save_to) if operation.save_to else None
    text = render.report(record, status, kept_for=session.config().fleet.keep_results, place=place)
    timed = render.times(status.phases_s, phases, numpy_s)
    document = {**documents.operation(record, status, numpy_s), "out": operation.save_to or record.out.url}
    session.show(f"{text}\n\n{timed}" if timed else text, document)
