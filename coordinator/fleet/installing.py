"""What convergence asks of a node's set-up: one face over ``bootstrap``, ``updating`` and what nodes are set up from."""

from __future__ import annotations

from typing import Protocol

from coordinator.fleet.ports import Connection, Watch
from coordinator.fleet.records import NodeRecord, Role


class Installer(Protocol):
    """Makes machines nodes, over a connection. Every call has its deadlines; what fails raises ``bootstrap.StepFailed``."""

    release: str
    """Version that nodes get, such as ``0.1.0+3f9c2e71``."""

    def settings(self, role: Role) -> str:
        """Digest of what nodes of a role are told."""

    async def set_up(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """From a machine that answers to a running daemon of ``release``; the same call again after any failure."""

    async def update(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """To ``release`` and the settings of now: drained, switched, started."""

    async def roll_back(self, connection: Connection, record: NodeRecord, watch: Watch) -> None:
        """Back to the release in the record, which ran there before."""

    async def drain(self, connection: Connection, record: NodeRecord) -> None:
        """Stop the daemon: it finishes what it can and gives the rest back."""

    async def undo(self, connection: Connection, record: NodeRecord) -> None:
        """Remove what ``set_up`` made, and nothing else."""
