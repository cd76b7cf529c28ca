"""Machines that exist already: those of ``[hosts]``. Nothing is launched and nothing ends; set-ups are undone over SSH.

The rule: a machine keeps its node name as long as its address is named; a name is never given to another address.
"""

from __future__ import annotations

from coordinator.fleet.node_store import NodeStore
from tilefleet.config import Config


class HostsProvider:
    """Keeps the contract of ``coordinator.fleet.ports.Provider``."""

    can_launch = False

    def __init__(self, config: Config, nodes: NodeStore) -> None:
        self._config = config
        self._nodes = nodes
