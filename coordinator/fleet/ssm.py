"""Nodes over AWS Systems Manager, for accounts that forbid port 22: the same ``Connection`` as ``ssh`` gives."""

from __future__ import annotations

from coordinator.fleet.ports import Connection
from coordinator.fleet.records import Machine, NodeRecord
from tilefleet.config import Config
from tilefleet.store import Store

__all__ = ["SsmTransport"]


class SsmTransport:
    """A ``Transport``. What is uploaded goes through the store, from where nodes fetch it by a presigned URL."""

    def __init__(self, config: Config, store: Store) -> None:
        self._config = config
        self._store = store

    async def connect(self, machine: Machine, record: NodeRecord, *, deadline_s: float) -> Connection:
        """See ``Transport``."""
        raise NotImplementedError
