"""Lets the coordinator of a node of its own into the workers, where its keeper sets sick ones up again.

The rule: its private key is made on its machine and never leaves it; the public half is carried from there to the workers over
connections whose both ends are known, and not by way of the store, which others can write.
"""

from __future__ import annotations

from coordinator.fleet.connections.everywhere import Missed, Target, on_each, targets_of
from coordinator.fleet.fleet import Fleet
from coordinator.fleet.ports import Connection, Watch
from coordinator.fleet.records import NodeRecord
from coordinator.fleet.setup import scripts
from tilefleet.errors import NodesFailed

DEADLINE_S = 60.0


async def admit_keeper(fleet: Fleet, watch: Watch) -> list[Missed]:
    """Have every worker admit it, where it is not admitted yet; those where that failed."""
    targets = [target for target in targets_of(await fleet.provider.machines(), await fleet.nodes.nodes()) if _is_ready(target)]
    coordinators = [target for target in targets if target.record.role == "coordinator"]
    workers = [target for target in targets if target.record.role == "worker"]
    users = {target.record.name: target.machine.user for target in workers}
    lines: list[str] = []

    async def read(connection: Connection, _: NodeRecord) -> None:
        lines.append(await _said(connection, scripts.public_key(fleet.config.fleet.name)))

    async def admit(connection: Connection, record: NodeRecord) -> None:
        for line in lines:
            await _said(connection, scripts.admit(users[record.name]), line)

    missed = await on_each(fleet, coordinators, "key", read, watch)
    return missed + (await on_each(fleet, workers, "admit", admit, watch) if lines else [])


def _is_ready(target: Target) -> bool:
    return target.record.state == "ready" and not target.record.stopped_at


async def _said(connection: Connection, script: str, line: str = "") -> str:
    done = await connection.run(script, deadline_s=DEADLINE_S, stdin=line.encode())
    if done.status != 0:
        raise NodesFailed(done.last_lines() or f"it ended with status {done.status}")
    return done.last_lines(1)
