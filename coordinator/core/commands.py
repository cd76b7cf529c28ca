"""What the scheduler wants done, imperative. The shell carries it out and reports back by events."""

from __future__ import annotations

import msgspec

from coordinator.core.plans import Plan
from tilefleet.messages import Job
from tilefleet.records import OperationStatus


class SavePlan(msgspec.Struct, frozen=True):
    """Write the plan unless there is one; answer ``PlanSaved`` with the one that is there."""

    operation: str
    plan: Plan


class SendJobs(msgspec.Struct, frozen=True):
    """Put these into the jobs queue; answer ``SendFailed`` for those that did not get in."""

    jobs: tuple[Job, ...]


class WriteStatus(msgspec.Struct, frozen=True):
    """Replace this leader's status object of the operation; a newer one of the same operation may overtake it."""

    status: OperationStatus


class CleanUp(msgspec.Struct, frozen=True):
    """Remove what is temporary, and the result too unless it is kept, then the open mark; answer ``CleanedUp``."""

    operation: str
    keeps_result: bool
    urls: tuple[str, ...] = ()
    """Beside the operation's own prefixes: where tiles of an unfinished result may lie."""


class Bury(msgspec.Struct, frozen=True):
    """Keep a job that is given up among the dead letters, for people: what it was, and why. Nothing is answered."""

    job: Job
    reason: str

    @property
    def operation(self) -> str:
        return self.job.operation


Command = SavePlan | SendJobs | WriteStatus | CleanUp | Bury
