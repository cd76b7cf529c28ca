"""What happens to the scheduler, in the past tense. Every effect of a command comes back as one of these."""

from __future__ import annotations

import msgspec

from coordinator.core.plans import Part, Plan
from tilefleet.errors import ErrorInfo
from tilefleet.facts import Facts
from tilefleet.messages import Job, WorkerMessage
from tilefleet.records import OperationRecord, OperationStatus


class Adopted(msgspec.Struct, frozen=True):
    """An operation was taken up, new or from an earlier leader: its record and what the store knows of it."""

    record: OperationRecord
    plans: dict[Part, Plan] = {}
    done: dict[str, tuple[int, ...]] = {}
    """By stage: jobs whose output is in the store."""
    facts: dict[str, dict[int, Facts]] = {}
    """By stage: what those jobs found out."""
    status: OperationStatus | None = None
    is_cancelled: bool = False


class PlanSaved(msgspec.Struct, frozen=True):
    """A part of a plan is in the store: this one, which may be an earlier leader's instead of ours."""

    operation: str
    plan: Plan


class CancelAsked(msgspec.Struct, frozen=True):
    """Somebody wants an operation to end."""

    operation: str


class Heard(msgspec.Struct, frozen=True, gc=False):
    """A worker said something."""

    message: WorkerMessage


class DeadLettered(msgspec.Struct, frozen=True):
    """A job was delivered as often as the queue allows, and nobody finished it."""

    job: Job


class Deafened(msgspec.Struct, frozen=True):
    """Just now no worker could be heard, so the silence of all of them says nothing about them."""


class QueueLost(msgspec.Struct, frozen=True):
    """The jobs queue was gone and was made again, empty."""


class SendFailed(msgspec.Struct, frozen=True):
    """These jobs did not get into the queue."""

    jobs: tuple[Job, ...]


class EffectFailed(msgspec.Struct, frozen=True):
    """The store refused what an operation needs, for longer than it is worth waiting."""

    operation: str
    error: ErrorInfo


class CleanedUp(msgspec.Struct, frozen=True):
    """Everything temporary of an ended operation is gone, and it is no longer marked open."""

    operation: str


class Ticked(msgspec.Struct, frozen=True):
    """Time passed."""


Event = (
    Adopted
    | PlanSaved
    | CancelAsked
    | Heard
    | Deafened
    | DeadLettered
    | QueueLost
    | SendFailed
    | EffectFailed
    | CleanedUp
    | Ticked
)
