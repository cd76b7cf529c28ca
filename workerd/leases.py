"""Leases of the jobs in hand: pure bookkeeping of what is due when, and the thin loop that renews.

A message is ours from its receipt until it is deleted or given back. It is renewed every third of its lease, so that two
renewals may fail before it is lost; a renewal that failed is tried again after a twelfth.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence

import structlog

from tilefleet.errors import TilefleetError
from tilefleet.queues import BATCH, Queue

log = structlog.get_logger()


class LeaseBook:
    """Who holds what until when. Time is an argument; nothing here waits."""

    def __init__(self, lease_s: float) -> None:
        self.lease_s = lease_s
        self._expires: dict[str, float] = {}
        self._due: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._expires)

    def __contains__(self, handle: str) -> bool:
        return handle in self._expires

    def add(self, handle: str, now: float) -> None:
        """A message was received; ``now`` is when its poll began, as its lease may have begun then."""
        self.renewed((handle,), now)

    def remove(self, handle: str) -> None:
        """It was deleted or given back."""
        self._expires.pop(handle, None)
        self._due.pop(handle, None)

    def due(self, now: float) -> list[str]:
        """Handles to renew now, the most urgent first; each comes up again in a twelfth of the lease unless ``renewed``."""
        handles = sorted((handle for handle, at in self._due.items() if at <= now), key=self._expires.__getitem__)
        for handle in handles:
            self._due[handle] = now + self.lease_s / 12
        return handles

    def renewed(self, handles: Iterable[str], now: float) -> None:
        """The queue took the renewal that was sent at ``now``."""
        for handle in handles:
            self._expires[handle] = now + self.lease_s
            self._due[handle] = now + self.lease_s / 3

    def next_due(self) -> float | None:
        """When ``due`` has something next; None when nothing is held."""
        return min(self._due.values(), default=None)

    def is_expired(self, handle: str, now: float) -> bool:
        """True when others may have received the message by now."""
        return self._expires.get(handle, float("-inf")) <= now


class LeaseKeeper:
    """Renews the leases of a queue's messages as long as they are held."""

    def __init__(self, queue: Queue, lease_s: float) -> None:
        self.book = LeaseBook(lease_s)
        self._queue = queue
        self._changed = asyncio.Event()

    def add(self, handle: str, received_at: float) -> None:
        """Renew this message from now on."""
        self.book.add(handle, received_at)
        self._changed.set()

    def remove(self, handle: str) -> None:
        """It is no longer ours."""
        self.book.remove(handle)

    async def run(self) -> None:
        """Renew for ever; ends by cancellation, last of all tasks."""
        loop = asyncio.get_running_loop()
        while True:
            due = self.book.due(loop.time())
            for start in range(0, len(due), BATCH):
                await self._renew(due[start : start + BATCH])
            await self._sleep_until(self.book.next_due())

    async def _renew(self, handles: Sequence[str]) -> None:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(self.book.lease_s / 6):
                await self._queue.extend(handles, self.book.lease_s)
        except (TilefleetError, TimeoutError) as error:
            log.warning("lease_renewal_failed", jobs=len(handles), error=str(error) or "no answer in time")
            return
        self.book.renewed([handle for handle in handles if handle in self.book], began)

    async def _sleep_until(self, at: float | None) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout_at(at):
                await self._changed.wait()
        except TimeoutError:
            return
