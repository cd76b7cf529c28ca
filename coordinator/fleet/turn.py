"""Who may change the fleet's machines now: commands at people's hands and the keeper of a coordinator, one at a time.

The rules: who wants to draws the next number by creating its object; a number's turn is when all lower ones are let go or
dead; a turn lives as long as its object *changes* while we watch, so clocks are not compared; who died is passed over after
``DEAD_S``. The keeper draws a number only when nobody has one, and lets go as soon as somebody draws a higher one.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import time
from collections.abc import AsyncIterator

import msgspec

from coordinator.fleet.ports import Tell
from coordinator.fleet.records import Turn
from tilefleet import layout
from tilefleet.errors import NotFound, TilefleetError, Unreachable
from tilefleet.records import from_json, to_json
from tilefleet.store import Store

RENEW_S = 5.0
DEAD_S = 30.0  # six renewals that did not come
LOOK_S = 1.0
LONG_DEAD_S = 3600.0  # no two clocks that AWS accepts are that far apart (15 min)
WAIT_S = 900.0  # another command may be setting up nodes; longer than that is for a person to decide


def this_process(what: str) -> str:
    """``fleet up on anna-laptop (process 4711)``."""
    return f"{what} on {platform.node()} (process {os.getpid()})"


class Holding:
    """A turn that is held. ``is_wanted``: somebody waits for it; a keeper lets go then."""

    def __init__(self, store: Store, number: int, turn: Turn) -> None:
        self._store = store
        self.number = number
        self.turn = turn
        self.is_wanted = asyncio.Event()
        self.is_lost = False
        self._renewed = time.monotonic()

    async def renew(self) -> None:
        """Show that this turn lives, and see who waits. Raises TilefleetError when the store is away."""
        numbers = await _numbers(self._store)
        later = [number for number in numbers if number > self.number]
        if self.number not in numbers or await self._is_passed_over(later):
            self.is_lost = True
            return
        if later:
            self.is_wanted.set()
        await self._write(until=time.time() + DEAD_S)
        self._renewed = time.monotonic()

    async def begin(self) -> None:
        """Say that the time of this turn has come."""
        self.turn = msgspec.structs.replace(self.turn, is_held=True)
        await self._write(until=time.time() + DEAD_S)

    async def _is_passed_over(self, later: list[int]) -> bool:
        """Whether somebody who came later has begun: who removed this turn as dead, just before it was renewed once more."""
        return any(turn is not None and turn.is_held for turn in [await _read(self._store, number) for number in later])

    async def _write(self, until: float) -> None:
        self.turn = msgspec.structs.replace(self.turn, until=until)
        await self._store.put(layout.turn(self.number), to_json(self.turn))

    async def keep(self, say: Tell) -> None:
        """Renew it until it is lost; says so when the store does not let us."""
        while not self.is_lost:
            try:
                async with asyncio.timeout(DEAD_S / 2):
                    await self.renew()
            except (TilefleetError, TimeoutError) as error:
                say(f"the fleet's turn was not renewed: {str(error) or 'the store did not answer'}")
            self.is_lost = self.is_lost or time.monotonic() - self._renewed > DEAD_S
            await asyncio.sleep(RENEW_S)

    async def let_go(self) -> None:
        """Leave it to the next."""
        with contextlib.suppress(TilefleetError, TimeoutError):
            async with asyncio.timeout(RENEW_S):
                await self._write(until=0.0)


@contextlib.asynccontextmanager
async def held(store: Store, by: str, tell: Tell, *, wait_s: float = WAIT_S) -> AsyncIterator[Holding]:
    """A command's turn: waits for others, says for whom. Raises Unreachable when it does not come within ``wait_s``, and when it
    is lost, because the store was away for long or this machine slept, in the middle of the work."""
    holding = await _draw(store, Turn(by, time.time() + DEAD_S))
    async with _kept(holding, tell):
        await _wait_for_turn(store, holding, tell, wait_s)
        await holding.begin()
        await _forget_older(store, holding.number)
        yield holding


@contextlib.asynccontextmanager
async def held_if_free(store: Store, by: str, watching: Watching, say: Tell) -> AsyncIterator[Holding | None]:
    """The keeper's turn; None when somebody else has one or wants it. ``watching`` remembers from call to call."""
    if await watching.alive_below(None):
        yield None
        return
    holding = await _draw(store, Turn(by, time.time() + DEAD_S, is_command=False))
    async with _kept(holding, say):
        if await watching.alive_below(holding.number):
            yield None  # somebody was quicker
            return
        await holding.begin()
        await _forget_older(store, holding.number)
        yield holding


class Watching:
    """Which turns live, judged by their changing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._seen: dict[int, tuple[Turn, float]] = {}

    async def alive_below(self, number: int | None) -> Turn | None:
        """The first turn below a number (None: of all) that is neither let go nor dead."""
        for lower in sorted(await _numbers(self._store)):
            if number is not None and lower >= number:
                break
            turn = await _read(self._store, lower)
            if turn is not None and self._is_alive(lower, turn):
                return turn
        return None

    def _is_alive(self, number: int, turn: Turn) -> bool:
        if not turn.until or turn.until < time.time() - LONG_DEAD_S:
            return False
        seen, since = self._seen.get(number, (None, 0.0))
        if seen != turn:
            self._seen[number] = (turn, time.monotonic())
            return True
        return time.monotonic() - since < DEAD_S


async def _wait_for_turn(store: Store, holding: Holding, tell: Tell, wait_s: float) -> None:
    watching, told = Watching(store), ""
    deadline = time.monotonic() + wait_s
    while (other := await watching.alive_below(holding.number)) is not None:
        if time.monotonic() > deadline:
            raise Unreachable(f"{other.by} has been changing this fleet for {wait_s / 60:.0f} min; wait for it or end it")
        if other.by != told:
            told = other.by
            tell(f"waiting for {other.by}, which is changing this fleet's machines")
        await asyncio.sleep(LOOK_S)


@contextlib.asynccontextmanager
async def _kept(holding: Holding, say: Tell) -> AsyncIterator[None]:
    """Renews while the body runs; the body is cancelled, and Unreachable raised, when the turn is lost."""
    body = asyncio.current_task()
    if body is None:
        raise RuntimeError("a turn is held by a task")
    is_cancelled_by_us = False

    async def keep() -> None:
        nonlocal is_cancelled_by_us
        await holding.keep(say)
        is_cancelled_by_us = True
        body.cancel()

    keeping = asyncio.create_task(keep(), name="turn")
    try:
        yield
    except asyncio.CancelledError:
        if is_cancelled_by_us and body.uncancel() == 0:
            raise Unreachable(
                "this fleet's turn was lost: the store was away or this machine slept, and somebody else may be changing the "
                "fleet now; run the command again"
            ) from None
        raise
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        if not holding.is_lost:
            await holding.let_go()


async def _draw(store: Store, turn: Turn) -> Holding:
    while True:
        number = max(await _numbers(store), default=0) + 1
        if await store.put_new(layout.turn(number), to_json(turn)):
            return Holding(store, number, turn)


async def _numbers(store: Store) -> list[int]:
    return [number async for entry in store.entries(layout.FLEET_TURNS) if (number := layout.index_of_key(entry.key))]


async def _read(store: Store, number: int) -> Turn | None:
    try:
        return from_json(bytes(await store.get(layout.turn(number))), Turn, store.shown(layout.turn(number)))
    except NotFound:
        return None


async def _forget_older(store: Store, number: int) -> None:
    """Lower numbers are let go or dead by now."""
    await store.delete([layout.turn(lower) for lower in await _numbers(store) if lower < number])
