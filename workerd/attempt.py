"""One attempt at a job, from its memory to its verdict: what the coordinator is told, and the canonical log line.

Every end is one of three: done; failed, with the word whether another attempt may help; dropped, when the operation was
cancelled. Check and commit happened inside; the completion is posted after them, and the message is deleted last.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import NamedTuple

import msgspec
import structlog

from tilefleet.credentials import Withheld
from tilefleet.errors import Cancelled, DoesNotFit, ErrorInfo, TilefleetError, WrongResult
from tilefleet.messages import Job, JobTimes
from workerd.budget import Budget
from workerd.context import Context, Outcome
from workerd.jobs import dispatch
from workerd.smaller import fitting

log = structlog.get_logger()


class Failure(NamedTuple):
    """Why an attempt ended without a result."""

    error: ErrorInfo
    is_retryable: bool


Verdict = Outcome | Failure | None
"""None: dropped, nobody waits for it."""


async def attempt(context: Context, budget: Budget) -> Verdict:
    """Do the job of ``context`` when there is memory for it. Raises nothing but CancelledError."""
    job = context.job
    try:
        works, n_bytes = fitting(job, budget.limit_bytes)
        async with AsyncExitStack() as memory:
            with context.clock.phase("waited"):
                await memory.enter_async_context(budget.hold(n_bytes))
            context.checkpoint()
            outcome = together([await dispatch.run(work, context) for work in works])
    except Exception as error:  # noqa: BLE001 - a job must not take the worker with it
        if isinstance(error, MemoryError):
            budget.spares.keep_within(0)
        return _failure(job, error, context.clock.times())
    _log_done(job, outcome, context.clock.times(), len(works))
    log.debug("job_spans", **name_of(job), spans=context.clock.spans())
    return outcome


def together(outcomes: list[Outcome]) -> Outcome:
    """That of a job done in parts, none of which has facts."""
    checked = [outcome.check_worst for outcome in outcomes if outcome.check_worst is not None]
    return Outcome(outcomes[0].facts, max(checked, default=None))


def _failure(job: Job, error: Exception, times: JobTimes) -> Failure | None:
    if isinstance(error, Cancelled):
        log.info("job_dropped", **name_of(job), reason=str(error))
        return None
    failure = judge(error)
    is_ours = isinstance(error, TilefleetError | MemoryError)
    log.warning(
        "job_failed", **name_of(job), code=failure.error.code, error=failure.error.sentence, retryable=failure.is_retryable,
        total_s=times.total_s, exc_info=None if is_ours else error,
    )  # fmt: skip
    return failure


def judge(error: Exception) -> Failure:
    """Whether another attempt may help, on this worker or another."""
    if isinstance(error, MemoryError):
        full = DoesNotFit(f"a worker ran out of memory during a job ({error}); give workers more memory or lower worker.memory")
        return Failure(ErrorInfo.of(full), is_retryable=True)
    if isinstance(error, TilefleetError):
        may_pass = error.is_retryable or isinstance(error, WrongResult | Withheld)
        return Failure(ErrorInfo.of(error), is_retryable=may_pass)
    return Failure(ErrorInfo.of(error), is_retryable=True)


def _log_done(job: Job, outcome: Outcome, times: JobTimes, n_parts: int) -> None:
    flops_per_s = round(times.flops / times.computed_s) if times.flops and times.computed_s else 0
    log.info(
        "job_done", **name_of(job), work=type(job.work).__name__.lower(), **msgspec.structs.asdict(times),
        flops_per_s=flops_per_s, check_worst=outcome.check_worst, **({"parts": n_parts} if n_parts > 1 else {}),
    )  # fmt: skip


def name_of(job: Job) -> dict[str, object]:
    """A job's name, as it stands in log lines."""
    return {"operation": job.operation, "job": f"{job.stage}/{job.index}", "attempt": job.attempt}
