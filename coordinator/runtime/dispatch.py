"""Sends jobs, ten to a batch, as fast as the queue takes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from coordinator.core.events import Event, SendFailed
from tilefleet.backoff import Backoff
from tilefleet.errors import NotFound, TilefleetError
from tilefleet.messages import Job, encode
from tilefleet.queues import BATCH, Queue

log = structlog.get_logger()


class Dispatcher:
    """Jobs on their way into the queue. Those that do not get in come back as ``SendFailed``."""

    def __init__(self, queue: Queue, tell: Callable[[Event], None], restore: Callable[[], Awaitable[None]]) -> None:
        self._queue = queue
        self._tell = tell
        self._restore = restore
        self._waiting: list[Job] = []
        self._has_some = asyncio.Event()

    def send(self, jobs: tuple[Job, ...]) -> None:
        """Send these as soon as possible."""
        self._waiting.extend(jobs)
        self._has_some.set()

    async def run(self) -> None:
        """Send for ever."""
        backoff = Backoff()
        while True:
            await self._has_some.wait()
            batch, self._waiting = self._waiting[:BATCH], self._waiting[BATCH:]
            if not self._waiting:
                self._has_some.clear()
            if batch and not await self._send(batch):
                await backoff.sleep()
            else:
                backoff.reset()

    async def _send(self, batch: list[Job]) -> bool:
        try:
            await self._queue.send([encode(job) for job in batch])
        except TilefleetError as error:
            log.warning("send_failed", jobs=len(batch), error=str(error))
            self._tell(SendFailed(tuple(batch)))
            if isinstance(error, NotFound):
                await self._restore()
            return False
        for job in batch:
            log.debug("job_sent", operation=job.operation, job=f"{job.stage}/{job.index}", attempt=job.attempt)
        return True
