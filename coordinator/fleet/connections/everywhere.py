"""One thing done on many nodes at once, over their connections.

The rule: a node that cannot be reached, or where it fails, is told and holds nobody up.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from coordinator.fleet.fleet import Fleet
from coordinator.fleet.ports import Connection, PhaseEvent, Watch
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.bounded import for_each
from tilefleet.errors import TilefleetError

CONNECT_S = 20.0  # for a node that should be there; one that is just booting is not asked


class Target(NamedTuple):
    """A node to be connected to."""

    machine: Machine
    record: NodeRecord


class Missed(NamedTuple):
    """A node where it did not work."""

    node: str
    sentence: str


async def on_each(
    fleet: Fleet, targets: Sequence[Target], phase: str, work: Callable[[Connection, NodeRecord], Awaitable[None]], watch: Watch
) -> list[Missed]:
    """Connect to each and do the work; those where that failed, in the order in which they did."""
    missed: list[Missed] = []

    async def one(target: Target) -> None:
        name, began = target.record.name, time.monotonic()
        watch(PhaseEvent(name, phase, "begun"))
        try:
            connection = await fleet.transport.connect(target.machine, target.record, deadline_s=CONNECT_S)
            try:
                await work(connection, target.record)
            finally:
                await connection.close()
        except TilefleetError as error:
            missed.append(Missed(name, str(error)))
            watch(PhaseEvent(name, phase, "failed", time.monotonic() - began, str(error)))
        else:
            watch(PhaseEvent(name, phase, "done", time.monotonic() - began))

    await for_each(list(targets), one, concurrency=fleet.config.nodes.at_once, name=f"fleet-{phase}")
    return missed


def targets_of(machines: Sequence[Machine], records: Sequence[NodeRecord]) -> list[Target]:
    """Nodes with a machine that runs and a record that has not ended."""
    current = {record.name: record for record in records if not record.ended_at}
    return [
        Target(machine, current[machine.node])
        for machine in machines
        if machine.state == "running" and machine.node in current and current[machine.node].machine in ("", machine.id)
    ]
