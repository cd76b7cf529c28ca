"""How long the scheduler waits for what: pure questions about attempts that are out, and their answers.

Nothing waits without a bound: an attempt nobody holds is sent again; one that takes too long is doubled; an operation
without any worker fails; the leftovers of an ended one are removed once nobody can write for it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from coordinator.core.operation_run import OperationRun
from coordinator.core.settings import SchedulerSettings
from coordinator.core.stage_run import Attempt, StageRun
from coordinator.core.stragglers import MOST_DOUBLED, is_overdue, is_straggling, least_patience_s
from coordinator.core.workers import Workers
from tilefleet.errors import ErrorInfo, OperationFailed, TilefleetError, Unreachable

FIRST_RETRY_S = 0.1
LONGEST_RETRY_S = 10.0
LET_GO_AT_MOST_S = 900.0  # a job that hangs keeps an ended operation's leftovers no longer; what it writes then stays for gc

STATUS_EVERY_S = 0.25  # people read it; a large operation finishes thousands of jobs a second
STATUSES_PER_S = 100.0  # of all operations that go on: beyond that, telling of jobs would cost more than doing them

Out = tuple[OperationRun, StageRun, int, Attempt]
"""An attempt that is out: of which operation and stage, at which job."""


def unheld(stages: Iterable[tuple[OperationRun, StageRun]], settings: SchedulerSettings, now: float) -> Iterator[Out]:
    """Jobs whose message may have been swallowed: sent long ago, and no worker says that it holds them.

    Two leases and the time the queue before it may take, by the plan's own prediction.
    """
    for run, stage in stages:
        waits_s = 2 * settings.lease_s + 4 * settings.jobs_per_worker * stage.stage.job_s
        for index, attempt in stage.out_longer_than(waits_s, now):
            if attempt.holder is None:
                yield run, stage, index, attempt


def straggling(stages: Iterable[tuple[OperationRun, StageRun]], workers: Workers, now: float) -> Iterator[tuple[StageRun, int]]:
    """Jobs worth another attempt: slow ones twice, those that hang again and again. None while their end could not be heard."""
    if workers.is_deaf(now):
        return
    for run, stage in stages:
        if run.is_ended or not stage.out:
            continue
        median_s, predicted_s, is_tail = stage.median_s(), stage.stage.job_s, stage.is_all_sent
        for index, attempt in stage.out_longer_than(least_patience_s(median_s, predicted_s, is_tail=is_tail), now):
            if attempt.holder is None:
                continue
            held_s = now - attempt.held_since
            is_slow = stage.n_doubled(index) < MOST_DOUBLED and is_straggling(held_s, median_s, is_tail=is_tail)
            if is_slow or is_overdue(held_s, predicted_s, attempt.number):
                yield stage, index


def status_every_s(n_operations: int) -> float:
    """How long the status of an operation that goes on stays as it was written. Ends are told at once."""
    return max(STATUS_EVERY_S, n_operations / STATUSES_PER_S)


def retry_delay_s(attempt: int) -> float:
    """How long a job that failed waits for its next attempt: what it failed for may take a moment to pass."""
    return min(FIRST_RETRY_S * 4.0 ** min(attempt, 10), LONGEST_RETRY_S)


def is_let_go(run: OperationRun, workers: Workers, settings: SchedulerSettings, now: float) -> bool:
    """Whether every worker has read that the operation is over, and reported since that it holds nothing of it.

    A worker drops the job in hand before it commits, so one that hangs for long is waited for no longer.
    """
    if run.ended is None:
        return False
    told = run.ended + 2 * settings.beacon_s + 1.0
    if now > told + LET_GO_AT_MOST_S:
        return True
    return now > told and all(worker.heartbeat > told and all(held[0] != run.id for held in worker.held) for worker in workers)


def no_worker_error(settings: SchedulerSettings) -> ErrorInfo:
    """Why an operation fails that no worker came for."""
    return ErrorInfo.of(
        Unreachable(
            f"no worker was heard for {settings.no_worker_timeout_s:.0f} s; start workerd on a node (systemctl start workerd) "
            f"and submit the operation again"
        )
    )


def unplanned_error(run: OperationRun, error: Exception) -> ErrorInfo:
    """Why an operation has no plan: what is wrong with it, or with the planner."""
    if isinstance(error, TilefleetError):
        return ErrorInfo.of(error)
    found = f"operation {run.id} met a bug in the planner ({type(error).__name__}: {error}); please report it"
    return ErrorInfo.of(TilefleetError(found))


def given_up_error(run: OperationRun, stage: StageRun, index: int, why: str) -> ErrorInfo:
    """Why an operation fails one of whose jobs cannot be done."""
    return ErrorInfo.of(
        OperationFailed(
            f"job {stage.stage.name}[{index}] of operation {run.id} was given up {why}; the logs of the workers say more, and "
            f"the operation can be submitted again"
        )
    )
