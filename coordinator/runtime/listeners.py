"""The coordinator's ears: long polls of the queues and looks into the store, each turned into events.

Every message is validated; one that is not ours, or not of this fleet, goes to the dead-letter queue with its reason.
What comes to the dead-letter queues is kept in the store (``dead_letters``).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import structlog

from coordinator.core.events import CancelAsked, DeadLettered, Deafened, Event, Heard
from coordinator.runtime.dead_letters import DeadLetters
from coordinator.runtime.journal import Journal
from tilefleet.backoff import Backoff
from tilefleet.errors import BadInput, NotFound, TilefleetError
from tilefleet.messages import Cancel, WorkerBye, decode_client, decode_worker
from tilefleet.queues import Queue, Received, reject
from tilefleet.sqs import SqsQueues

log = structlog.get_logger()

POLL_S = 20.0


class Listeners(NamedTuple):
    """What the loops need. ``restore`` makes lost queues again."""

    queues: SqsQueues
    journal: Journal
    fleet: str
    tell: Callable[[Event], None]
    restore: Callable[[], Awaitable[None]]
    stopping: asyncio.Event
    adopting: set[str]
    dead: DeadLetters

    async def operations(self) -> None:
        """Take up what clients submit, look at what they cancel."""
        await self._listen(self.queues.operations, lambda message: self._client_message(message.body))

    async def lines(self, reader: asyncio.StreamReader) -> None:
        """The same from clients of an embedded deployment, which its supervisor hands on; until it says no more."""
        while line := await reader.readline():
            body = line.decode(errors="replace")
            try:
                await self._client_message(body)
            except TilefleetError as error:  # what it told of lies in the store, and is found there
                log.warning("message_refused", queue="stdin", error=str(error), body=body[:200])

    async def completions(self) -> None:
        """Hear the workers."""
        await self._listen(self.queues.completions, self._worker_message)

    async def dead_jobs(self) -> None:
        """Jobs nobody finished in as many deliveries as the queue allows."""
        await self._listen(self.queues.dead(self.queues.jobs), self._dead_job)

    async def other_dead(self) -> None:
        """What clients and workers said that came to nothing."""
        await asyncio.gather(
            *(self._keep(self.queues.dead(queue)) for queue in (self.queues.operations, self.queues.completions))
        )

    async def _keep(self, queue: Queue) -> None:
        async def take(message: Received) -> None:
            await self.dead.take(message.body, queue.name, is_job=False)

        await self._listen(queue, take)

    async def inbox(self, every_s: float) -> None:
        """Take up what lies in the store, told or not: now, and again every so often. Cancels too."""
        while not self.stopping.is_set():
            try:
                for operation in await self.journal.open_operations():
                    await self._look_at(operation)
            except TilefleetError as error:
                log.warning("inbox_unreadable", error=str(error))
            await self._pause(every_s)

    async def _look_at(self, operation: str) -> None:
        try:
            await self.adopt(operation)
        except TilefleetError as error:  # it must not stand in the way of the others
            log.warning("operation_unreadable", operation=operation, error=str(error))

    async def adopt(self, operation: str) -> None:
        """Hand an operation to the scheduler, once; later calls only look whether it was cancelled.

        One whose record or plan nobody can read is ended with that error.
        """
        if operation in self.adopting:
            if await self.journal.is_cancelled(operation):
                self.tell(CancelAsked(operation))
            return
        self.adopting.add(operation)  # before it is read: two readers would tell of it twice, the second when it is over
        adopted = None
        try:
            adopted = await self.journal.load(operation)
        except BadInput as error:
            log.error("record_refused", operation=operation, error=str(error))
            await self.journal.refuse(operation, error)
            return
        finally:
            if adopted is None:
                self.adopting.discard(operation)
        if adopted is None:
            await self.journal.forget_unwritten(operation, time.time())
        else:
            log.info("operation_adopted", operation=operation, kind=adopted.record.kind, parts=list(adopted.plans))
            self.tell(adopted)

    async def _listen(self, queue: Queue, take: Callable[[Received], Awaitable[None]]) -> None:
        backoff = Backoff()
        while not self.stopping.is_set():
            try:
                received = await queue.receive(10, POLL_S)
                handled = [message.handle for message in received if await self._take(queue, message, take)]
                if handled:
                    await queue.delete(handled)
                backoff.reset()
            except NotFound:
                await self.restore()
            except TilefleetError as error:
                log.warning("poll_failed", queue=queue.name, error=str(error))
                if queue is self.queues.completions:
                    self.tell(Deafened())
                await self._pause(backoff.next_s())

    async def _take(self, queue: Queue, message: Received, take: Callable[[Received], Awaitable[None]]) -> bool:
        """True when the message is to be deleted."""
        try:
            await take(message)
        except BadInput as error:
            log.warning("message_refused", queue=queue.name, error=str(error), body=message.body[:200])
            await reject(self.queues, queue, message, str(error))
            return False
        return True

    async def _client_message(self, body: str) -> None:
        said = decode_client(body)
        self._check_fleet(said.fleet)
        if isinstance(said, Cancel) and said.operation in self.adopting:
            self.tell(CancelAsked(said.operation))
        else:
            await self.adopt(said.operation)

    async def _worker_message(self, message: Received) -> None:
        said = decode_worker(message.body)
        self._check_fleet(said.fleet)
        if isinstance(said, WorkerBye):
            log.info("worker_left", worker=said.worker, reason=said.reason)
        self.tell(Heard(said))

    async def _dead_job(self, message: Received) -> None:
        job = await self.dead.take(message.body, self.queues.dead(self.queues.jobs).name)
        if job is not None:
            log.error("job_dead", operation=job.operation, job=f"{job.stage}/{job.index}", attempt=job.attempt)
            self.tell(DeadLettered(job))

    def _check_fleet(self, fleet: str) -> None:
        if fleet != self.fleet:
            raise BadInput(f"a message of the fleet {fleet!r} came to the fleet {self.fleet!r}")

    async def _pause(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self.stopping.wait(), seconds)
        except TimeoutError:
            return
