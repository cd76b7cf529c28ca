"""What is done about one node, action by action.

The rules: the record is written before and after what it is about; every phase is timed and watched; a set-up that fails is
the node's failure and nobody else's, while a store or a provider that fails is raised. Whatever is cut off can be done again.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

from msgspec.structs import replace

from coordinator.fleet.deciding.picture import Desired, Node
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.hearing import Hearing
from coordinator.fleet.money.costs import node_usd
from coordinator.fleet.phases import NodeFailed, Phases
from coordinator.fleet.ports import Connection, Tell, Watch
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.errors import NotFound, TilefleetError, Unreachable

QUICK_S = 30.0  # to reach a node that was there a moment ago


class Hands:
    """Carries out actions on nodes of one fleet."""

    def __init__(self, fleet: Fleet, desired: Desired, hearing: Hearing, watch: Watch, tell: Tell) -> None:
        self._fleet = fleet
        self.desired = desired
        self._hearing = hearing
        self._watch = watch
        self._tell = tell
        self._slots = asyncio.Semaphore(fleet.config.nodes.at_once)
        self._machines: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        """A worker and a coordinator may share a machine; what changes it takes turns."""
        self._latest: dict[str, NodeRecord] = {}

    # ---- becoming a node

    async def set_up(self, node: Node) -> NodeRecord:
        """A machine that runs becomes a node that is heard, or ``failed``. Its record then."""
        machine, record = _machine_of(node), await self.recorded(node)
        async with self._machines[machine.id]:
            return await self._tried(record, self._make(record, machine))

    async def _make(self, record: NodeRecord, machine: Machine) -> NodeRecord:
        phases = Phases(record.name, self._watch)
        async with self._slots:
            record = await self._with_host_keys(record, machine, phases)
            connection = await self._reached(record, machine, phases, self.desired.boot_s)
            try:
                async with phases.steps("set-up"):
                    await self._fleet.installer.set_up(connection, record, phases.watch)
            except BaseException:
                await connection.close()
                raise
        async with _closing(connection):
            await self._heard(record, connection, phases, self._fleet.installer.release)
        return await self._ready(record, phases)

    async def _tried(self, record: NodeRecord, work: Coroutine[Any, Any, NodeRecord]) -> NodeRecord:
        """One attempt; a failure that another one on this machine cannot mend uses up all."""
        try:
            return await work
        except NodeFailed as failed:
            attempts = record.attempts + 1 if failed.is_worth_another else max(self.desired.attempts, record.attempts + 1)
            latest = self._latest.get(record.name, record)
            return await self.save(replace(latest, state="failed", attempts=attempts, step=failed.step, failure=failed.sentence))

    async def _ready(self, record: NodeRecord, phases: Phases) -> NodeRecord:
        installer = self._fleet.installer
        settings = installer.settings(record.role) or record.settings
        return await self.save(
            replace(
                record, state="ready", release=installer.release, settings=settings, attempts=0, step="",
                failure="", phases_s=record.phases_s | phases.took_s, ready_at=time.time(), stopped_at=0.0,
            )
        )  # fmt: skip

    async def _with_host_keys(self, record: NodeRecord, machine: Machine, phases: Phases) -> NodeRecord:
        """Pinned once for a machine that was made; known_hosts, which a person mends, is read each time where there is one."""
        if record.host_keys and self._fleet.provider.can_launch:
            return record
        if self._fleet.config.nodes.transport == "ssm":
            return record  # AWS answers for who the machine is, and it may have no sshd that has keys
        async with phases.phase("boot"):
            try:
                keys = await self._host_keys(machine)
            except NotFound:
                keys = record.host_keys  # the keeper of a coordinator on a node has no known_hosts, and goes by what was pinned
                if not keys:
                    raise
        return await self.save(replace(record, host_keys=keys))

    async def _host_keys(self, machine: Machine) -> tuple[str, ...]:
        deadline, why = time.monotonic() + self.desired.boot_s, "it did not boot, or cannot reach the store"
        while time.monotonic() < deadline:
            try:
                if keys := await self._fleet.provider.host_keys(machine):
                    return keys
            except TilefleetError as error:
                if not self._fleet.provider.can_launch:
                    raise
                why = str(error)  # credentials that expired, a store that is away: no fault of the node's
            await asyncio.sleep(min(self._fleet.poll_s, self.desired.boot_s / 5))
        raise Unreachable(f"its host keys were not to be had within {self.desired.boot_s:.0f} s ({why}); see its console log")

    async def _reached(self, record: NodeRecord, machine: Machine, phases: Phases, deadline_s: float) -> Connection:
        async with phases.phase("reach"):
            return await self._fleet.transport.connect(machine, record, deadline_s=deadline_s)

    async def _heard(self, record: NodeRecord, connection: Connection, phases: Phases, release: str) -> None:
        async with phases.phase("hello"):
            why_not = await self._hearing.hello(record, release, self._fleet.config.nodes.hello.s)
            if why_not:
                raise Unreachable(why_not + await self._last_lines(record, connection))

    async def _last_lines(self, record: NodeRecord, connection: Connection) -> str:
        try:
            lines = await self._fleet.installer.last_lines(connection, record)
        except (TilefleetError, TimeoutError):
            return ""
        return f"; its log ends with:\n{lines}" if lines else "; its log is empty"

    # ---- becoming another

    async def update(self, node: Node) -> NodeRecord:
        """Bring it to the release and the settings of now; rolled back when it does not come back. The record says which."""
        machine, before = _machine_of(node), await self.recorded(node)
        async with self._machines[machine.id]:
            try:
                return await self._change(before, machine)
            except NodeFailed as failed:
                self._tell(f"{before.name}: {failed.step}: {failed.sentence}")
                return await self._tried(before, self._back(before, machine, failed))

    async def _change(self, record: NodeRecord, machine: Machine) -> NodeRecord:
        phases = Phases(record.name, self._watch)
        record = await self._with_host_keys(record, machine, phases)
        async with _closing(await self._reached(record, machine, phases, QUICK_S)) as connection:
            async with phases.steps("update"):
                await self._fleet.installer.update(connection, record, phases.watch)
            await self._heard(record, connection, phases, self._fleet.installer.release)
        return await self._ready(record, phases)

    async def _back(self, before: NodeRecord, machine: Machine, why: NodeFailed) -> NodeRecord:
        """The settings are those of now and the release is the earlier one, so it stays to be updated."""
        phases = Phases(before.name, self._watch)
        async with _closing(await self._reached(before, machine, phases, QUICK_S)) as connection:
            async with phases.phase("roll back"):
                await self._fleet.installer.roll_back(connection, before, phases.watch)
            await self._heard(before, connection, phases, before.release)
        return await self.save(replace(before, step=why.step, failure=why.sentence, ready_at=time.time()))

    # ---- on and off

    async def start(self, node: Node) -> NodeRecord:
        """Switch its machine on; its worker comes back by itself, from another address."""
        machine, record, now = _machine_of(node), await self.recorded(node), time.time()
        async with Phases(node.name, self._watch).phase("switch on"):
            await self._fleet.provider.start([machine])
        return await self.save(replace(record, spent_usd=node_usd(record, now), launched_at=now, stopped_at=0.0))

    async def note_power(self, node: Node) -> None:
        """It was switched off, or on again, by somebody else: while it is off it costs nothing but its disk."""
        record, machine, now = node.record, _machine_of(node), time.time()
        if record is None or not self._fleet.provider.can_launch:
            return
        if node.state == "stopped":
            await self.save(replace(record, stopped_at=now))
        else:
            again = replace(record, spent_usd=node_usd(record, now), launched_at=machine.launched_at or now)
            await self.save(replace(again, stopped_at=0.0))

    async def accept(self, node: Node) -> NodeRecord:
        """It came back by itself."""
        record = await self.recorded(node)
        return await self.save(replace(record, state="ready", attempts=0, step="", failure="", ready_at=time.time()))

    # ---- the way out

    async def drain(self, node: Node) -> NodeRecord:
        """It leaves: its daemon ends, with what it can finish."""
        machine, record = _machine_of(node), await self.recorded(node)
        record = await self.save(replace(record, state="leaving", attempts=0))
        try:
            async with self._machines[machine.id], Phases(record.name, self._watch).phase("drain"):
                async with _closing(await self._fleet.transport.connect(machine, record, deadline_s=QUICK_S)) as connection:
                    await self._fleet.installer.drain(connection, record)
                await self._hearing.good_bye(record.name)
        except NodeFailed as failed:
            self._tell(f"{record.name}: it could not be drained, what it held is done elsewhere: {failed.sentence}")
            return await self.save(replace(record, attempts=1))
        return record

    async def terminate(self, node: Node, why: str = "") -> None:
        """End its machine; of a machine that stays, undo its set-up. ``why``: what makes it a failure."""
        machine, record = _machine_of(node), await self.recorded(node)
        if record.state != "failed" and not record.ended_at:
            state = "failed" if why else "leaving"
            record = await self.save(
                replace(record, state=state, failure=why, attempts=self.desired.attempts if why else record.attempts)
            )
        phases = Phases(node.name, self._watch)
        if self._fleet.provider.can_launch:
            async with phases.phase("terminate"):
                await self._fleet.provider.terminate([machine])
            return
        try:
            async with (
                self._machines[machine.id],
                phases.phase("undo"),
                _closing(await self._fleet.transport.connect(machine, record, deadline_s=QUICK_S)) as connection,
            ):
                await self._fleet.installer.undo(connection, record)
        except NodeFailed as failed:
            self._tell(f"{record.name}: what was installed on {machine.id} stays there: {failed.sentence}")
        await self.forget(node, "it is no longer part of the fleet")

    async def forget(self, node: Node, why: str) -> None:
        """Its record ends, with what it has cost."""
        record = self._latest.get(node.name, node.record) if node.record is not None else None
        if record is not None and not record.ended_at:
            failure = record.failure or (why if record.state != "leaving" else "")
            await self.save(replace(record, ended_at=time.time(), failure=failure))

    # ---- records

    async def save(self, record: NodeRecord) -> NodeRecord:
        """Write it down."""
        await self._fleet.nodes.save(record)
        self._latest[record.name] = record
        return record

    async def recorded(self, node: Node) -> NodeRecord:
        """Its record, with the machine that it is; written when there was none, or another machine."""
        machine = _machine_of(node)
        record = node.record or NodeRecord(node.name, "", role=machine.role)
        if record.machine == machine.id:
            return record
        price = await self._fleet.provider.price(machine.kind, machine.market) if self._fleet.provider.can_launch else None
        return await self.save(
            replace(
                record, machine=machine.id, host_keys=(), kind=machine.kind, market=machine.market,
                launched_at=machine.launched_at or time.time(), usd_per_hour=price.usd_per_hour if price is not None else 0.0,
            )
        )  # fmt: skip


def needs_note(node: Node) -> bool:
    """Whether a machine was switched off or on without its record saying so."""
    if node.record is None or node.record.ended_at:
        return False
    return (node.state == "stopped" and not node.record.stopped_at) or (node.state == "running" and node.record.stopped_at > 0)


def _machine_of(node: Node) -> Machine:
    if node.machine is None:
        raise ValueError(f"{node.name} has no machine")
    return node.machine


@asynccontextmanager
async def _closing(connection: Connection) -> AsyncIterator[Connection]:
    try:
        yield connection
    finally:
        await connection.close()
