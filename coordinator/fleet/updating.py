"""Changing what a node runs, and leaving it: update, roll back, drain, undo.

The rule: all that can be done while the old version still works is done before it is stopped.
"""

from __future__ import annotations

from coordinator.fleet.ports import Connection, Watch
from coordinator.fleet.records import Role
from coordinator.fleet.steps import Facts, SetUp
from coordinator.fleet.wheelhouse import Artefacts


async def update(connection: Connection, plan: SetUp, artefacts: Artefacts, watch: Watch) -> Facts:
    """Bring the node to the artefacts' release and the plan's settings: packages first, then drain, switch, start.

    Raises StepFailed; ``roll_back`` with the release that ``Facts.release`` named before leads back.
    """
    raise NotImplementedError


async def roll_back(connection: Connection, plan: SetUp, to_release: str, watch: Watch) -> None:
    """Back to a release that is still on the node, with the settings of the plan. Raises StepFailed."""
    raise NotImplementedError


async def drain(connection: Connection, node: str, *, deadline_s: float, role: Role = "worker") -> None:
    """Stop the daemon: it finishes what it can within its drain time and gives the rest back. Raises StepFailed."""
    raise NotImplementedError


async def start(connection: Connection, node: str, *, deadline_s: float, role: Role = "worker") -> None:
    """Start it again and wait until it is ready. Raises StepFailed."""
    raise NotImplementedError


async def undo(connection: Connection, node: str, *, deadline_s: float) -> tuple[str, ...]:
    """Remove what ``set_up`` made, and nothing else; what was removed, for people. Raises StepFailed."""
    raise NotImplementedError
