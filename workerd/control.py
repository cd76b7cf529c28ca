"""The leader's control object, as this worker sees it: which operations are cancelled, and who leads.

It lies at ``control/<epoch>.json``; the highest epoch is believed. A store that cannot be read changes nothing: jobs that
are cancelled meanwhile are computed in vain, which is harmless.
"""

from __future__ import annotations

import asyncio

import structlog

from tilefleet import layout
from tilefleet.errors import TilefleetError
from tilefleet.heard import note_heard
from tilefleet.records import Control, from_json
from tilefleet.store import Store

log = structlog.get_logger()

FRESH_S = 2.0  # the beacon is rewritten every 2 s; reading it more often shows nothing new


class ControlWatch:
    """``is_cancelled(operation)`` by the newest control object that was read."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._read_at = float("-inf")
        self._lock = asyncio.Lock()
        self.control: Control | None = None

    def is_cancelled(self, operation: str) -> bool:
        """Whether jobs of this operation are to be dropped."""
        return self.control is not None and operation in self.control.cancelled

    def knows(self, worker: str, incarnation: str) -> bool:
        """Whether the leader has heard this process's hello; True while there is no leader to ask."""
        return self.control is None or any(
            view.name == worker and view.incarnation == incarnation for view in self.control.workers
        )

    def departed(self, worker: str, incarnation: str) -> str:
        """Why the leader gives this process no more work; empty when it does."""
        if self.control is None or self.knows(worker, incarnation):
            return ""
        return self.control.departed.get(worker, "")

    async def refresh(self) -> None:
        """Read the object again unless that was done within ``FRESH_S``."""
        loop = asyncio.get_running_loop()
        async with self._lock:
            if loop.time() - self._read_at < FRESH_S:
                return
            self._read_at = loop.time()
            try:
                self._take(await self._newest())
            except TilefleetError as error:
                log.warning("control_unreadable", error=str(error))

    def _take(self, control: Control | None) -> None:
        """A leader lives when its object changes while we watch; what lay there when we came says nothing."""
        if control is None:
            return
        if self.control is not None and (control.epoch, control.at) != (self.control.epoch, self.control.at):
            note_heard()
        self.control = control

    async def run(self) -> None:
        """Keep it fresh for ever, also while nothing but one long job runs."""
        while True:
            await self.refresh()
            await asyncio.sleep(FRESH_S)

    async def _newest(self) -> Control | None:
        keys = [entry.key async for entry in self._store.entries(layout.CONTROL)]
        newest = max((key for key in keys if layout.epoch_of_key(key) is not None), key=layout.epoch_of_key, default=None)  # type: ignore[arg-type]
        if newest is None:
            return None
        return from_json(bytes(await self._store.get(newest)), Control, self._store.url_of(newest))
