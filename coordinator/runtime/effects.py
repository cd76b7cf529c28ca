"""Carries out the scheduler's commands. What concerns one operation happens in order; operations do not wait for each other.

A status that has not been written yet is replaced by a newer one. Every effect is tried again while the fault may pass;
what was promised to readers (the last status, cleaning up) for ever, the rest for ``PATIENCE_S``. Credentials that expired,
permissions and the right time are waited for without end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from coordinator.core.commands import Bury, CleanUp, Command, SavePlan, SendJobs, WriteStatus
from coordinator.core.events import CleanedUp, EffectFailed, Event, PlanSaved
from coordinator.runtime.dead_letters import DeadLetters
from coordinator.runtime.journal import Journal
from tilefleet.backoff import Backoff, persist
from tilefleet.credentials import Withheld, outlast
from tilefleet.errors import BadInput, ErrorInfo, TilefleetError

log = structlog.get_logger()

PATIENCE_S = 60.0
FOREVER_S = float("inf")
Effect = SavePlan | WriteStatus | CleanUp | Bury
T = TypeVar("T")


class Effects:
    """Per-operation queues of commands, each worked off by one task while there is something in it."""

    def __init__(self, journal: Journal, dead: DeadLetters, tasks: asyncio.TaskGroup, tell: Callable[[Event], None]) -> None:
        self._journal = journal
        self._dead = dead
        self._tasks = tasks
        self._tell = tell
        self._waiting: dict[str, deque[Effect]] = {}
        self._is_idle = asyncio.Event()
        self._is_idle.set()

    def carry_out(self, command: Effect) -> None:
        """Have it done, after what was asked before for the same operation."""
        operation = command.status.id if isinstance(command, WriteStatus) else command.operation
        waiting = self._waiting.get(operation)
        if waiting is None:
            self._is_idle.clear()
            self._waiting[operation] = deque([command])
            self._tasks.create_task(self._work_off(operation), name=f"effects-{operation}")
        elif isinstance(command, WriteStatus) and waiting and isinstance(waiting[-1], WriteStatus):
            waiting[-1] = command
        else:
            waiting.append(command)

    async def settle(self, for_s: float) -> bool:
        """Wait until nothing is being written, at most that long; False when something still is."""
        try:
            async with asyncio.timeout(for_s):
                await self._is_idle.wait()
        except TimeoutError:
            return False
        return True

    async def _work_off(self, operation: str) -> None:
        waiting = self._waiting[operation]
        while waiting:
            await self._do(operation, waiting.popleft())
        del self._waiting[operation]
        if not self._waiting:
            self._is_idle.set()

    async def _do(self, operation: str, command: Command) -> None:
        try:
            match command:
                case SavePlan():
                    plan = await _patiently(lambda: self._journal.save_plan(command), PATIENCE_S)
                    self._tell(PlanSaved(operation, plan))
                case WriteStatus():
                    patience_s = FOREVER_S if command.status.is_ended else PATIENCE_S
                    await _patiently(lambda: self._journal.write_status(command), patience_s)
                    _log_status(command)
                case CleanUp():
                    await _patiently(lambda: self._journal.clean_up(command), FOREVER_S)
                    self._tell(CleanedUp(operation))
                case Bury():
                    await _patiently(lambda: self._dead.bury(command.job, command.reason), PATIENCE_S)
                case SendJobs():
                    raise TypeError("jobs go through the dispatcher")
        except TilefleetError as error:
            log.error("effect_failed", operation=operation, effect=type(command).__name__, error=str(error))
            if not isinstance(command, WriteStatus | Bury):  # the next one says the same and more; the other is for people alone
                self._tell(EffectFailed(operation, ErrorInfo.of(error)))


async def _patiently(call: Callable[[], Awaitable[T]], for_s: float) -> T:
    def is_worth_it(error: TilefleetError) -> bool:
        return not isinstance(error, BadInput | Withheld)

    return await outlast(lambda: persist(call, for_s=for_s, backoff=Backoff(0.1, 10.0), is_worth_it=is_worth_it))


def _log_status(command: WriteStatus) -> None:
    status = command.status
    if status.is_ended:
        log.info(
            "operation_ended", operation=status.id, kind=status.kind, state=status.state, phases_s=status.phases_s,
            jobs=status.totals.jobs, attempts=status.totals.attempts, flops=status.totals.flops,
            bytes_read=status.totals.bytes_read, bytes_written=status.totals.bytes_written,
            check_worst=status.totals.check_worst, error=status.error.sentence if status.error else None,
        )  # fmt: skip
    else:
        log.debug("operation_status", operation=status.id, state=status.state)
