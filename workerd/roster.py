"""The jobs in hand, and what a worker says to the coordinator about them. No waiting, no I/O."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from tilefleet.errors import BadInput, ErrorInfo
from tilefleet.messages import (
    Gemm,
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
TELLING_S = 0.5  # products that compute for less say little about a machine's speed
DEEP = 256  # and those with fewer terms say more about its memory
# Real operations in the time of one of float64, as coordinator.core.cost has it.
TIMES_AS_FAST = {"float64": 1.0, "float32": 2.0, "complex128": 1.0, "complex64": 2.0}
NEWS = 0.03  # another speed than the one that was told, by more than this part of it


class Identity(NamedTuple):
    """Who speaks: a new incarnation under the same name means that the old process is gone."""

    fleet: str
    worker: str
    incarnation: str


class Speeds(NamedTuple):
    """What the planner reckons with, as ``hello`` tells it."""

    flops_per_s: float
    bytes_per_s: float


class Roster:
    """Who we are and what we hold; makes every message that leaves."""

    def __init__(self, hello: WorkerHello) -> None:
        self.identity = Identity(hello.fleet, hello.worker, hello.incarnation)
        self._hello = hello
        self._speeds = Speeds(hello.flops_per_s, hello.bytes_per_s)
        self._is_taught = False
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

    def note_measured(self, speeds: Speeds) -> None:
        """The best counts, as others can only have kept the machine busy; but what products took says more."""
        flops_per_s, bytes_per_s = (max(pair) for pair in zip(self._speeds, speeds, strict=True))
        self._speeds = Speeds(self._speeds.flops_per_s if self._is_taught else flops_per_s, bytes_per_s)

    def note_speed(self, job: Job, times: JobTimes) -> None:
        """Learn a worker's speed from its products."""
        work = job.work
        if not isinstance(work, Gemm) or work.product_dtype not in TIMES_AS_FAST:
            return
        if work.k1 - work.k0 >= DEEP and times.computed_s >= TELLING_S:
            flops_per_s = times.flops / times.computed_s / TIMES_AS_FAST[work.product_dtype]
            self._speeds, self._is_taught = self._speeds._replace(flops_per_s=flops_per_s), True

    @property
    def has_news(self) -> bool:
        """Whether its speeds are no longer what ``hello`` told."""
        told = Speeds(self._hello.flops_per_s, self._hello.bytes_per_s)
        return any(abs(now / before - 1) > NEWS for now, before in zip(self._speeds, told, strict=True))

    def hello(self) -> str:
        self._hello = msgspec.structs.replace(self._hello, **self._speeds._asdict())
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
