"""An operation as its client sees it: everything it knows it reads from the store, so any client can watch any operation.

The rule: no wait without an end. Waiting gives up when no coordinator was heard for ``Session.silence_s``.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from tilefleet import layout
from tilefleet.errors import BadInput, Cancelled, NotFound, OperationFailed, Unreachable
from tilefleet.matrix import Operand
from tilefleet.messages import Cancel
from tilefleet.readers import open_reads, readers
from tilefleet.records import OperationRecord, OperationStatus
from tilefleet.session import Session
from tilefleet.statuses import newest_status

if TYPE_CHECKING:
    from tilefleet.lazy import LazyMatrix

FIRST_DELAY_S = 0.005
LATENESS, LAST_DELAY_S = 0.1, 1.0  # a tenth of the time waited so far: at most a tenth late, and long waits cost few requests
LOCAL_LATENESS, LOCAL_LAST_DELAY_S = 0.02, 0.1  # of one machine's operations in S3
FIRST_GLANCE_S, LAST_GLANCE_S = 0.002, 0.01  # at when a directory was changed: 5 µs, where a look at what is in it takes 2 ms
ALIVE_CHECK_S = 5.0


class Operation:
    """A submitted operation. ``id`` names it for ever; ``record`` is what was asked for."""

    def __init__(self, session: Session, record: OperationRecord, *, save_to: str | None = None) -> None:
        self._session = session
        self._store = session.store
        self.record = record
        self._is_saved = False
        self.save_to = save_to
        """A local OUT of a far fleet, which cannot write it: ``wait`` fetches the result to it."""

    @property
    def id(self) -> str:
        return self.record.id

    def __repr__(self) -> str:
        return f"<Operation {self.id}: {self.record.kind}>"

    async def status(self) -> OperationStatus | None:
        """How far it is, in the word of the newest leader; None before a coordinator has taken it up."""
        return await newest_status(self._store, self.id)

    async def progress(self) -> AsyncIterator[OperationStatus]:
        """Each change of the status, until the end.

        Raises Unreachable when no coordinator was heard for a minute, NotFound when the operation is deleted meanwhile.
        """
        seen: OperationStatus | None = None
        watch = Watch(self._session, self.id)
        while True:
            status = await self.status()
            if status is not None and status != seen:
                seen = status
                watch.heard()
                yield status
                if status.is_ended:
                    return
            await watch.pause()

    async def wait(self) -> OperationStatus:
        """The final status. Raises the operation's own error, Cancelled, and what ``progress`` raises."""
        final: OperationStatus | None = None
        async for status in self.progress():
            final = status
        final = _ended_well(self.id, final)
        if self.save_to is not None and not self._is_saved:
            # --overwrite was settled at submission; what came to lie there since then stays, unless it was given.
            await self.save(self.save_to, overwrite=self.record.out.is_overwrite)
            self._is_saved = True
        return final

    async def result(self) -> LazyMatrix:
        """The result, read as it is used. Raises the operation's error; BadInput while it runs; NotFound when removed."""
        from tilefleet.lazy import LazyMatrix

        status = await self.status()
        if status is None or not status.is_ended:
            raise BadInput(f"operation {self.id} has no result yet; wait for it with 'tilefleet watch {self.id}'")
        _ended_well(self.id, status)
        if status.result is None:
            raise BadInput(f"operation {self.id} ({self.record.kind}) makes no matrix; see 'tilefleet show {self.id}'")
        matrix = LazyMatrix(self._session.stores, Operand(status.result))
        if not await matrix.exists():
            raise NotFound(
                f"the result of operation {self.id} at {status.result.url} was removed (results are kept "
                f"{self._session.config.fleet.keep_results}); submit the operation again"
            )
        return matrix

    async def save(self, out: str | os.PathLike[str], *, overwrite: bool = False) -> str:
        """Write the result to a local path or URL ending in .zarr, .npy, .csv or .csv.gz; returns its URL.

        The client does this itself, in bands of at most ``saving.BAND_BYTES`` (and the tiles they touch). Raises AlreadyExists,
        and what ``result`` raises.
        """
        matrix = await self.result()
        return await matrix.save(out, overwrite=overwrite)

    async def cancel(self) -> None:
        """Ask for its end; no error when it has ended already. ``wait`` then raises Cancelled."""
        request = {"at": time.time()}
        await self._store.put_new(layout.cancel(self.id), msgspec.json.encode(request))
        await self._session.tell_if_running(Cancel(self._session.config.fleet.name, self.id))

    async def delete(self) -> None:
        """Remove its record and everything of it in the fleet's store; an OUT of the user's own stays.

        Raises BadInput while it runs and was not cancelled, and while another open operation reads its result.
        """
        if not _is_over(await self.status()) and await self._store.head(layout.cancel(self.id)) is None:
            raise BadInput(f"operation {self.id} has not ended; cancel it first with 'tilefleet cancel {self.id}'")
        marked = readers(await open_reads(self._store), self.id)
        if others := [other for other in marked if not _is_over(await newest_status(self._store, other))]:
            raise BadInput(
                f"operation {others[0]} reads the result of operation {self.id}; wait until it has ended "
                f"('tilefleet watch {others[0]}') or cancel it, then delete"
            )
        # First the name under which the result opens as an array, last the record by which a second attempt finds the rest.
        await self._store.delete([f"{layout.result(self.id)}/zarr.json", layout.open_mark(self.id)])
        await self._store.delete_prefix(layout.result(self.id))
        await self._store.delete_prefix(layout.staging(self.id))
        own = [entry.key async for entry in self._store.entries(layout.operation(self.id))]
        await self._store.delete(key for key in own if key != layout.record(self.id))
        await self._store.delete([layout.record(self.id)])


class Watch:
    """How long to wait between two looks, and whether there is anybody to wait for."""

    def __init__(self, session: Session, operation: str) -> None:
        self._session = session
        self._operation = operation
        self._started = self._heard = self._checked = time.monotonic()
        self._beacon: tuple[int, float] | None = None
        self._directory = session.store.path(layout.statuses(operation))
        """Of its statuses; None in S3."""
        self._changed = self._change()
        is_quick = session.is_local and self._directory is None
        self._lateness, self._last_s = (LOCAL_LATENESS, LOCAL_LAST_DELAY_S) if is_quick else (LATENESS, LAST_DELAY_S)

    def heard(self) -> None:
        """The coordinator showed that it lives."""
        self._heard = time.monotonic()

    async def pause(self) -> None:
        waited_s = time.monotonic() - self._started
        await self._until_changed(min(max(FIRST_DELAY_S, self._lateness * waited_s), self._last_s))
        if time.monotonic() - self._checked >= min(ALIVE_CHECK_S, self._session.silence_s / 4):
            await self.check()

    async def _until_changed(self, most_s: float) -> None:
        """A change of the directory shows at once, but for two within a clock tick of the file system: hence ``most_s``."""
        now = time.monotonic()
        until = now + most_s
        glance_s = min(max(FIRST_GLANCE_S, LOCAL_LATENESS * (now - self._started)), LAST_GLANCE_S)
        while now < until and self._change() == self._changed:
            await asyncio.sleep(until - now if self._directory is None else min(until - now, glance_s))
            now = time.monotonic()
        self._changed = self._change()

    def _change(self) -> int | None:
        """When the directory was changed; None while there is none."""
        try:
            return None if self._directory is None else self._directory.stat().st_mtime_ns
        except OSError:
            return None

    async def check(self) -> None:
        """Raises NotFound when the operation is gone, Unreachable when nobody was heard for too long."""
        # Beacons are compared with each other, not with the clock: those of two machines may differ by minutes.
        self._checked = time.monotonic()
        control = await self._session.control()
        beacon = None if control is None else (control.epoch, control.at)
        if beacon != self._beacon:
            self._beacon = beacon
            self.heard()
        if await self._session.store.head(layout.record(self._operation)) is None:
            raise NotFound(f"operation {self._operation} was deleted while it was waited for")
        if time.monotonic() - self._heard > self._session.silence_s:
            raise Unreachable(
                f"no coordinator was heard for {self._session.silence_s:.0f} s; operation {self._operation} is kept and "
                f"goes on when one runs: start it with {_start_command(self._session)}"
            )


def _is_over(status: OperationStatus | None) -> bool:
    """Its mark in ``open/`` goes a little later."""
    return status is not None and status.is_ended


def _ended_well(operation: str, status: OperationStatus | None) -> OperationStatus:
    if status is None or status.state == "cancelled":
        raise Cancelled(f"operation {operation} was cancelled")
    if status.state == "failed":
        if status.error is None:
            raise OperationFailed(f"operation {operation} failed without a reason; see the coordinator's log")
        raise status.error.to_exception()
    return status


def _start_command(session: Session) -> str:
    return "'tilefleet local up'" if session.is_local else "'coordinator --config FILE' or 'systemctl start coordinator'"
