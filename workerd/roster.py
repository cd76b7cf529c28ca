"""The jobs in hand, and what a worker says to the coordinator about them. No waiting, no I/O."""

from __future__ import annotations

from typing import NamedTuple

from tilefleet.errors import BadInput, ErrorInfo
from tilefleet.messages import (
    Job,
    JobDone,
    JobFailed,
    JobTimes,
    WorkerBye,
    WorkerHeartbeat,
    WorkerHello,
    encode,
)
from workerd.context import Outcome

REASON_CHARACTERS = 500  # of why a completion was refused: it must not be refused for the same


class Identity(NamedTuple):
    """Who speaks: a new incarnation under the same name means that the old process is gone."""

    fleet: str
    worker: str
    incarnation: str


class Roster:
    """Who we are and what we hold; makes every message that leaves."""

    def __init__(self, hello: WorkerHello) -> None:
        self.identity = Identity(hello.fleet, hello.worker, hello.incarnation)
        self._hello = hello
        self._held: dict[str, Job] = {}

    def __len__(self) -> int:
        return len(self._held)

    @property
    def jobs(self) -> list[Job]:
        return list(self._held.values())

    @property
    def handles(self) -> list[str]:
        return list(self._held)

    def take(self, handle: str, job: Job) -> None:
        """It is in hand from now on."""
        self._held[handle] = job

    def drop(self, handle: str) -> None:
        """It was completed, given back or lost."""
        self._held.pop(handle, None)

    def hello(self) -> str:
        return encode(self._hello)

    def heartbeat(self) -> str:
        held = tuple((job.operation, job.stage, job.index, job.attempt) for job in self._held.values())
        return encode(WorkerHeartbeat(*self.identity, held))

    def bye(self, reason: str = "") -> str:
        return encode(WorkerBye(*self.identity, reason))

    def done(self, job: Job, outcome: Outcome, times: JobTimes) -> str:
        return encode(
            JobDone(*self.identity, job.operation, job.stage, job.index, job.attempt, times, outcome.check_worst, outcome.facts)
        )

    def failed(self, job: Job, error: ErrorInfo, *, is_retryable: bool) -> str:
        return encode(
            JobFailed(*self.identity, job.operation, job.stage, job.index, job.attempt, error, is_retryable=is_retryable)
        )

    def refused(self, job: Job, error: BadInput) -> str:
        """The job ended, and the queue does not take its completion: another attempt would end the same."""
        reason = str(error).encode("ascii", "replace").decode()[:REASON_CHARACTERS]
        told = BadInput(f"the completion of job {job.stage}/{job.index} could not be sent: {reason}")
        return self.failed(job, ErrorInfo.of(told), is_retryable=False)
