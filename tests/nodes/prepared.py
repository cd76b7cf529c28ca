"""What a node has after the long part of its set-up: made by the set-up itself, for all tests about what comes later."""

from __future__ import annotations

import asyncio

from coordinator.fleet.connections.ssh import SshTransport
from coordinator.fleet.files import FleetFiles
from coordinator.fleet.records import Machine, NodeRecord
from coordinator.fleet.setup import bootstrap
from coordinator.fleet.setup.release import pack
from coordinator.fleet.setup.wheelhouse import Artefacts
from tests.nodes.machines import Node
from tilefleet.config import Config
from tilefleet.fleet_config import NodesSection, SshSection

DEADLINE_S = 60.0


def prepare(node: Node) -> None:
    """Packages and user of the release of now; nothing about any fleet."""
    asyncio.run(_prepare(node))


async def _prepare(node: Node) -> None:
    config = Config(nodes=NodesSection(provider="hosts"), ssh=SshSection(key_file=str(node.private_key), agent=False))
    plan, artefacts = bootstrap.planned(config, "n0"), Artefacts(pack())
    machine = Machine(node.address, "n0", "running", address=node.address, user=node.user)
    record = NodeRecord("n0", node.address, host_keys=(node.host_key,))
    connection = await SshTransport(config, FleetFiles("unused")).connect(machine, record, deadline_s=DEADLINE_S)
    try:
        facts = await bootstrap.looked_at(connection, plan, artefacts, bootstrap.unwatched)
        await bootstrap.prepared(connection, plan, artefacts, facts, bootstrap.unwatched)
    finally:
        await connection.close()
