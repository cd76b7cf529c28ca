"""A second request for a read that takes far longer than such reads usually do; the first answer counts.

Of S3's answers one in a hundred comes late, and a panel waits for its last tile. AWS's advice is to ask again ("Performance
guidelines for Amazon S3", timeouts and retries); the idea is of Dean and Barroso, The tail at scale, 2013,
doi 10.1145/2408776.2408794.

The rules: what is usual is learned from the reads of the same length; where all are slow, that is usual, and nothing is asked
twice; one read at a time is, and none of more than ``MOST_BYTES``, so that a second answer fits into the margin that a worker's
memory has.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

T = TypeVar("T")

REMEMBERED: Final = 64  # reads of a length
LEAST_KNOWN: Final = 16  # before that many nobody knows what is usual
LENGTHS: Final = 8  # of tiles; an operation reads two matrices, one more when it adds to a third
FACTOR: Final = 3.0
LEAST_S: Final = 0.1  # below it, a second request costs more than it can spare
MOST_BYTES: Final = 8 * 2**20  # a tile of ours, a range of a file


class Usual:
    """How long the last reads of one length took."""

    def __init__(self) -> None:
        self._took_s: deque[float] = deque(maxlen=REMEMBERED)

    def add(self, took_s: float) -> None:
        """One more ended."""
        self._took_s.append(took_s)

    @property
    def patience_s(self) -> float | None:
        """How long to wait before a second request: three times what nine in ten take; None while too few are known."""
        if len(self._took_s) < LEAST_KNOWN:
            return None
        return max(LEAST_S, FACTOR * sorted(self._took_s)[len(self._took_s) * 9 // 10])


class Hedge:
    """What a process reads from stores that are far away. For the tasks of one event loop."""

    def __init__(self) -> None:
        self._usual: OrderedDict[int, Usual] = OrderedDict()
        self._is_asking_twice = False

    async def read(self, n_bytes: int, ask: Callable[[], Awaitable[T]]) -> T:
        """The answer of ``ask``, which reads ``n_bytes`` and may be called twice. Raises what its last call raises."""
        if n_bytes > MOST_BYTES:
            return await ask()
        usual = self._usual.setdefault(n_bytes, Usual())
        self._usual.move_to_end(n_bytes)
        if len(self._usual) > LENGTHS:
            self._usual.popitem(last=False)
        began = time.monotonic()
        answer = await self._asked(ask, usual.patience_s)
        usual.add(time.monotonic() - began)
        return answer

    async def _asked(self, ask: Callable[[], Awaitable[T]], patience_s: float | None) -> T:
        if patience_s is None:
            return await ask()
        asked: set[asyncio.Future[T]] = {asyncio.ensure_future(ask())}
        try:
            await asyncio.wait(asked, timeout=patience_s)
            if self._is_asking_twice or any(each.done() for each in asked):
                return await next(iter(asked))
            self._is_asking_twice = True
            try:
                asked.add(asyncio.ensure_future(ask()))
                return await _first_good(asked)
            finally:
                self._is_asking_twice = False
        finally:
            for each in asked:
                each.cancel()
            await asyncio.gather(*asked, return_exceptions=True)


async def _first_good(asked: set[asyncio.Future[T]]) -> T:
    """Of these, the first that does not fail; when all do, what the last one raises."""
    waiting = asked
    while True:
        done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        good = [each for each in done if each.exception() is None]
        if good or not waiting:
            return (good or list(done))[0].result()
