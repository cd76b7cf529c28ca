"""Completions on their way to the coordinator. A job message is deleted only after its completion was sent.

Whatever gathered while the last batch was sent goes with the next one, so a busy worker sends few, full batches and an
idle one sends at once. A completion that the queue will never take (too long, or a character that SQS refuses) holds up no
other: a short one that says so goes in its place, and when even that is refused it is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import structlog

from tilefleet.backoff import Backoff
from tilefleet.errors import BadInput, TilefleetError
from tilefleet.queues import BATCH, Queue
from workerd.leases import LeaseBook

log = structlog.get_logger()


class Letter(NamedTuple):
    """A completion, if the coordinator shall have one, and the job message to delete after it."""

    handle: str
    body: str | None
    is_gone: Callable[[], None]
    """Called when the message is deleted, or is not ours any more."""
    instead: Callable[[BadInput], str]
    """The completion to send when the queue refuses this one, for that reason."""


class Outbox:
    """``post`` never waits; ``run`` sends for ever."""

    def __init__(self, completions: Queue, jobs: Queue, leases: LeaseBook) -> None:
        self._completions = completions
        self._jobs = jobs
        self._leases = leases
        self._letters: list[Letter] = []
        self._posted = asyncio.Event()
        self._emptied = asyncio.Event()
        self._emptied.set()
        self._backoff = Backoff()

    def post(self, letter: Letter) -> None:
        """Send the completion, then delete the job."""
        self._letters.append(letter)
        self._posted.set()
        self._emptied.clear()

    async def flush(self, timeout_s: float) -> None:
        """Wait until everything was sent, at most so long."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._emptied.wait()
        except TimeoutError:
            log.warning("completions_left", jobs=len(self._letters))

    async def run(self) -> None:
        """Send what was posted; ends by cancellation, after the drain."""
        while True:
            await self._posted.wait()
            batch = self._letters[:BATCH]
            if not batch:
                self._posted.clear()
            elif await self._sent(batch):
                self._forget(batch)
            else:
                self._forget([letter for letter in batch if self._is_lost(letter)])
                await self._backoff.sleep()

    async def _sent(self, batch: list[Letter]) -> bool:
        try:
            await self._tell(batch)
        except TilefleetError as error:
            log.warning("completions_unsent", jobs=len(batch), error=str(error))
            return False
        self._backoff.reset()
        await self._delete(batch)
        return True

    async def _tell(self, batch: list[Letter]) -> None:
        try:
            await self._completions.send([letter.body for letter in batch if letter.body is not None])
        except BadInput:  # one of them; a completion that comes twice does no harm
            for letter in batch:
                await self._tell_one(letter)

    async def _tell_one(self, letter: Letter) -> None:
        if letter.body is None:
            return
        try:
            await self._completions.send([letter.body])
        except BadInput as error:
            log.error("completion_refused", error=str(error), body=letter.body[:200])
            await self._tell_instead(letter.instead(error))

    async def _tell_instead(self, body: str) -> None:
        try:
            await self._completions.send([body])
        except BadInput as error:  # the coordinator misses the job and has it done again
            log.error("completion_dropped", error=str(error), body=body[:200])

    async def _delete(self, batch: list[Letter]) -> None:
        """A message that stays comes back, finds its output there, and is completed again."""
        try:
            await self._jobs.delete([letter.handle for letter in batch])
        except TilefleetError as error:
            log.warning("jobs_undeleted", jobs=len(batch), error=str(error))

    def _is_lost(self, letter: Letter) -> bool:
        """Its lease ended while the queues were away: another worker has the job, and will find the output there."""
        return self._leases.is_expired(letter.handle, asyncio.get_running_loop().time())

    def _forget(self, letters: list[Letter]) -> None:
        for letter in letters:
            self._letters.remove(letter)
            letter.is_gone()
        if not self._letters:
            self._emptied.set()
