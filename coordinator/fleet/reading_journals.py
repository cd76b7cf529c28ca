"""The journals of a fleet's nodes, read over their connections at the same time.

The rule: a node that cannot be reached is told once, tried again when the journals are followed, and holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from coordinator.fleet.connections.everywhere import CONNECT_S, Missed, Target
from coordinator.fleet.journals import WINDOW_S, Line, Merger, Wanted, command, parse
from coordinator.fleet.ports import Transport
from tilefleet.backoff import Backoff
from tilefleet.errors import OperationFailed, TilefleetError

FOLLOW_S = 12 * 3600.0  # then the command is given again
ALL_S = 600.0  # for journals that are not followed
POLL_S = 5.0
TURN_S = 0.1  # how often followed lines are looked through


async def read(
    transport: Transport,
    targets: Sequence[Target],
    wanted: Wanted,
    show: Callable[[Line], None],
    miss: Callable[[Missed], None],
    *,
    since_s: float | None = None,
    count: int | None = None,
    follow: bool = False,
    polled: bool = False,
) -> None:
    """Show the wanted lines of all nodes in the order of time. ``miss`` is told of nodes that cannot be read, once each.
    ``polled``: the transport shows nothing before a command has ended, so followed journals are asked for again and again."""
    nodes = [target.record.name for target in targets]
    merger = Merger(nodes, follow=follow, window_s=2 * POLL_S if polled else WINDOW_S)
    news = asyncio.Event()
    readers = [_Reader(transport, target, merger, news, wanted, miss, polled=polled) for target in targets]
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(reader.read(since_s, count, follow=follow), name="journal") for reader in readers]
    try:  # no task group: what ``show`` raises, a closed pipe say, is the caller's as it is
        is_over = False
        while not is_over:
            is_over = all(task.done() for task in tasks)
            for line in merger.take(loop.time()):
                show(line)
            with suppress(TimeoutError):
                async with asyncio.timeout(0 if is_over else TURN_S):
                    await news.wait()
            news.clear()
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Reader:
    """One node's journal."""

    def __init__(
        self,
        transport: Transport,
        target: Target,
        merger: Merger,
        news: asyncio.Event,
        wanted: Wanted,
        miss: Callable[[Missed], None],
        *,
        polled: bool,
    ) -> None:
        self._transport = transport
        self._target = target
        self._node = target.record.name
        self._merger = merger
        self._news = news
        self._wanted = wanted
        self._miss = miss
        self._polled = polled
        self._cursor = ""
        self._is_missed = False

    async def read(self, since_s: float | None, count: int | None, *, follow: bool) -> None:
        backoff = Backoff(1.0, 15.0)
        streams = follow and not self._polled
        try:
            while True:
                try:
                    await self._once(since_s, count, follow=streams)
                    backoff = Backoff(POLL_S, POLL_S) if self._polled else Backoff(1.0, 15.0)
                except TilefleetError as error:
                    self._missed(error)
                    if not follow or not error.is_retryable:
                        return
                    self._merger.opened(self._node)
                if not follow:
                    return
                await backoff.sleep()
        finally:
            self._merger.ended(self._node)
            self._news.set()

    async def _once(self, since_s: float | None, count: int | None, *, follow: bool) -> None:
        script = command(self._wanted, since_s=since_s, count=count, follow=follow, cursor=self._cursor)
        connection = await self._transport.connect(self._target.machine, self._target.record, deadline_s=CONNECT_S)
        try:
            self._merger.opened(self._node)
            self._is_missed = False
            done = await connection.run(script, deadline_s=FOLLOW_S if follow else ALL_S, on_line=self._heard)
        finally:
            await connection.close()
        if done.status:
            raise OperationFailed(f"the journal of {self._node} cannot be read: {done.last_lines(2) or f'status {done.status}'}")

    def _heard(self, text: str) -> None:
        line = parse(self._node, text)
        if line is None:
            return
        self._cursor = line.cursor or self._cursor
        if self._wanted.admits(line):
            self._merger.push(line, asyncio.get_running_loop().time())
            self._news.set()

    def _missed(self, error: TilefleetError) -> None:
        if not self._is_missed:
            self._is_missed = True
            self._miss(Missed(self._node, str(error)))
