"""The memory that jobs may use: a byte budget, handed out first come first served.

FIFO on purpose: a large job is not starved by small ones that would still fit beside it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tilefleet.errors import DoesNotFit
from tilefleet.quantities import format_bytes
from workerd.spares import Spares


class Budget:
    """``async with budget.hold(n_bytes):`` waits until that much is free and keeps it until the block ends."""

    def __init__(self, limit_bytes: int, *, overhead_bytes: int = 0) -> None:
        """``overhead_bytes`` is what the process uses beside its jobs; the refusal of a job that is too big adds it."""
        self.limit_bytes = limit_bytes
        self.free_bytes = limit_bytes
        self.spares = Spares()
        """Buffers in memory that no job holds."""
        self._overhead_bytes = overhead_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    @asynccontextmanager
    async def hold(self, n_bytes: int) -> AsyncIterator[None]:
        """Raises DoesNotFit, saying how much memory would do, when the whole budget is smaller than ``n_bytes``."""
        self.check(n_bytes)
        await self._acquire(n_bytes)
        try:
            yield
        finally:
            self._release(n_bytes)

    def check(self, n_bytes: int) -> None:
        """Raises DoesNotFit when that much can never be had."""
        if n_bytes > self.limit_bytes:
            raise DoesNotFit(
                f"a job needs {format_bytes(n_bytes)}, this worker has {format_bytes(self.limit_bytes)} for jobs; "
                f"set worker.memory to {format_bytes(n_bytes + self._overhead_bytes)} or more, or use smaller tiles"
            )

    async def _acquire(self, n_bytes: int) -> None:
        if not self._waiting and n_bytes <= self.free_bytes:
            self._take(n_bytes)
            return
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((n_bytes, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():  # granted and cancelled in the same turn of the loop
                self._release(n_bytes)
            else:
                self._grant()  # those behind it wait no longer
            raise

    def _release(self, n_bytes: int) -> None:
        self.free_bytes += n_bytes
        self._grant()

    def _take(self, n_bytes: int) -> None:
        self.free_bytes -= n_bytes
        self.spares.keep_within(self.free_bytes)

    def _grant(self) -> None:
        while self._waiting:
            n_bytes, granted = self._waiting[0]
            if not granted.cancelled():
                if n_bytes > self.free_bytes:
                    return
                self._take(n_bytes)
                granted.set_result(None)
            self._waiting.popleft()
