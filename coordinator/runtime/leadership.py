"""One coordinator leads; others stand by.

An epoch is an object that is created once (``leader/000042``); who creates it leads until somebody creates a higher one.
The beacon (``control/000042.json``) shows that the leader lives. A stand-by takes over when the beacon has not changed for
``SILENT_BEATS`` of its own intervals, or at once when the leader resigned or was a process of this machine that is gone.
Clocks are not compared between machines: a beacon is alive when it *changes* while we watch.
"""

from __future__ import annotations

import asyncio
import os
import platform

import msgspec
import psutil
import structlog

from tilefleet import layout
from tilefleet.credentials import Withheld
from tilefleet.errors import BadInput, NotFound, TilefleetError
from tilefleet.records import Control, from_json, to_json
from tilefleet.store import Store

log = structlog.get_logger()

SILENT_BEATS = 5
RESIGN_S = 3.0  # a store that is away must not hold a stop up


class Leader(msgspec.Struct, frozen=True):
    """Who created an epoch."""

    host: str
    pid: int
    started: float

    @classmethod
    def this_process(cls) -> Leader:
        return cls(platform.node(), os.getpid(), psutil.Process().create_time())

    @property
    def name(self) -> str:
        return f"{self.host}:{self.pid}"

    def is_known_dead(self) -> bool:
        """True only for a process of this machine that is gone."""
        if self.host != platform.node():
            return False
        try:
            return abs(psutil.Process(self.pid).create_time() - self.started) > 1.0
        except psutil.NoSuchProcess:
            return True


async def take_lead(store: Store, beat_s: float, stopping: asyncio.Event) -> int | None:
    """Wait for the lead and take it: the new epoch. None when told to stop before.

    A store that is away is waited for: whoever leads cannot write to it either. So are credentials, permissions and the right
    time. Raises what does not pass.
    """
    while not stopping.is_set():
        try:
            taken = await _try_to_lead(store, beat_s, stopping)
        except TilefleetError as error:
            if not error.is_retryable and not isinstance(error, Withheld):
                raise
            log.warning("store_away", error=str(error))
            await _pause(stopping, beat_s)
            continue
        if taken is not None:
            return taken
    return None


async def _try_to_lead(store: Store, beat_s: float, stopping: asyncio.Event) -> int | None:
    epoch = await newest_epoch(store)
    is_vacant = not epoch or await _is_vacant(store, epoch, beat_s, stopping)
    if not is_vacant or stopping.is_set():
        return None
    if not await store.put_new(layout.leader(epoch + 1), to_json(Leader.this_process())):
        return None
    log.info("lead_taken", epoch=epoch + 1)
    await _forget_old(store, epoch + 1)
    return epoch + 1


async def newest_epoch(store: Store) -> int:
    """The highest epoch anybody created; 0 when there is none."""
    return max([layout.epoch_of_key(entry.key) or 0 async for entry in store.entries(layout.LEADER)], default=0)


async def resign(store: Store, control: Control) -> None:
    """Say on the way out that nobody leads, so that the next one need not wait. Raises TimeoutError after ``RESIGN_S``."""
    async with asyncio.timeout(RESIGN_S):
        await store.put(layout.control(control.epoch), to_json(msgspec.structs.replace(control, leader="")))


async def _is_vacant(store: Store, epoch: int, beat_s: float, stopping: asyncio.Event) -> bool:
    """Watch the leader's beacon until the leader is gone, or was silent for too long (True), or another leads (False)."""
    leader, seen, n_silent = await _leader(store, epoch), await beacon(store, epoch), 0
    if _has_left(leader, seen):
        return True
    log.info("standing_by", epoch=epoch, leader=seen.leader if seen else "")
    while n_silent < SILENT_BEATS and not _has_left(leader, seen):
        await _pause(stopping, beat_s)
        if stopping.is_set() or await newest_epoch(store) != epoch:
            return False
        before, seen = seen, await beacon(store, epoch)
        n_silent = n_silent + 1 if seen == before else 0
    return True


def _has_left(leader: Leader | None, seen: Control | None) -> bool:
    """Whether it resigned, or is a process of this machine that is gone."""
    return (seen is not None and not seen.leader) or (leader is not None and leader.is_known_dead())


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stopping.wait(), seconds)
    except TimeoutError:
        return


async def _leader(store: Store, epoch: int) -> Leader | None:
    """Who created an epoch; None when that can't be read."""
    try:
        return from_json(bytes(await store.get(layout.leader(epoch))), Leader, store.url_of(layout.leader(epoch)))
    except (NotFound, BadInput):
        return None


async def beacon(store: Store, epoch: int) -> Control | None:
    """What the leader of an epoch said last; None when it has said nothing that can be read."""
    try:
        return from_json(bytes(await store.get(layout.control(epoch))), Control, store.url_of(layout.control(epoch)))
    except (NotFound, BadInput):
        return None


async def last_beacon(store: Store) -> Control | None:
    """What the latest leader said last, which may have ended since; None when none has said anything that can be read."""
    epoch = await newest_epoch(store)
    return await beacon(store, epoch) if epoch else None


async def _forget_old(store: Store, epoch: int) -> None:
    """Old epochs and beacons say nothing any more; the last few stay for whoever is reading them."""
    for prefix in (layout.LEADER, layout.CONTROL):
        keys = [entry.key async for entry in store.entries(prefix)]
        await store.delete([key for key in keys if (layout.epoch_of_key(key) or epoch) < epoch - 3])
