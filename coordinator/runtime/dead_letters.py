"""What came to the dead-letter queues is kept in the store, where people can list and read it; the newest ``KEPT``.

A queue is no place to keep things: whoever looks at a message hides it from the others, and each look counts as a delivery.
"""

from __future__ import annotations

import hashlib
import time

import msgspec
import structlog

from tilefleet import layout
from tilefleet.errors import BadInput
from tilefleet.ids import is_operation_id
from tilefleet.messages import Job, decode_job, encode
from tilefleet.queues import Rejected
from tilefleet.records import DeadLetter, to_json
from tilefleet.sqs import DEAD_SUFFIX
from tilefleet.store import Store

log = structlog.get_logger()

UNTAKEN = "it was delivered as often as the queue allows, and nobody took it up"
KEPT = 1000  # a listing's page; a flood of foreign messages fills no store


def examined(body: str, fleet: str, queue: str, at: float, *, is_job: bool = True) -> tuple[DeadLetter, Job | None]:
    """What a dead letter is, and the job of this fleet that died, if it is one. ``is_job``: the queue is that of jobs."""
    rejected = Rejected.of(body)
    if rejected is not None:
        return DeadLetter(at, queue, rejected.reason, rejected.body), None
    if not is_job:
        return DeadLetter(at, queue, UNTAKEN, body, _operation_of(body)), None
    try:
        job = decode_job(body)
    except BadInput as error:
        return DeadLetter(at, queue, str(error), body), None
    if job.fleet != fleet:
        return DeadLetter(at, queue, f"a job of the fleet {job.fleet!r} came to the fleet {fleet!r}", body, job.operation), None
    reason = f"job {job.stage}/{job.index} was delivered as often as the queue allows, and no worker ended it"
    return DeadLetter(at, queue, reason, body, job.operation), job


class _Named(msgspec.Struct):
    operation: str = ""


def _operation_of(body: str) -> str:
    try:
        named = msgspec.json.decode(body, type=_Named).operation
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return ""
    return named if is_operation_id(named) else ""


class DeadLetters:
    """The dead letters of one deployment's store."""

    def __init__(self, store: Store, fleet: str) -> None:
        self._store = store
        self._fleet = fleet

    async def take(self, body: str, queue: str, *, is_job: bool = True) -> Job | None:
        """Keep a letter, once however often it is delivered; the job of this fleet that died, if it is one."""
        letter, job = examined(body, self._fleet, queue, time.time(), is_job=is_job)
        await self._keep(letter)
        return job

    async def bury(self, job: Job, reason: str) -> None:
        """Keep a job that the scheduler has given up."""
        await self._keep(DeadLetter(time.time(), f"{self._fleet}-jobs{DEAD_SUFFIX}", reason, encode(job), job.operation))

    async def _keep(self, letter: DeadLetter) -> None:
        key = layout.dead(_name(letter))
        if await self._store.put_new(key, to_json(letter)):
            log.warning("dead_letter", queue=letter.queue, operation=letter.operation, reason=letter.reason, key=key)
            await self._trim()

    async def _trim(self) -> None:
        found = [entry async for entry in self._store.entries(layout.DEAD)]
        found.sort(key=lambda entry: entry.modified_at, reverse=True)
        await self._store.delete(entry.key for entry in found[KEPT:])


def _name(letter: DeadLetter) -> str:
    """The same for the same letter, so that it is kept once."""
    content = msgspec.json.encode((letter.queue, letter.reason, letter.body))
    whose = letter.operation if is_operation_id(letter.operation) else "message"
    return f"{whose}-{hashlib.sha256(content).hexdigest()[:16]}"
