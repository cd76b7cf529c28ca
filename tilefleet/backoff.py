"""Waiting longer after each failure in a row, with jitter, so that a fleet does not knock in step."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from tilefleet.errors import TilefleetError

T = TypeVar("T")


class Backoff:
    """Delays that double from ``first_s`` to ``most_s``; each is drawn from the upper half of its range."""

    def __init__(self, first_s: float = 0.1, most_s: float = 5.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._next_s = first_s

    def reset(self) -> None:
        """Something succeeded."""
        self._next_s = self._first_s

    def next_s(self) -> float:
        """How long to wait now."""
        delay_s = self._next_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret
        self._next_s = min(self._most_s, 2 * self._next_s)
        return delay_s

    async def sleep(self) -> None:
        """Wait that long."""
        await asyncio.sleep(self.next_s())


async def persist(
    call: Callable[[], Awaitable[T]],
    *,
    for_s: float,
    backoff: Backoff | None = None,
    is_worth_it: Callable[[TilefleetError], bool] = lambda error: error.is_retryable,
) -> T:
    """The call's answer; while it fails in a way that may pass, it is made again for ``for_s``. Raises its last error."""
    backoff = backoff or Backoff()
    loop = asyncio.get_running_loop()
    deadline = loop.time() + for_s
    while True:
        try:
            return await call()
        except TilefleetError as error:
            if not is_worth_it(error) or loop.time() >= deadline:
                raise
        await backoff.sleep()
