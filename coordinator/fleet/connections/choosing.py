"""Which nodes somebody means: by name, by the id of the machine, or by address."""

from __future__ import annotations

from collections.abc import Sequence

from coordinator.fleet.connections.everywhere import Target, targets_of
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.errors import NotFound, Unreachable


def chosen(machines: Sequence[Machine], records: Sequence[NodeRecord], names: Sequence[str]) -> list[Target]:
    """The nodes that run, in the order of their numbers; with ``names`` only those.

    Raises NotFound for a name that no node has, and Unreachable for a node that does not run or when none runs.
    """
    running = sorted(targets_of(machines, records), key=lambda target: (len(target.record.name), target.record.name))
    if not names:
        if not running:
            raise Unreachable('no node of this fleet runs; start them with "tilefleet fleet up" or "tilefleet fleet start"')
        return running
    found = {target.record.name: target for name in names for target in [_named(name, machines, records, running)]}
    return [target for target in running if target.record.name in found]


def _named(name: str, machines: Sequence[Machine], records: Sequence[NodeRecord], running: Sequence[Target]) -> Target:
    for target in running:
        if name in (target.record.name, target.machine.id, target.machine.address):
            return target
    for machine in machines:
        if name in (machine.node, machine.id, machine.address):
            why = f": {machine.reason}" if machine.reason else ""
            state = "not set up yet" if machine.state == "running" else machine.state
            raise Unreachable(f"node {machine.node} ({machine.id}) is {state}{why}")
    known = [target.record.name for target in running] or [record.name for record in records if not record.ended_at]
    raise NotFound(f"this fleet has no node {name!r}; it has {', '.join(known) or 'none'}")
